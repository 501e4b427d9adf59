"""The suite runs in a few processes, and no more of it at once than a small machine holds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

from tests.lanes import GROUPS, group_of, heavy_server, shuffle

HERE = Path(__file__).parent
HEAVY = re.compile(r"^from tests\.services\.(elasticsearch|opensearch|flink|spark) import", re.M)
SUITE = """\
import os
from pathlib import Path
import pytest

def note(kind):
    with Path(__file__).with_name("told").open("a") as file:
        file.write(f"{kind} {os.getpid()}\\n")

@pytest.mark.alone
def test_alone(): note("alone")

@pytest.mark.parametrize("n", range(40))
def test_other(n): note("other")

@pytest.mark.service
@pytest.mark.parametrize("n", range(9))
def test_server(n): note("server")
"""


@pytest.mark.slow
def test_the_tests_of_a_server_share_a_process(tmp_path: Path) -> None:
    """Whatever pytest makes of xdist's own groups; and what is alone comes at the end."""
    (tmp_path / "conftest.py").write_text((HERE / "conftest.py").read_text(encoding="utf-8"))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = service: x\n    alone: y\n")
    (tmp_path / "test_x.py").write_text(SUITE)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "VECFERRY_"))}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--order", "random"]
    done = subprocess.run(
        [*command, str(tmp_path)], env=kept, cwd=HERE.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = (tmp_path / "told").read_text().split("\n")[:-1]
    assert len(told) == 50
    assert len({line for line in told if line.startswith("server")}) == 1
    assert len({line.split()[1] for line in told}) == 2
    assert "alone" in " ".join(told[-5:])


def test_the_groups_are_of_modules_that_there_are() -> None:
    """A module that is renamed would start its server in both processes."""
    assert [name for name in GROUPS if not (HERE / f"{name}.py").is_file()] == []


def test_whoever_uses_a_heavy_server_says_so() -> None:
    """Else two of them could run at once, and none would be stopped before the session ends."""
    modules = {path: path.read_text(encoding="utf-8") for path in HERE.rglob("test_*.py")}
    users = {path for path, text in modules.items() if HEAVY.search(text)}
    says = re.compile(r"mark\.heavy\(|params=stores_of\(")  # `stores_of` gives each its mark
    assert {path for path, text in modules.items() if says.search(text)} >= users


def test_a_heavy_server_is_started_once(request: pytest.FixtureRequest) -> None:
    """Its tests follow each other, in one group, whichever modules they are in."""
    heavy = [item for item in request.session.items if heavy_server(item)]
    in_order = [server for server, _ in groupby(map(heavy_server, heavy))]
    assert len(in_order) == len(set(in_order))
    assert {group_of(item) for item in heavy} <= {"heavy"}


def test_an_order_can_be_repeated(request: pytest.FixtureRequest) -> None:
    """A seed gives one order, whichever order it is given; a module's tests stay together."""
    orders = [sorted(request.session.items, key=lambda item: item.nodeid) for _ in range(3)]
    for order, seed in zip(orders, ("7", "7", "8"), strict=True):
        shuffle(order, seed)
    assert orders[0] == orders[1]
    assert len(orders[0]) < 9 or orders[1] != orders[2]
    modules = [path for path, _ in groupby(item.path for item in orders[0])]
    assert len(modules) == len(set(modules))
