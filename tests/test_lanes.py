"""The suite runs in two processes, and no more of it at once than a small machine holds."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import pytest

from tests.lanes import GROUPS, group_of, heavy_server

HERE = Path(__file__).parent
HEAVY = re.compile(r"^from tests\.services\.(elasticsearch|opensearch|flink|spark) import", re.M)


def test_the_groups_are_of_modules_that_there_are() -> None:
    """A module that is renamed would start its server in both processes."""
    assert [name for name in GROUPS if not (HERE / f"{name}.py").is_file()] == []


def test_whoever_uses_a_heavy_server_says_so() -> None:
    """Else two of them could run at once, and none would be stopped before the session ends."""
    modules = {path: path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py")}
    users = {path.name for path, text in modules.items() if HEAVY.search(text)}
    assert {path.name for path, text in modules.items() if "mark.heavy(" in text} >= users


def test_a_heavy_server_is_started_once(request: pytest.FixtureRequest) -> None:
    """Its tests follow each other, in one group, whichever modules they are in."""
    heavy = [item for item in request.session.items if heavy_server(item)]
    in_order = [server for server, _ in groupby(map(heavy_server, heavy))]
    assert len(in_order) == len(set(in_order))
    assert {group_of(item) for item in heavy} <= {"heavy"}
