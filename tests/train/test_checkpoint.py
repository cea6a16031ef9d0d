"""What checkpoints of older versions may hold."""

import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.train.checkpoint import RETIRED, Checkpoints


@pytest.fixture
def saved(tmp_path):
    """`saved(name)` opens checkpoints whose step 3 holds one array beside the `kept` one."""

    def save(name):
        state = {"kept": jnp.asarray(np.arange(6.0, dtype=np.float32)), name: jnp.zeros(4)}
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(3, state, {"drawn": 7})
        checkpoints.close()
        return Checkpoints(tmp_path)

    return save


LIKE = {"kept": jnp.zeros(6)}


def test_weights_that_no_output_depended_on_are_left_out(saved):
    state, meta = saved("ema.model.net.blocks" + RETIRED).restore(3, LIKE)
    np.testing.assert_array_equal(state["kept"], np.arange(6))
    assert list(state) == ["kept"] and meta == {"drawn": 7}


def test_other_arrays_that_the_network_has_not_are_refused(saved):
    with pytest.raises(UserError, match="is whole, and of another network .it has"):
        saved("ema.model.net.blocks.up.weight").restore(3, LIKE)
