"""CTM's denoising loss in its own weighting: EDM's.

    (eta^2 + d^2) / (eta d)^2 |g(x_s, s, s) - x_0|^2,      eta = sigma / alpha

With `V - v = -det / sigma (g - x_0)`, where `det = alpha d_sigma - d_alpha sigma`, this is
`(sigma^2 + d^2 alpha^2) / (d det)^2 |V(x_s, s, s) - v|^2`, finite at both ends of every path.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.flow_map import FlowMap
from core.flow.path import gaussian
from core.objectives.carriers import Carrier, Declares
from core.objectives.objective import Term
from core.objectives.row import Row


class Denoising(Term):
    """`sqrt(sigma^2 + d^2 alpha^2) / (d det) (V(x_s, s, s) - v)`, with `d = data_std`.

    Behind EDM's preconditioning every noise level then has the same weight in terms of the raw
    network. Source: CTM (arXiv 2310.02279), the denoising loss of the official code; EDM (arXiv
    2206.00364), table 1; the lecture notes' eq. 1.44.
    """

    data_std: float = 0.5

    @property
    def declares(self) -> Declares:
        return Declares((Carrier("v", self._declared_weighed),), ())

    def _declared_weighed(self, model: FlowMap, row: Row) -> Float[Array, "*shape"]:
        path, d = gaussian(model.path), self.data_std
        alpha, sigma = path.alpha(row.s), path.sigma(row.s)
        endpoint = path.d_sigma(row.s) * row.x_s - sigma * model.velocity(row.x_s, row.s, row.cond)
        g, eta = endpoint / path.determinant(row.s), sigma / alpha
        return -((eta**2 + d**2) ** 0.5) / (eta * d) * g

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        path, d = gaussian(model.path), self.data_std
        scale = jnp.hypot(path.sigma(row.s), d * path.alpha(row.s)) / (d * path.determinant(row.s))
        return scale * (model.velocity(row.x_s, row.s, row.cond) - row.v)
