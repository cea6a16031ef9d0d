"""onnxruntime for browsers: three files of the npm package onnxruntime-web."""

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from core.errors import UserError, require

VERSION = "1.30.0"
SCRIPT, GLUE, CODE = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
SECONDS = 300


def runtime(folder: str | None) -> dict[str, bytes]:
    """The files by name: those of a folder, which is the package or its `dist`, or those of the
    package as `npm pack` brings it. Raises `UserError` where there are none."""
    if folder is not None:
        return _read(Path(folder))
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            "the page needs onnxruntime-web, and there is no npm to take it from; install npm, or "
            "give a copy of the package with --ort DIR"
        )
    with tempfile.TemporaryDirectory() as place:
        command = [npm, "pack", f"onnxruntime-web@{VERSION}", "--silent", "--ignore-scripts"]
        try:
            subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=SECONDS)
            with tarfile.open(next(Path(place).glob("*.tgz"))) as packed:
                packed.extractall(place, filter="data")
        except (OSError, subprocess.SubprocessError, StopIteration, tarfile.TarError) as error:
            raise UserError(
                f"npm did not bring onnxruntime-web {VERSION} ({type(error).__name__}); try again "
                "with a network, or give a copy of the package with --ort DIR"
            ) from None
        return _read(Path(place) / "package")


def _read(folder: Path) -> dict[str, bytes]:
    inner = folder / "dist"
    place = inner if inner.is_dir() else folder
    missing = [name for name in (SCRIPT, GLUE, CODE) if not (place / name).is_file()]
    require(
        not missing,
        f"{folder} has no {', '.join(missing)}; give the folder of onnxruntime-web with --ort",
    )
    return {name: (place / name).read_bytes() for name in (SCRIPT, GLUE, CODE)}
