"""Reference statistics of a data set: `python -m apps.stats --data cifar10 --out cifar10.npz`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from apps._main import launch
from core.data import DATA
from core.data.dataset import Dataset
from core.errors import UserError, pick, require
from core.metrics.feature_set import in_pieces
from core.metrics.features import MOST_FEATURES, PIECE, FeatureExtractor, extract
from core.metrics.frechet import Statistics
from core.metrics.moments import Moments, no_moments
from core.metrics.naming import origin_of, size_of, title_of
from core.metrics.reference import write_reference
from core.train.cli import parse_flags, select
from core.train.named_features import open_features
from portolan.progress import Meter
from portolan.tables import console
from portolan.yardsticks import extractors_of

MOST_SAMPLE = 50_000


@dataclass(frozen=True)
class StatsConfig:
    """Writes the mean and covariance of a data set's features, to measure samples against.

    The file is an .npz with `mu` and `sigma` in float64, which other packages read too, and what it
    was made of: `n`, the features and the hash of their weights, resize, rounding and source.
    Measure with python -m apps.eval --run DIR --stats FILE. The data are read once, a piece at a
    time, so they may be larger than memory.

    Examples: --data cifar10 --data.path DIR --features efficientnet-lite0 --out cifar10.npz;
    --data images --data.path DIR --features inception=DIR --sample 10000 --out own.npz.
    """

    data: Annotated[str, tyro.conf.arg(name="data", metavar="NAME")] = "digits"
    """Data set: digits, idx, cifar10, arrays, images."""
    features: str | None = None
    """Features: pixels, pooled, efficientnet-lite0, inception=DIR, dinov2=DIR, or a run folder of
    apps.features; default: those that apps.eval takes for such data."""
    n: int = 0
    """Examples to take, at even distances; 0 takes all, as references of papers do."""
    sample: int = 0
    """Rows of features to keep beside, at even distances, 50,000 at most: kid, precision, recall,
    density and coverage need some (10,000 is usual)."""
    out: str = "stats.npz"
    """File to write, .npz."""
    force: bool = False
    """Replace the file where it is there already."""
    trust: bool = False
    """Run the code that files name which are opened."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""
    data_flags: Annotated[Any, tyro.conf.arg(name="data")] = None
    """Flags of the data set."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Takes the statistics and writes the file."""
    config = parse(argv)
    out = Path(config.out)
    named = out.suffix == ".npz" and "\x00" not in config.out
    require(named, f"--out names an .npz file, got {config.out!r}")
    require(config.force or not out.exists(), f"{out} is there already; --force replaces it")
    require(min(config.n, config.sample) >= 0, "--n and --sample must not be negative")
    require(config.sample <= MOST_SAMPLE, f"--sample is at most {MOST_SAMPLE:,}")
    dataset = config.data_flags.load()
    require(len(dataset) >= 2, f"statistics need 2 examples, and there are {len(dataset)}")
    extractor = extractor_of(config, dataset)
    statistics, sample = taken(config, dataset, extractor)
    texts = described(config, dataset, extractor)
    try:
        write_reference(out, statistics, texts, sample)
    except OSError as error:
        raise UserError(f"cannot write {out} ({error.strerror}); choose another --out") from None
    dim, kept = statistics.mean.size, 0 if sample is None else len(sample)
    console.print(
        f"wrote {out}: {title_of(extractor)}, {dim:,} features of {statistics.n:,} examples, "
        f"{kept:,} rows beside; measure with apps.eval --stats {out}"
        + (f" --features {config.features}" if config.features else "")
    )
    result = {"out": str(out), "n": statistics.n, "dim": dim, "sample": kept, **texts}
    return result if config.json else None


def parse(argv: list[str]) -> StatsConfig:
    """The flags. Raises `UserError`."""
    chosen = select(argv)
    default = StatsConfig(chosen.data, data_flags=pick(DATA, chosen.data, "data set")())
    return parse_flags(StatsConfig, chosen.flags, default)


def extractor_of(config: StatsConfig, dataset: Dataset) -> FeatureExtractor:
    """The features. Raises `UserError` for more than have a covariance."""
    shape = dataset.spec.picture_shape
    if config.features is None:
        (extractor,) = extractors_of(dataset.spec, (), console.print)
    else:
        extractor = open_features(config.features, shape)
    dim = size_of(extractor, shape)
    require(
        dim <= MOST_FEATURES,
        f"{dim:,} features of an example are more than {MOST_FEATURES:,}; give --features pooled",
    )
    return extractor


def taken(
    config: StatsConfig, dataset: Dataset, extractor: FeatureExtractor
) -> tuple[Statistics, np.ndarray | None]:
    """Statistics of all examples, and the rows that are kept, in one pass."""
    index = spread(len(dataset), config.n)
    kept = set(spread(len(index), config.sample).tolist()) if config.sample else set()
    moments: Moments | None = None
    rows: list[np.ndarray] = []
    with Meter(f"data in {extractor.name}", len(index)) as meter:
        for part in in_pieces(len(index), PIECE):
            values = dataset.decode(dataset.take(index[part]))
            found = extract(extractor, dataset.spec.pictures(values))
            moments = (moments or no_moments(found.mean(axis=0))).more(found)
            rows += [row for k, row in zip(part.tolist(), found.astype(np.float32)) if k in kept]
            meter.more(len(part))
    assert moments is not None
    return moments.statistics(), np.stack(rows) if rows else None


def spread(count: int, n: int) -> np.ndarray:
    """All of `count` indices, or `n` of them at even distances."""
    return np.linspace(0, count - 1, n).astype(int) if 0 < n < count else np.arange(count)


def described(config: StatsConfig, dataset: Dataset, extractor: FeatureExtractor) -> dict[str, str]:
    """What the file says of its statistics; of a folder its name, and not where it lies."""
    origin = origin_of(extractor)
    flags = dataclasses.asdict(config.data_flags)
    flags["path"] = Path(str(flags.get("path", ""))).name
    given = {name: value for name, value in flags.items() if value not in ("", None, (), False)}
    said = ", ".join(f"{name} {value}" for name, value in given.items())
    return {
        "features": extractor.name,
        "features_sha256": origin.weights_sha256,
        "resize": origin.resize,
        "rounding": origin.rounding,
        "source": f"{dataset.name}: {said}" if said else dataset.name,
    }


if __name__ == "__main__":
    launch(main)
