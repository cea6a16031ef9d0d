"""Small changes of source files: what `benchmarks.mutants` lets the checks and tests find."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STOPS = ("stop", "stop_gradient", "frozen")
SWAPPED = {"model": "target", "target": "model", "players": "target"}
SPARED = (
    "declare", "_declare", "variants", "whole", "__post_init__", "__check_init__", "order",
    "with_step", "exact",
)  # fmt: skip
"""Beginnings of names of functions that are not changed: declarations, validation, checks."""


@dataclass(frozen=True)
class Mutant:
    """One change: `before` at `[start, end)` of the file becomes `after`; `kind` is stop, slot,
    sign or weight."""

    file: str
    line: int
    kind: str
    start: int
    end: int
    before: str
    after: str

    @property
    def name(self) -> str:
        """By which results are found again."""
        return f"{self.file}:{self.line}: {self.before} -> {self.after}"

    def source(self, root: Path) -> str:
        """The changed text of the file."""
        text = (root / self.file).read_bytes()
        return (text[: self.start] + self.after.encode() + text[self.end :]).decode()


def mutants(root: Path, file: str) -> list[Mutant]:
    """All changes of one file, in their order there."""
    text = (root / file).read_text()
    lines = [0]
    for line in text.encode().splitlines(keepends=True):
        lines.append(lines[-1] + len(line))

    def place(node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        start = lines[node.lineno - 1] + node.col_offset
        return start, lines[node.end_lineno - 1] + node.end_col_offset

    def read(node: ast.expr) -> str:
        start, end = place(node)
        return text.encode()[start:end].decode()

    found = []
    for function in _functions(ast.parse(text)):
        for node in _bodies(function):
            for kind, after in _changes(node, function, read):
                start, end = place(node)
                before = " ".join(read(node).split())
                found.append(Mutant(file, node.lineno, kind, start, end, before, after))
    return sorted(dict.fromkeys(found), key=lambda m: (m.start, m.end))


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Functions and methods, those inside of others left to them."""
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        for function in inner:
            if isinstance(function, ast.FunctionDef) and not function.name.startswith(SPARED):
                yield function


def _bodies(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """Expressions of a function, but for indices, error messages and what is only deleted."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Subscript):
            waiting.append(node.value)
        elif isinstance(node, ast.Attribute) and node.attr == "path":
            continue  # one and the same of the model and the target
        elif not isinstance(node, _LEFT):
            if isinstance(node, ast.expr):
                yield node
            waiting += ast.iter_child_nodes(node)


_LEFT = ast.Raise | ast.Delete | ast.Assert | ast.JoinedStr | ast.arguments


def _changes(node, function: ast.FunctionDef, read) -> Iterator[tuple[str, str]]:
    names = {argument.arg for argument in function.args.args}
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[only]):
            if name in STOPS:
                yield "stop", f"({read(only)})"
            if name == "sqrt":
                yield "weight", f"({read(only)})"
        case ast.Name(id=name, ctx=ast.Load()) if SWAPPED.get(name) in names and name in names:
            yield "slot", SWAPPED[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand) if not isinstance(operand, ast.Constant):
            yield "sign", f"({read(operand)})"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            yield "sign", f"{read(left)} - ({read(right)})"
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            yield "sign", f"{read(left)} + ({read(right)})"
        case ast.BinOp(left=left, op=ast.Div() | ast.Pow(), right=_):
            yield "weight", read(left)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            yield "weight", read(left)
            yield "weight", read(right)
