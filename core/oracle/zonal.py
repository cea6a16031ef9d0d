"""Distributions around a centre on the sphere and on the rotations, as series in the angle.

A density that depends on the angle `theta` to a centre alone is a series of zonal functions `Z_l`,
`sum_l (2 l + 1) q_l Z_l(cos theta)`. Along geodesics to uniform noise its coefficients are products
`q_l(t) = a_l b_l(t)`: `a_l` is of the data, and `b_l(t)`, of the space alone, the mean of `Z_l` at
`t` times the angle to a uniform point. With the eigenvalues `lambda_l` of the Laplacian the
continuity equation gives the flux,

    p_t v = grad sum_l (2 l + 1) a_l b_l'(t) / lambda_l Z_l(cos theta),

which points along the geodesics through the centre. So the flow map keeps the mass of caps: the
angle goes from `theta` to the one with `C_t = C_s(theta)`, `C` its distribution functions.

Sources: the addition theorem of spherical harmonics and of characters (Mardia and Jupp,
Directional Statistics, chapters 9 and 13); isotropic Gaussians: Nikolayev and Savyolov (1997).
"""

import abc
import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray

from core.flow.interpolant import Time
from core.flow.rotations import SO3, matrix, multiply, nearer
from core.flow.series import sinc
from core.flow.space import Space
from core.flow.sphere import Sphere, dot, length
from core.oracle.isometry import Isometry
from core.oracle.on_space import SpaceProblem

NODES = 16
"""Nodes of a quadrature over lengths, and over the angles of a circle."""
SMALLEST = 1e-17
"""Coefficients of the data below this are left out."""


class Zonal(SpaceProblem):
    """A distribution that depends on the angle to its `centre` alone.

    **Fields:** `centre`; `spectrum`, the coefficients `a_l` of the data, `a_0 = 1`.
    """

    centre: eqx.AbstractVar[Float[Array, "*shape"]]
    spectrum: eqx.AbstractVar[Float[Array, " terms"]]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.centre.shape

    @property
    @abc.abstractmethod
    def eigenvalues(self) -> Float[np.ndarray, " terms"]:
        """`lambda_l` of the Laplacian."""

    @property
    @abc.abstractmethod
    def cosines(self) -> Float[np.ndarray, "terms modes"]:
        """The `Z_l` as series of `cos(m theta)`, a row each."""

    @abc.abstractmethod
    def averages(self, t: Time) -> Float[Array, " terms"]:
        """`b_l(t)`; smooth in `t`, 1 at `t = 0` and 0 at `t = 1` but for `l = 0`."""

    @abc.abstractmethod
    def caps(self, theta: Float[Array, ""]) -> Float[Array, " modes"]:
        """The mean of `cos(m theta)` over a uniform point, of angles below `theta` alone."""

    def density_and_flux(
        self, x: Float[Array, "*shape"], t: Time
    ) -> tuple[Float[Array, ""], Float[Array, "*shape"]]:
        theta, towards = self._polar(x)
        m = jnp.arange(self.cosines.shape[1])
        q, k = self._coefficients(t)
        return q @ jnp.cos(m * theta), (k @ (m * jnp.sin(m * theta))) * towards

    def flow(self, x: Float[Array, "*shape"], s: Time, t: Time) -> Float[Array, "*shape"]:
        """`F(x_s, s, t)` by the mass of caps, with no ODE; without derivatives."""
        theta, towards = self._polar(x)
        mass = self.mass(theta, s)

        def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = (low + high) / 2
            below = self.mass(middle, t) < mass
            return jnp.where(below, middle, low), jnp.where(below, high, middle)

        ends = jnp.zeros_like(theta), jnp.full_like(theta, self.farthest)
        low, high = jax.lax.fori_loop(0, 54, halve, ends)
        return self.space.exp(x, (theta - (low + high) / 2) * towards)

    def mass(self, theta: Float[Array, ""], t: Time) -> Float[Array, ""]:
        """`C_t(theta)`, the probability of an angle below `theta`."""
        return self._coefficients(t)[0] @ self.caps(theta)

    @property
    @abc.abstractmethod
    def farthest(self) -> float:
        """The largest angle."""

    def _coefficients(self, t: Time) -> tuple[Float[Array, " modes"], Float[Array, " modes"]]:
        """Series of cosines of the density, and of the potential of the flux."""
        t = jnp.asarray(t, self.spectrum.dtype)
        b, db_dt = jax.jvp(self.averages, (t,), (jnp.ones_like(t),))
        scale = (2 * np.arange(len(self.eigenvalues)) + 1) * self.spectrum
        safe = np.maximum(self.eigenvalues, 1.0)  # the first term is constant, and db_dt is 0
        return (scale * b) @ self.cosines, (scale * db_dt / safe) @ self.cosines

    def _polar(self, x: Float[Array, "*shape"]) -> tuple[Float[Array, ""], Float[Array, "*shape"]]:
        """The angle to the centre, and the unit vector at `x` that points towards it."""
        centre = self._near(x)
        across = self.space.tangent(x, centre)
        sine = length(across)
        theta = jnp.arctan2(sine, dot(x, centre))
        return theta[..., 0], across / jnp.where(sine > 0, sine, 1.0)

    def moved(self, key: Key[Array, ""]) -> tuple[SpaceProblem, Isometry]:
        n = self.shape[-1]
        isometry = Isometry(self.space, self._turn(key), jnp.zeros(n, self.centre.dtype))
        centres = self.centre @ isometry.matrix.T
        return eqx.tree_at(lambda problem: problem.centre, self, centres), isometry

    def pair_velocities(
        self, x: Float[Array, "*shape"]
    ) -> tuple[Float[Array, " n *shape"], Float[Array, " n"]]:
        lengths, weights = np.polynomial.legendre.leggauss(NODES)
        lengths = self.farthest * (lengths + 1) / 2
        sides, shares = directions(self.shape[-1] - 1)
        weights = weights * np.sin(lengths) ** (self.shape[-1] - 2)
        velocities = (lengths[:, None, None] * sides[None]).reshape(-1, self.shape[-1] - 1)
        weights = (weights[:, None] * shares[None]).reshape(-1)
        return jnp.asarray(velocities) @ _frame(x), jnp.asarray(weights / weights.sum())

    @abc.abstractmethod
    def _turn(self, key: Key[Array, ""]) -> Float[Array, "n n"]:
        """The matrix of a random isometry."""

    @abc.abstractmethod
    def _near(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The centre, in the sign nearest to `x` where both are one point."""


class Fisher(Zonal):
    """Von Mises and Fisher's distribution on `S^2`: density proportional to `exp(kappa <m, x>)`.

    **Arguments:** `centre` (*k, 3), unit vectors; `kappa` (*k,), concrete and at least 0.1.
    """

    centre: Float[Array, "*k 3"]
    kappa: Float[Array, "*k"]
    spectrum: Float[Array, "*k terms"]

    def __init__(self, centre: Float[Array, "*k 3"], kappa: Any):
        self.centre = jnp.asarray(centre)
        self.kappa = jnp.asarray(kappa, self.centre.dtype)
        # Ratios of neighbouring Bessel functions by Miller's recurrence, from far above.
        values, most = np.asarray(kappa, float), 30 + int(4 * np.max(np.asarray(kappa)))
        ratio, ratios = np.zeros_like(values), []
        for order in range(most, 0, -1):
            ratio = 1 / ((2 * order + 1) / values + ratio)
            ratios.append(ratio)
        a = np.cumprod([np.ones_like(values), *ratios[::-1]], axis=0)
        self.spectrum = jnp.asarray(np.moveaxis(_kept(a), 0, -1), self.centre.dtype)

    @property
    def space(self) -> Space:
        return Sphere()

    @property
    def log_volume(self) -> float:
        return math.log(4 * math.pi)

    @property
    def farthest(self) -> float:
        return math.pi

    @property
    def eigenvalues(self) -> Float[np.ndarray, " terms"]:
        order = np.arange(self.spectrum.shape[-1])
        return order * (order + 1.0)

    @property
    def cosines(self) -> Float[np.ndarray, "terms modes"]:
        return _legendre(self.spectrum.shape[-1])

    def averages(self, t: Time) -> Float[Array, " terms"]:
        a = jnp.arange(self.spectrum.shape[-1]) * t
        # The mean of cos(a phi) over the sphere, cos(pi a / 2)^2 / (1 - a^2), finite at a = 1.
        mean = jnp.pi / 2 * sinc(jnp.pi / 2 * (1 - a)) * jnp.cos(jnp.pi / 2 * a) / (1 + a)
        return jnp.asarray(self.cosines) @ mean

    def caps(self, theta: Float[Array, ""]) -> Float[Array, " modes"]:
        m = jnp.arange(self.cosines.shape[1])
        above, below = ((m + i) * sinc((m + i) * theta / 2) ** 2 for i in (1, -1))
        return theta**2 / 8 * (above - below)

    def sample(self, key: PRNGKeyArray) -> Float[Array, " 3"]:
        key_height, key_side = jr.split(key)
        u, dtype = jr.uniform(key_height, (), self.centre.dtype), self.centre.dtype
        cosine = 1 + jnp.log(u + (1 - u) * jnp.exp(-2 * self.kappa)) / self.kappa
        side = self.space.tangent(self.centre, jr.normal(key_side, (3,), dtype))
        sine = jnp.sqrt(jnp.maximum(1 - cosine**2, 0.0))
        return self.space.project(cosine * self.centre + sine * side / length(side))

    def _turn(self, key: Key[Array, ""]) -> Float[Array, "3 3"]:
        return matrix(SO3().uniform(key, (4,)).astype(self.centre.dtype))

    def _near(self, x: Float[Array, " 3"]) -> Float[Array, " 3"]:
        del x
        return self.centre


class RotationGaussian(Zonal):
    """The isotropic Gaussian on rotations, the heat kernel: `a_l = exp(-l (l + 1) eps^2 / 2)`.

    **Arguments:** `centre` (*k, 4), unit quaternions; `eps` (*k,), concrete, the standard deviation
    of each component of a small rotation vector.
    """

    centre: Float[Array, "*k 4"]
    eps: Float[Array, "*k"]
    spectrum: Float[Array, "*k terms"]

    def __init__(self, centre: Float[Array, "*k 4"], eps: Any):
        self.centre = jnp.asarray(centre)
        self.eps = jnp.asarray(eps, self.centre.dtype)
        values = np.asarray(eps, float)
        order = np.arange(10 + int(10 / np.min(values))).reshape(-1, *[1] * values.ndim)
        a = np.exp(-order * (order + 1) * values[None] ** 2 / 2)
        self.spectrum = jnp.asarray(np.moveaxis(_kept(a), 0, -1), self.centre.dtype)

    @property
    def space(self) -> Space:
        return SO3()

    @property
    def log_volume(self) -> float:
        """0: densities are those with respect to Haar's measure of total mass 1."""
        return 0.0

    @property
    def farthest(self) -> float:
        return math.pi / 2

    @property
    def eigenvalues(self) -> Float[np.ndarray, " terms"]:
        order = np.arange(self.spectrum.shape[-1])
        return 4 * order * (order + 1.0)

    @property
    def cosines(self) -> Float[np.ndarray, "terms modes"]:
        return _characters(self.spectrum.shape[-1])

    def averages(self, t: Time) -> Float[Array, " terms"]:
        terms = self.spectrum.shape[-1]
        a = jnp.arange(2 * terms - 1) * t / 2
        # The mean of cos(a omega) over angles of rotation, finite at a = 0 and a = 1.
        mean = sinc(jnp.pi * a) - a / (1 + a) * sinc(jnp.pi * (a - 1))
        return jnp.asarray(self.cosines) @ mean / (2 * jnp.arange(terms) + 1)

    def caps(self, theta: Float[Array, ""]) -> Float[Array, " modes"]:
        m = jnp.arange(self.cosines.shape[1])
        here, above, below = (sinc((m + i) * theta) for i in (0, 2, -2))
        return theta / jnp.pi * (2 * here - above - below)

    def sample(self, key: PRNGKeyArray) -> Float[Array, " 4"]:
        """One draw, in either sign: no sign is then likelier at a point, whatever its rotation."""
        key_angle, key_axis, key_sign = jr.split(key, 3)
        dtype = self.centre.dtype
        u = jr.uniform(key_angle, (), dtype)

        def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = (low + high) / 2
            below = self.mass(middle, 0.0) < u
            return jnp.where(below, middle, low), jnp.where(below, high, middle)

        ends = jnp.zeros((), dtype), jnp.full((), jnp.pi / 2, dtype)
        theta = sum(jax.lax.fori_loop(0, 40, halve, ends)) / 2
        axis = jr.normal(key_axis, (3,), dtype)
        turn = jnp.sin(theta) * axis / length(axis)
        sign = jr.rademacher(key_sign, (), dtype)
        return sign * multiply(self.centre, jnp.concatenate([jnp.cos(theta)[None], turn]))

    def _turn(self, key: Key[Array, ""]) -> Float[Array, "4 4"]:
        """Of the product with a rotation from the left."""
        q = SO3().uniform(key, (4,)).astype(self.centre.dtype)
        return jax.vmap(lambda unit: multiply(q, unit), out_axes=1)(jnp.eye(4, dtype=q.dtype))

    def _near(self, x: Float[Array, " 4"]) -> Float[Array, " 4"]:
        return nearer(x, self.centre)


def directions(dim: int) -> tuple[Float[np.ndarray, "n dim"], Float[np.ndarray, " n"]]:
    """Nodes and weights on the unit circle or sphere in two or three dimensions."""
    angles = 2 * np.pi * np.arange(NODES) / NODES
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    if dim == 2:
        return circle, np.full(NODES, 1 / NODES)
    heights, weights = np.polynomial.legendre.leggauss(NODES // 2)
    radii = np.sqrt(1 - heights**2)
    flat = radii[:, None, None] * circle[None]
    tops = np.broadcast_to(heights[:, None, None], (*flat.shape[:2], 1))
    points = np.concatenate([flat, tops], axis=-1).reshape(-1, 3)
    return points, np.repeat(weights / 2 / NODES, NODES)


def _frame(x: Float[Array, " n"]) -> Float[Array, "m n"]:
    """Orthonormal tangent vectors at a unit vector: a reflection that makes it of the last one."""
    last = jnp.eye(len(x), dtype=x.dtype)[-1]
    mirror = last - x
    rows = jnp.eye(len(x), dtype=x.dtype)[:-1]
    along = 2 / jnp.sum(mirror**2) * (rows @ mirror)
    return rows - along[:, None] * mirror[None]


def _kept(a: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The coefficients up to the last that counts."""
    large = np.max(a.reshape(len(a), -1), axis=1) > SMALLEST
    return a[: int(np.max(np.nonzero(large)[0])) + 1]


@functools.lru_cache
def _legendre(terms: int) -> Float[np.ndarray, "terms terms"]:
    """Legendre polynomials `P_l(cos theta)` as series of `cos(m theta)`."""
    g = np.cumprod([1.0, *((2 * k - 1) / (2 * k) for k in range(1, terms))])
    table = np.zeros((terms, terms))
    for order in range(terms):
        for k in range(order + 1):
            table[order, abs(order - 2 * k)] += g[k] * g[order - k]
    return table


@functools.lru_cache
def _characters(terms: int) -> Float[np.ndarray, "terms modes"]:
    """Characters `sin((2 l + 1) theta) / sin(theta)` as series of `cos(m theta)`."""
    table = np.zeros((terms, 2 * terms - 1))
    for order in range(terms):
        table[order, 0] = 1.0
        table[order, 2 : 2 * order + 1 : 2] = 2.0
    return table
