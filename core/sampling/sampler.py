"""The interface of samplers, and their needs of a map."""

import abc
from collections.abc import Sequence
from typing import ClassVar, Generic, Literal, TypeVar

import equinox as eqx
from jaxtyping import Array, Float, Key

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.field import VelocityField
from core.flow.flow_map import FlowMap
from core.flow.solve import Solution
from core.overriding import overridable

Nodes = Float[Array, " nodes"]

Field = TypeVar("Field", bound=VelocityField, contravariant=True)
Need = Literal["jumps", "ends", "velocity"]
"""Of a map: jumps between any two times, jumps that end at the data, its diagonal."""


class Sampler(eqx.Module, Generic[Field]):
    """Moves one example from the first of some decreasing times to the last.

    It sees a map only through `F(x, s, t)`, `v(x, t)` and the path, so it works with every
    parameterisation and on every path. A `Sampler[VelocityField]` needs the velocity alone and
    takes any field, a `Sampler[FlowMap]` jumps. Fields are its settings.
    """

    needs: ClassVar[Need]
    preview: ClassVar[int] = 1
    """Evaluations with which it gives a first impression."""

    @abc.abstractmethod
    def __call__(
        self,
        field: Field,
        x: Float[Array, "*shape"],
        times: Nodes,
        cond: Condition | None = None,
        *,
        key: Key[Array, ""],
    ) -> Solution:
        """The state at `times[-1]`, from `x` at `times[0]`, and the evaluations that it took."""

    @abc.abstractmethod
    def draws_noise(self, steps: int) -> bool:
        """Whether its result depends on noise beside that of the start."""

    @overridable
    def steps(self, nfe: int) -> int:
        """The number of steps that use `nfe` network evaluations: one a step, unless overridden.

        Raises `UserError` where no number of steps does.
        """
        return nfe


_SERVED: dict[Need, tuple[Need, ...]] = {
    "jumps": ("jumps", "ends", "velocity"),
    "ends": ("ends",),
    "velocity": ("velocity",),
}
_WORDS: dict[Need, str] = {
    "jumps": "jumps that end before the data",
    "ends": "jumps to the data",
    "velocity": "the velocity at every time",
}
_INSTEAD: dict[Need, str] = {"jumps": "pushforward", "ends": "restart", "velocity": "euler"}


def check_sampler(
    name: str, sampler: Sampler, field: VelocityField, own: Sampler | None = None
) -> None:
    """Raises `UserError` where the field does not serve the sampler.

    **Arguments:** `own`, the sampler for which the map was trained: its needs were learned,
    and from jumps between any two times everything else follows. Without it only whether the field
    is a map, and the map's own property `two_times`, are looked at.
    """
    learned: Need = "jumps" if own is None else own.needs
    if not isinstance(field, FlowMap):
        learned = "velocity"
    elif not field.two_times:
        learned = "ends"
    if sampler.needs not in _SERVED[learned]:
        raise UserError(
            f"the sampler {name!r} needs {_WORDS[sampler.needs]}, but this model has learned only "
            f"{_WORDS[learned]}; use --sampler {_INSTEAD[learned]}"
        )


def usable(name: str, sampler: Sampler, nfes: Sequence[int], most: int | None = None) -> list[int]:
    """The numbers of evaluations, up to `most`, that a sampler can use; one a number of steps.

    Raises `UserError` if there are none.
    """
    found, reasons = {}, []
    for nfe in nfes:
        try:
            steps = sampler.steps(nfe)
        except UserError as error:
            reasons.append(error)
        else:
            if most is None or nfe <= most:
                found.setdefault(steps, nfe)
    if not found and reasons:
        raise reasons[0]
    if not found:
        raise UserError(f"the sampler {name!r} can use none of --nfe {list(nfes)}, {most} at most")
    return list(found.values())
