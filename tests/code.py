"""The code of the repository as its rules see it: files, syntax trees, imports, rooms."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PARTS = ("io", "pipelines", "transforms")

SHARED = sorted(path for path in (ROOT / "src" / "vecferry").rglob("*.py"))
MODULES = sorted([*SHARED, *(path for part in PARTS for path in (ROOT / part).rglob("*.py"))])
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
HELPERS = sorted({*(ROOT / "tests").rglob("*.py")} - {*TESTS})
SCRIPTS = sorted([*(ROOT / "bench").glob("*.py"), *(ROOT / "examples").glob("*.py")])
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def read(path: Path) -> list[str]:
    """The lines of a file."""
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def name(path: Path) -> str:
    """A file by its path in the repository."""
    return str(path.relative_to(ROOT))


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse("\n".join(read(path)), name(path))


def functions(tree: ast.AST) -> Iterator[Function]:
    """All functions and methods in a tree."""
    yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def long_name(path: Path) -> str:
    """A module by the name under which it is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[2:] if parts[0] == "src" else parts
    return ".".join(("vecferry", *(part for part in parts if part != "__init__")))


BY_NAME = {long_name(path): path for path in MODULES}


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """The modules of ours that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in BY_NAME else node.module)
    return frozenset(found & BY_NAME.keys()) - {long_name(path), "vecferry"}


def room_of(path: Path) -> str:
    """The room of a module: its folder; a module beside the rooms of `pipelines` is one itself.

    What all share is one room, with `vecferry.run` and `vecferry.positions` in it. The package
    itself, which hands on names of a face, is a room of its own.
    """
    folder = name(path.parent)
    if name(path) == "src/vecferry/__init__.py":
        return "front"
    if folder in ("src/vecferry/run", "src/vecferry/positions"):
        return "shared"
    if folder.startswith("src/vecferry"):
        return folder.replace("src/vecferry", "shared", 1)
    return name(path.with_suffix("")) if folder == "pipelines" else folder


@functools.cache
def arrows() -> dict[tuple[str, str], set[str]]:
    """The rooms that each room imports, and the imports that make each arrow."""
    drawn: dict[tuple[str, str], set[str]] = {}
    for path in MODULES:
        for target in imported(path):
            ends = room_of(path), room_of(BY_NAME[target])
            if ends[0] != ends[1]:
                drawn.setdefault(ends, set()).add(f"{long_name(path)} -> {target}")
    return drawn
