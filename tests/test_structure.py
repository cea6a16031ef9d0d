"""The shape of the code itself: who imports whom, how long things are, what may be subclassed."""

import ast
import importlib
import pkgutil
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import equinox as eqx
import pytest

from core.methods.plugin import Plugin
from core.overriding import overridable

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("core", "plugins", "portolan", "apps")  # a room imports itself and the rooms before it
FILE_LINES = 400
FUNCTION_LINES = 70

# Folders in which somebody's machine keeps things, and hosts that packages are fetched from.
MACHINE_PATH = re.compile(
    r"(?<![\w.~])/(?:work|farm|root|opt|mnt|home/\w+|Users/\w+|tmp/\w+)/\w"
    r"|\b(?:pypi|pythonhosted|npmjs|conda|anaconda|artifactory)\.(?:org|com|io)\b"
    r"|://[\w.-]+(?::\d+)?/(?:simple|registry|artifactory)/"
)


def python_files(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Full names of all that a file imports, at its top or inside a function."""
    module = module_name(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join((parents if node.level else []) + [node.module] * bool(node.module))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def wrong_imports(paths: list[Path], forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in imports(path)
        if any(within(name, package) for package in forbidden)
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_from_apps_to_portolan_to_plugins_to_core(room):
    assert wrong_imports(python_files(room), ROOMS[ROOMS.index(room) + 1 :]) == []


def test_nothing_in_core_but_training_imports_training():
    outside = [path for path in python_files("core") if "train" not in path.relative_to(ROOT).parts]
    assert wrong_imports(outside, ("core.train",)) == []


FLOORS = (("errors", "overriding"), ("registry",), ("flow", "times"), ("objectives",), ("methods",))
"""The lower floors of core: each may import the floors below it and its rooms in `BESIDE`."""
BESIDE = {"objectives": ("nets",), "methods": ("nets", "data", "oracle")}


@pytest.mark.parametrize("floor", range(len(FLOORS)))
def test_the_wings_of_core_stand_on_each_other(floor):
    rooms = {path.stem for path in (ROOT / "core").iterdir() if path.stem[0] != "_"}
    for wing in FLOORS[floor]:
        below = {name for lower in FLOORS[:floor] for name in lower} | set(BESIDE.get(wing, ()))
        above = tuple(f"core.{room}" for room in sorted(rooms - below - {wing}))
        alone = ROOT / "core" / f"{wing}.py"
        files = [alone] if alone.exists() else python_files(f"core/{wing}")
        assert files and wrong_imports(files, above) == []


@pytest.mark.parametrize("room", ["nets", "data", "oracle"])
def test_what_methods_use_knows_no_method(room):
    assert wrong_imports(python_files(f"core/{room}"), ("core.methods", "core.objectives")) == []


WINGS = sorted(path.parent.name for path in (ROOT / "core").glob("*/__init__.py"))


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_has_a_face_and_a_line_in_the_architecture(wing):
    tree = ast.parse((ROOT / "core" / wing / "__init__.py").read_text())
    named = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert ast.get_docstring(tree) and named
    assert all(alias.asname == alias.name for node in named for alias in node.names)
    assert f"| `{wing}/`" in (ROOT / "docs" / "architecture.md").read_text()


def test_plugin_families_do_not_import_each_other():
    families = [path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()]
    for family in families:
        others = tuple(f"plugins.{other}" for other in families if other != family)
        assert wrong_imports(python_files(f"plugins/{family}"), others) == []


@pytest.mark.parametrize(
    "source, found",
    [
        ("import plugins.a", ["plugins.a"]),
        ("def f():\n    from core import train", ["core.train"]),
        ("from ..train import loop", ["core.train.loop"]),
        ("from . import x", ["core.data.x"]),
    ],
)
def test_imports_of_every_form_are_seen(source, found, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "core" / "data" / "toy.py"
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert list(imports(path)) == found


def test_files_are_short():
    lengths = {
        path: path.read_text().count("\n") for path in python_files(*ROOMS, "benchmarks", "tests")
    }
    assert [f"{path.relative_to(ROOT)}: {n}" for path, n in lengths.items() if n > FILE_LINES] == []


def test_functions_are_short():
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines} lines"
        for path in python_files(*ROOMS, "benchmarks", "tests")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := node.end_lineno - node.lineno + 1) > FUNCTION_LINES
    ]
    assert long == []


def project_files() -> list[Path]:
    """Files that git tracks or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def test_no_file_names_a_folder_of_a_machine_or_a_package_host():
    found = []
    for path in project_files():
        text = path.read_bytes().decode(errors="ignore")
        if "\0" not in text:
            found += [f"{path.relative_to(ROOT)}: {hit[0]}" for hit in MACHINE_PATH.finditer(text)]
    assert found == []


def test_constraints_are_names_and_versions_only():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    pin = re.compile(r'[a-z0-9-]+==[\w.]+( ; python_version (<|>=) "3\.\d+")?')
    assert [line for line in pins if not pin.fullmatch(line)] == []


def our_classes() -> set[type]:
    """Every module class (in Equinox's sense) and every plugin class of `core` and `plugins`."""
    for room in ("core", "plugins"):
        package = importlib.import_module(room)
        for info in pkgutil.walk_packages(package.__path__, room + "."):
            importlib.import_module(info.name)
    return {cls for base in (eqx.Module, Plugin) for cls in subclasses(base) if is_ours(cls)}


def subclasses(cls: type) -> Iterator[type]:
    for child in cls.__subclasses__():
        yield child
        yield from subclasses(child)


def is_ours(cls: type) -> bool:
    return cls.__module__.split(".")[0] in ("core", "plugins")


def is_abstract(cls: type) -> bool:
    marks = ("__abstractmethods__", "__abstractvars__", "__abstractclassvars__")
    return any(getattr(cls, mark, ()) for mark in marks)


def test_a_class_is_abstract_or_final():
    wrong = [
        f"{cls.__module__}.{cls.__qualname__} subclasses {base.__qualname__}, which is concrete"
        for cls in our_classes()
        for base in cls.__mro__[1:]
        if is_ours(base) and not is_abstract(base)
    ]
    assert sorted(wrong) == []


def function(value: object) -> object:
    """The function in an entry of a class, or None where it is none."""
    value = getattr(value, "fget", None) or getattr(value, "__func__", value)
    return value if callable(value) and not isinstance(value, type) else None


def hook_overridden(cls: type, name: str) -> str | None:
    """The concrete method of ours that `cls.name` overrides and that is not marked, or None."""
    for base in cls.__mro__[1:]:
        if name in vars(base):
            above = vars(base)[name]
            free = getattr(above, "__isabstractmethod__", False) or function(above) is None
            marked = getattr(function(above), "__overridable__", False)
            return None if free or marked or not is_ours(base) else f"{base.__qualname__}.{name}"
    return None


def wrong_overrides(classes: Iterable[type]) -> list[str]:
    return sorted(
        f"{cls.__module__}.{cls.__qualname__} overrides {found}, which is not @overridable"
        for cls in classes
        for name, value in vars(cls).items()
        if (not name.startswith("__") or name == "__call__") and function(value) is not None
        if (found := hook_overridden(cls, name)) is not None
    )


def test_only_hooks_are_overridden():
    assert wrong_overrides(our_classes()) == []


def test_an_override_of_a_method_that_is_no_hook_is_seen():
    module = {"__module__": "core.made_up"}
    above = type(
        "Above", (), {**module, "plain": lambda self: 1, "hook": overridable(lambda self: 1)}
    )
    below = type("Below", (above,), {**module, "plain": lambda self: 2, "hook": lambda self: 2})
    found = "core.made_up.Below overrides Above.plain, which is not @overridable"
    assert wrong_overrides([above, below]) == [found]
