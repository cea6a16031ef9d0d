"""The unit times of one training example."""

import equinox as eqx
from jaxtyping import Array, Float


class Times(eqx.Module):
    """Unit times of a row: source `s`, neighbour `u` and target `t`, with `t <= u <= s`.

    Unit time is `sigma / (alpha + sigma)`, the linear path's; see `Path.unit_time`.
    """

    s: Float[Array, ""]
    u: Float[Array, ""]
    t: Float[Array, ""]
