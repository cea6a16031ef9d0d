"""Shared by `apps.sample` and `apps.eval`: which sampler, its settings, its times."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import UserError, pick, require
from core.sampling import (
    GRIDS,
    SAMPLERS,
    Grid,
    Sampler,
    shifted,
)
from portolan.adapting import adapted_map, parsed
from portolan.certificate import CERTIFIED, certified_grid
from portolan.stored import Stored

_COMMON = ("grid", "shift", "guidance", "interval", "guidance_channels", "adapter")
"""Settings that are not one sampler's own."""


@dataclass(frozen=True)
class Sampling:
    """The times of a sampler and the settings that only some samplers have."""

    grid: str | None = None
    """Spacing of the times: uniform (in the path's time), edm, log-snr, cosine, or certified (of
    apps.inspect --certify); default: uniform, and edm for networks converted from EDM's."""
    shift: float = 1.0
    """Multiply the grid's noise-to-signal ratios by this: above 1, more steps near the noise."""
    gamma: float | None = None
    """gamma: share of fresh noise, 0 as pushforward to 1 as restart; default 0.5."""
    randomness: float | None = None
    """ddim, ancestral: 0 for DDIM to 1 for ancestral."""
    churn: float | None = None
    """churn: amount of noise put in over all steps; default 40, and 0 is EDM's plain Heun."""
    churn_min: float | None = None
    """churn: smallest noise level at which noise is put in; default 0.05."""
    churn_max: float | None = None
    """churn: largest such noise level; default 50."""
    churn_noise: float | None = None
    """churn: factor on the noise put in; default 1."""
    strength: float | None = None
    """euler-maruyama: amount of noise; default 1, and 0 is euler."""
    guidance: tuple[float, ...] = ()
    """Guidance scales, 1 for none: of a run that learned them (--plugin.guidance.most), at no cost;
    of any run with labels for samplers that follow the velocity, at two evaluations each time."""
    interval: tuple[float, float] = (0.0, 1.0)
    """Times (0 data, 1 noise) between which guidance acts."""
    guidance_channels: int | None = None
    """Guide the first so many channels alone, as the samplers of DiT and SiT do with 3 of 4."""
    tolerance: float | None = None
    """adaptive: error allowed in a step, at least 1e-6; default 1e-5."""
    adapter: tuple[str, ...] = ()
    """Adapters that are added to the weights, FILE or FILE:WEIGHT: a safetensors file or folder
    with keys of ours, peft's, diffusers' or kohya's, or a run trained with --adapter.rank."""

    @property
    def given(self) -> dict[str, Any]:
        """The settings of samplers that were given."""
        values = dataclasses.asdict(self)
        return {k: v for k, v in values.items() if k not in _COMMON and v is not None}

    def samplers(self, names: Sequence[str]) -> dict[str, Sampler]:
        """The named samplers with these settings.

        Raises `UserError` for a name or value that is none, and for a setting of none of them.
        """
        chosen = {name: pick(SAMPLERS, name, "sampler") for name in names}
        for setting in self.given:
            if not any(hasattr(sampler, setting) for sampler in chosen.values()):
                owners = [name for name, s in SAMPLERS.items() if hasattr(s, setting)]
                raise UserError(
                    f"--{setting.replace('_', '-')} is a setting of {' and '.join(owners)}, not of "
                    f"{' or '.join(chosen)}; leave it out, or name another --sampler"
                )
        if self.tolerance is not None and self.tolerance < 1e-6:
            raise UserError(f"--tolerance must be at least 1e-6 in float32, got {self.tolerance}")
        return {name: self._set(sampler) for name, sampler in chosen.items()}

    def _set(self, sampler: Sampler) -> Sampler:
        own = {name: value for name, value in self.given.items() if hasattr(sampler, name)}
        return dataclasses.replace(sampler, **own)

    def adapted(self, run: Stored) -> Stored:
        """The model with the adapters. Raises `UserError` for one of another network."""
        if not self.adapter:
            return run
        return run.with_map(adapted_map(run, tuple(map(parsed, self.adapter))))

    def scales(self) -> list[tuple[float, float, float] | None]:
        """`(w, a, b)` for each guidance scale asked for; one None where none is."""
        low, high = self.interval
        if not 0 <= low < high <= 1:
            raise UserError(f"--interval must rise inside [0, 1], got {low} {high}")
        if not self.guidance:
            require(self.interval == (0.0, 1.0), "--interval goes with --guidance")
            require(self.guidance_channels is None, "--guidance-channels goes with --guidance")
            return [None]
        require(min(self.guidance) >= 1, f"--guidance must be at least 1, got {self.guidance}")
        few = self.guidance_channels is not None and self.guidance_channels < 1
        require(not few, "--guidance-channels must be at least 1")
        return [(w, low, high) for w in self.guidance]

    def times(self, run: Stored) -> Grid:
        """The grid, by default the model's own. Raises `UserError` for one that there is not."""
        known = GRIDS | {CERTIFIED: certified_grid(run.folder)}
        grid = run.grid if self.grid is None else pick(known, self.grid, "grid")
        return grid if self.shift == 1 else shifted(grid, self.shift)
