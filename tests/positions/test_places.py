"""Places of positions on real servers: names are created once, whole, and by one process only."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.code import ROOT
from tests.effort import LONG
from tests.positions.places import KINDS, named, opened
from vecferry.positions.place import Place

PROCESSES, NAMES = 8, 200 if LONG else 5


def of(*kinds: str) -> list[object]:
    """Kinds of places as parameters; those behind a server are marked."""
    return [
        kind if kind == "folder" else pytest.param(kind, marks=pytest.mark.service)
        for kind in kinds
    ]


@pytest.fixture(params=of(*KINDS))
def name(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty place of each kind."""
    with named(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def place(name: str) -> Iterator[Place]:
    """The same, opened."""
    with opened(name) as found:
        yield found


def test_a_place_that_does_not_exist_is_empty(place: Place) -> None:
    """Looking makes nothing."""
    assert place.names() == []
    assert place.read("entry-1") is None
    assert place.age("entry-1") is None
    place.remove("entry-1")
    assert place.names() == []


def test_a_name_is_created_once_and_read_whole(place: Place) -> None:
    """Any bytes come back; who comes second changes nothing; what is removed can be made again."""
    place.check()
    data = bytes(range(256)) * 40
    assert place.create("a-1", data)
    assert not place.create("a-1", b"other")
    assert place.create("a-2", b"", lasting=False)
    assert place.create("b-1", "中文\n\n".encode())
    assert place.read("a-1") == data
    assert place.read("a-2") == b""
    assert place.read("b-1") == "中文\n\n".encode()
    assert sorted(place.names()) == ["a-1", "a-2", "b-1"]
    assert sorted(place.names("a-")) == ["a-1", "a-2"]
    place.remove("a-1")
    assert place.read("a-1") is None
    assert place.create("a-1", b"again")
    assert place.read("a-1") == b"again"


def test_the_place_s_own_clock_tells_how_old_a_name_is(place: Place) -> None:
    """In seconds from about 0."""
    place.create("a", b"x")
    first = place.age("a")
    assert first is not None
    assert -2 < first < 60
    assert "probe" not in " ".join(place.names())


@pytest.mark.slow
def test_processes_that_create_at_once_never_overwrite(name: str) -> None:
    """Of eight processes one gets each name, and its bytes are what is read."""
    arguments = ["race", name, str(PROCESSES), str(NAMES)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.positions.worker", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    made = sorted(tuple(map(int, line.split()[1:])) for line in done.stdout.splitlines())
    assert [i for i, _ in made] == list(range(NAMES))
    with opened(name) as place:
        assert len(place.names("name-")) == NAMES
        for i, process in made:
            assert place.read(f"name-{i}") == f"{process} {i}".encode()
