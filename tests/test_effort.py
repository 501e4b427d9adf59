"""What a long run has shown is kept, a line for each module."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.effort import note_of, take_turns

HEAD = "# Long runs\n\n| module | date | revision | tests | minutes |\n|---|---|---|---|---|\n"


def report(nodeid: str, seconds: float = 60) -> Any:
    """As pytest tells of a test."""
    return SimpleNamespace(nodeid=nodeid, duration=seconds)


def test_a_module_that_passed_takes_the_place_of_its_last_line(tmp_path: Path) -> None:
    """One that failed keeps the line of the run that passed; so does one that did not run."""
    file = tmp_path / "LONG.md"
    file.write_text(HEAD)
    note_of({"passed": [report("a.py::x"), report("b.py::x"), report("c.py::x")]}, "r1", file)
    note_of(
        {
            "passed": [report("a.py::x"), report("a.py::y"), report("b.py::x")],
            "failed": [report("b.py::y")],
        },
        "r2",
        file,
    )
    lines = file.read_text().removeprefix(HEAD).splitlines()
    told = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [(name, rev, tests, minutes) for name, _, rev, tests, minutes in told] == [
        ("`a.py`", "r2", "2", "2.0"),
        ("`b.py`", "r1", "1", "1.0"),
        ("`c.py`", "r1", "1", "1.0"),
    ]


class Item:
    """As pytest collects a test."""

    def __init__(self, test: str, server: str, level: int, long: bool = False) -> None:
        self.nodeid = f"a.py::{test}[{server}-{level}]"
        self.callspec = SimpleNamespace(params={"server": server, "level": level})
        self.marks = {"in_turn": SimpleNamespace(args=("server",))}
        if long:
            self.marks["long"] = SimpleNamespace()

    def get_closest_marker(self, name: str) -> Any:
        return self.marks.get(name)

    def add_marker(self, mark: Any) -> None:
        self.marks[mark.name] = mark


def test_tests_that_differ_in_their_server_alone_take_turns() -> None:
    """Each runs on one of the servers in each run, and no server is always left out."""
    servers = ["one", "two"]
    items: list[Any] = [Item("x", s, n) for n in range(4) for s in servers]
    items += [Item("y", "one", 1), Item("y", "two", 1, long=True)]
    take_turns(items)
    taken = [item for item in items if "long" not in item.marks]
    assert sorted(item.callspec.params["level"] for item in taken[:4]) == [0, 1, 2, 3]
    assert {item.callspec.params["server"] for item in taken[:4]} == set(servers)
    assert [item.nodeid for item in taken[4:]] == ["a.py::y[one-1]"]
