"""A converted network beside what the program that it comes from gave for the same inputs.

A file of examples is an `.npz` whose arrays have one row an example:

| array | |
|---|---|
| `x` | states or images, (n, C, H, W) or (n, H, W, C) |
| `t`, or `sigma` for EDM and EDM2 | the time that the network was given, in its own convention |
| `s` | its other time, for networks of two (MeanFlow, iMF: r); the later of both is that of `x` |
| `label`, or `y` | classes, or rows of one-hot numbers; -1, K or a row of zeros for no label |
| `guidance` | (w, a, b) for iMF; none is w = 1 on [0, 1] |
| `out` | what the original network gave; of more than C channels the first C are compared |

For an autoencoder `x` are images and `out` the means, or means and log variances in one; or `z`
latents in the place of `x` and `out` images. For feature networks `x` are grey levels in [0, 255]
and `out` the features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.rules import full_products
from core.layouts.edm import edm_map
from core.nets.autoencoder_kl import AutoencoderKL
from core.nets.diffusers_unet import DiffusersUNet
from core.nets.edm2_unet import EDM2UNet
from core.nets.edm_unet import EDMUNet
from core.nets.official_dit import OfficialDiT
from core.nets.perceptions.pretrained import Pretrained as Perception
from core.tensors import open_tensors

AT_ONCE = 8
MIDDLE = {"thousand": 500.0, "sigma": 0.7}
"""Times in the middle, of clocks that do not run from 0 to 1."""


@dataclass(frozen=True)
class Difference:
    """The largest error, and the largest value of what the original gave."""

    absolute: float
    largest: float

    @property
    def relative(self) -> float:
        """The largest error over the largest value."""
        return self.absolute / max(self.largest, 1e-30)

    def within(self, bound: float) -> bool:
        """Whether both errors are below a bound; not where a value is not finite."""
        return max(self.absolute, self.relative) <= bound


@dataclass(frozen=True)
class Examples:
    """Inputs of a network, one row an example, images with the channel last."""

    x: np.ndarray
    t: np.ndarray | None = None
    s: np.ndarray | None = None
    label: np.ndarray | None = None
    guidance: np.ndarray | None = None


NAMES = {
    "t": ("t", "sigma"), "s": ("s",), "label": ("label", "y"), "out": ("out",),
    "guidance": ("guidance",),
}  # fmt: skip
"""The names that an array may have."""


def read_examples(
    file: str | Path,
    shape: tuple[int, ...],
    classes: int,
    *,
    flows: bool,
    key: str = "x",
    order: str = "NCHW",
) -> tuple[Examples, np.ndarray, list[str]]:
    """Inputs, outputs with the channel last, and the names of arrays that are not used.

    **Arguments:** `shape` (H, W, C) of an input; `flows`, whether times are needed; `key` of the
    input; `order` of images where both fit. **Raises:** `UserError` where something is missing or
    does not fit.
    """
    name, arrays = Path(file).name, open_tensors(file)
    found = {part: _array(arrays, names, name) for part, names in NAMES.items()}
    x, out = _array(arrays, (key,), name), found["out"]
    if x is None or out is None:
        raise UserError(f"{name} needs arrays {key} and out; it has {', '.join(list(arrays)[:8])}")
    if flows and found["t"] is None:
        raise UserError(f"{name} needs either t or sigma, the time that the network was given")
    order, count = order_of(x.shape, shape, name, order), len(x)
    if len(out) != count:
        raise UserError(f"{name} has {count} examples and {len(out)} of out; give one a row")
    given = Examples(
        last(x, order).astype(np.float32),
        _rows_of(found["t"], count, 1, "t", name),
        _rows_of(found["s"], count, 1, "s", name),
        _labels(found["label"], classes, count, name),
        _rows_of(found["guidance"], count, 3, "guidance", name),
    )
    known = {key, *(one for names in NAMES.values() for one in names)}
    return given, last(out, order) if out.ndim == 4 else out, sorted(set(arrays) - known)


def order_of(given: tuple[int, ...], shape: tuple[int, ...], name: str, prefer: str) -> str:
    """How images lie, `prefer` where both ways fit. Raises `UserError` where neither does."""
    high, wide, channels = shape
    orders = {"NCHW": (channels, high, wide), "NHWC": (high, wide, channels)}
    fits = [
        order
        for order, one in orders.items()
        if len(given) == 4 and all(a == b or not b for a, b in zip(given[1:], one))
    ]
    if not fits:
        raise UserError(
            f"x in {name} is {tuple(given)}, the network takes (n, {channels}, {high}, {wide}) or "
            f"(n, {high}, {wide}, {channels}); say another side as --side where it is not known"
        )
    return prefer if prefer in fits else fits[0]


def last(images: np.ndarray, order: str) -> np.ndarray:
    """Images with the channel last."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1)) if order == "NCHW" else images


def outputs(net: Any, given: Examples, *, data_std: float = 0.5, decodes: bool = False) -> Any:
    """What the network gives, with the channel last, in its own convention of times."""
    parts = []
    with full_products():
        for start in range(0, len(given.x), AT_ONCE):
            rows = [
                None if one is None else jnp.asarray(one[start : start + AT_ONCE])
                for one in (given.x, given.t, given.s, given.label, given.guidance)
            ]
            parts.append(np.asarray(_rows(net, data_std, decodes, *rows)))
    return np.concatenate(parts)


@eqx.filter_jit
def _rows(net: Any, data_std: float, decodes: bool, *rows: Any) -> Any:
    return jax.vmap(lambda *one: _native(net, data_std, decodes, *one))(*rows)


def difference(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """How far outputs are from those of the original, of the channels that we have. Raises
    `UserError` for other shapes."""
    if theirs.shape[-1:] == (2 * ours.shape[-1],):  # a learned variance
        theirs = theirs[..., : ours.shape[-1]]
    elif ours.shape[-1:] == (2 * theirs.shape[-1],):  # means alone
        ours = ours[..., : theirs.shape[-1]]
    if ours.shape != theirs.shape:
        raise UserError(
            f"out is {theirs.shape} and the network gives {ours.shape}, the channel last; give "
            "its own output, of every example"
        )
    error = float(np.abs(ours.astype(np.float64) - theirs).max(initial=0.0))
    return Difference(error, float(np.abs(theirs).max(initial=0.0)))


def probe(shape: tuple[int, ...], classes: int, clock: str) -> Examples:
    """One example: noise in the middle of time, of the class 0 where there are classes."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, *shape)).astype(np.float32)
    label = np.zeros(1, np.int32) if classes else None
    number = clock.split()[-1]
    steps = float(number) / 2 if number.isdigit() else MIDDLE.get(clock, 0.5)
    return Examples(x, np.full(1, steps, np.float32), None, label)


def _native(net: Any, data_std: float, decodes: bool, x, t, s, label, guidance) -> Any:
    cond = Condition(label, guidance)
    if isinstance(net, AutoencoderKL):
        return net.decode(x) if decodes else jnp.concatenate(net.moments(x), -1)
    if isinstance(net, Perception):
        return net.look(x).vector
    if isinstance(net, EDMUNet | EDM2UNet):
        unit = t / (1 + t)
        return edm_map(net, data_std).net(x, unit, unit, cond)
    if isinstance(net, DiffusersUNet):
        return net.body(x, net.embed(t, cond))
    late, early = (t, t) if s is None else (jnp.maximum(t, s), jnp.minimum(t, s))
    if isinstance(net, OfficialDiT):
        return net.native(x, late, early, cond)
    return net(x, late, early, cond)


def _array(arrays: Mapping[str, Any], names: tuple[str, ...], file: str) -> np.ndarray | None:
    """The array of one of these names, of numbers. Raises `UserError` for two, or for others."""
    there = [name for name in names if name in arrays]
    if not there:
        return None
    if len(there) > 1:
        raise UserError(f"{file} has {there[0]} and {there[1]}; keep one of them")
    values = np.asarray(arrays[there[0]])
    if values.dtype.kind not in "fiub":
        raise UserError(f"{file} has {there[0]} of type {values.dtype}; give numbers")
    return values


def _rows_of(
    values: np.ndarray | None, count: int, size: int, key: str, name: str
) -> np.ndarray | None:
    """`size` numbers an example, as float32."""
    if values is None:
        return None
    flat = values.astype(np.float64).reshape(-1)
    if flat.size not in (size, size * count):
        each = "one" if size == 1 else str(size)
        raise UserError(
            f"{name} has {flat.size} numbers {key} for {count} examples; give {each} each"
        )
    rows = np.broadcast_to(flat.reshape(-1, size), (count, size)).astype(np.float32)
    return rows[:, 0] if size == 1 else rows


def _labels(values: np.ndarray | None, classes: int, count: int, name: str) -> np.ndarray | None:
    """Classes, the number of classes for none."""
    if values is None or not classes:
        return None
    if values.ndim == 2 and values.shape[1] > 1:
        values = np.where(values.any(axis=1), values.argmax(axis=1), classes)
    values = values.reshape(-1)
    if values.size not in (1, count):
        raise UserError(f"{name} has {values.size} labels for {count} examples; give one each")
    values = np.broadcast_to(values, (count,)).astype(np.int64)
    values = np.where(values < 0, classes, values)
    if values.max(initial=0) > classes:
        raise UserError(f"{name} has the label {values.max()}, the network {classes} classes")
    return values.astype(np.int32)
