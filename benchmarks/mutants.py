"""Damages the losses, one place at a time, and lists what nobody notices.

`python -m benchmarks.mutants` takes out stops, changes signs, leaves out factors and exchanges the
model and the target in each method, `core/objectives` and `core/flow/rules.py`. Each mutant is
judged by the checks of `apps.check`, of the methods that it touches and until one fails, then by
the quick tests that import its file. It goes on where it was interrupted.
"""

import ast
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from apps._main import launch
from benchmarks._mutations import Mutant, mutants
from core.errors import UserError
from core.methods.registry import plugins
from core.report.versions import versions
from core.train.cli import parse_flags
from portolan.tables import markdown, save

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("core", "plugins", "portolan", "apps", "benchmarks", "tests", "pyproject.toml")
KINDS = ("stop", "slot", "weight", "sign")
COLUMNS = ("kind", "mutant", "found by")
VERDICTS = ("check", "error", "tests", "no effect", "nobody")
JUDGES = {
    "core/flow/rules.py": ("mf", "lsd", "esd", "psd", "imf", "shortcut"),
    "core/objectives/guidance.py": ("gft", "mf", "imf"),
    "core/objectives/rows.py": ("mf", "freeflow", "imm", "rwmf", "gft", "sct"),
    "core/objectives/weights.py": ("mf", "ect", "ict", "dmf", "sct", "facm", "ct"),
    "core/objectives/objective.py": ("fm", "emd", "splitmf"),
    "core/objectives/row.py": ("mf", "ct", "gft"),
    "core/objectives/adversarial.py": ("adversarial",),
    "core/objectives/one_step.py": ("dmd", "fdloss"),
    "plugins/consistency/jump.py": ("ct", "gcm-cu", "cd"),
    "plugins/consistency/scm.py": ("sct", "scd"),
}
"""Methods that judge a file that many use: between them they use all of it."""
SECONDS = 1800


@dataclass(frozen=True)
class MutantsConfig:
    """Damages the losses one place at a time; each change should fail apps.check, or else a test.

    found by: check, error (it does not even run), tests, nobody. "no effect": a changed stop or
    slot that no test finds and that leaves every gradient as it is, to the last bit, such as a stop
    around what has none.
    """

    files: tuple[str, ...] = ()
    """Only files whose path contains one of these."""
    kinds: tuple[str, ...] = KINDS
    """Only these kinds of changes: stop, slot, weight, sign."""
    containing: tuple[str, ...] = ()
    """Only changes whose description contains one of these."""
    most: int | None = None
    """Judge at most this many, then stop; a further call goes on."""
    tests: bool = True
    """Ask the tests too, where the check finds nothing."""
    rows: int = 1024
    """Training rows for each check."""
    dry_run: bool = False
    """List the changes and stop."""
    out: str = "docs/results/mutants.json"
    """JSON file to write and to go on from; the table is written beside it as Markdown."""
    judge: tuple[str, ...] = ()
    """Check these methods and stop at the first failure: what a mutant's process runs."""
    part: Literal["gradients", "values"] = "gradients"
    """Checks of --judge: of gradients at maps that are not exact, or of values at the exact one."""


def main(argv: list[str]) -> None:
    """Judges all changes that have no verdict yet."""
    config = parse_flags(MutantsConfig, argv)
    if config.judge:
        sys.exit(_judge(config.judge, config.part, config.rows))
    wanted = list(_wanted(config))
    if config.dry_run:
        print(*(f"{m.kind:6} {m.name}" for m in wanted), sep="\n")
        return
    out = Path(config.out)
    there = {mutant.name for mutant in _wanted(MutantsConfig())}
    known = {name: verdict for name, verdict in _verdicts(out).items() if name in there}
    missing = [mutant for mutant in wanted if mutant.name not in known][: config.most]
    with tempfile.TemporaryDirectory() as folder:
        for room in ROOMS:
            source = ROOT / room
            (shutil.copytree if source.is_dir() else shutil.copy)(source, Path(folder) / room)
        for mutant in missing:
            verdict = verdict_on(mutant, Path(folder), config)
            print(f"{verdict['found by']:8} {mutant.kind:6} {mutant.name}", flush=True)
            known[mutant.name] = verdict
            _save(out, list(known.values()))


def _verdicts(out: Path) -> dict[str, dict[str, Any]]:
    """The verdicts so far, by the change: also those on lines that have moved since."""
    kept = json.loads(out.read_text())["mutants"] if out.exists() else []
    return {verdict["mutant"]: verdict for verdict in kept}


def _save(out: Path, entries: list[dict[str, Any]]) -> None:
    verdicts = [entry["found by"] for entry in entries]
    counts = {name: verdicts.count(name) for name in VERDICTS}
    nobody = [entry for entry in entries if entry["found by"] == "nobody"]
    title = ", ".join(f"{name}: {n}" for name, n in counts.items()) + ". Found by nobody:"
    table = markdown(title, COLUMNS, nobody) if nobody else f"# {title} none\n"
    save(str(out), {"versions": versions(), "mutants": entries}, table)


def _wanted(config: MutantsConfig) -> list[Mutant]:
    unknown = set(config.kinds) - set(KINDS)
    if unknown:
        raise UserError(f"there is no kind of change {unknown.pop()!r}: name {', '.join(KINDS)}")
    core = [ROOT / name for name in JUDGES if name.startswith("core/")]
    paths = sorted((ROOT / "plugins").rglob("*.py")) + core
    files = [str(path.relative_to(ROOT)) for path in paths if not _LEFT_OUT & set(path.parts)]
    chosen = [f for f in files if not config.files or any(part in f for part in config.files)]
    found = [m for f in chosen for m in mutants(ROOT, f) if m.kind in config.kinds]
    texts = config.containing
    found = [m for m in found if not texts or any(text in m.name for text in texts)]
    return sorted(found, key=lambda m: KINDS.index(m.kind))


_LEFT_OUT = {"steering", "declared.py"}
"""Parts of paths: what is not trained, and what is itself a declaration."""


def verdict_on(mutant: Mutant, root: Path, config: MutantsConfig) -> dict[str, Any]:
    """Who finds the change: in a copy of the repository at `root`, which is restored."""
    file = root / mutant.file
    before = file.read_text()
    file.write_text(mutant.source(ROOT))
    try:
        found = _found_by(mutant, root, config)
    finally:
        file.write_text(before)
    return {"kind": mutant.kind, "mutant": mutant.name, "found by": found}


def _found_by(mutant: Mutant, root: Path, config: MutantsConfig) -> str:
    judge = "benchmarks.mutants", "--rows", str(config.rows), "--judge", *judges(mutant.file)
    missed = "nobody"
    for part in "gradients", "values":
        command = *judge, "--part", part
        status, numbers = _run(command, root)
        if status:
            return "error" if status == 2 else "check"
        # The gradients are taken where model, target and teacher differ and no residual is zero.
        if mutant.kind in ("stop", "slot") and (0, numbers) == _undamaged(command):
            missed = "no effect"
            break
    tests = [str(path.relative_to(ROOT)) for path in files_that_test(mutant.file)]
    quiet = "-q", "-x", "-n", "0", "-p", "no:cacheprovider", "-m", "not slow and not long"
    if config.tests and tests and _run(("pytest", *quiet, *tests), root)[0]:
        return "tests"
    return missed


@functools.cache
def _undamaged(judge: tuple[str, ...]) -> tuple[int, str]:
    """What the judge says of the code as it is."""
    return _run(judge, ROOT)


def _run(module: tuple[str, ...], root: Path) -> tuple[int, str]:
    """The status of a module and what it printed."""
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-m", *module]
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return 1, ""
    return done.returncode, done.stdout


def judges(file: str) -> list[str]:
    """The methods that a file touches: those whose module imports it, at most three."""
    if file in JUDGES:
        return list(JUDGES[file])
    module = file.removesuffix(".py").replace("/", ".")
    near = {name: distance(cls.__module__, module) for name, cls in plugins().items()}
    touched = sorted((far, name) for name, far in near.items() if far is not None)
    return [name for _, name in touched[:3]]


def distance(module: str, wanted: str) -> int | None:
    """How many imports lead from one module of `plugins` to another; None where none do."""
    seen, edge, far = {module}, {module}, 0
    while edge:
        if wanted in edge:
            return far
        edge = {name for each in edge for name in _imports(each)} - seen
        seen, far = seen | edge, far + 1
    return None


def _imports(module: str) -> set[str]:
    path = ROOT / (module.replace(".", "/") + ".py")
    if not (module.startswith("plugins.") and path.exists()):
        return set()
    nodes = ast.walk(ast.parse(path.read_text()))
    return {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module}


def files_that_test(file: str) -> list[Path]:
    """The test files that name the module, or its package."""
    module = file.removesuffix(".py").replace("/", ".")
    names = {module, module.rpartition(".")[0]} - {"plugins", "core.objectives", "core.flow"}
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    return [p for p in paths if any(f"from {name} import" in p.read_text() for name in names)]


def _judge(names: tuple[str, ...], part: str, rows: int) -> int:
    """1 where a check fails, 2 where one cannot even be made. Prints every number."""
    import jax

    from core.conformance import check_plugin, gradient_checks
    from core.flow.path import CosinePath, LinearPath

    path = LinearPath()
    # On a path whose rays turn at another rate too, and with data of another scale.
    curved = partial(gradient_checks, path=CosinePath(), scales=(0.6,))
    plain = partial(gradient_checks, path=path, scales=(1.0,))
    values = partial(check_plugin, path=path, rows=rows)
    for name in names:
        for plugin in plugins()[name].variants().values():
            gradients = (plain,) if plugin.tokens else (curved, plain)  # tokens are on one path
            for check in gradients if part == "gradients" else (values,):
                with jax.enable_x64(True):
                    try:
                        found = check(plugin)
                    except Exception:  # whatever a damaged loss raises
                        return 2
                print(*(f"{c.name}: {c.value!r} {c.control!r}" for c in found), sep="\n")
                if not all(c.passed for c in found):
                    return 1
    return 0


if __name__ == "__main__":
    launch(main)
