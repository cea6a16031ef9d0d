"""The training loop: a generator of dispatches; the caller decides about logging and saving."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from core.data.batches import batches
from core.errors import UserError
from core.flow.flow_map import FlowMap
from core.objectives.objective import Players
from core.train import processes
from core.train.accumulate import check
from core.train.build import Trainable
from core.train.checkpoint import Checkpoints, by_name
from core.train.config import LoopConfig
from core.train.gather import device_store, gathering
from core.train.optim import optimizer
from core.train.sharding import Placement
from core.train.state import init_state
from core.train.step import make_step, many_steps
from core.train.sums import not_finite


class NonFinite(Exception):
    """A loss, a gradient or the state was not finite. `step` is the step, `drawn` the number of its
    batch."""

    def __init__(self, step: int, drawn: int, what: str = "the loss"):
        super().__init__(f"{what} is not finite at step {step}")
        self.step, self.drawn = step, drawn


@dataclass(frozen=True)
class Dispatch:
    """The result of one call of the compiled program: steps `start + 1` to `step`.

    `metrics` are means over its steps; `seconds` its wall time, the data included.
    """

    start: int
    step: int
    metrics: dict[str, float]
    seconds: float

    def crosses(self, every: int) -> bool:
        """Whether a multiple of `every` (0: never) lies among its steps."""
        return every > 0 and self.step // every > self.start // every


Config = TypeVar("Config", bound=LoopConfig)
Work = TypeVar("Work", bound=Trainable)


class Trainer(Generic[Config, Work]):
    """State, data and compiled program of a run.

    Iterating `run()` trains; `save` and `restore` may be called between two dispatches.
    """

    def __init__(self, config: Config, built: Work):
        self.config, self.built = config, built
        self._place = place = Placement(config.mesh, config.batch, config.accumulate)
        self._optimizer = optimizer(config.optim, config.steps)
        # Child 0 of the seed has initialised the networks (see `build`), so training takes child 1.
        key = jr.fold_in(jr.key(config.seed), 1)
        objective, target = built.objective, built.target
        check(objective, config.batch, config.accumulate)
        players = place.shard(built.players)  # before the optimiser: nothing else is ever whole
        state, rest = init_state(players, objective, self._optimizer, key, target, built.trained)
        # What an adapter stands on is an argument of the program too, and no part of the state.
        self._base, self._static = eqx.partition(rest, eqx.is_inexact_array)
        self.state = place.shard(state)
        # The arrays of the objective (a teacher's weights) are an argument of the program. As
        # constants they would be compiled into it, once more for every program.
        arrays, static = eqx.partition(objective, eqx.is_array)
        store = place.replicate(device_store(built.training))
        self._frozen = place.shard(arrays), store, self._base
        share = config.batch // jax.process_count(), config.seed
        # Each process reads its own share of every batch; the mesh joins them.
        shard = jax.process_index(), jax.process_count()
        self._data = batches(built.training, *share, *shard)
        self.drawn = 0
        self.skipped: list[int] = []
        step = make_step(
            self._static, self._optimizer, config.ema, target, built.rates, config.accumulate
        )
        shardings = place.shardings(self.state)
        # Stated for results too: the state that a call returns must fit the next call as it is.
        still = place.shardings(self._frozen[0]), place.everywhere, place.shardings(self._base)
        inside = shardings, still, place.divided
        outside = shardings, place.everywhere
        gather = gathering(built.training, built.couple)
        self._program = many_steps(step, gather, static, (inside, outside))

    @property
    def step(self) -> int:
        """Finished steps."""
        return int(self.state.step)

    @property
    def compilations(self) -> int:
        """Programs compiled so far: one for each number of steps a dispatch has had."""
        return self._program._cache_size()

    def averaged(self) -> Players:
        """The trained networks with the averaged weights, whole on one device of this process.

        With several processes all must call it.
        """
        arrays = eqx.combine(self.state.ema, self._base)
        return eqx.combine(self._place.whole(arrays), self._static)

    def flow_map(self) -> FlowMap:
        """The trained map with the averaged weights, for sampling."""
        return self.averaged()["model"]

    def run(self) -> Iterator[Dispatch]:
        """Trains to the last step, `config.dispatch` steps a call.

        Raises `NonFinite`; the state is then unusable until `restore`.
        """
        start = self.step
        while start < self.config.steps:
            began = time.perf_counter()
            count = min(self.config.dispatch, self.config.steps - start)
            raw, numbers = self._draw(count)
            self.state, stacked = self._program(self.state, self._frozen, raw)
            metrics = {k: np.asarray(v) for k, v in stacked.items()}
            finite = metrics.pop("finite") > 0
            if not finite.all():
                bad = int(np.argmin(finite))
                raise NonFinite(start + bad + 1, numbers[bad])
            means = {k: float(v.mean()) for k, v in metrics.items()}
            yield Dispatch(start, start + count, means, time.perf_counter() - began)
            start += count

    def _draw(self, count: int) -> tuple[dict[str, jax.Array], list[int]]:
        """The next batches, stacked, and their numbers; those to be skipped are left out."""
        parts: list[dict[str, np.ndarray]] = []
        numbers: list[int] = []
        while len(parts) < count:
            part, number = next(self._data), self.drawn
            self.drawn += 1
            if number not in self.skipped:
                parts.append(part)
                numbers.append(number)
        stacked = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
        return self._place.batch(stacked), numbers

    def save(self, checkpoints: Checkpoints) -> None:
        """Saves the state and the position in the data.

        Raises `NonFinite` where parameters, averages or optimiser states are not finite, and saves
        nothing then: the last checkpoint is a good one.
        """
        bad = self._not_finite()
        if processes.greatest(bad is not None):
            raise NonFinite(self.step, self.drawn - 1, bad or "the state of another process")
        meta: dict[str, Any] = {
            "data": self._data.get_state(),
            "drawn": self.drawn,
            "skipped": self.skipped,
        }
        checkpoints.save(self.step, self.state, meta)

    def _not_finite(self) -> str | None:
        """The first array of the state with a number that is not finite, or None."""
        parts = ("players", "ema", "target", "opt")
        return not_finite(by_name({part: getattr(self.state, part) for part in parts}))

    def restore(self, checkpoints: Checkpoints, step: int) -> None:
        """Goes to a checkpoint: parameters, optimiser, averages, random numbers, data position."""
        self.state, meta = checkpoints.restore(step, self.state)
        self._data.set_state(meta["data"])
        self.drawn, self.skipped = int(meta["drawn"]), list(meta["skipped"])

    def restore_newest(self, checkpoints: Checkpoints) -> int:
        """Goes to the newest checkpoint that is whole, moves later ones aside, and returns its
        step."""
        step, _ = checkpoints.newest(lambda step: self.restore(checkpoints, step))
        checkpoints.set_aside(step)
        return step

    def roll_back(self, checkpoints: Checkpoints, bad: NonFinite) -> None:
        """Goes back to the last checkpoint and leaves out the batch that failed.

        The steps in between are repeated with fresh noise.
        """
        if checkpoints.latest() is None:
            raise UserError(
                f"{bad}, before the first checkpoint; train another --run with a lower --optim.rate"
            ) from None
        rollbacks = jnp.asarray(int(self.state.rollbacks) + 1, jnp.int32)
        skipped = [*self.skipped, bad.drawn]
        self.restore_newest(checkpoints)
        self.skipped = skipped
        self.state = eqx.tree_at(
            lambda s: s.rollbacks, self.state, self._place.replicate(rollbacks)
        )

    def program(self) -> jax.stages.Traced:
        """The traced program of a dispatch of one step, for its cost and memory."""
        raw, _ = self._draw(1)
        return self._program.trace(self.state, self._frozen, raw)
