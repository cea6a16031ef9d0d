"""Models to sample, measure and steer: a trained run, or a flow map of the user's own."""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from core.data.dataset import Dataset
from core.data.spec import DataSpec
from core.errors import UserError
from core.flow.divergence import DivergenceHead
from core.flow.flow_map import FlowMap
from core.overriding import overridable
from core.sampling import Grid, Sampler, uniform_grid
from core.steering.adapter import Proposal
from core.steering.reward import Reward
from core.steering.steering import Steering
from portolan.pictures import Picture, Strings
from portolan.results import Table
from portolan.tilted import Tilted

if TYPE_CHECKING:
    from portolan.adapting import Given

Noise = Literal["independent", "coupled", "none"]
"""At t = 1 in training: noise that is independent of the data, noise that is not, other data."""


@dataclass(frozen=True)
class Abilities:
    """The abilities of a map.

    **Fields:** `most_nfe`, the evaluations beyond which sampling means nothing, 1 for a map that
    starts at noise only; `all_classes`, whether the label `num_classes` stands for all classes
    together; `guidance`, whether the guidance scale is an input; `observes`, the reward that an
    adapter was trained for, where there is one; `noise`, what stood at t = 1 in training: only
    noise that is independent of the data makes velocities scores; `null`, whether it was trained
    without labels too, as guidance at sampling needs it.
    """

    most_nfe: int | None = None
    all_classes: bool = False
    guidance: bool = False
    observes: str = "another problem"
    noise: Noise = "independent"
    null: bool = True


class Model(abc.ABC):
    """A flow map and the description of its samples.

    Samples of images are in [-1, 1]; those of data that were scaled (`--data.values`) are in the
    units of the data; those of text are codes, `(n, length)`, and `spec.vocabulary` says of what.
    Rewards see network values.
    """

    @property
    @abc.abstractmethod
    def flow_map(self) -> FlowMap:
        """The map from noise to data."""

    @property
    @abc.abstractmethod
    def spec(self) -> DataSpec:
        """The description of its samples."""

    @property
    @abc.abstractmethod
    def sampler(self) -> str:
        """The name of the sampler that it was trained for."""

    @property
    @abc.abstractmethod
    def abilities(self) -> Abilities:
        """Its abilities."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Its name in messages."""

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """Its title in tables and pictures."""

    @abc.abstractmethod
    def dataset(self) -> Dataset:
        """Data to compare with. Raises `UserError` where there are none."""

    @abc.abstractmethod
    def proposal(self) -> Proposal | None:
        """The noise that the map was trained with for observations, or None."""

    @property
    @overridable
    def divergence(self) -> DivergenceHead | None:
        """The trained head for log-determinants of jumps, or None."""
        return None

    @overridable
    def source_spec(self) -> DataSpec | None:
        """The description of the data that samples start from; None where they start from noise."""
        return None

    @overridable
    def source(self) -> Dataset | None:
        """The data that samples start from; None where they start from noise. Raises `UserError`
        where they are not at hand."""
        return None

    @abc.abstractmethod
    def with_map(self, flow_map: FlowMap) -> Self:
        """The same model with another map of the same samples."""

    def with_adapters(self, *adapters: "Given") -> Self:
        """The model whose weights are changed by adapters, summed; the model itself stays.

        Each is a file or folder with keys of ours, peft's, diffusers' or kohya's, a run that was
        trained with `adapter={"rank": 8}`, or an `Adapter`; alone, or with a weight:
        `model.with_adapters("runs/fast", ("style.safetensors", 0.5))`. Raises `UserError` for
        one of another network.
        """
        from portolan.adapting import adapted_map

        return self.with_map(adapted_map(self, adapters))

    @property
    @overridable
    def grid(self) -> Grid:
        """The spacing of times where none is asked for."""
        return uniform_grid

    @overridable
    def held_out(self) -> Dataset | None:
        """The part of the data that was kept from training, to measure by; None where none was."""
        return None

    def data_beside(self) -> Dataset | None:
        """The data that a picture shows beside samples that are points; None where there are none.

        A picture of images shows samples alone.
        """
        if self.spec.kind != "points":
            return None
        try:
            return self.dataset()
        except UserError:
            return None

    def sample(
        self,
        n: int = 16,
        *,
        label: str | int | Int[np.ndarray, " n"] | None = None,
        steps: int = 1,
        seed: int = 0,
        sampler: str | Sampler | None = None,
        guidance: float | None = None,
        times: Sequence[float] = (),
        start: Float[np.ndarray, " n *shape"] | None = None,
    ) -> Shaped[np.ndarray, " n *shape"]:
        """Draws `n` samples, `(n, *shape)`.

        The first samples of a seed are the same for any `n`, to rounding. **Arguments:** `label`, a
        class by its name or number, or one a sample; by default the classes take turns, 0, 1, 2 and
        so on. `sampler`, a name (see `SAMPLERS`) or a sampler with settings of its own, by default
        the method's; `steps` of it. `guidance`, the scale of classifier-free guidance, 1 for none.
        `times` to stop at, from 1 (noise) to 0 (data), in place of `steps`. `start`, the network
        values at t = 1, one a sample, in place of noise or of the run's own source. Raises
        `UserError` for a thing that does not exist or was not learned.
        """
        from portolan import drawing

        drawn = drawing.draw_as_asked(
            self, drawing.labels_of(self, n, label), steps=steps, times=times,
            sampler=sampler, guidance=guidance, seed=seed, start=start,
        )  # fmt: skip
        return self.spec.restore(drawn.x)

    def show(
        self,
        n: int | None = None,
        *,
        label: str | int | Int[np.ndarray, " n"] | None = None,
        steps: int = 1,
        seed: int = 0,
        sampler: str | Sampler | None = None,
        guidance: float | None = None,
        times: Sequence[float] = (),
    ) -> Picture | Strings:
        """A picture of the samples that `sample` draws with the same arguments.

        Images stand in rows, with one column a class where there are classes; points are drawn
        beside the data. `n` is 80 images or 2,000 points by default.
        """
        from portolan import drawing

        return drawing.picture(
            self, n, label, steps=steps, times=times, sampler=sampler, guidance=guidance, seed=seed
        )

    def evaluate(
        self,
        nfe: Sequence[int] = (1, 2, 4),
        *,
        n: int | None = None,
        sampler: str | Sampler | None = None,
        features: str | Sequence[str] | None = None,
        guidance: float | None = None,
        seed: int = 0,
        stats: str | Sequence[str] | None = None,
    ) -> Table:
        """Measures samples against the data, one row a number of network evaluations.

        The last row is the floor: the same metrics between two disjoint sets of real data.
        **Arguments:** `n` samples a row, by default as many as the data, 10,000 at most;
        `features`, one or several of those of `python -m apps.eval --help`, which names the columns
        too; `stats`, files of reference statistics in the place of the data. Raises `UserError`
        where there are no data.
        """
        from portolan import measuring

        return measuring.evaluate(self, nfe, n, sampler, features, guidance, seed, stats)

    def log_prob(
        self,
        x: Float[np.ndarray, " n *shape"],
        *,
        by: str = "ode",
        steps: int = 8,
        label: Int[np.ndarray, " n"] | None = None,
        seed: int = 0,
    ) -> Float[np.ndarray, " n"]:
        """`log p(x)` of each example in nats, in the units of `sample`.

        **Arguments:** `by`: `ode`, the probability-flow ODE with the exact divergence, or
        `hutchinson`, with one random probe an example; `exact`, the determinant of `steps` jumps
        towards noise, or `series`, the same estimated, or `head`, of a trained divergence head
        (`f2d2`). Jumps towards noise mean something where
        the map was trained for them: `python -m apps.eval --likelihood exact` prints the error of
        the way there and back. `label`, the class of each example; without it all classes
        together, where the model was trained so. Raises `UserError` where it has no likelihood.
        """
        from portolan import likelihood

        return likelihood.log_probs(self, x, by=by, steps=steps, label=label, seed=seed)

    def tilt(
        self,
        reward: str | Reward | Callable[[Array], Array] | Sequence[str],
        *,
        method: str | Steering = "smc",
        strength: float = 2.0,
        lam: float | None = None,
        label: str | int | None = None,
        n: int = 64,
        islands: int = 8,
        weights: Sequence[float] = (),
        classifier: str | None = None,
        chunk: int | None = None,
        seed: int = 0,
        progress: bool = False,
        **settings: Any,
    ) -> Tilted:
        """Draws from `p(x) exp(lambda r(x)) / Z`, where p is the distribution of the samples.

        **Arguments:**

        - `reward`: a name as `apps.tilt --rewards` lists them, several, which are added up with
          `weights`, a `Reward`, or a function of one example that JAX can differentiate
          (one without a gradient says `function.gradient = False`).
        - `method`: a name as `apps.tilt --methods` lists them, `settings` its fields; or an object.
        - `strength`: lambda in standard deviations of the reward; `lam` is lambda itself.
        - `label`: a class, by its name or number; by default all classes together.
        - `n` particles in each of `islands`, whose spread is the error of log Z.
        - `classifier`: a run folder of `apps.features --task classifier`, for the reward `class:K`.
        - `chunk`: particles that go through the network at once, where memory is short.
        - `progress`: whether to print how far it is.

        Raises `UserError` where the method cannot serve the reward or this map.
        """
        from portolan import tilting

        return tilting.tilt(
            self, reward, method, settings, strength=strength, lam=lam, label=label, n=n,
            islands=islands, weights=tuple(weights), classifier=classifier, chunk=chunk, seed=seed,
            progress=progress,
        )  # fmt: skip
