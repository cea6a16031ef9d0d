"""A converted network beside what the program that it comes from gave for the same inputs.

A file of examples is an `.npz` whose arrays have one row an example:

| array | |
|---|---|
| `x` | states or images, (n, C, H, W) or (n, H, W, C) |
| `t`, or `sigma` for EDM and EDM2 | the time that the network was given, in its own convention |
| `s` | its other time, for networks of two (MeanFlow, iMF: r); the later of both is that of `x` |
| `label` | classes, or rows of one-hot numbers; -1, K or a row of zeros for no label |
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


def read_examples(
    file: str | Path, shape: tuple[int, ...], classes: int, *, flows: bool, key: str = "x"
) -> tuple[Examples, np.ndarray]:
    """Inputs, and outputs with the channel last.

    **Arguments:** `shape` (H, W, C) of an input; `flows`, whether times are needed; `key` of the
    input. **Raises:** `UserError` where something is missing or does not fit.
    """
    name = Path(file).name
    arrays = open_tensors(file)
    if key not in arrays or "out" not in arrays:
        raise UserError(f"{name} needs arrays {key} and out; it has {', '.join(list(arrays)[:8])}")
    x, out = _array(arrays, key), _array(arrays, "out")
    order = order_of(x.shape, shape, name)
    count = len(x)
    if len(out) != count:
        raise UserError(f"{name} has {count} examples and {len(out)} of out; give one a row")
    times = [_array(arrays, key) for key in ("t", "sigma") if key in arrays]
    if flows and len(times) != 1:
        raise UserError(f"{name} needs either t or sigma, the time that the network was given")
    s = _array(arrays, "s") if "s" in arrays else None
    guidance = _array(arrays, "guidance") if "guidance" in arrays else None
    found = Examples(
        last(x, order),
        _row(times[0], count, "t", name) if times else None,
        None if s is None else _row(s, count, "s", name),
        _labels(arrays, classes, count, name),
        None if guidance is None else np.broadcast_to(guidance, (count, 3)).astype(np.float32),
    )
    return found, last(out, order) if out.ndim == 4 else out


def order_of(given: tuple[int, ...], shape: tuple[int, ...], name: str) -> str:
    """How images lie. Raises `UserError` where neither way fits."""
    high, wide, channels = shape
    orders = {"NCHW": (channels, high, wide), "NHWC": (high, wide, channels)}
    for order, one in orders.items():
        if len(given) == 4 and all(a == b or not b for a, b in zip(given[1:], one)):
            return order
    raise UserError(
        f"x in {name} is {tuple(given)}, the network takes (n, {channels}, {high}, {wide}) or "
        f"(n, {high}, {wide}, {channels}); say another side as --side where it is not known"
    )


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


def _array(arrays: Mapping[str, Any], key: str) -> np.ndarray:
    return np.asarray(arrays[key]).astype(np.float32)


def _row(values: np.ndarray, count: int, key: str, name: str) -> np.ndarray:
    """One number an example, as float32."""
    flat = np.asarray(values, np.float64).reshape(-1)
    if flat.size not in (1, count):
        raise UserError(f"{name} has {flat.size} numbers {key} for {count} examples; give one each")
    return np.broadcast_to(flat, (count,)).astype(np.float32)


def _labels(arrays: Mapping[str, Any], classes: int, count: int, name: str) -> np.ndarray | None:
    """Classes, the number of classes for none."""
    if "label" not in arrays or not classes:
        return None
    values = np.asarray(arrays["label"])
    if values.ndim == 2:
        some = values.any(axis=1)
        values = np.where(some, values.argmax(axis=1), classes)
    values = np.broadcast_to(values.reshape(-1), (count,)).astype(np.int64)
    values = np.where(values < 0, classes, values)
    if values.max(initial=0) > classes:
        raise UserError(f"{name} has the label {values.max()}, the network {classes} classes")
    return values.astype(np.int32)
