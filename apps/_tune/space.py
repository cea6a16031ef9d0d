"""The settings among which `apps.tune` searches: ranges around those of the recipe."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.errors import UserError, pick, require
from core.methods.plugin import Plugin
from core.train import toml
from core.train.config import TrainConfig

Value = float | int | str | bool
DIGITS = {"ema": 6}
"""Digits after the point of a value; three significant ones where none are named."""


@dataclass(frozen=True)
class Dimension:
    """One flag: a range from `low` to `high`, both included, even in the logarithm where `log`, or
    `choices`.

    `usual` is the recipe's value. `when` names another flag and the values of it with which this
    one matters; with others it keeps the recipe's value.
    """

    flag: str
    usual: Value
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Value, ...] = ()
    when: tuple[str, tuple[Value, ...]] | None = None

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers: all that are given are."""
        return all(isinstance(value, int) for value in (self.usual, self.low, self.high))

    @property
    def words(self) -> str:
        """What is searched, for people."""
        if self.choices:
            return ", ".join(str(choice) for choice in self.choices)
        return f"{self.low:.4g} to {self.high:.4g}{', logarithmic' if self.log else ''}"

    def applies(self, chosen: Mapping[str, Value]) -> bool:
        """Whether it matters beside these values of other dimensions."""
        return self.when is None or chosen.get(self.when[0]) in (None, *self.when[1])


def _range(flag: str, usual: Any, low: float, high: float, log: bool = False) -> Dimension:
    return Dimension(flag, usual, min(low, usual), max(high, usual), log)


def _choice(flag: str, usual: Any, *choices: Value) -> Dimension:
    return Dimension(flag, usual, choices=tuple(sorted({*choices, usual}, key=_order)))


def _order(value: Value) -> tuple[bool, Any]:
    return (isinstance(value, str), value)


def space_of(config: TrainConfig, steps: int) -> list[Dimension]:
    """The search space of a method: what `config`, its recipe, has of it.

    `steps` is the length of a trial, of which warm-up, decay and average take shares.
    """
    optim, has = config.optim, vars(config.plugin_flags)
    window = 1 / (1 - config.ema)
    space = [
        _range("optim.rate", optim.rate, optim.rate / 30, optim.rate * 3, log=True),
        _choice("optim.warmup", optim.warmup, 0, round(0.02 * steps), round(0.1 * steps)),
        _choice("optim.schedule", optim.schedule, "cosine", "constant", "inverse-root"),
        replace(
            _choice("optim.decay", optim.decay, max(round(0.1 * steps), 1), max(steps // 3, 1)),
            when=("optim.schedule", ("inverse-root",)),
        ),
        _choice("optim.b2", optim.b2, 0.95, 0.99, 0.999),
        _choice("optim.clip", optim.clip, 0.0, 0.3, 1.0, 10.0),
        _range("ema", window, max(2, 0.02 * steps), max(4, 0.5 * steps), log=True),
    ]
    one_jump = config.plugin_flags.paired  # from noise to data: neither kinds of rows nor times
    if not one_jump and 0 <= has.get("diagonal", 1.0) < 1.0:
        if _takes(config.plugin_flags, diagonal=0.5):  # else it is the teacher's
            space.append(_range("plugin.diagonal", has["diagonal"], 0.1, 0.9))
        full, uniform = has.get("full"), has.get("uniform")
        if full is not None and _takes(config.plugin_flags, full=0.5):
            space.append(_range("plugin.full", full, 0.0, 0.5))
        if uniform is not None:
            rest = 1 - (full or 0.0)
            space.append(_range("plugin.uniform", uniform / rest if rest else 0.0, 0.0, 1.0))
    flags = config.plugin_flags
    if getattr(flags, "both_ways", False) and flags.step_function() is None:  # any jump
        space.append(_choice("plugin.grow", has["grow"], 0.0, 0.3, 0.7))
    if not one_jump and has.get("time_std", 0.0) > 0:
        space.append(_range("plugin.time-mean", has["time_mean"], -2.0, 1.0))
        space.append(_range("plugin.time-std", has["time_std"], 0.5, 2.0))
    if "power" in has:
        space.append(_choice("plugin.power", has["power"], 0.0, 0.5, 1.0))
        usual = max(has["constant"], 1e-6)
        weight = _range("plugin.constant", usual, 1e-4, 1.0, log=True)
        positive = tuple({0.5, 1.0, has["power"]} - {0.0})
        space.append(replace(weight, when=("plugin.power", positive)))
    return space


def _takes(flags: Plugin, **changes: Value) -> bool:
    """Whether a method takes these values of its flags."""
    try:
        replace(flags, **changes)
    except UserError:
        return False
    return True


def changed_space(space: Sequence[Dimension], path: Path, config: TrainConfig) -> list[Dimension]:
    """The space with the tables of a TOML file in place of its own. Raises `UserError`."""
    found = {one.flag: one for one in space}
    require(path.is_file(), f"no file {path}; give --space a TOML file of the search space")
    tree = toml.to_dict(config)
    for flag, table in toml.read(path).items():
        name = flag.replace("_", "-")
        usual = _value_in(tree, name)
        where = f"{path}: {flag}"
        require(usual is not None, f"{where} is no flag with a value; `apps.train --help` lists")
        if name in found:  # of some flags another measure is searched than the flag's own
            usual = found[name].usual
        elif name == "ema":
            usual = _window(usual, where)
        require(isinstance(table, dict), f"{where} needs a table: low and high, or choices")
        unknown = set(table) - {"low", "high", "log", "choices"}
        require(not unknown, f"{where} has {', '.join(sorted(unknown))}; low, high, log, choices")
        if "choices" in table:
            choices = table["choices"]
            good = isinstance(choices, list) and choices and all(map(_plain, choices))
            require(bool(good), f"{where}: choices is a list of values, at least one")
            if name == "ema":
                choices = [_window(value, where) for value in choices]
            found[name] = _choice(name, usual, *choices)
        else:
            found[name] = _given_range(name, usual, table, where)
    return list(found.values())


def _given_range(name: str, usual: Any, table: dict[str, Any], where: str) -> Dimension:
    numbers = [table.get("low"), table.get("high"), usual]
    good = all(isinstance(x, int | float) and not isinstance(x, bool) for x in numbers)
    require(good, f"{where} needs numbers low and high, or choices")
    low, high, log = table["low"], table["high"], bool(table.get("log", False))
    require(low < high and math.isfinite(high - low), f"{where}: low must be below high")
    if name == "ema":
        return _range(name, usual, _window(low, where), _window(high, where), log=True)
    require(
        not log or min(low, usual) > 0,
        f"{where}: with log the low end must be above 0, and so must the recipe's value, {usual}",
    )
    return _range(name, usual, low, high, log)


def _window(ema: Value, where: str) -> float:
    """The steps over which weights are averaged, `1 / (1 - ema)`: that is searched for `ema`."""
    good = isinstance(ema, int | float) and 0 <= ema < 1
    require(good, f"{where}: all values must be in [0, 1)")
    return 1 / (1 - float(ema))


def _plain(value: Any) -> bool:
    return isinstance(value, int | float | str | bool)


def _value_in(tree: dict[str, Any], flag: str) -> Any:
    value: Any = tree
    for key in flag.split("."):
        value = value.get(key.replace("-", "_")) if isinstance(value, dict) else None
    return value if _plain(value) else None


def chosen_space(
    space: Sequence[Dimension], names: Sequence[str], extra: Sequence[str]
) -> list[Dimension]:
    """The dimensions of these names, all where there are none; those that `extra`, flags of
    `apps.train`, sets are left out. Raises `UserError` for an unknown name, or if none are left."""
    by_flag = {one.flag: one for one in space}
    wanted = [pick(by_flag, name.replace("_", "-"), "flag to search").flag for name in names]
    given = {word.split("=")[0].removeprefix("--").replace("_", "-") for word in extra}
    for name in wanted:
        require(
            name not in given, f"--{name} after `--` is fixed; leave it out there or in --search"
        )
    left = [one for one in space if one.flag in (wanted or by_flag) and one.flag not in given]
    there = {one.flag for one in left}
    left = [one for one in left if _matters(one, there, by_flag)]
    if not left:
        raise UserError("nothing is left to search; name flags by --search or --space")
    return left


def _matters(one: Dimension, there: set[str], by_flag: Mapping[str, Dimension]) -> bool:
    """Whether it can matter: the flag that it depends on is searched, or has such a value."""
    if one.when is None or one.when[0] in there:
        return True
    return one.when[0] in by_flag and by_flag[one.when[0]].usual in one.when[1]


def flags_for(chosen: Mapping[str, Value], usual_full: float) -> dict[str, Value]:
    """The values of flags of `apps.train` for a point of the space.

    The average is searched by its window, `1 / (1 - ema)`, and the uniform times as a share of the
    jump rows that `full`, here or of the recipe, leaves.
    """
    found = {flag: _rounded(flag, value) for flag, value in chosen.items()}
    if "ema" in found:
        found["ema"] = round(1 - 1 / float(chosen["ema"]), DIGITS["ema"])
    if "plugin.uniform" in found:
        rest = 1 - float(found.get("plugin.full", usual_full))
        found["plugin.uniform"] = round(float(chosen["plugin.uniform"]) * rest, 4)
    return found


def _rounded(flag: str, value: Value) -> Value:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def words_of(flags: Mapping[str, Value]) -> list[str]:
    """The words of a command line that set these flags."""
    words: list[str] = []
    for flag, value in flags.items():
        if isinstance(value, bool):
            *groups, last = flag.split(".")
            words.append("--" + ".".join([*groups, last if value else f"no-{last}"]))
        else:
            words += [f"--{flag}", str(value)]
    return words


Suggest = Callable[[Dimension], Value]


def point(space: Sequence[Dimension], suggest: Suggest) -> dict[str, Value]:
    """A point of the space, asked for one dimension after the other."""
    chosen: dict[str, Value] = {}
    for one in space:
        if one.applies(chosen):
            chosen[one.flag] = suggest(one)
    return chosen
