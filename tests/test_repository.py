"""The rules of the repository that a machine can hold: layout, sizes, types, words."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.code import (
    HELPERS,
    MODULES,
    PAGES,
    PARTS,
    ROOT,
    SCRIPTS,
    TESTS,
    Function,
    functions,
    long_name,
    name,
    parsed,
    read,
)


def test_the_parts_are_links_into_the_package() -> None:
    """The three folders of the top level are reached as vecferry.io and so on, by links."""
    for part in PARTS:
        link = ROOT / "src" / "vecferry" / part
        assert link.is_symlink(), part
        assert os.readlink(link) == f"../../{part}"


ENDLESS_PLACES = {"src/vecferry/rows.py"}
"""Where a zip may leave something over: the numbers of rows, which have no end."""


@pytest.mark.slow
def test_no_zip_drops_what_is_left_over() -> None:
    """Names and values that are paired are as many: else a column or a row is lost in silence.

    Ruff's B905 asks for the word `strict` at each zip.
    """
    loose = {
        name(path)
        for path in MODULES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "zip"
        and not any(
            isinstance(k.value, ast.Constant) and k.value.value is True
            for k in node.keywords
            if k.arg == "strict"
        )
    }
    assert loose == ENDLESS_PLACES


def test_io_and_tests_are_no_packages() -> None:
    """An __init__.py in io/ would shadow the standard library for type checkers."""
    assert not (ROOT / "io" / "__init__.py").exists()
    assert not (ROOT / "tests" / "__init__.py").exists()


def test_scripts_can_be_run() -> None:
    """Scripts are executable, are valid bash and stop at the first failure."""
    for script in ("run_tests.sh", "run_local.sh", ".ci/run"):
        path = ROOT / script
        assert os.access(path, os.X_OK), script
        subprocess.run(["bash", "-n", str(path)], check=True)
        assert re.search(r"^set -eu", path.read_text(), re.MULTILINE), script


def test_the_licence_is_whole() -> None:
    """The text of the Apache License, from its title to its end."""
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_changelog_knows_the_version() -> None:
    """The version of the package has its section."""
    import vecferry

    assert f"\n## {vecferry.__version__}" in (ROOT / "CHANGELOG.md").read_text()


APART = {"paimon"}
"""Extras that want older packages than the others do."""


def test_every_extra_is_in_all() -> None:
    """`vecferry[all]` installs every extra but the developer's, and those that stand `APART`."""
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    (everything,) = extras.pop("all")
    extras.pop("dev")
    assert set(everything.removeprefix("vecferry[").rstrip("]").split(",")) == set(extras) - APART


def test_functions_stay_small() -> None:
    """A function has at most 60 lines; a module holds one idea, and is as long as that takes."""
    long = [
        f"{name(path)} {f.name} ({f.end_lineno - f.lineno + 1})"
        for path in [*MODULES, *TESTS, *HELPERS, *SCRIPTS]
        for f in functions(parsed(path))
        if f.end_lineno is not None and f.end_lineno - f.lineno >= 60
    ]
    assert long == []


def undocumented(tree: ast.Module) -> Iterator[str]:
    """What is public and says nothing of itself; methods of private classes are private."""
    if not ast.get_docstring(tree) and tree.body:
        yield "the module"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield node.name
            # What only fills in a base class's method says no more than the base does.
            if isinstance(node, ast.ClassDef) and not node.bases:
                yield from (
                    f"{node.name}.{f.name}"
                    for f in node.body
                    if isinstance(f, ast.FunctionDef)
                    and not f.name.startswith("_")
                    and not ast.get_docstring(f)
                )


@pytest.mark.slow
def test_what_is_public_is_documented() -> None:
    """Every public module, class, function and method has a docstring."""
    silent = [
        f"{name(path)}: {what}"
        for path in [*MODULES, *SCRIPTS]
        for what in undocumented(parsed(path))
    ]
    assert silent == []


def test_test_modules_stay_readable() -> None:
    """A test module has at most 600 lines."""
    long = {name(path): len(read(path)) for path in TESTS}
    assert {path: lines for path, lines in long.items() if lines > 600} == {}


@pytest.mark.slow
def test_tests_are_claims() -> None:
    """Each test has a docstring and asserts something."""
    asserting = re.compile(r"\bassert|\braises\(|check=True|\bdone\(|\bexpect")
    silent = [
        f"{name(path)} {f.name}"
        for path in TESTS
        for f in functions(parsed(path))
        if f.name.startswith("test_")
        and not (ast.get_docstring(f) and asserting.search(source_of(path, f)))
    ]
    assert silent == []


def source_of(path: Path, function: Function) -> str:
    """The lines of a function."""
    return "\n".join(read(path)[function.lineno - 1 : function.end_lineno])


def within_functions(node: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.Call]]:
    """All calls in a tree, each with the names of the classes and functions around it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield inside, child
        named = isinstance(child, Function | ast.ClassDef)
        yield from within_functions(child, f"{inside}.{child.name}" if named else inside)


def guesses() -> list[str]:
    """Each `getattr(…, "name", default)` by the module and function that it stands in."""
    return [
        long_name(path) + inside
        for path in MODULES
        for inside, call in within_functions(parsed(path))
        if isinstance(call.func, ast.Name) and call.func.id == "getattr" and len(call.args) == 3
    ]


MAY_GUESS = {
    "vecferry.io.common.reach._causes",
    "vecferry.io.files.formats.unpack.what_is_there",
    "vecferry.pipelines.beam_yaml_rows.plain",
    "vecferry.pipelines.cluster.watch.JobWatcher._told",
    "vecferry.pipelines.job.documents._Loader",
    "vecferry.transforms.embed.endpoints.local._load",
    "vecferry.transforms.embed.images.address",
    "vecferry.transforms.embed.images.load.ImageLoader._read",
}
"""Functions that ask foreign objects for what these may not have."""

MOST_GUESSES = 12
"""How often the code guesses; the number only falls."""


@pytest.mark.slow
def test_attributes_are_declared_rather_than_guessed() -> None:
    """`getattr` with a default is for foreign objects, such as the errors of a client.

    Its place is a function `classify`, or one that is named here. Our own types declare what they
    have.
    """
    strangers = {g for g in guesses() if g.rsplit(".", 1)[1] != "classify"}
    assert sorted(strangers - MAY_GUESS) == []
    assert sorted(MAY_GUESS - strangers) == []
    assert len(guesses()) <= MOST_GUESSES


def public_functions(tree: ast.Module | ast.ClassDef) -> Iterator[Function]:
    """The functions of a module, and methods of its classes, that others may call."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node)
        elif isinstance(node, Function) and (
            not node.name.startswith("_") or node.name == "__init__"
        ):
            yield node


def bare_any(function: Function) -> int:
    """How many parameters and results of a function are `Any`, and nothing more."""
    a = function.args
    parameters = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
    said = [p.annotation for p in parameters if p] + [function.returns]
    return sum(isinstance(one, ast.Name) and one.id == "Any" for one in said)


MOST_ANY = 87
"""How many there are; the number only falls."""


@pytest.mark.slow
def test_public_signatures_say_their_types() -> None:
    """`Any` in a public signature is what a foreign library leaves untyped; it only gets less."""
    found = {
        f"{long_name(path)}.{f.name}": bare_any(f)
        for path in MODULES
        for f in public_functions(parsed(path))
        if bare_any(f)
    }
    assert sum(found.values()) <= MOST_ANY, found


@pytest.mark.slow
def test_checking_a_job_imports_no_beam_and_no_client() -> None:
    """All modules of settings together import neither Beam nor a heavy client."""
    settings = [
        "vecferry." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in MODULES
        if path.stem == "settings" and "src" not in path.parts
    ]
    assert len(settings) >= 3
    heavy = [
        "apache_beam",
        "pymilvus",
        "elasticsearch",
        "wordllama",
        "fsspec",
        "pyarrow",
        "requests",
        "urllib3",
    ]
    code = (
        f"import importlib, sys\nfor m in {settings!r}: importlib.import_module(m)\n"
        f"print(*[m for m in {heavy!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == []


LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)[^)]*\)")


def test_links_between_pages_lead_somewhere() -> None:
    """A relative link in the documentation names a file that exists."""
    lost = []
    for path in PAGES:
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        links = [link for link in LINK.findall(text) if "://" not in link]
        lost += [f"{name(path)}: {one}" for one in links if not (path.parent / one).exists()]
    assert lost == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "status"),
    [({}, 0), ({"CI": "true"}, 1), ({"VECFERRY_VENDOR_JOBS": "jobs"}, 1)],
    ids=["at home", "CI", "vendor jobs"],
)
def test_a_test_may_be_skipped_at_home_only(
    environment: dict[str, str], status: int, tmp_path: Path
) -> None:
    """A skip fails in continuous integration, also of a module, unless its reason hides nothing."""
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = service: x\n")
    (tmp_path / "test_x.py").write_text(
        "import pytest\n"
        "@pytest.mark.service\ndef test_server(): pytest.skip('no server here')\n"
        "def test_package(): pytest.importorskip('a_package_that_nobody_has')\n"
        "@pytest.mark.skipif(True, reason='no such device')\ndef test_device(): pass\n"
        "def test_jobs(): pytest.skip('not ours: VECFERRY_VENDOR_JOBS names no folder')\n"
        "@pytest.mark.service\ndef test_claim(): pytest.skip('not for this store: no login')\n"
        "@pytest.mark.service\n@pytest.mark.xfail\ndef test_known(): assert False\n"
    )
    (tmp_path / "test_y.py").write_text(
        "import pytest\npytest.importorskip('a_package_that_nobody_has')\ndef test_in_it(): pass\n"
    )
    kept = {k: v for k, v in os.environ.items() if k not in ("CI", "VECFERRY_VENDOR_JOBS")}
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        [*call, "--continue-on-collection-errors"],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout
    absent = {"test_server", "test_package", "test_device", "test_y.py"} if status else set()
    assert set(re.findall(r"([\w.]+) was skipped, and nothing", done.stdout)) == absent
