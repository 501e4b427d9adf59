"""What is released: a wheel and an sdist that work where nothing else is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import vecferry
from tests.code import ROOT

PARTS = (
    "setup.py", "pyproject.toml", "README.md", "LICENSE", "src", "io", "pipelines", "transforms",
)  # fmt: skip
AWAY = re.compile(r"error sending request|dns error|failed to lookup|connection refused", re.I)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of a copy of this checkout, and the wheel that is built of it."""
    folder = tmp_path_factory.mktemp("release")
    tree = folder / "tree"
    tree.mkdir()
    for name in PARTS:
        if (ROOT / name).is_dir():
            left_out = shutil.ignore_patterns("*.egg-info", "__pycache__")
            shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=left_out)
        else:
            shutil.copy(ROOT / name, tree / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", tree]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "dist"


def uvx(what: str, *words: str, folder: Path) -> str:
    """What ``uvx --from WHAT vecferry …`` prints, started in `folder`, in a new environment."""
    away = ("PYTHONPATH", "VIRTUAL_ENV")
    done = subprocess.run(
        [sys.executable, "-m", "uv", "tool", "run", "--isolated", "--from", what, *words],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in away},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 and AWAY.search(done.stderr):
        pytest.skip("not ours: the index of packages can't be reached")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_sdist_and_the_wheel_hold_every_module_and_no_link(released: Path) -> None:
    """The checkout has links; whoever unpacks an sdist elsewhere must not need them."""
    (wheel,), (sdist,) = released.glob("*.whl"), released.glob("*.tar.gz")
    assert sdist.name == f"vecferry-{vecferry.__version__}.tar.gz"
    with tarfile.open(sdist) as archive:
        assert [member.name for member in archive if member.issym()] == []
        sources = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as packed:
        modules = set(packed.namelist())
    wanted = {
        f"vecferry/{path.relative_to(ROOT)}"
        for part in ("io", "pipelines", "transforms")
        for path in (ROOT / part).rglob("*.py")
    }
    assert wanted - modules == set()
    assert {f"src/{name}" for name in wanted} - sources == set()


@pytest.mark.slow
def test_the_wheel_runs_by_uvx_in_an_empty_environment(released: Path, tmp_path: Path) -> None:
    """As the README says; outside of the checkout."""
    (wheel,) = released.glob("*.whl")
    told = uvx(str(wheel), "vecferry", "--version", folder=tmp_path)
    assert re.fullmatch(
        rf"vecferry {re.escape(vecferry.__version__)} \(Python \S+, apache-beam \S+\)\n", told
    )


@pytest.mark.slow
@pytest.mark.long
def test_the_sdist_runs_an_example_in_an_empty_environment(released: Path, tmp_path: Path) -> None:
    """With the extras that the example needs, and nothing of this checkout."""
    (sdist,) = released.glob("*.tar.gz")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "data").mkdir()
    what = f"vecferry[local,milvus] @ {sdist.as_uri()}"
    program = (
        "import vecferry\n"
        "job = vecferry.load('examples/csv-to-milvus.json',"
        " data_sources='examples/datasources.yaml')\n"
        "print(job.run().state, job.query('a lake', k=1)[0]['title'])"
    )
    assert "DONE Glacier lake" in uvx(what, "python", "-c", program, folder=tmp_path)


def test_a_tag_of_this_commit_is_its_version() -> None:
    """A release is a tag ``v`` and the version; so a wheel says which source it is made of."""
    asked = ["git", "tag", "--points-at", "HEAD", "--list", "v*"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    tags = done.stdout.split()
    assert tags in ([], [f"v{vecferry.__version__}"])


def test_the_version_is_one_that_pip_orders() -> None:
    """Three numbers, perhaps with a pre-release behind them."""
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+|\.dev\d+)?", vecferry.__version__)
