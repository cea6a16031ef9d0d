"""Settings that hold for all tests, and the fixtures `normal`, `rng`, `getkey` and `x64`."""

import itertools
import os
from pathlib import Path

# The tests compile a thousand small programs and hardly run them: leave out what makes code fast.
# It must stand before JAX is imported; the commands that a test starts inherit it.
FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
os.environ["XLA_FLAGS"] = f"{FAST} {os.environ.get('XLA_FLAGS', '')}"

# Workers, commands and the next run of the tests share what is compiled.
CACHE = Path(__file__).parents[1] / ".pytest_cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# ruff: noqa: E402
import beartype.typing  # noqa: F401 (the checker below names it)
import jax
import jax.random as jr
import jaxlib
import jaxtyping
import numpy as np
import pytest

pytest_plugins = ["tests.costs", "tests.programs"]

# Every annotation is checked at run time: a function that takes or returns another shape or dtype
# than it says fails its test. As in the type system, an int may stand for a float; `Self` can be
# checked only where a whole class is decorated, so it is let through.
OVERRIDES = "beartype.FrozenDict({beartype.typing.Self: beartype.typing.Any})"
CONFIG = f"beartype.BeartypeConf(is_pep484_tower=True, hint_overrides={OVERRIDES})"
jaxtyping.install_import_hook(["core", "plugins", "portolan"], f"beartype.beartype(conf={CONFIG})")

# The environment is for the commands that a test starts, the setting for this process.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])

# (n,) + (n, n) broadcasts along one of two axes without a word: let it raise.
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_report_header() -> str:
    return f"jax {jax.__version__}, jaxlib {jaxlib.__version__} on {os.environ['JAX_PLATFORMS']}"


@pytest.fixture
def rng() -> np.random.Generator:
    """NumPy's generator, with the same seed in every test."""
    return np.random.default_rng(0)


@pytest.fixture
def normal(rng):
    """`normal(*shape)`: standard normal numbers drawn by NumPy, which compiles nothing.

    In JAX's default precision: float64 in a test that uses `x64` too.
    """

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(jax.dtypes.canonicalize_dtype(float))

    return draw


@pytest.fixture
def getkey():
    """A function that returns a new random key at each call; the same keys in every run."""
    root, count = jr.key(0), itertools.count()
    return lambda: jr.fold_in(root, next(count))


@pytest.fixture
def x64():
    """float64 is the default dtype for the duration of the test."""
    with jax.enable_x64(True):
        yield
