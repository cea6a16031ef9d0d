"""Conditioning of a network, besides the state and the two times."""

import equinox as eqx
from jaxtyping import Array, Float, Int


class Condition(eqx.Module):
    """Label and guidance of one example; `None` in place of either means "not given".

    **Fields:**

    - `label`: class in `[0, num_classes]`; `num_classes` itself is the null (unconditional) class.
    - `guidance`: `(w, a, b)`: the guidance scale `w >= 1` (1 means none) and the interval of times
      `[a, b]`, inside `[0, 1]`, in which it acts.
    - `state`, `state_time`: the observation of the clean example, for maps of a posterior: the
      noisy state `(1 - t) x_0 + t z` and `t`, on the linear path whatever the map's own is; none at
      `t = 1`. See `core.flow.posterior`.
    """

    label: Int[Array, ""] | None = None
    guidance: Float[Array, " 3"] | None = None
    state: Float[Array, "*shape"] | None = None
    state_time: Float[Array, ""] | None = None
