"""Flags that a command does not have: the nearest that it has, and what other tools call them."""

import difflib
from collections.abc import Sequence

ALIASES = {
    "lr": ("optim.rate",),
    "learning-rate": ("optim.rate",),
    "batch-size": ("batch",),
    "bs": ("batch",),
    "max-steps": ("steps",),
    "num-steps": ("steps",),
    "iterations": ("steps",),
    "warmup-steps": ("optim.warmup",),
    "optimizer": ("optim.name",),
    "scheduler": ("optim.schedule",),
    "grad-clip": ("optim.clip",),
    "max-grad-norm": ("optim.clip",),
    "ema-decay": ("ema",),
    "gradient-accumulation-steps": ("accumulate",),
    "num-samples": ("n",),
    "n-samples": ("n",),
    "checkpoint": ("run",),
    "ckpt": ("run",),
    "output": ("out", "run"),
    "output-dir": ("out", "run"),
    "logdir": ("run", "out"),
    "save-dir": ("run", "out"),
    "method": ("plugin",),
    "model": ("net",),
    "dataset": ("data",),
    "data-dir": ("data.path",),
    "data-path": ("data.path",),
    "image-size": ("data.size",),
    "resolution": ("data.size",),
    "precision": ("net.dtype",),
    "mixed-precision": ("net.dtype",),
    "gpus": ("mesh.data",),
    "devices": ("mesh.data",),
    "cfg": ("guidance",),
    "cfg-scale": ("guidance",),
    "guidance-scale": ("guidance", "teaching.scale"),
    "class": ("label",),
    "num-inference-steps": ("steps", "nfe"),
    "evaluations": ("nfe",),
}
"""Names that other tools give to flags, each with ours; the first that the command has is meant."""
EXPLAINED = {
    "epochs": "training is counted in steps of --batch examples: give --steps",
    "num-epochs": "training is counted in steps of --batch examples: give --steps",
    "resume": "an interrupted run goes on by itself where --run names its folder, and --extend "
    "gives it more steps",
}
"""Names of other tools for what has no flag in commands that train."""


def unknown(word: str, known: Sequence[str]) -> str:
    """One line on the flag `word`, which is not among the flags `known` of a command."""
    flag = word.split("=")[0].replace("_", "-")
    name, names = flag.lstrip("-"), {one.lstrip("-") for one in known}
    if name in EXPLAINED and {"batch", "extend"} <= names:
        return f"{flag} is no flag of this command: {EXPLAINED[name]}"
    near = nearest(name, sorted(names))
    hint = f"; did you mean --{near}?" if near else ""
    return f"{flag} is no flag of this command{hint}"


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The flag of `names` that is meant by `name`: what other tools call so, the same name in a
    group, or one that is spelt alike."""
    for ours in ALIASES.get(name, ()):
        if ours in names:
            return ours
    inside = [one for one in names if one.rpartition(".")[2] == name.rpartition(".")[2]]
    if inside:
        return min(inside, key=len)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return near[0] if near else None
