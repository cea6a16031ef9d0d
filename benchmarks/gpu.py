"""Measurements on one GPU: `python -m benchmarks.gpu --append gpu.jsonl`.

A list of cases, each one line of JSON. The command stops before its minutes are over; the same
command goes on with the cases that have no line yet. Each case is a process of its own, so that one
that runs out of memory stops no other, and peak memory is its own.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from apps._main import finite, launch
from benchmarks._gpu_cases import CASES, Sizes
from core.errors import UserError, pick, require
from core.report.versions import versions
from core.train.cli import parse_flags
from portolan.tables import console

ENOUGH = 0.6
"""A case that did not end in this share of the minutes gets a line that says so."""


@dataclass(frozen=True)
class GpuConfig:
    """Measures training steps of DiT-B/2 and XL/2, attention under forward mode, the layer loop,
    recomputation, steps a dispatch, precision of products, and latency, on one GPU.

    Utilisation is forward-pass equivalents x operations of a forward pass x images a second, over
    the rate of a large bfloat16 product in the same process.
    """

    list: bool = False
    """Print the names of the cases and stop."""
    case: tuple[str, ...] = ()
    """Cases; default all."""
    minutes: float = 9.0
    """Time for this call. A case that does not fit into the rest is not begun or is stopped."""
    append: str | None = None
    """File to which a line is added for each case; cases that have a line there are left out."""
    rounds: int = 10
    """Rounds that are timed in each case, after one that is not."""
    tiny: bool = False
    """Tiny sizes, on any device: to try the command out."""
    isolate: bool = True
    """A process for each case."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""

    def __post_init__(self):
        require(self.minutes > 0, f"--minutes must be positive, got {self.minutes}")
        require(self.rounds >= 1, f"--rounds must be at least 1, got {self.rounds}")


def main(argv: list[str]) -> dict[str, Any] | None:
    """Goes through the cases."""
    config = parse_flags(GpuConfig, argv)
    names = list(config.case) or list(CASES)
    for name in names:
        pick(CASES, name, "case")
    if config.list:
        print("\n".join(names))
        return None
    if not config.isolate and not config.tiny:
        require(jax.default_backend() == "gpu", "there is no GPU here; --tiny tries the command")
    before = done(config)
    todo = [name for name in names if name not in before]
    measure = _in_a_process if config.isolate else _here
    left = list(run(config, todo, measure))
    if left:
        console.print(f"time is up; left for the next call: {', '.join(left)}")
    result = {"done": [name for name in names if name not in left], "left": left}
    return result if config.json else None


def run(
    config: GpuConfig,
    todo: list[str],
    measure: Callable[[GpuConfig, str, float], bool],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[str]:
    """Measures one case after the other while there is time; yields those that were not.

    `measure(config, name, seconds)` has so many seconds, and says whether it left a line.
    """
    end = clock() + 60 * config.minutes
    for name in todo:
        seconds = end - clock()
        if seconds <= 0 or not measure(config, name, seconds):
            yield name


def done(config: GpuConfig) -> set[str]:
    """The cases that have a line in the file, of the same sizes. A line cut short counts for
    nothing."""
    if config.append is None or not Path(config.append).exists():
        return set()
    found = set()
    for text in Path(config.append).read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and line.get("tiny") == config.tiny:
            found.add(line.get("case"))
    return found


def _here(config: GpuConfig, name: str, seconds: float) -> bool:
    """Measures a case in this process."""
    del seconds
    began = time.monotonic()
    try:
        found = CASES[name](Sizes(config.tiny, config.rounds))
    except jax.errors.JaxRuntimeError as error:  # out of memory, as a rule
        found = {"error": str(error).partition("\n")[0][:300]}
    write(config, name, {**found, "seconds": round(time.monotonic() - began, 1)}, versions())
    return True


def _in_a_process(config: GpuConfig, name: str, seconds: float) -> bool:
    """Measures a case in a process of its own. This one never touches the GPU."""
    console.print(name)
    command = [sys.executable, "-m", "benchmarks.gpu", "--no-isolate", "--case", name]
    command += ["--rounds", str(config.rounds), *(["--tiny"] if config.tiny else [])]
    command += ["--append", config.append] if config.append else []
    try:
        status = subprocess.run(command, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        if seconds < ENOUGH * 60 * config.minutes:
            return False
        write(config, name, {"error": f"not done after {seconds:.0f} seconds"})
        return True
    if status == 2:  # no GPU, or a file that cannot be written: the child has said so
        sys.exit(2)
    if status:
        write(config, name, {"error": f"the process ended with status {status}"})
    return True


def write(
    config: GpuConfig, name: str, found: dict[str, Any], where: dict[str, str] | None = None
) -> None:
    """Prints the line of a case, and adds it to the file. Raises `UserError` where it cannot."""
    line = {"case": name, "tiny": config.tiny, **found, "versions": where}
    text = json.dumps(finite(line), allow_nan=False)
    print(text, flush=True)
    if config.append is None:
        return
    path = Path(config.append)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.exists() and not path.read_text().endswith("\n") and path.stat().st_size
        with path.open("a") as file:
            file.write(("\n" if torn else "") + text + "\n")
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); choose another --append"
        ) from None


if __name__ == "__main__":
    launch(main)
