"""The features that a metric names."""

from pathlib import Path
from typing import cast

from core.errors import pick
from core.metrics.features import FEATURES, FeatureExtractor, Perceived
from core.metrics.networks import network_features
from core.nets.perceptions import NETWORKS, is_network
from core.train.features import network_of, open_perception


def open_features(name: str, shape: tuple[int, ...]) -> FeatureExtractor:
    """The features that a metric names: one of `core.metrics.FEATURES`, a trained network, or a run
    folder.

    Raises `UserError` as `open_perception`, and for a name that is neither.
    """
    if is_network(name):
        return network_features(network_of(name, shape))
    if name in FEATURES or not Path(name).exists():
        known = {**FEATURES, **dict.fromkeys(NETWORKS)}
        return cast(FeatureExtractor, pick(known, name, "feature set or folder of features"))
    return Perceived(name, open_perception(name, shape))
