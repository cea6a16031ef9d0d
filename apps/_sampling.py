"""What `apps.sample` and `apps.eval` share: which sampler, its settings, its times."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import UserError, require
from core.plugin import find_plugin, pick
from core.sampling import GRIDS, SAMPLERS, Grid, Sampler, check_sampler, shifted
from core.train.run import Run


@dataclass(frozen=True)
class Sampling:
    """The times of a sampler and the settings that only some samplers have."""

    grid: str = "uniform"
    """Spacing of the times: uniform (in the path's time), edm, log-snr or cosine."""
    shift: float = 1.0
    """Multiply the grid's noise-to-signal ratios by this: above 1, more steps near the noise."""
    guidance: float | None = None
    """Guidance scale that the network is told, for runs trained with --net.guidance; 1 is none."""
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
    tolerance: float | None = None
    """adaptive: error allowed in a step, at least 1e-6; default 1e-5."""

    @property
    def given(self) -> dict[str, Any]:
        """The settings of samplers that were given."""
        values = dataclasses.asdict(self)
        others = ("grid", "shift", "guidance")
        return {k: v for k, v in values.items() if k not in others and v is not None}

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

    def times(self) -> Grid:
        """The grid. Raises `UserError` for one that there is not."""
        grid = pick(GRIDS, self.grid, "grid")
        return grid if self.shift == 1 else shifted(grid, self.shift)


def check_guidance(run: Run, guidance: float | None) -> None:
    """Raises `UserError` for a scale below 1, or a network that takes none."""
    if guidance is None:
        return
    require(guidance >= 1, f"--guidance must be at least 1, got {guidance}")
    takes = getattr(run.config.net_flags, "guidance", False)
    require(takes, f"{run.folder} was trained without --net.guidance; leave out --guidance")


def check(run: Run, name: str, sampler: Sampler) -> int | None:
    """Raises `UserError` where the run's method has not learned what the sampler needs.

    Returns the most evaluations that mean something, for a method that starts at noise only.
    """
    own = SAMPLERS[run.built.method.sampler]
    check_sampler(name, sampler, run.flow_map, own)
    most = find_plugin(run.config.plugin).most_nfe
    if most is not None and sampler.needs == "velocity":
        raise UserError(
            f"{run.config.plugin} has learned jumps that start at noise, which the sampler "
            f"{name!r} does not use; use --sampler {run.built.method.sampler}"
        )
    return most
