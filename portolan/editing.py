"""Edits of examples by a model: there and back, from one to another, another class, some noise."""

from dataclasses import dataclass

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float, Int

from core.errors import require
from core.sampling import Sampler
from core.sampling.edits import along, between, relative_errors
from portolan.drawing import check, choose
from portolan.model import Model
from portolan.progress import Meter

Examples = Float[np.ndarray, " n *shape"]
Labels = Int[np.ndarray, " n"] | None


@dataclass(frozen=True)
class Editor:
    """A model with a deterministic sampler and so many steps from end to end.

    States are network values; at the noise end they are `sigma(t_max) z`.
    """

    model: Model
    sampler: Sampler
    steps: int
    seed: int = 0

    @property
    def times(self) -> Float[np.ndarray, " nodes"]:
        """The times from noise to data."""
        return self.model.grid(self.model.flow_map.path, self.steps)

    def carry(self, x: Examples, times: Float[np.ndarray, " nodes"], labels: Labels) -> Examples:
        """States along times, in either direction."""
        given = labels if self.model.spec.num_classes else None
        with Meter("editing", len(x)) as meter:
            return along(
                self.model.flow_map, self.sampler, times, x, given, key=jr.key(self.seed),
                progress=meter.more,
            )  # fmt: skip

    def encode(self, x: Examples, labels: Labels) -> Examples:
        """Examples to noise."""
        return self.carry(x, self.times[::-1].copy(), labels)

    def decode(self, z: Examples, labels: Labels) -> Examples:
        """Noise to examples."""
        return self.carry(z, self.times, labels)

    def between(
        self, a: Examples, b: Examples, labels: Labels, shares: Float[np.ndarray, " m"]
    ) -> Float[np.ndarray, "n m *shape"]:
        """From each of the noises `a` to that of `b`, `(n, m, *shape)`; both are of one class."""
        space = self.model.flow_map.path.space
        ways = np.concatenate([between(space, one, other, shares) for one, other in zip(a, b)])
        found = self.decode(ways, None if labels is None else np.repeat(labels, len(shares)))
        return found.reshape(len(a), len(shares), *a.shape[1:])

    def as_classes(
        self, z: Examples, classes: Int[np.ndarray, " k"]
    ) -> Float[np.ndarray, "n k *shape"]:
        """The noise of each example read as every class: `(n, k, *shape)`."""
        found = self.decode(np.repeat(z, len(classes), axis=0), np.tile(classes, len(z)))
        return found.reshape(len(z), len(classes), *z.shape[1:])

    def varied(self, x: Examples, labels: Labels, unit: float) -> Examples:
        """Examples with noise up to the unit time `unit`, and back by the map (SDEdit, arXiv
        2108.01073)."""
        path = self.model.flow_map.path
        top = float(path.time_of_unit(unit))
        z = path.noise(jr.key(self.seed), x.shape)
        start = np.asarray(path.interpolate(jnp.asarray(x), z, top))
        below = self.times[self.times < top - 1e-6]
        return self.carry(start, np.append(top, below), labels)


def editor(model: Model, sampler: str | None, steps: int, seed: int) -> Editor:
    """Raises `UserError` where a model cannot carry examples to noise."""
    name, chosen = choose(model, sampler)
    most = check(model, name, chosen)
    require(
        not chosen.draws_noise(2),
        f"the sampler {name!r} adds noise on its way and has no way back; name another --sampler, "
        "such as pushforward or heun",
    )
    require(
        most is None and model.flow_map.abilities.two_times,
        f"{model.name} has learned jumps to the data alone, with no way back; train another "
        "method, such as apps.train --plugin imf --plugin.both 0.5",
    )
    require(
        model.abilities.noise != "none",
        f"{model.name} starts from data: there is no noise to edit in",
    )
    require(steps >= 1 and seed >= 0, "--steps must be at least 1 and --seed at least 0")
    return Editor(model, chosen, steps, seed)


def round_trip(
    editing: Editor, x: Examples, labels: Labels
) -> tuple[Examples, Examples, Float[np.ndarray, " n"]]:
    """The noise of examples, what it becomes again, and the relative error of each."""
    z = editing.encode(x, labels)
    again = editing.decode(z, labels)
    return z, again, relative_errors(x, again, editing.model.flow_map.path.space)
