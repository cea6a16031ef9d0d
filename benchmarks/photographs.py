"""What a network takes photographs for: `python -m benchmarks.photographs --path FOLDER`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from apps._main import launch
from core.data.picture import read_image
from core.errors import UserError
from core.report.versions import versions
from core.train.cli import parse_flags
from core.train.named_features import open_features
from portolan.tables import markdown, print_table, save

SIDE = 224
COLUMNS = ("photograph", "class", "share", "second", "its share")


@dataclass(frozen=True)
class PhotographsConfig:
    """The two classes of ImageNet, by number, to which a network gives the largest shares.

    The two photographs of scikit-learn, and those of a folder, such as that of scikit-image's
    data. Of each the middle square is scaled to 224 pixels first, so that one program serves all.
    """

    path: str = ""
    """Folder of further photographs."""
    features: str = "efficientnet-lite0"
    """A network with classes."""
    table: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def photographs(folder: str) -> dict[str, UInt8[np.ndarray, "224 224 3"]]:
    """Middle squares by the names of their files."""
    import sklearn.datasets

    bundled = Path(sklearn.datasets.__file__).parent / "images"
    files = [bundled / "china.jpg", bundled / "flower.jpg"]
    if folder:
        files += sorted(f for f in Path(folder).iterdir() if f.suffix in (".png", ".jpg"))
    found = {}
    for file in files:
        try:
            found[file.name] = read_image(file, SIDE, gray=False)
        except UserError as error:
            print(f"left out: {error}")
    return found


def main(argv: list[str]) -> dict[str, Any] | None:
    """Looks, prints the table and writes what is asked for."""
    config = parse_flags(PhotographsConfig, argv)
    found = photographs(config.path)
    logits = getattr(open_features(config.features, (SIDE, SIDE, 3)), "logits", None)
    if logits is None:
        raise UserError(f"{config.features} has no classes; take efficientnet-lite0")
    raw = logits(np.stack(list(found.values())))
    shares = np.exp(raw - raw.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    rows = []
    for name, share in zip(found, shares):
        first, second = (int(i) for i in np.argsort(-share)[:2])
        numbers = first, float(share[first]), second, float(share[second])
        rows.append(dict(zip(COLUMNS, (name, *numbers))))
    title = f"What {config.features} takes photographs for"
    print_table(title, COLUMNS, rows)
    result = {"versions": versions(), "rows": rows}
    if config.table:
        save(config.table, result, markdown(title, COLUMNS, rows))
    return result if config.json else None


if __name__ == "__main__":
    launch(main)
