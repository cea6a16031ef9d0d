"""The flags of `apps.compare`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from core import trust
from core.errors import UserError
from core.methods.registry import find_plugin, plugins
from core.train import toml
from core.train.cli import parse_flags

TAKEN = (
    "plugin", "data", "seed", "steps", "teacher", "run", "config", "evals", "nfe", "restart",
    "dry-run", "no-dry-run", "json", "sample-every", "trust",
)  # fmt: skip
"""Flags of `apps.train` that a comparison sets itself."""


@dataclass(frozen=True)
class CompareConfig:
    """Trains methods with equal budgets on one data set, measures them, writes table and plots.

    Every method and seed is a run folder under --out. Finished ones are not trained again and
    interrupted ones go on, so a second call with more --plugins adds to the table. Flags of
    apps.train for all runs follow after a bare `--`: -- --data.path DIR --batch 64 --net.width 64.
    """

    plugins: tuple[str, ...] = ("imf", "mf")
    """Methods; "all" takes every registered one but those of tokens."""
    variants: str | None = None
    """TOML file of named variants to compare in place of --plugins: a table for each, in the form
    of a run's config.toml; configs/compare has some."""
    data: str = "checkerboard"
    """Data set."""
    seeds: int = 3
    """Number of seeds, from 0 on."""
    out: str | None = None
    """Folder of the comparison; default runs/compare-<data>."""
    steps: int = 0
    """Training steps; 0 takes the recipe's."""
    budget: Literal["samples", "flops"] = "samples"
    """The budget that is equal: training examples, or the operations that the compiler counts."""
    reference: str = "imf"
    """Method whose recipe sets the batch and whose --steps set the operations of --budget flops."""
    nfe: Annotated[tuple[int, ...], tyro.conf.arg(aliases=["--evals"])] = (1, 2, 4, 8, 16)
    """Numbers of network evaluations a sample."""
    n: int = 0
    """Samples a figure; 0 takes as many as the data, 10,000 at most."""
    teacher: str = "auto"
    """Teacher of the methods that need one: auto trains fm once, in <out>/teacher; exact takes the
    exact velocity, where the distribution is known; or a run or model folder, or
    python:MODULE:NAME, as of apps.train."""
    teacher_steps: int = 0
    """Training steps of that fm; 0 takes the recipe's."""
    jobs: int = 1
    """Runs trained side by side, each on its share of the processor's cores."""
    report_only: bool = False
    """Train nothing; make table and plots again from the finished runs."""
    dry_run: bool = False
    """Print the runs that would be trained."""
    trust: bool = False
    """Run the code that files name which are opened, such as python:module:function in a run's
    config.toml; without it such a run is refused, and the code is named."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""

    def __post_init__(self):
        least = {"seeds": 1, "jobs": 1, "steps": 0, "n": 0, "teacher_steps": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"--{name.replace('_', '-')} must be at least {bound}")
        if not self.nfe or min(self.nfe) < 1:
            raise UserError("--nfe needs numbers of at least 1")
        if 0 < self.n < 4:
            raise UserError("--n must be 0, or at least 4 samples to compare")

    @property
    def folder(self) -> str:
        """The folder of the comparison."""
        return self.out or f"runs/compare-{self.data}"

    def entries(self) -> list["Entry"]:
        """The methods or variants to compare, in order. Raises `UserError` for an unknown
        method."""
        if self.variants is not None:
            return _variants(Path(self.variants))
        usual = [name for name in plugins() if not find_plugin(name).tokens]
        asked = usual if "all" in self.plugins else list(self.plugins)
        if not asked:
            raise UserError("--plugins needs at least one method; `apps.plugins` lists them")
        return [Entry(find_plugin(name).card.name) for name in dict.fromkeys(asked)]


@dataclass(frozen=True)
class Entry:
    """A row of the table: a method with its preset, or a named variant of one."""

    label: str
    plugin: str = ""
    flags: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.plugin or self.label

    @property
    def taught(self) -> bool:
        """Whether the method needs a teacher."""
        return find_plugin(self.method).needs_teacher


def _variants(path: Path) -> list[Entry]:
    entries = []
    for label, tree in toml.read(path).items():
        name = tree.get("plugin", {}).get("name") if isinstance(tree, dict) else None
        if name is None:
            raise UserError(f"{path}: the variant {label!r} names no method; give it plugin.name")
        if not re.fullmatch(r"[\w.+-]+", label):
            raise UserError(
                f"{path}: the name {label!r} must do for a folder; letters, digits, .+-_"
            )
        toml.check_flags(tree, str(path))
        own = {key: value for key, value in tree["plugin"].items() if key != "name"}
        flags = toml.to_flags(tree | {"plugin": own})
        for word in flags:
            trust.check_word(word)
        entries.append(Entry(label, find_plugin(name).card.name, tuple(flags)))
    if not entries:
        raise UserError(f"{path} holds no variant; give it one table for each")
    return entries


def read_settings(argv: list[str]) -> tuple[CompareConfig, list[str]]:
    """The flags before a bare `--`, and those after it. Raises `UserError`."""
    own, extra = divided(argv, TAKEN, "apps.compare")
    return parse_flags(CompareConfig, own), extra


def divided(argv: list[str], taken: Sequence[str], app: str) -> tuple[list[str], list[str]]:
    """The words before a bare `--`, and those after it, flags of `apps.train`. Raises `UserError`
    for those that the command `app` sets itself."""
    own, extra = argv, []
    if "--" in argv:
        own, extra = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    trust.typed(extra)
    for word in extra:
        name = word.split("=")[0].removeprefix("--")
        if word.startswith("--") and name.replace("_", "-") in taken:
            raise UserError(f"--{name} after `--` is set by {app} itself; leave it out")
    return own, extra
