"""The autoencoder: its shapes, its posterior, its file."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.errors import UserError
from core.nets.encoder import EncoderConfig
from core.nets.vae import make_vae, read_vae, vae_bytes
from core.objectives.autoencoding import Autoencoding
from core.objectives.objective import Batch
from tests.compiling import device, once

CONFIG = EncoderConfig(width=4, levels=2)


@pytest.mark.slow
def test_a_file_holds_the_autoencoder(normal, tmp_path):
    vae, x = make_vae((8, 8, 1), 3, CONFIG, key=jr.key(0)), normal(8, 8, 1)
    run = once(lambda vae, x: (*vae.encode(x), vae.decode(vae.encode(x)[0])))
    mean, std, back = run(vae, x)
    assert mean.shape == std.shape == (4, 4, 3) and back.shape == x.shape and (std > 0).all()
    (tmp_path / "v").write_bytes(vae_bytes(vae, 3, CONFIG))
    for one, other in zip(run(read_vae(tmp_path / "v"), x), (mean, std, back)):
        np.testing.assert_array_equal(one, other)
    (tmp_path / "v").write_bytes(vae_bytes(vae, 3, CONFIG)[:-8])
    with pytest.raises(UserError, match="holds no autoencoder, or a damaged one"):
        read_vae(tmp_path / "v")


@pytest.mark.slow
def test_the_loss_is_the_error_and_the_divergence_of_normals(normal):
    """Of N(m, s^2) from N(0, 1), by a closed form and by draws."""

    class Fixed(eqx.Module):
        mean: jax.Array
        std: jax.Array

        def encode(self, x):
            return self.mean, self.std

        def decode(self, z):
            return 0 * z

    mean, std = normal(1, 5, 1), np.exp(normal(1, 5, 1) / 2)
    model, batch = Fixed(device(mean), device(std)), Batch(device(normal(4, 1, 5, 1)))
    step, objective = jnp.asarray(0), Autoencoding(0.5)
    run = once(lambda model, batch: objective({"model": model}, {}, None, batch, jr.key(0), step))
    loss = run(model, batch)[2]
    e = np.random.default_rng(1).standard_normal((200_000, 1, 5, 1))
    log_ratio = -(e**2) / 2 - np.log(std) + (mean + std * e) ** 2 / 2
    np.testing.assert_allclose(loss["divergence"], log_ratio.mean(), atol=0.02)
    error = (np.asarray(batch.x_0) ** 2).mean()
    np.testing.assert_allclose(loss["loss"], error + loss["divergence"] / 2, rtol=1e-5)
