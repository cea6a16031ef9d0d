"""Cross-entropy in the contract of residuals, for maps of tokens.

With logits `zeta`, `psi = softmax(zeta)` and any target `q` whose entries sum to 1, signed or not,

    R = zeta - sg[zeta - (psi - q)],       grad |R|^2 / 2 = grad CE(q, psi),   |R|^2 = |psi - q|^2.

So weights and rows are those of every method; a target of negative entries, such as one of sampled
derivatives, needs no logarithm. It must not be normalised again. Every method here has the mean
over positions, `reduce="positions"`, and half of the square.
"""

import abc

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.categorical import TokenMap, of_tokens, towards
from core.flow.flow_map import FlowMap
from core.objectives.carriers import Carrier, Declares
from core.objectives.objective import Metrics, Players, Residuals, Term
from core.objectives.row import Row
from core.overriding import overridable

Zeta = Float[Array, "length symbols"]

stop = jax.lax.stop_gradient

LOGITS = Carrier("zeta", lambda m, row: of_tokens(m).logits(row.x_s, row.s, row.t, row.cond))
"""`zeta(x_s, s, t)`."""
DIAGONAL_LOGITS = Carrier(
    "zeta_ss", lambda m, row: of_tokens(m).logits(row.x_s, row.s, row.s, row.cond)
)
"""`zeta(x_s, s, s)`."""


def pulled(zeta: Zeta, pull: Zeta) -> Zeta:
    """The residual whose value is `pull` and whose gradient is that of the logits: `pull` is the
    gradient of its loss `|R|^2 / 2` in them."""
    return zeta - stop(zeta - pull)


def cross_entropy(zeta: Zeta, q: Zeta) -> Float[Array, ""]:
    """`-sum_k q_k log psi_k` in nats, the mean over positions."""
    return -jnp.mean(jnp.sum(q * jax.nn.log_softmax(zeta), axis=-1))


def against(zeta: Zeta, q: Zeta) -> tuple[Zeta, Zeta, Metrics]:
    """What `TokenTerm.pull` returns for the target `q`: its pull is `psi - q`."""
    return zeta, jax.nn.softmax(zeta) - q, {"cross_entropy": cross_entropy(zeta, q)}


def rate(psi: Zeta, d_zeta: Zeta) -> Zeta:
    """The derivative of the softmax, `psi (d_zeta - <psi, d_zeta>)`, from that of the logits."""
    return psi * centred(psi, d_zeta)


def centred(psi: Zeta, d_zeta: Zeta) -> Zeta:
    """`d_zeta - <psi, d_zeta>`, the derivative of `log psi`."""
    return d_zeta - jnp.sum(psi * d_zeta, axis=-1, keepdims=True)


def along_source(
    model: TokenMap, row: Row, tangent: Float[Array, "length symbols"]
) -> tuple[Zeta, Zeta]:
    """`(zeta, D_s zeta)` at `(x_s, s, t)`, the derivative along `(tangent, 1, 0)`."""
    return jax.jvp(
        lambda x, s: model.logits(x, s, row.t, row.cond),
        (row.x_s, row.s),
        (tangent, jnp.ones_like(row.s)),
    )


def along_target(model: TokenMap, row: Row) -> tuple[Zeta, Zeta]:
    """`(zeta, d zeta / dt)` at `(x_s, s, t)`."""
    return jax.jvp(
        lambda t: model.logits(row.x_s, row.s, t, row.cond), (row.t,), (jnp.ones_like(row.t),)
    )


def eulerian(row: Row, psi: Zeta, end: Zeta, d_zeta: Zeta) -> Zeta:
    """`w (psi - end + D_s psi / kappa)` with `kappa = t / (s (s - t))` and
    `w = t / (t + s (s - t))`: the Eulerian rule for the endpoint, finite up to `t = 0`, where it
    says that `psi` does not change along the flow. `end` is that of the velocity of the
    derivative: the example, or the diagonal."""
    s, t = row.s, row.t
    reach = s * (s - t)
    return (t * (psi - end) + reach * rate(psi, d_zeta)) / jnp.maximum(t + reach, 1e-12)


def landed(row: Row, psi: Zeta, t: Float[Array, ""]) -> Float[Array, "length symbols"]:
    """`F(x_s, s, t)` by its endpoint."""
    return row.x_s + (t - row.s) * towards(row.x_s, row.s, psi)


class TokenTerm(Term):
    """A residual whose gradient is that of the logits. A subclass gives `pull`."""

    @property
    @overridable
    def declares(self) -> Declares:
        return Declares((LOGITS,))

    @abc.abstractmethod
    def pull(self, model: TokenMap, row: Row) -> tuple[Zeta, Zeta, Metrics]:
        """The logits at `(x_s, s, t)`, the gradient in them of the row's loss, such as `psi - q`,
        and scalars for the log. Nothing need be stopped."""

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Zeta:
        del target
        zeta, pull, _ = self.pull(of_tokens(model), row)
        return pulled(zeta, pull)

    def observed(
        self, players: Players, target: Players, row: Row
    ) -> tuple[dict[str, Residuals], Metrics]:
        del target
        zeta, pull, seen = self.pull(of_tokens(players["model"]), row)
        return {"model": (pulled(zeta, pull),)}, {k: stop(value) for k, value in seen.items()}


class CrossEntropy(TokenTerm):
    """`CE(e, psi(x_t, t, t))`: the diagonal of every map of tokens.

    Source: Categorical Flow Maps (arXiv 2602.12233).
    """

    @property
    def declares(self) -> Declares:
        return Declares((DIAGONAL_LOGITS,))

    def pull(self, model: TokenMap, row: Row) -> tuple[Zeta, Zeta, Metrics]:
        zeta = model.logits(row.x_s, row.s, row.s, row.cond)
        return against(zeta, row.x_0)
