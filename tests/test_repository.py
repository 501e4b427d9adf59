"""The rules of the repository that a machine can hold: layout, arrows, sizes, words."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("io", "pipelines", "transforms")
SHARED = {
    "vecferry." + m
    for m in [
        "rows",
        "errors",
        "retry",
        "process",
        "reporting",
        "kinds",
        "lazy",
        "secrets",
        "steps",
        "settings",
        "beam",
    ]
}

MODULES = sorted(
    [*(ROOT / "src" / "vecferry").glob("*.py")]
    + [path for part in PARTS for path in (ROOT / part).rglob("*.py")]
)
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
SCRIPTS = sorted([*(ROOT / "bench").glob("*.py"), *(ROOT / "examples").glob("*.py")])
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), name(path))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports anywhere, also inside functions, by their long names."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_the_parts_are_links_into_the_package() -> None:
    """The three folders of the top level are reached as vecferry.io and so on, by links."""
    for part in PARTS:
        link = ROOT / "src" / "vecferry" / part
        assert link.is_symlink(), part
        assert os.readlink(link) == f"../../{part}"


def test_io_and_tests_are_no_packages() -> None:
    """An __init__.py in io/ would shadow the standard library for type checkers."""
    assert not (ROOT / "io" / "__init__.py").exists()
    assert not (ROOT / "tests" / "__init__.py").exists()


@pytest.mark.parametrize("script", ["run_tests.sh", "run_local.sh", ".ci/run"])
def test_scripts_can_be_run(script: str) -> None:
    """Scripts are executable, are valid bash and stop at the first failure."""
    path = ROOT / script
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert re.search(r"^set -eu", path.read_text(), re.MULTILINE)


def test_the_licence_is_whole() -> None:
    """The text of the Apache License, from its title to its end."""
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_changelog_knows_the_version() -> None:
    """The version of the package has its section."""
    import vecferry

    assert f"\n## {vecferry.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_extra_is_in_all() -> None:
    """`vecferry[all]` installs every extra but the developer's."""
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    (everything,) = extras.pop("all")
    extras.pop("dev")
    assert set(everything.removeprefix("vecferry[").rstrip("]").split(",")) == set(extras)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_arrows_go_one_way(path: Path) -> None:
    """Pipelines use transforms and io; these use what all share, and never each other."""
    part = path.relative_to(ROOT).parts[0]
    allowed = {
        "pipelines": ("vecferry.pipelines", "vecferry.transforms", "vecferry.io", *SHARED),
        "transforms": ("vecferry.transforms", *SHARED),
        "io": ("vecferry.io", *SHARED),
        "src": tuple(SHARED),
    }[part]
    ours = {i for i in imports(path) if i.startswith("vecferry.")} - {"vecferry.__version__"}
    strangers = {i for i in ours if not any(i == a or i.startswith(a + ".") for a in allowed)}
    assert strangers == set()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_functions_stay_small(path: Path) -> None:
    """A function has at most 60 lines; a module holds one idea, and is as long as that takes."""
    long = [
        f"{f.name} ({f.end_lineno - f.lineno + 1})"
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


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=name)
def test_what_is_public_is_documented(path: Path) -> None:
    """Every public module, class, function and method has a docstring."""
    assert list(undocumented(parsed(path))) == []


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_tests_are_claims(path: Path) -> None:
    """Each test has a docstring and asserts something; a test module has at most 600 lines."""
    assert lines(path) <= 600
    asserting = re.compile(r"\bassert|\braises\(|check=True|\bdone\(|\bexpect")
    silent = [
        f.name
        for f in functions(parsed(path))
        if f.name.startswith("test_")
        and not (ast.get_docstring(f) and asserting.search(ast.unparse(f)))
    ]
    assert silent == []


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


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    """A relative link in the documentation names a file that exists."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link for link in LINK.findall(text) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize(
    ("environment", "status"),
    [({}, 0), ({"CI": "true"}, 1), ({"VECFERRY_VENDOR_JOBS": "jobs"}, 1)],
    ids=["at home", "CI", "vendor jobs"],
)
def test_a_service_may_be_absent_at_home_only(
    environment: dict[str, str], status: int, tmp_path: Path
) -> None:
    """A skipped test of a service fails in continuous integration; other skips never do."""
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = service: x\n")
    (tmp_path / "test_x.py").write_text(
        "import pytest\n"
        "@pytest.mark.service\ndef test_server(): pytest.skip('no server here')\n"
        "def test_other(): pytest.skip('not today')\n"
        "@pytest.mark.service\n@pytest.mark.xfail\ndef test_known(): assert False\n"
    )
    kept = {k: v for k, v in os.environ.items() if k not in ("CI", "VECFERRY_VENDOR_JOBS")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout
    assert ("services must not be" in done.stdout) == bool(status)
