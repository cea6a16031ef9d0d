"""Published networks in model folders (`apps.convert`), as models."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from core import models
from core.data.codec import Codec
from core.data.dataset import Dataset
from core.data.spec import DataSpec
from core.errors import UserError
from core.flow.flow_map import FlowMap
from core.flow.path import EDMPath
from core.models.codec import scale_of
from core.nets.imf_dit import IMFDiTConfig
from core.sampling import GRIDS, Grid, uniform_grid
from core.steering.adapter import Proposal
from portolan.model import Abilities
from portolan.stored import Stored, check_data


@dataclass(frozen=True, eq=False, repr=False)
class Pretrained(Stored):
    """A converted network, to be sampled, measured, steered and exported.

    It comes without data: `given` stands for them. Latents become pictures by a `codec`.
    **Fields:** `opened`, the network as core knows it.
    """

    opened: models.Pretrained
    given: Dataset | None = None
    codec: Codec = Codec()

    @property
    def flow_map(self) -> FlowMap:
        return self.opened.flow_map

    @cached_property
    def spec(self) -> DataSpec:
        own = self.opened.spec
        names = tuple(str(k) for k in range(own.num_classes))
        pictures = own.shape[-1] in (1, 3) and not self.codec
        spec = dataclasses.replace(own, class_names=names, levels=255 if pictures else None)
        if not self.codec:
            return spec
        scale = scale_of(self.opened.scaling, own.shape[-1])
        return dataclasses.replace(spec, codec=self.codec, scale=scale)

    @property
    def sampler(self) -> str:
        return "pushforward" if has_two_times(self.net_flags) else "euler"

    @property
    def grid(self) -> Grid:
        """That of EDM on its path, whose noise levels span four powers of ten."""
        return GRIDS["edm"] if isinstance(self.flow_map.path, EDMPath) else uniform_grid

    @property
    def abilities(self) -> Abilities:
        never = self.opened.trained_without_null
        return Abilities(
            all_classes=self.spec.num_classes > 0 and not never,
            guidance=self.net_flags.takes_guidance,
            null=not never,
        )

    @property
    def name(self) -> str:
        return f"the {self.opened.kind} network"

    @property
    def title(self) -> str:
        return self.opened.title or self.opened.kind

    @property
    def folder(self) -> Path:
        return self.opened.folder

    @property
    def step(self) -> None:
        return None

    @property
    def net_flags(self) -> Any:
        return self.opened.net_flags

    def with_attention(self, implementation: str) -> "Pretrained":
        opened = models.open_model(self.folder, attention=implementation)
        return dataclasses.replace(self, opened=opened)

    def about(self) -> dict[str, Any]:
        model = self.opened
        net = {"name": model.net_name, **dataclasses.asdict(self.net_flags)}
        known = {"kind": model.kind, "title": model.title, "licence": model.licence}
        known |= {"net": net, "clock": model.clock, "prediction": model.prediction}
        return {"model": known, "source": dict(model.source)}

    def dataset(self) -> Dataset:
        if self.given is None:
            raise UserError(
                f"{self.folder} is a model folder, which has no data: name some with --data"
            )
        return check_data(self, self.given)

    def proposal(self) -> Proposal | None:
        return None

    def with_map(self, flow_map: FlowMap) -> "Pretrained":
        return dataclasses.replace(self, opened=dataclasses.replace(self.opened, flow_map=flow_map))

    def __repr__(self) -> str:
        return f"Pretrained({self.title}, {self.folder})"


def has_two_times(flags: Any) -> bool:
    """Whether a network looks at the target time too, so that it is a flow map."""
    return isinstance(flags, IMFDiTConfig) or getattr(flags, "times", "s") != "s"
