"""The arrows between the rooms of the house, drawn from the code; and modules that stand apart.

`docs/architecture.md` shows the rooms. A room is a folder. A module beside the folders of
`pipelines`, such as `registry`, is a room of its own.
"""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from collections.abc import Iterable

from tests.code import BY_NAME, MODULES, ROOT, arrows, imported, long_name, name, parsed, room_of

FACES = (
    "pipelines/api",
    "pipelines/cli",
    "pipelines/main",
    "pipelines/beam_yaml",
    "pipelines/beam_yaml_rows",
)
INSIDE = {
    "pipelines/launch": {"pipelines/run", "pipelines/cluster", "pipelines/job"},
    "pipelines/cluster": {"pipelines/run", "pipelines/job"},
    "pipelines/run": {"pipelines/job"},
    "pipelines/templates": {"pipelines/job"},
    "pipelines/autoetl": {"pipelines/job"},
    "pipelines/job": set(),
}
"""The rooms between the faces and the registry; each may also import the registry."""

BASES = {
    "io/search": {"io/sink", "io/common"},
    "io/tables": {"io/sink", "io/common"},
    "io/sink": {"io/common"},
    "io/common": set(),
}
"""What connectors have in common."""

CONNECTORS = {("io/hologres", "io/postgresql"), ("io/mysql_cdc", "io/mysql")}
"""The connectors that are another one with something changed."""

VECTOR_CACHE = {
    ("pipelines/cli", "transforms/embed/cache"),
    ("pipelines/job", "transforms/embed/cache"),
}
"""The vector cache is a setting of a job, and has a command of its own. Add no other arrow."""


def family(room: str) -> str:
    """The connector or step that a room belongs to, which may have rooms within: `io/files`."""
    return "/".join(room.split("/")[:2])


def allowed(start: str, end: str) -> bool:
    """Whether one room may import another."""
    if end.startswith("shared") or family(start) == family(end):
        return end != "shared/testing"
    if start == "shared/testing":
        return not end.startswith("pipelines")
    if start == "front":
        return end == "pipelines/api"
    if start in FACES:
        return end in FACES or end in INSIDE or end == "pipelines/registry"
    if start in INSIDE:
        return end in INSIDE[start] or end == "pipelines/registry"
    if start in BASES:
        return end in BASES[start]
    return start.startswith("io/") and (end in BASES or (family(start), family(end)) in CONNECTORS)


def test_arrows_go_one_way() -> None:
    """Faces, then what runs jobs, then the registry; connectors and steps, what connectors share;
    and below all the shared modules.

    The registry only names connectors. A connector imports no other connector, io/ and transforms/
    never meet, and only pipelines/ imports pipelines/.
    """
    strangers = {
        ends: sorted(imports)
        for ends, imports in arrows().items()
        if not allowed(*ends) and ends not in VECTOR_CACHE
    }
    assert strangers == {}


def circles(edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The groups of rooms that reach each other."""
    reach: dict[str, set[str]] = {}
    for start, end in edges:
        reach.setdefault(start, set()).add(end)
        reach.setdefault(end, set())
    for middle in reach:
        for ends in reach.values():
            if middle in ends:
                ends |= reach[middle]
    found = {
        tuple(sorted(other for other in ends if room in reach[other]))
        for room, ends in reach.items()
        if room in ends
    }
    return sorted(map(list, found))


def test_rooms_make_no_circle() -> None:
    """Whichever room one begins with, its imports never lead back to it."""
    assert circles(arrows()) == []


def test_each_exception_is_needed() -> None:
    """An arrow that was cut leaves the lists, so that nobody draws it again."""
    assert (VECTOR_CACHE | CONNECTORS) - arrows().keys() == set()


FIXED = {
    "kind",
    "settings",
    "client",
    "catalog",
    "checks",
    "values",
    "source",
    "target",
    "transform",
}
"""The modules of a connector or step, wherever it has them."""

ONE_EACH = (
    "io/files/formats",
    "io/files/parsers",
    "io/files/stores",
    "shared/testing",
    "transforms/embed/endpoints",
    "transforms/embed/cache",
    "pipelines/cli",
)
"""Rooms with a module for each format, parser, store, contract, endpoint, cache, command."""

APART = re.compile(r"\b(?:A|Stands a)part from [\w./` ]+ because\b")
"""What a docstring says of a module with one importer: "Stands apart from X because …"."""


def needs_no_word(module: str) -> bool:
    """Whether the place of a module says why it stands apart."""
    room, own = room_of(BY_NAME[module]), module.rsplit(".", 1)[1]
    siblings = {p.stem for p in BY_NAME[module].parent.glob("*.py")}
    if room in ONE_EACH:  # csv_blocks.py is not a second format beside csv.py
        return own.rsplit("_", 1)[0] == own or own.split("_")[0] not in siblings
    return own in FIXED and room.startswith(("io/", "transforms/"))


@functools.cache
def alone() -> set[str]:
    """The modules with one importer that do not say why they stand apart."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    programs = {script.split(":")[0] for script in scripts.values()}
    importers: dict[str, set[str]] = {}
    for path in MODULES:
        if path.name != "__init__.py":  # it only hands on names
            for module in imported(path):
                importers.setdefault(module, set()).add(long_name(path))
    return {
        module
        for module, by in importers.items()
        if len(by) == 1
        and BY_NAME[module].name != "__init__.py"
        and module not in programs
        and not needs_no_word(module)
        and not APART.search(" ".join((ast.get_docstring(parsed(BY_NAME[module])) or "").split()))
    }


def test_a_module_with_one_importer_says_why_it_stands_apart() -> None:
    """Else it is a fragment of its importer. The sentence is "Stands apart from X because …"."""
    assert sorted(alone()) == []


def test_the_words_of_a_module_that_stands_apart_are_found() -> None:
    """Over the end of a line, and with code in it."""
    assert APART.search("Apart from `vecferry.io.milvus.target` because …")
    assert APART.search("Stands apart from `target` because …")
    assert not APART.search("It stands apart.")


def test_the_package_has_no_other_modules() -> None:
    """Every Python file of the four folders is a module of one room."""
    assert len(BY_NAME) == len(MODULES), [name(path) for path in MODULES]
