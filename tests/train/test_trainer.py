"""The loop: dispatches, repeatability, checkpoints, and going back after a non-finite loss."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import plugins as plugins
from core.data import Dataset, batches
from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.methods.plugin import Method, Task
from core.objectives.objective import Objective
from core.train.build import Built, build
from core.train.checkpoint import Checkpoints
from core.train.claim import claim, extended_from
from core.train.cli import parse
from core.train.trainer import NonFinite, Trainer

pytestmark = pytest.mark.programs(100)  # runs are built, saved and opened

TINY = [
    "--data", "two-moons", "--data.n", "256", "--net.width", "16", "--net.depth", "2",
    "--batch", "32", "--optim.warmup", "0",
]  # fmt: skip


def config_of(*flags):
    return parse([*TINY, *map(str, flags)])


def real(plugin, dispatch, steps=8):
    config = config_of("--plugin", plugin, "--dispatch", dispatch, "--steps", steps)
    return Trainer(config, build(config))


def leaves(state):
    arrays = jax.tree.leaves(eqx.filter(state, eqx.is_array))
    return [np.asarray(jr.key_data(a) if is_key(a) else a) for a in arrays]


def is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(leaves(one), leaves(other), strict=True))


# --- Dispatches ---


@pytest.mark.parametrize("plugin", ["fm", pytest.param("imf", marks=pytest.mark.slow)])
def test_steps_in_one_dispatch_equal_single_ones_bit_for_bit(plugin):
    results = []
    for dispatch in (1, 4):
        trainer = real(plugin, dispatch)
        parts = list(trainer.run())
        assert [(p.start, p.step) for p in parts] == [
            (k, k + dispatch) for k in range(0, 8, dispatch)
        ]
        assert trainer.compilations == 1, "the second call compiled again"
        assert trainer.step == 8
        results.append((trainer.state, np.mean([p.metrics["loss"] for p in parts])))
    assert same(results[0][0], results[1][0])
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-6)


def test_the_last_dispatch_is_shorter_where_it_must_be():
    trainer = stub(steps=7, dispatch=3)
    assert [(p.start, p.step) for p in trainer.run()] == [(0, 3), (3, 6), (6, 7)]
    assert list(trainer.run()) == []


@pytest.mark.parametrize(
    "start, step, every, crossed",
    [
        (0, 10, 10, True),
        (0, 9, 10, False),
        (9, 11, 10, True),
        (10, 20, 25, False),
        (0, 5, 0, False),
    ],
)
def test_a_dispatch_knows_which_multiples_lie_in_it(start, step, every, crossed):
    (part,) = stub(steps=1).run()
    assert dataclasses.replace(part, start=start, step=step).crosses(every) == crossed


def test_the_sampled_map_has_the_averaged_weights():
    trainer = stub(steps=5)
    before = float(trainer.flow_map().net.w)
    list(trainer.run())
    averaged, current = float(trainer.flow_map().net.w), float(trainer.state.players["model"].net.w)
    assert before == 1.0 and 0.9 < averaged < 1.0 and current < 0.9


# --- A stub method: the loss is `w` times the mean of the batch ---


class Scale(eqx.Module):
    w: jax.Array

    def __call__(self, x, s, t, cond=None):
        return self.w * x


class Slope(Objective):
    """Rises by one a step and a unit, plus noise, so that losses tell data and noise apart."""

    traces: list = eqx.field(static=True, default_factory=list)

    def __call__(self, players, target, carry, batch, key, step):
        self.traces.append(1)
        level = jnp.mean(batch.x_0)
        loss = players["model"].net.w + level
        return {"model": loss}, carry, {"loss": loss, "level": level, "noise": jr.normal(key)}


def points(bad=()):
    """64 points with the value of their number; those in `bad` are not a number."""
    examples = np.arange(64, dtype=np.float32)[:, None].repeat(2, axis=1)
    examples[list(bad)] = np.nan
    return Dataset(name="points", kind="points", shape=(2,), examples=examples)


def stub(steps, dispatch=1, bad=(), seed=0):
    config = config_of(
        "--plugin", "fm", "--batch", 8, "--steps", steps, "--dispatch", dispatch, "--seed", seed,
        "--optim.schedule", "constant", "--optim.rate", 0.05, "--ema", 0.9,
    )  # fmt: skip
    flow_map = AverageVelocityMap(Scale(jnp.float32(1.0)), LinearPath())
    built = Built(points(bad), points(bad), LinearPath(), Task((2,)), Method(flow_map, Slope()))
    return Trainer(config, built)


def test_the_program_is_traced_once():
    trainer = stub(steps=12, dispatch=3)
    list(trainer.run())
    assert len(trainer.built.method.objective.traces) == 1


def test_an_epoch_sees_every_example_once():
    levels = [p.metrics["level"] for p in stub(steps=8).run()]
    assert np.mean(levels) == pytest.approx(np.mean(np.arange(64)))
    assert len(set(levels)) > 1


# --- Checkpoints ---


def test_a_restored_run_goes_on_as_if_nothing_had_happened(tmp_path):
    whole = stub(steps=10)
    expected = [p.metrics for p in whole.run()]
    first, checkpoints = stub(steps=10), Checkpoints(tmp_path)
    parts = first.run()
    assert [next(parts).metrics for _ in range(4)] == expected[:4]
    first.save(checkpoints)
    assert checkpoints.latest() == 4
    again = stub(steps=10)
    again.restore(checkpoints, 4)
    assert [p.metrics for p in again.run()] == expected[4:]
    assert same(again.state, whole.state)


# --- Non-finite losses ---


def test_a_non_finite_loss_names_its_step_and_batch():
    trainer = stub(steps=16, dispatch=4, bad=[11])
    with pytest.raises(NonFinite, match=r"not finite at step \d+") as error:
        list(trainer.run())
    assert error.value.drawn == error.value.step - 1
    assert 11 in members(error.value.drawn)


def members(number):
    """The examples of one batch of the stub's data."""
    stream = batches(points(), 8, 0)
    return [next(stream)["index"].tolist() for _ in range(number + 1)][number]


def clean_levels():
    """Of eight batches: an example has the value of its number."""
    return [np.mean(members(number)) for number in range(8)]


def test_a_rollback_leaves_out_the_batch_and_draws_fresh_noise(tmp_path):
    example = sorted(members(5))[0]
    trainer, checkpoints = stub(steps=7, bad=[example]), Checkpoints(tmp_path)
    trainer.save(checkpoints)
    with pytest.raises(NonFinite) as error:
        list(trainer.run())
    assert (error.value.step, error.value.drawn) == (6, 5)
    trainer.roll_back(checkpoints, error.value)
    assert (trainer.step, trainer.drawn, trainer.skipped) == (0, 0, [5])
    again = [p.metrics for p in trainer.run()]
    assert trainer.step == 7 and len(again) == 7
    levels, clean = [m["level"] for m in again], clean_levels()
    assert levels == clean[:5] + clean[6:8]
    noise = [p.metrics["noise"] for p in stub(steps=7).run()]
    assert not set(noise) & {m["noise"] for m in again}
    assert np.isfinite([leaf.sum() for leaf in leaves(trainer.state)]).all()


def test_a_second_rollback_keeps_the_first_batch_left_out(tmp_path):
    bad = [sorted(members(1))[0], sorted(members(3))[0]]
    trainer, checkpoints = stub(steps=6, bad=bad), Checkpoints(tmp_path)
    trainer.save(checkpoints)
    for _ in bad:
        with pytest.raises(NonFinite) as error:
            list(trainer.run())
        trainer.roll_back(checkpoints, error.value)
    assert trainer.skipped == [1, 3] and int(trainer.state.rollbacks) == 2
    levels, clean = [p.metrics["level"] for p in trainer.run()], clean_levels()
    assert levels == [clean[k] for k in (0, 2, 4, 5, 6, 7)]


def test_there_is_no_going_back_before_the_first_checkpoint(tmp_path):
    trainer = stub(steps=8, bad=range(64))
    with pytest.raises(NonFinite) as error:
        list(trainer.run())
    with pytest.raises(UserError, match="before the first checkpoint"):
        trainer.roll_back(Checkpoints(tmp_path), error.value)


# --- The run folder ---


def test_a_run_goes_on_with_other_habits_but_not_as_another_run(tmp_path):
    config = config_of("--run", tmp_path / "run")
    folder = claim(config)
    written = (folder / "config.toml").read_text()
    for name, value in (("on_nan", "rollback"), ("log_every", 7), ("keep", 5), ("evals", (3,))):
        assert claim(dataclasses.replace(config, **{name: value})) == folder
        assert (folder / "config.toml").read_text() == written
    for name, value in (("steps", 3), ("seed", 1), ("ema", 0.5), ("path", "trig")):
        with pytest.raises(UserError, match=f"holds another run .--{name} "):
            claim(dataclasses.replace(config, **{name: value}))
    assert (folder / "config.toml").read_text() == written


def test_only_the_steps_of_a_run_can_be_extended(tmp_path):
    config = config_of("--run", tmp_path / "run", "--steps", 4)
    folder = claim(config)
    more = dataclasses.replace(config, steps=6)
    longer, shorter = (dataclasses.replace(more, extend=True, steps=steps) for steps in (6, 3))
    written = (folder / "config.toml").read_text()
    for asked, message in (
        (more, "--steps 4 there, 6 asked.; .*make this one longer with --extend"),
        (dataclasses.replace(more, seed=1), "--seed 0 there, 1 asked.; [^;]* with --run .--res"),
        (dataclasses.replace(longer, seed=1), "--seed 0 there, 1 asked.; [^;]* with --run .--res"),
        (dataclasses.replace(config, steps=3), "--steps 4 there, 3 asked.; [^;]* --run .--res"),
        (shorter, "has 4 steps already; .* larger --steps, got 3"),
        (dataclasses.replace(longer, restart=True), "give one of them"),
        (dataclasses.replace(longer, run=str(tmp_path / "none")), "no run in .*none to extend"),
    ):
        with pytest.raises(UserError, match=message):
            claim(asked)
    assert (folder / "config.toml").read_text() == written and not (tmp_path / "none").exists()
    assert extended_from(config) is None and extended_from(longer) == 4
    assert claim(longer) == folder
    assert (folder / "config.toml").read_text() == written.replace("steps = 4", "steps = 6")
    assert extended_from(longer) == 6  # the same command again goes on
    (folder / "weights.safetensors").touch()
    with pytest.raises(UserError, match="holds weights alone"):
        claim(longer)


class Layer(eqx.Module):
    weight: jax.Array


class WithBias(eqx.Module):
    bias: jax.Array | None
    weight: jax.Array


def test_a_checkpoint_opens_in_code_that_has_more_optional_parts(tmp_path):
    written = Checkpoints(tmp_path)
    written.save(3, {"net": Layer(jnp.arange(4.0))}, {"drawn": 7})
    written.close()
    like = {"net": WithBias(None, jnp.zeros(4))}
    opened = Checkpoints(tmp_path)
    state, meta = opened.restore(3, like)
    np.testing.assert_array_equal(state["net"].weight, jnp.arange(4.0))
    assert state["net"].bias is None and meta == {"drawn": 7}
    with pytest.raises(UserError, match="another network"):
        opened.restore(3, {"net": WithBias(jnp.zeros(2), jnp.zeros(4))})
    opened.close()
