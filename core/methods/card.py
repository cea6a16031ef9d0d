"""The description of a method, in one record."""

from dataclasses import KW_ONLY, dataclass, replace
from typing import Self


@dataclass(frozen=True)
class Card:
    """The description of a method; `apps.plugins` prints it.

    **Fields:** `name`, by which commands find the method; `rule`, the identity of flow maps that it
    trains; `supervision`, where its velocities come from; `source`, the paper. `cost` is the cost
    of one training example in forward-pass equivalents, with the method's own row split;
    `whole_cost` the count where every row pays for every term, `seed_cost` the survey's estimate of
    that. `parameterisation`, the network's prediction. `gradient` says what of the map carries the
    gradient of the loss: "V" for `V(x_s, s, t)`, "F" for the jump, "v" for the diagonal, "dF/dt",
    ..., or "everything"; all else is a number. `targets` says whose parameters those numbers depend
    on: "current" of the model itself, "EMA", "teacher". `apps.check` holds the losses against both.
    `family` is by default the folder that the method's file lies in.
    """

    name: str
    _: KW_ONLY
    rule: str
    supervision: str
    source: str
    cost: float
    whole_cost: float | None = None
    seed_cost: float | None = None
    parameterisation: str = "V"
    gradient: str = "V"
    targets: str = "current"
    family: str = ""
    kind: str = "method"

    def within(self, module: str) -> Self:
        """The card with its family: as given, or the folder of this module (`a.b_c.d`: "b c")."""
        folder = module.split(".")[-2:][0].replace("_", " ")
        return replace(self, family=self.family or folder)
