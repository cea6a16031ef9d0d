"""Draws the training of `drift` from a collapsed start: `python -m docs.figures.drifting`.

The generator begins with all samples at one point, `F(z, 1, 0) = 0`: the network's last layer is
zero, and the map is `x = N(z)`. Frames show the samples of the averaged weights at some steps, and
the data. Two cores take about two minutes.
"""

from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

import plugins as plugins  # registers the methods
from core.flow.condition import Condition
from core.flow.flow_map import AverageVelocityMap
from core.flow.network import Network
from core.report.pictures import points_plot
from core.train.build import Built, build
from core.train.cli import parse
from core.train.trainer import Trainer

FRAMES = (0, 20, 50, 100, 250, 500, 2000)
SHOWN = 2000
IMAGES = Path(__file__).parents[1] / "images"


class Direct(Network):
    """`V(x) = x - N(x)`, so that the jump from noise to data of the linear path is `N(z)`."""

    net: Network

    def __call__(
        self,
        x: Float[Array, " dim"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, " dim"]:
        return x - self.net(x, s, t, cond)


def main() -> None:
    """Writes a picture for each set of points."""
    for data in ("checkerboard", "eight-gaussians"):
        flags = ["--plugin", "drift", "--data", data, "--steps", str(FRAMES[-1]), "--ema", "0.9"]
        panels = frames(["--dispatch", "10", *flags])
        points_plot(panels, IMAGES / f"drifting-{data}.png", columns=4, side=220)


def frames(flags: list[str]) -> dict[str, np.ndarray]:
    """The samples at each of the frames, and the data."""
    config = parse(flags)
    trainer = Trainer(config, collapsed(build(config)))
    data = trainer.built.dataset
    panels = {"data": np.asarray(data.examples[:SHOWN])}
    runs = trainer.run()
    for step in FRAMES:
        while trainer.step < step:
            next(runs)
        panels[f"step {step:,}"] = samples(trainer)
    return panels


def collapsed(built: Built) -> Built:
    """The same with a map that begins at 0 everywhere."""
    fresh = built.method.flow_map
    assert isinstance(fresh, AverageVelocityMap)
    direct = eqx.tree_at(lambda m: m.net, fresh, Direct(fresh.net))
    return replace(built, method=replace(built.method, flow_map=direct))


@eqx.filter_jit
def _jump(flow_map: AverageVelocityMap, z: Array) -> Array:
    start, end = jnp.asarray(flow_map.path.t_max), jnp.asarray(flow_map.path.t_min)
    return jax.vmap(lambda z: flow_map(z, start, end))(z)


def samples(trainer: Trainer) -> np.ndarray:
    """Samples in one step, of the same noise at every frame."""
    flow_map = trainer.flow_map()
    assert isinstance(flow_map, AverageVelocityMap)
    return np.asarray(_jump(flow_map, jr.normal(jr.key(0), (SHOWN, 2))))


if __name__ == "__main__":
    main()
