"""What features notice: `python -m benchmarks.features --path cifar-10-batches-bin`."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from apps._main import launch
from core.data import DATA
from core.metrics import frechet
from core.metrics.kernel import kid
from core.report.versions import versions
from core.train.cli import parse_flags
from core.train.named_features import open_features
from portolan.tables import markdown, print_table, save

Pictures = UInt8[np.ndarray, "n height width channels"]
Distort = Callable[[Pictures, np.random.Generator], Pictures]


@dataclass(frozen=True)
class FeaturesBench:
    """Distances of distorted pictures of CIFAR-10 from others of the set, in several features.

    Half against half is the floor: what is worse than the data has to be further. Of the kernel
    distance the mean over 25 subsets of half the set is shown, times 1,000.
    """

    path: str = ""
    """Folder of CIFAR-10, cifar-10-batches-bin."""
    n: int = 400
    """Pictures of a set."""
    features: tuple[str, ...] = ("pixels", "efficientnet-lite0")
    """Features that are compared; the last is plotted beside the first."""
    seed: int = 0
    """Seed of the draw of the pictures and of the noise."""
    picture: str | None = None
    """PNG file of a plot."""
    table: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def blurred(sigma: float) -> Distort:
    """A Gaussian blur, in pixels."""

    def distort(x: Pictures, rng: np.random.Generator) -> Pictures:
        from scipy.ndimage import gaussian_filter

        del rng
        return _bytes(gaussian_filter(x.astype(np.float64), (0, sigma, sigma, 0)))

    return distort


def noised(size: float) -> Distort:
    """Gaussian noise, in grey levels."""
    return lambda x, rng: _bytes(x + size * rng.normal(size=x.shape))


def compressed(quality: int) -> Distort:
    """JPEG and back."""

    def one(picture: np.ndarray) -> np.ndarray:
        from PIL import Image

        stream = BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=quality)
        return np.asarray(Image.open(stream, formats=("JPEG",)))

    return lambda x, rng: np.stack([one(picture) for picture in x])


def _bytes(values: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


DISTORTIONS: dict[str, Distort] = {
    "other half": lambda x, rng: x,
    "mirrored": lambda x, rng: x[:, :, ::-1],
    "blur 0.5": blurred(0.5),
    "blur 1": blurred(1.0),
    "blur 2": blurred(2.0),
    "noise 8": noised(8),
    "noise 24": noised(24),
    "JPEG 50": compressed(50),
    "JPEG 10": compressed(10),
}


def sets(config: FeaturesBench) -> tuple[Pictures, dict[str, Pictures]]:
    """The reference, and what is compared with it; of dropped modes, pictures of fewer classes."""
    dataset = DATA["cifar10"](path=config.path).load()
    rng = np.random.default_rng(config.seed)
    order, labels = rng.permutation(len(dataset)), dataset.labels

    def of(index: np.ndarray) -> Pictures:
        return np.asarray(dataset.examples[index[: config.n]])

    reference, rest = of(order), order[config.n :]
    other = of(rest)
    found = {name: distort(other, rng) for name, distort in DISTORTIONS.items()}
    for count in (5, 1):
        found[f"{count} of 10 classes"] = of(rest[labels[rest] < count])
    return reference, found


def flat(
    x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"]
) -> tuple[Float[np.ndarray, "n few"], Float[np.ndarray, "m few"]]:
    """Both sets in coordinates of the space that they span, where distances are what they were:
    fewer numbers than features."""
    both = np.concatenate([x, y])
    both = both - both.mean(0)
    basis = np.linalg.qr(both.T)[0]
    both = both @ basis
    return both[: len(x)], both[len(x) :]


def values(pictures: Pictures) -> Float[np.ndarray, "n height width channels"]:
    """Network values, in which pixels are compared; networks of features see bytes again."""
    return pictures.astype(np.float32) / 127.5 - 1


def measured(config: FeaturesBench) -> list[dict[str, Any]]:
    """A row a set: distances in each of the features."""
    reference, compared = sets(config)
    rows: list[dict[str, Any]] = [{"pictures": name} for name in compared]
    for name in config.features:
        look = open_features(name, reference.shape[1:])
        there = look(values(reference))
        for row, pictures in zip(rows, compared.values()):
            here = look(values(pictures))
            row[f"FD ({look.name})"] = frechet(*flat(here, there))
            row[f"KID ({look.name})"] = 1000 * kid(here, there, subsets=25).mean
            print(row, flush=True)
    return rows


def plot(rows: list[dict[str, Any]], names: tuple[str, str], path: Path, title: str) -> None:
    """Each distance over that of the other half."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.6), dpi=110)
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0.2, 0.13, 0.76, 0.76))
    where = np.arange(len(rows))[::-1]
    for offset, name, color in ((0.2, names[0], "#bbbbbb"), (-0.2, names[1], "#2b6cb0")):
        ratio = [row[name] / rows[0][name] for row in rows]
        ax.barh(where + offset, np.array(ratio) - 1, 0.38, left=1, color=color, label=name)
    ax.axvline(1, color="black", linewidth=1)
    ax.set_xscale("log")
    ax.set_xticks([0.7, 1, 1.5, 2, 3, 4], ["0.7", "1", "1.5", "2", "3", "4"])
    ax.minorticks_off()
    ax.set_yticks(where, [row["pictures"] for row in rows])
    ax.set_xlabel("distance over that of the other half: left of 1 is closer than real pictures")
    ax.set_title(title, fontsize=11)
    ax.legend(fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main(argv: list[str]) -> dict[str, Any] | None:
    """Measures, prints the table and writes what is asked for."""
    config = parse_flags(FeaturesBench, argv)
    rows = measured(config)
    columns = tuple(rows[0])
    title = f"CIFAR-10, {config.n} pictures against {config.n} others"
    print_table(title, columns, rows)
    result = {"versions": versions(), "n": config.n, "rows": rows}
    if config.picture:
        first, last = (next(c for c in columns if f"({_name(f)})" in c and "FD" in c)
                       for f in (config.features[0], config.features[-1]))  # fmt: skip
        plot(rows, (first, last), Path(config.picture), title)
    if config.table:
        save(config.table, result, markdown(title, columns, rows))
    return result if config.json else None


def _name(features: str) -> str:
    return open_features(features, (32, 32, 3)).name


if __name__ == "__main__":
    launch(main)
