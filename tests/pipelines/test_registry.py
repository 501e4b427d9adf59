"""The registry: our own kinds, those of installed packages, and those that a program registers."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vecferry.errors import JobError
from vecferry.kinds import Client, ConnectionType, Kind
from vecferry.pipelines import registry
from vecferry.pipelines.cli import commands
from vecferry.pipelines.registry import BUILT_IN, Registry, load
from vecferry.testing import KindContract

ROOT = Path(__file__).parents[2]
LINES = Kind("lines", "reader", "acme_lines:Settings")
LAKE = ConnectionType("lake", "acme_lines:Lake")


class Point:
    """An entry point of a package that is not installed."""

    def __init__(self, found: Any, name: str = "lines", package: str = "acme") -> None:
        self.name, self.value, self.module = name, f"{package}.kind", package
        self.dist = SimpleNamespace(name=package, version="1.2")
        self.found = found

    def load(self) -> Any:
        """What it names, or the error of its module."""
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def found(*kinds: Kind, connections: tuple[ConnectionType, ...] = ()) -> Any:
    """What a module of kinds holds."""
    return SimpleNamespace(KINDS=kinds, CONNECTIONS=connections)


def with_points(*points: Any) -> Registry:
    """A registry on a machine with these entry points."""
    return Registry(entry_points=lambda: points)


def test_every_folder_with_kinds_is_built_in() -> None:
    """A connector is found by its folder, and nothing else has to be written anywhere."""
    folders = [*(ROOT / "io").glob("*/kind.py"), *(ROOT / "transforms").glob("*/kind.py")]
    modules = {f"vecferry.{path.parent.parent.name}.{path.parent.name}.kind" for path in folders}
    assert modules == set(BUILT_IN)
    assert len(BUILT_IN) == len(modules)


OURS = Registry(entry_points=list)


class TestOurs(KindContract):
    """The contract of kinds, on all of vecferry's own."""

    kinds = tuple(kind for found in OURS.kinds().values() for kind in found)
    connections = tuple(OURS.connections().values())


def test_kinds_take_sources_that_there_are_and_name_extras_that_there_are() -> None:
    """A slip in either would show only where somebody needs it."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    types = OURS.connections()
    for kind in TestOurs.kinds:
        assert set(kind.sources) <= types.keys()
    clients = {n.client for n in (*TestOurs.kinds, *types.values()) if n.client is not None}
    assert len(clients) >= 8
    assert {c.install.removeprefix("vecferry[").rstrip("]") for c in clients} <= extras.keys()


def test_images_come_from_what_files_come_from() -> None:
    """The embedding step takes the data sources of the step `file`, and a lake for its BLOBs."""
    known = Registry(entry_points=list)
    images, files = (known.kind_of(k).sources for k in ("embedding-transformer", "file"))
    assert images == (*files, "paimon")


@pytest.mark.slow
def test_asking_for_kinds_imports_no_settings_beam_or_client() -> None:
    """All of them, with their data sources: nothing is loaded but `kind.py` of each folder."""
    code = (
        "import sys\n"
        "from vecferry.pipelines import registry\n"
        "registry.kinds(), registry.connections()\n"
        "print(*sorted(m for m in sys.modules if m.startswith(('vecferry.io.', 'vecferry.tra'))"
        " and m.count('.') > 2))\n"
        "print(*(m for m in ('apache_beam', 'pydantic', 'numpy') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules, heavy = done.stdout.splitlines()
    assert modules.split() == sorted(BUILT_IN)
    assert heavy == ""


def test_a_job_with_our_own_steps_loads_no_entry_point() -> None:
    """What else is installed costs such a job nothing, and cannot break it."""

    def refuse() -> Any:
        raise AssertionError("entry points were asked for")

    own = Registry(entry_points=refuse)
    own.register(LINES)
    assert own.kind_of("postgresql", "writer").transform == "vecferry.io.postgresql:WriteToPostgres"
    assert own.kind_of("lines", "reader") is LINES
    assert own.connection("milvus") is not None


def test_an_installed_package_adds_kinds_and_types_of_data_sources() -> None:
    """By an entry point; it is known which package brings them."""
    known = with_points(Point(found(LINES, connections=(LAKE,))))
    assert known.kind_of("lines", "reader") is LINES
    assert known.connection("lake") is LAKE
    assert "lines" in known.kinds()
    assert "lake" in known.connections()
    assert str(known.package_of(LINES)) == "acme 1.2"
    assert known.package_of(known.kind_of("file")) is None
    assert known.problems() == []


def test_a_stepType_of_ours_may_get_another_role() -> None:
    """A reader beside our writer; each is found by its role."""
    reader = Kind("milvus", "reader", "acme_milvus:Settings")
    known = with_points(Point(found(reader)))
    assert known.kind_of("milvus", "reader") is reader
    assert known.kind_of("milvus", "writer").role == "writer"
    assert len(known.kinds()["milvus"]) == 2


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (ImportError("no module named lance"), "ImportError: no module named lance"),
        (found(), "acme.kind has neither KINDS nor CONNECTIONS"),
        (found("lines"), "KINDS holds 'lines', which is not a Kind"),
    ],
    ids=["import", "empty", "wrong"],
)
def test_an_entry_point_that_fails_is_told_where_its_step_is_missing(
    broken: Any, told: str
) -> None:
    """In words, with the package; other packages and our own steps are as they were."""
    good = Kind("other", "writer", "fine:Settings")
    known = with_points(Point(broken), Point(found(good), "other", "fine"))
    with pytest.raises(JobError) as raised:
        known.kind_of("lines", "reader")
    assert told in str(raised.value)
    assert "entry point 'lines' of acme 1.2" in str(raised.value)
    assert "update or uninstall acme" in str(raised.value)
    assert known.kind_of("other", "writer") is good


def test_a_name_that_vecferry_has_is_refused() -> None:
    """As a whole: half a package would be a puzzle."""
    taken = Kind("milvus", "writer", "acme:Settings")
    source = ConnectionType("s3", "acme:Bucket")
    known = with_points(Point(found(LINES, taken, connections=(source,))))
    with pytest.raises(JobError) as raised:
        known.kind_of("lines", "reader")
    assert "vecferry itself has a writer 'milvus'" in str(raised.value)
    assert "vecferry itself has a type of data source 's3'" in str(raised.value)
    assert known.kind_of("milvus", "writer").settings.startswith("vecferry.")
    assert "lines" not in known.kinds()


def test_two_packages_with_one_name_are_told_apart() -> None:
    """The first by name is taken, the second refused; the problem names it."""
    second = Kind("lines", "reader", "other:Settings")
    known = with_points(Point(found(second), "b", "other"), Point(found(LINES), "a"))
    assert known.kind_of("lines", "reader") is LINES
    (problem,) = known.problems()
    assert "entry point 'b' of other 1.2" in problem
    assert "another package has a reader 'lines'" in problem


def test_an_unknown_stepType_names_the_nearest() -> None:
    """Also one of an installed package."""
    with pytest.raises(JobError, match="did you mean 'lines'"):
        with_points(Point(found(LINES))).kind_of("linse")


def test_what_a_program_registers_goes_first() -> None:
    """It may replace what vecferry or a package has; another registry knows nothing of it."""
    own = Registry(entry_points=list)
    mine = Kind("milvus", "writer", "mine:Settings")
    own.register(mine)
    own.register_connection(ConnectionType("milvus", "mine:Connection"))
    assert own.kind_of("milvus", "writer") is mine
    assert own.connection("milvus") == ConnectionType("milvus", "mine:Connection")
    assert Registry(entry_points=list).kind_of("milvus", "writer") is not mine


def test_the_public_functions_ask_the_default_registry() -> None:
    """A test puts its own in that place, and the default is back afterwards."""
    before = registry.default()
    with registry.using(Registry(entry_points=list)) as own:
        registry.register(LINES)
        registry.register_connection("lake", "acme_lines:Lake", Client("lake", "acme[lake]"))
        assert registry.kind_of("lines") is own.kind_of("lines") is LINES
        assert registry.connections()["lake"].client == Client("lake", "acme[lake]")
    assert registry.default() is before
    assert "lines" not in registry.kinds()


def test_entry_points_are_those_of_installed_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the group of connectors, as an installer leaves them; a broken one harms nobody."""
    for name, module in (("acme-lines", "acme_lines_kind"), ("acme-broken", "acme_broken_kind")):
        info = tmp_path / f"{name.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{name} = {module}\n")
    (tmp_path / "acme_lines_kind.py").write_text(
        "from vecferry.kinds import Kind\nKINDS = (Kind('lines', 'reader', 'acme_lines:Settings'),)"
    )
    (tmp_path / "acme_broken_kind.py").write_text("import no_such_client")
    monkeypatch.syspath_prepend(tmp_path)
    known = Registry()
    assert known.kind_of("file", "reader").step_type == "file"
    assert str(known.package_of(known.kind_of("lines", "reader"))) == "acme-lines 1.2"
    with pytest.raises(JobError, match=r"'acme-broken' of acme-broken 1\.2 can't be loaded"):
        known.kind_of("broken")


def test_the_schema_of_jobs_is_printed_with_a_warning_of_what_was_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An editor still knows every step that can be used, those of packages among them."""
    good = Kind("lines", "reader", "vecferry.io.files.settings:FilesSettings")
    broken = Point(ImportError("no client"), "broken", "other")
    with registry.using(with_points(Point(found(good)), broken)):
        commands.schema()
    printed = capsys.readouterr()
    assert "warning: entry point 'broken' of other 1.2 can't be loaded" in printed.err
    assert "lines" in json.loads(printed.out)["$defs"]["Step"]["properties"]["stepType"]["enum"]


@pytest.mark.slow
def test_a_kind_imports_nothing_else() -> None:
    """What each `kind.py` needs is `vecferry.kinds`, so that asking for kinds costs nothing."""
    paths = [*(ROOT / "io").glob("*/kind.py"), *(ROOT / "transforms").glob("*/kind.py")]
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]
    modules = {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert modules == {"__future__", "vecferry.kinds"}
    assert [node for node in nodes if isinstance(node, ast.Import)] == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no_such_module.kind:Settings", "No module named 'no_such_module'"),
        ("json:Setings", "has no attribute 'Setings'"),
        ("needs_a_client:Settings", "No module named 'no_such_client'"),
    ],
)
def test_a_class_that_can_not_be_imported_is_told(
    name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the name that a kind gives: the kind is wrong, or what its module needs is missing."""
    (tmp_path / "needs_a_client.py").write_text("import no_such_client")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(JobError, match=told) as raised:
        load(name)
    assert "correct the kind that names it" in str(raised.value)


def test_settings_of_another_kind_are_told() -> None:
    """With the base that they lack."""
    kind = Kind("lines", "reader", "vecferry.settings:Settings")
    with pytest.raises(JobError, match=r"let it inherit vecferry\.settings\.StepSettings"):
        registry.settings_of(kind)
    with pytest.raises(JobError, match=r"let it inherit vecferry\.settings\.Connection"):
        registry.connection_of(ConnectionType("lake", "vecferry.kinds:Kind"))


def test_a_kind_that_is_written_wrongly_is_refused_at_once() -> None:
    """With what to write instead."""
    with pytest.raises(ValueError, match="role is 'source'; use one of reader, transformer"):
        Kind("lines", "source", "acme:Settings")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"write it as 'package\.module:Class'"):
        Kind("lines", "reader", "acme.Settings")
    with pytest.raises(ValueError, match="type of data source 'lake': settings is 'Lake'"):
        ConnectionType("lake", "Lake")


FIXED = {
    "__init__", "kind", "settings", "client", "catalog", "checks", "values", "source", "target",
    "transform", "browse",
}  # fmt: skip
"""The names of the modules that every connector has, where it needs them."""


def test_a_connector_has_the_usual_modules_and_names_its_others() -> None:
    """In the docstring of its folder, in backticks, with what they hold; no name is left over."""
    wrong = []
    for folder in sorted([*(ROOT / "io").iterdir(), *(ROOT / "transforms").iterdir()]):
        face = folder / "__init__.py"
        if not face.exists():
            continue
        inside = {path.stem for path in folder.glob("*.py")}
        inside |= {path.parent.name for path in folder.glob("*/__init__.py")}
        told = set(re.findall(r"`(\w+)`", ast.get_docstring(ast.parse(face.read_text())) or ""))
        wrong += [f"{folder.name}: {name} is not told" for name in inside - FIXED - told]
        wrong += [f"{folder.name}: {name} does not exist" for name in told - inside]
    assert sorted(wrong) == []
