"""Training through an adapter: what is trained, kept and opened, and what is refused."""

import json
import shutil
import tomllib

import equinox as eqx
import jax
import numpy as np
import pytest

import plugins as plugins
from core.adapters import merged
from core.errors import UserError
from core.methods.registry import find_plugin
from core.methods.registry import plugins as registered
from core.train.build import build
from core.train.checkpoint import Checkpoints, by_name
from core.train.claim import claim
from core.train.cli import parse
from core.train.run import open_run
from core.train.teachers import build_run, open_teacher
from core.train.trainer import Trainer
from tests.compiling import once
from tests.train.conftest import LABELLED, TINY
from tests.train.runs import make_run

pytestmark = pytest.mark.programs(100)  # runs are built, saved and opened

X, S, T = np.float32([0.3, -0.2]), np.float32(0.7), np.float32(0.2)
ADAPTER = ["--adapter.rank", "2", "--adapter.alpha", "3"]


def adapting(folder, base, *flags):
    return [*TINY, *LABELLED, "--plugin", "imf", "--init", str(base), *ADAPTER, *flags]


def numbers(tree):
    """The arrays of a tree by their names, on the host."""
    return {name: np.asarray(leaf) for name, leaf in by_name(eqx.filter(tree, is_number)).items()}


def is_number(leaf):
    return eqx.is_inexact_array(leaf)


@pytest.fixture(scope="module")
def small(tmp_path_factory, taught):
    """A run with an adapter on the map of another run, and the map with its averaged weights."""
    base, _ = taught
    folder = tmp_path_factory.mktemp("runs") / "small"
    shutil.copytree(base, folder.parent / "fm")
    return folder, make_run(folder, *adapting(folder, folder.parent / "fm"))


def copied(small, tmp_path):
    shutil.copytree(small[0].parent, tmp_path / "runs")
    folder = tmp_path / "runs" / "small"
    written = (folder / "config.toml").read_text()
    place = str(small[0].parent / "fm")
    (folder / "config.toml").write_text(written.replace(place, str(folder.parent / "fm")))
    return folder


def test_a_checkpoint_holds_the_adapter_and_no_weight_of_the_base(small):
    folder, trainer = small
    checkpoints = Checkpoints(folder)
    names = checkpoints.names(0)
    checkpoints.close()
    own = {name for name in names if name.startswith(("players.model.", "ema.model."))}
    assert {name.rpartition(".")[2] for name in own} == {"A", "B"} and len(own) == 2 * 4
    assert not any(".base." in name or "embedding" in name for name in names)
    assert not any(".base." in name for name in by_name(trainer.state))
    marker = json.loads((folder / "run.json").read_text())
    assert len(marker["base"]) == 64 and marker["base"] == trainer.built.base()


def test_a_run_opens_on_its_base_with_the_averaged_adapter_merged_in(small, taught):
    folder, trainer = small
    run, base = open_run(folder), taught[1]
    found, trained, start = once(
        lambda maps, *at: [one.average_velocity(*at) for one in maps]
    )((run.flow_map, trainer.flow_map(), base), X, S, T)  # fmt: skip
    np.testing.assert_allclose(found, trained, atol=1e-6)
    assert np.abs(found - start).max() > 1e-3
    assert jax.tree.structure(run.flow_map) == jax.tree.structure(merged(trainer.flow_map()))
    assert run.adapter is not None and run.adapter.size == trainer.built.num_parameters()
    assert run.names == {"model"}


def test_optimiser_average_and_checkpoint_are_as_small_as_the_adapter(small, taught):
    """Adam's moments and the average: three arrays for each trained one, and none for the rest."""
    trained, still = small[1].built.sizes()
    kept = sum(leaf.size for leaf in numbers(small[1].state).values())
    assert kept == 4 * trained
    assert trained + still == sum(leaf.size for leaf in numbers(small[1].flow_map()).values())
    whole = sum(leaf.size for leaf in numbers(taught[1]).values())
    assert still == whole and trained == 2 * ((2 + 8) + (8 + 8))


def test_a_base_that_moved_is_found_beside_the_run_or_named(small, tmp_path):
    folder = copied(small, tmp_path)
    written = folder / "config.toml"
    written.write_text(written.read_text().replace(str(folder.parent / "fm"), "gone/fm"))
    drawn = numbers(open_run(folder).flow_map)  # beside the run
    (folder.parent / "fm").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="stands on are not in gone/fm; put them back"):
        open_run(folder)
    written.write_text(written.read_text().replace("gone/fm", str(tmp_path / "elsewhere")))
    again = numbers(open_run(folder).flow_map)
    assert all(np.array_equal(again[name], drawn[name]) for name in drawn)


def test_a_moved_base_is_named_by_the_same_command(small, tmp_path):
    folder = copied(small, tmp_path)
    (folder.parent / "fm").rename(tmp_path / "elsewhere")
    config = parse([*adapting(folder, tmp_path / "elsewhere"), "--run", str(folder)])
    built = build_run(config)
    claim(config, built.dataset.spec, base=built.base())
    assert tomllib.loads((folder / "config.toml").read_text())["init"].endswith("elsewhere")
    open_run(folder)


def test_a_base_with_other_weights_is_refused(small, tmp_path):
    folder = copied(small, tmp_path)
    shutil.rmtree(folder.parent / "fm")
    make_run(folder.parent / "fm", *TINY, *LABELLED, "--plugin", "fm", drawn=1)
    with pytest.raises(UserError, match="has other weights than those that the adapter of"):
        open_run(folder)
    config = parse([*adapting(folder, folder.parent / "fm"), "--run", str(folder)])
    built = build_run(config)
    with pytest.raises(UserError, match="the weights that its adapter stands on are others by now"):
        claim(config, built.dataset.spec, base=built.base())


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--plugin", "imf", *ADAPTER], "rank 2 changes trained weights.*--init"),
        (
            ["--plugin", "lmd", "--teacher", "exact", *ADAPTER],
            "rank 2 changes trained weights.*lmd starts from nothing",
        ),
        (["--plugin", "imf", "--adapter.alpha", "2"], "go with --adapter.rank"),
        (["--plugin", "imf", "--adapter.rank", "-1"], "--adapter.rank must be at least 0"),
    ],
)
def test_an_adapter_without_weights_or_rank_is_one_line(flags, message):
    with pytest.raises(UserError, match=message) as error:
        config = parse([*TINY, "--data", "eight-gaussians", *flags])
        build(config, open_teacher(config))
    assert "\n" not in str(error.value)


def steps(trainer, count):
    parts = trainer.run()
    return [next(parts).metrics for _ in range(count)]


@pytest.mark.slow
def test_training_moves_the_adapter_alone_and_goes_on_bit_for_bit(taught, tmp_path):
    flags = [*adapting(tmp_path, taught[0]), "--steps", "6", "--dispatch", "1"]
    config = parse([*flags, "--run", str(tmp_path / "run"), "--optim.warmup", "0"])
    whole, first = (Trainer(config, build_run(config)) for _ in range(2))
    before = numbers(whole.flow_map())
    expected = steps(whole, 6)
    checkpoints = Checkpoints(tmp_path)
    assert steps(first, 3) == expected[:3]
    first.save(checkpoints)
    again = Trainer(config, build_run(config))
    again.restore(checkpoints, 3)
    assert steps(again, 3) == expected[3:]
    checkpoints.close()
    after, other = numbers(whole.flow_map()), numbers(again.flow_map())
    assert all(np.array_equal(after[name], other[name]) for name in after)
    moved = {name for name in before if not np.array_equal(after[name], before[name])}
    assert moved and moved == {name for name in before if name.rpartition(".")[2] in "AB"}
    now = numbers(eqx.combine(whole.state.players, whole._base))
    still = {name: leaf for name, leaf in now.items() if ".base." in name}
    assert all(np.array_equal(leaf, before[name[6:]]) for name, leaf in still.items())


@pytest.mark.slow
def test_a_step_in_pieces_is_that_of_the_whole_batch(taught, tmp_path):
    found = []
    for pieces in ("1", "2"):
        flags = [*adapting(tmp_path, taught[0]), "--dispatch", "2", "--accumulate", pieces]
        trainer = Trainer(config := parse([*flags, "--optim.warmup", "0"]), build_run(config))
        found.append((steps(trainer, 1)[0]["loss"], numbers(trainer.state.players)))
    (one, whole), (two, pieces) = found
    assert one == pytest.approx(two, rel=1e-5)
    for name in whole:
        np.testing.assert_allclose(pieces[name], whole[name], rtol=1e-3, atol=1e-5)


NAMES = sorted(name for name, cls in registered().items() if cls.__module__.startswith("plugins."))
SOME = {"imf", "lmd", "ct", "dmd", "drift"}
AT_ONCE = ["--plugin.every", "1", "--plugin.wait", "0"]
MORE = {"dmd": AT_ONCE, "moment": AT_ONCE, "sid": AT_ONCE, "cafm": AT_ONCE}
"""Flags with which the map is trained from the first step on."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.long] * (n not in SOME)) for n in NAMES]
)
def test_every_method_trains_an_adapter_and_leaves_its_base(name, tmp_path):
    plugin = find_plugin(name)
    data = [*LABELLED, "--data.n", "64", *TINY, "--batch", "16"]
    flags = [*data, "--plugin", name, *MORE.get(name, [])]
    flags += ["--teacher", "exact"] * plugin.needs_teacher
    plain = build(config := parse(flags), open_teacher(config), train=False)
    base = jax.tree.map(
        lambda leaf: leaf + 0.01 if eqx.is_inexact_array(leaf) else leaf, plain.method.flow_map
    )
    config = parse([*flags, "--init", "given", *ADAPTER, "--dispatch", "2", "--optim.warmup", "0"])
    built = build(config, open_teacher(config), start=base)
    before = numbers(built.method.flow_map)
    trainer = Trainer(config, built)
    (metrics,) = steps(trainer, 1)
    assert np.isfinite(metrics["loss"]) and trainer.step == 2
    after = numbers(trainer.flow_map())
    assert {name for name in before if not np.array_equal(after[name], before[name])} <= {
        name for name in before if name.rpartition(".")[2] in "AB"
    }
    assert not any(".base." in name for name in by_name(trainer.state))
    assert any(np.any(leaf) for name, leaf in numbers(trainer.state.players["model"]).items()
               if name.endswith(".B"))  # fmt: skip
