"""The panel Sample: grids of samples, and one that is carried along in the space of noise."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float, Int

from core.data.starts import start_values
from core.errors import require
from core.flow.interpolant import Interpolant
from core.sampling import Drawing, Samples, edits
from portolan import drawing
from portolan.studio.bounds import MOST, MOST_STEPS, most_of
from portolan.studio.fields import SEED, Fields
from portolan.studio.session import Opened
from portolan.studio.views import Shown, shown, view_of

EACH = 256
"""The batch of `core.sampling.generate`: so many samples take their noise from one key, and so a
seed means here what it means there."""
TURN = np.pi
"""The largest angle of a turn of noise."""
LIKELY = 2, 4
"""Steps that are likely to be asked."""
WALK = 33
"""Places along a way, at most."""


@dataclass(frozen=True)
class Asked:
    """How samples are drawn: see `Model.sample`."""

    sampler: str | None
    steps: int
    guidance: float | None
    seed: int

    @classmethod
    def of(cls, fields: Fields) -> "Asked":
        """Reads it from a request."""
        sampler = fields.text("sampler", 40) if fields.has("sampler") else None
        guidance = fields.number("guidance", 1, 100) if fields.has("guidance") else None
        steps = fields.whole("steps", 1, MOST_STEPS, 1)
        return cls(sampler, steps, guidance, fields.whole("seed", 0, SEED, 0))


@dataclass(frozen=True)
class Held:
    """The noise of one sample: its seed, its number, and the class that it is drawn as."""

    seed: int
    index: int
    label: int | None

    @classmethod
    def of(cls, fields: Fields) -> "Held":
        """Reads it from a request."""
        label = fields.whole("label", 0, SEED) if fields.has("label") else None
        return cls(fields.whole("seed", 0, SEED), fields.whole("index", 0, MOST - 1), label)


def sample(run: Opened, fields: Fields) -> Shown:
    """Samples of a seed, as `Model.sample` draws them: `n` of them, of one class or of all in
    turn."""
    model, asked = run.model, Asked.of(fields)
    n = fields.whole("n", 1, most_of(model), 64)
    label = fields.whole("label", 0, SEED) if fields.has("label") else None
    labels = drawing.labels_of(model, n, label)
    z = noise(run, asked.seed, np.arange(n))
    samples = draw(run, asked, z, labels)
    picture = shown(run, samples.x)
    said = {**picture.said, "n": n, "nfe": samples.nfe}
    arrays = picture.arrays if isinstance(labels, int) else {**picture.arrays, "labels": labels}
    return Shown(arrays, said)


def walk(run: Opened, fields: Fields) -> Shown:
    """One sample at places along a way through noise: turned from that of `a` towards a random
    direction by angles `at`, or at shares `at` of the way to that of `b`."""
    model, asked, a = run.model, Asked.of(fields), Held.of(fields.inside("a"))
    first = noise(run, a.seed, np.array([a.index]))[0]
    if fields.has("b"):
        b = Held.of(fields.inside("b"))
        at = np.array(fields.numbers("at", WALK, -1.0, 2.0))
        z = between(run, first, noise(run, b.seed, np.array([b.index]))[0], at)
    else:
        require(model.abilities.noise != "none", f"{model.name} starts from data, not from noise")
        at = np.array(fields.numbers("at", WALK, -TURN, TURN))
        z = turned(model.flow_map.path, first, fields.whole("direction", 0, SEED, 0), at)
    labels = drawing.labels_of(model, len(at), a.label)
    return shown(run, draw(run, asked, z, labels).x)


def likely(run: Opened, fields: Fields) -> list[Callable[[], Any]]:
    """What is likely to be asked after a first grid of samples, so that its programs are compiled
    before: other numbers of steps, and ways through noise."""
    key = ("likely", fields.values.get("sampler"), fields.values.get("n"))
    if key in run.kept:
        return []
    run.kept[key] = True
    most = run.model.abilities.most_nfe or LIKELY[-1]
    values = {name: fields.values.get(name) for name in ("sampler", "n", "guidance")}
    held = {"a": {"seed": 0, "index": 0}, "direction": 0}
    if run.model.spec.num_classes:
        held["a"]["label"] = 0
    places = [9, 1] if view_of(run.model.spec) in ("tiles", "text") else [33, 1]
    asked = [(walk, {**values, **held, "at": [0.0] * many}) for many in places]
    asked += [(sample, {**values, "steps": steps}) for steps in LIKELY if steps <= most]
    return [partial(job, run, Fields(each)) for job, each in asked]


def draw(
    run: Opened, asked: Asked, z: Float[np.ndarray, " n *shape"], labels: drawing.Labels
) -> Samples:
    """Samples that start from given noise, as `apps.sample` draws those of its own."""
    model = run.model
    name, sampler = drawing.choose(model, asked.sampler)
    key = ("times", name, asked.steps)
    if key not in run.kept:
        run.kept[key] = drawing.times_of(model, name, sampler, asked.steps, model.grid, ())
    scale = None if asked.guidance is None else (asked.guidance, 0.0, 1.0)
    how = Drawing(sampler, run.kept[key], scale, z)
    return drawing.draw(model, how, labels, seed=asked.seed, batch=bucket(len(z)))


def bucket(n: int) -> int:
    """The size of batch that `n` examples are drawn in: few sizes, so that few programs are
    compiled, and little work is wasted."""
    if n <= 16:
        return 1 if n == 1 else 4 if n <= 4 else 16
    step = 16 if n <= 128 else 1 << ((n - 1).bit_length() - 2)
    return -(-n // step) * step


def noise(run: Opened, seed: int, index: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n *shape"]:
    """The noise, or the examples of a run's own source, that samples of these numbers start from
    under a seed: those of `Model.sample`."""
    model = run.model
    source = model.source()
    if source is not None:
        return start_values(source, int(index.max()) + 1, seed)[index]
    many = np.resize(index, bucket(len(index))).astype(np.int32)
    found = _noise(model.flow_map.path, model.spec.shape, np.asarray(seed, np.int32), many)
    return np.asarray(found)[: len(index)]


@eqx.filter_jit
def _noise(path: Interpolant, shape: tuple[int, ...], seed, index):
    root = jr.key(seed)

    def one(i):
        keys = jr.split(jr.fold_in(root, i // EACH), EACH)
        return path.noise(jr.split(keys[i % EACH])[0], shape)

    return jax.vmap(one)(index)


def turned(
    path: Interpolant,
    z: Float[np.ndarray, "*shape"],
    direction: int,
    angles: Float[np.ndarray, " m"],
) -> Float[np.ndarray, " m *shape"]:
    """`cos(a) z + sin(a) d` with `d` other noise, which has the distribution of noise for every
    angle; on other spaces the geodesic of length `a` in a random direction."""
    found = _turned(path, z, np.asarray(direction, np.int32), angles.astype(np.float32))
    return np.asarray(found)


@eqx.filter_jit
def _turned(path: Interpolant, z, direction, angles):
    key = jr.fold_in(jr.key(direction), 1)
    if path.space.flat:
        d = path.noise(key, z.shape)
        return jax.vmap(lambda a: jnp.cos(a) * z + jnp.sin(a) * d)(angles)
    u = path.space.tangent(z, jr.normal(key, z.shape))
    u = u / jnp.maximum(jnp.sqrt(jnp.sum(u**2)), 1e-6)
    return jax.vmap(lambda a: path.space.exp(z, a * u))(angles)


def between(
    run: Opened,
    a: Float[np.ndarray, "*shape"],
    b: Float[np.ndarray, "*shape"],
    shares: Float[np.ndarray, " m"],
) -> Float[np.ndarray, " m *shape"]:
    """From one noise to another: along the sphere on which noise lies, along a geodesic of other
    spaces, straight between examples of data."""
    path, model = run.model.flow_map.path, run.model
    if model.abilities.noise == "none" and path.space.flat:
        w = shares.reshape(-1, *[1] * a.ndim)
        return ((1 - w) * a + w * b).astype(np.float32)
    return edits.between(path.space, a, b, shares)
