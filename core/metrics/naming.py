"""Which word a distance goes by: FID is one thing only."""

import numpy as np

from core.metrics.features import FeatureExtractor, FeatureOrigin, Pixels, Pooled, extract

FEWEST_FOR_FID = 10_000
"""Samples from which on a distance on Inception features is called FID."""
_TITLES = {
    "efficientnet-lite0": "EfficientNet-Lite0",
    "inception-2015": "Inception-2015",
    "dinov2": "DINOv2",
}
SIZES = {"efficientnet-lite0": 1280, "inception-2015": 2048}
"""Features of networks that come in one size."""
NETWORKS = tuple(_TITLES)
"""The families of features of published networks."""


def origin_of(extractor: FeatureExtractor) -> FeatureOrigin:
    """What numbers of an extractor depend on; of one that does not say it, that it has none."""
    given = getattr(extractor, "origin", None)
    if isinstance(given, FeatureOrigin):
        return given
    if isinstance(extractor, Pooled):
        side = extractor.side
        return FeatureOrigin("", f"means over {side} x {side} cells", "none", "pooled")
    return FeatureOrigin("", "none", "none", "pixels" if isinstance(extractor, Pixels) else "run")


def size_of(extractor: FeatureExtractor, shape: tuple[int, ...]) -> int:
    """How many features an example has."""
    known = SIZES.get(origin_of(extractor).family)
    return known or extract(extractor, np.zeros((1, *shape), np.float32)).shape[1]


def is_network(extractor: FeatureExtractor) -> bool:
    """Whether the features are those of a published network."""
    return origin_of(extractor).family in NETWORKS


def title_of(extractor: FeatureExtractor) -> str:
    """The features as a reader knows them."""
    return _TITLES.get(origin_of(extractor).family, extractor.name)


def distance_title(extractor: FeatureExtractor, n: int) -> str:
    """`FID` for the features of Inception of 2015 and at least 10,000 samples; any other Frechet
    distance is `FD (features)`, so that no two of them are taken for the same.

    **Source:** Heusel et al., "GANs trained by a two time-scale update rule" (2017), for FID.
    """
    if origin_of(extractor).family == "inception-2015" and n >= FEWEST_FOR_FID:
        return "FID"
    return f"FD ({title_of(extractor)})"
