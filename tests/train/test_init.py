"""Training that starts from the weights of another run."""

import numpy as np
import pytest

from core.errors import UserError
from core.train.build import build
from core.train.cli import parse
from core.train.teachers import open_start, open_teacher
from tests.compiling import once
from tests.train.conftest import LABELLED, TINY
from tests.train.runs import make_run

pytestmark = pytest.mark.programs(100)  # runs are built, saved and opened

X, S, T = np.float32([0.3, -0.2]), np.float32(0.7), np.float32(0.2)


def begun(folder, *flags):
    config = parse([*TINY, *LABELLED, "--init", str(folder), *flags])
    return build(config, start=open_start(config)).method.flow_map


def velocities(*maps):
    """`V(x, s, t)` and the velocity at `s` of each map."""
    each = lambda m, x, s, t: (m.average_velocity(x, s, t), m.velocity(x, s))  # noqa: E731
    return once(lambda maps, *at: [each(one, *at) for one in maps])(maps, X, S, T)


def test_another_method_starts_from_the_averaged_weights(taught):
    folder, averaged = taught
    mf, ect = (begun(folder, "--plugin", name) for name in ("mf", "ect"))
    (expected, _), *found = velocities(averaged, mf, ect)
    for V, _ in found:
        np.testing.assert_array_equal(V, expected)
    assert not ect.two_times


def test_a_decoupled_network_is_the_velocity_network_on_its_diagonal_bit_for_bit(taught):
    folder, averaged = taught
    decoupled = begun(folder, "--plugin", "dmf", "--net.encoder-depth", "1")
    (V, v), (other, same) = velocities(averaged, decoupled)
    np.testing.assert_array_equal(same, v)
    assert not np.allclose(other, V)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--plugin", "mf", "--net.width", "16"], "form of the map .--net.width 8 there, 16 here."),
        (["--plugin", "mf", "--net.max-frequency", "4"], "max-frequency 8.0 there, 4.0 here"),
        (["--plugin", "mf", "--plugin.form", "rotation"], "--plugin.form average there, rotation"),
        (["--plugin", "gcm-cu"], "--plugin.conditioning 0.0 there, 3.5 here"),
        (["--plugin", "mf", "--data.no-labelled"], "classes 8 there, 0 here"),
        (["--plugin", "mf", "--path", "trig"], "--path linear"),
    ],
)
def test_what_does_not_fit_is_refused(taught, flags, message):
    with pytest.raises(UserError, match=message):
        begun(taught[0], *flags)


def test_a_consistency_model_does_not_teach(tmp_path):
    make_run(tmp_path / "ct", *TINY, *LABELLED, "--plugin", "ct")
    with pytest.raises(UserError, match="has no velocity"):
        open_teacher(
            parse([*TINY, *LABELLED, "--plugin", "lmd", "--teacher", str(tmp_path / "ct")])
        )
