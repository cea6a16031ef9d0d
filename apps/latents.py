"""Encodes pictures into latents, once: `python -m apps.latents --images DIR --vae DIR`."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from apps._main import launch
from core import trust
from core.data import DATA
from core.data.codec import MARK
from core.data.latent_folder import LatentFolder, encode_missing
from core.errors import UserError, pick, require
from core.train.cli import parse_flags
from core.train.features import codec_of
from core.train.folder import one_writer
from portolan.progress import Meter
from portolan.tables import console


@dataclass(frozen=True)
class LatentsConfig:
    """Encodes a data set of pictures by an autoencoder, for apps.train --data latents.

    Writes shards of means and standard deviations, labels and latents.toml. A stopped call goes on
    where it stood; shards that are there are checked by their hash. --data.* are the flags of the
    data set.
    """

    images: str = ""
    """A folder of pictures, or the name of a data set: idx, cifar10, arrays, images, digits."""
    vae: str = ""
    """Run folder of apps.features --task autoencoder, model folder of a published autoencoder
    (apps.convert), or python:module:function of an object with encode(x) -> (mean, std) and
    decode(z), of one picture in [-1, 1]."""
    out: str = ""
    """Folder to write."""
    rows: int = 8192
    """Pictures of a shard."""
    batch: int = 64
    """Pictures that are encoded at once."""
    flips: bool = False
    """Encode every picture mirrored as well, as rows of their own: a mirrored latent is not the
    latent of the mirrored picture."""
    data_flags: Annotated[Any, tyro.conf.arg(name="data")] = None
    """Flags of the data set."""
    trust: bool = False
    """Run the code that files name which are opened."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Encodes what is missing."""
    config = parse(argv)
    require(config.vae != "", "no autoencoder given; name its run or model folder with --vae DIR")
    require(config.out != "", "no folder to write given; name it with --out DIR")
    require(min(config.rows, config.batch) >= 1, "--rows and --batch must be at least 1")
    data = config.data_flags.load()
    if data.kind != "image" or data.codec:
        raise UserError(f"latents are of pictures, and {data.name} has examples of another kind")
    out = Path(config.out)
    try:
        with one_writer(out):
            codec = codec_of(config.vae, out)
            require(
                codec.shape in ((), data.shape),
                f"--vae {config.vae} is for pictures of shape {codec.shape}, not {data.shape}",
            )
            folder = LatentFolder.claim(out, data, codec, config.rows, config.flips)
            with Meter("encoding", folder.rows) as meter:
                encode_missing(folder, data, codec, config.batch, meter.more)
    except OSError as error:
        raise UserError(f"cannot write {out} ({error.strerror}); choose another --out") from None
    shape = " x ".join(map(str, folder.latent_shape))
    console.print(
        f"{folder.rows:,} latents of {shape} numbers in {out}; train on them with apps.train "
        f"--data latents --data.path {out}"
    )
    result = {"out": str(out), "rows": folder.rows, "latent_shape": list(folder.latent_shape)}
    return result | {"codec": codec.sha256} if config.json else None


def parse(argv: list[str]) -> LatentsConfig:
    """The resolved flags. Raises `UserError`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--images")
    parser.add_argument("--vae")
    trust.typed(argv)
    known, _ = parser.parse_known_args(argv)
    given = known.images or ""
    if given in DATA or not given:
        flags = DATA["images" if not given else given]()
    elif Path(given).is_dir():
        flags = DATA["images"](path=given)
    else:
        flags = pick(DATA, given, "folder of pictures or data set")()
    if known.vae and known.vae.startswith(MARK):
        trust.typed([known.vae])
    config = parse_flags(LatentsConfig, argv, LatentsConfig(data_flags=flags))
    require(config.images != "", "no pictures given; name their folder or data set with --images")
    return config


if __name__ == "__main__":
    launch(main)
