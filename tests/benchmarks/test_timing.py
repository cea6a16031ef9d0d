"""Timing that the benchmarks share."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from benchmarks._timing import (
    fresh_compiles,
    interleaved,
    products,
    quartiles,
    rate,
    ratio,
    repeats,
    utilisation,
)
from tests.compiling import once


def test_variants_take_turns_and_warm_rounds_do_not_count():
    calls = []
    variants = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    seconds = interleaved(variants, rounds=3, warm=2)
    assert calls == list("abc") * 5
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3, "c": 3}
    assert min(min(each) for each in seconds.values()) > 0


def test_a_ratio_compares_within_a_round():
    """A machine that is slower in the last round changes both, and not their ratio; one that is
    slower while the second is timed changes that round alone."""
    assert ratio([1, 2, 30], [10, 1, 15]) == 2
    with pytest.raises(ValueError):
        ratio([1.0, 2.0], [1.0])


def test_quartiles_of_one_value_are_that_value():
    assert quartiles([4.0]) == (4.0, 4.0)
    low, high = quartiles(list(np.arange(101.0)))
    assert (low, high) == pytest.approx((25, 75), abs=1)


@pytest.mark.programs(25)  # they are made outside jax.jit
def test_products_are_what_layers_compute():
    sizes = [(30, 400, 500), (600, 70, 80)]
    found = products(sizes)()
    assert [x.shape for x in found] == [(30, 500), (600, 80)]
    shapes = (30, 400), (500, 400)
    draw = lambda: [jr.normal(jr.split(jr.key(i))[0], shape) for i, shape in enumerate(shapes)]  # noqa: E731
    a, b = once(draw)()
    np.testing.assert_allclose(found[0], a @ b.T, atol=1e-3)
    assert [x.dtype for x in products(sizes, jnp.bfloat16)()] == [jnp.bfloat16] * 2
    assert [repeats(*size) for size in sizes] == [84, 149]
    operations = 2 * (84 * 30 * 400 * 500 + 149 * 600 * 70 * 80)
    assert rate(sizes, [2.0, 0.5, 4.0]) == operations / 2 > 1e9


def test_utilisation_compares_with_the_product_of_the_same_round():
    """Half of the product's operations in the same time, on a machine that is slow in one round."""
    sizes = [(30, 400, 500)]
    half = 84 * 30 * 400 * 500
    assert utilisation(half, [1.0, 3.0, 1.0], sizes, [1.0, 3.0, 1.0]) == 0.5
    assert utilisation(half, [2.0, 6.0, 9.0], sizes, [1.0, 3.0, 1.0]) == 0.25


def test_nothing_is_read_from_the_compilation_cache_within_fresh_compiles():
    """The events that JAX records tell a hit from a compilation."""
    hits, at = [], "/jax/compilation_cache/cache_hits"
    jax.monitoring.register_event_listener(
        lambda event, **_: hits.append(event) if event == at else None
    )
    before = jax.config.jax_enable_compilation_cache

    def compiled():
        x = jax.ShapeDtypeStruct((7,), jnp.float32)
        jax.jit(lambda x: jnp.sin(x) * 3.25 + 1.5).lower(x).compile()
        return len(hits)

    compiled()
    jax.clear_caches()
    cached = compiled()
    assert cached > 0
    with fresh_compiles():
        jax.clear_caches()
        assert compiled() == cached
    assert jax.config.jax_enable_compilation_cache == before
    jax.clear_caches()
    assert compiled() > cached
