"""A sync of a source that forgets: what it is asked to keep, and what becomes of what it forgot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.run.test_sync_loop import Place
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.errors import JobError


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A job with an empty table."""
    with EndpointServer() as endpoint:
        yield Place(tmp_path, endpoint)


@pytest.mark.slow
def test_a_source_that_forgets_is_asked_to_keep_what_is_behind_the_stored_position(
    place: Place,
) -> None:
    """Before the first read, and never more than the position that is stored lacks."""
    place.insert("a")
    table = place.script.table
    held: list[Any] = []

    def on_step(step: str) -> None:
        if step in ("plan", "conclude"):
            held.append((step, table.held().get("kept")))

    place.run(on_step)
    first = table.end()
    assert held == [("plan", first), ("conclude", first)]
    place.insert("b")
    place.run(on_step)
    assert held[2:] == [("plan", first), ("conclude", table.end())]
    assert table.held() == {"kept": table.end()}


@pytest.mark.slow
def test_a_source_that_keeps_nothing_is_told_of_in_the_report(place: Place) -> None:
    """The sync goes on."""
    place.insert("a")
    place.script.table.tell(holds_nothing="the log keeps nothing for 'kept'")
    report = place.run()
    assert (report.state, report.notes[0]) == ("DONE", "the log keeps nothing for 'kept'")


@pytest.mark.slow
def test_what_was_forgotten_is_read_anew_and_what_is_gone_goes(place: Place) -> None:
    """In a new epoch; a text that is known costs no request."""
    place.insert("a", "b")
    place.run()
    paid = len(place.endpoint.good)
    place.script.delete("a")
    place.script.table.tell(forgot=place.script.table.end())
    report = place.run()
    assert (report.state, place.held.epoch, place.differences()) == ("DONE", 2, [])
    assert any("the log begins behind the place" in note for note in report.notes)
    assert len(place.endpoint.good) == paid


@pytest.mark.slow
def test_what_was_forgotten_ends_a_sync_that_may_not_delete(place: Place) -> None:
    """Nothing is written; the two ways out are named."""
    place.writer["ownsTarget"] = False
    place.insert("a", "b")
    place.run()
    before = place.position()
    place.script.delete("a")
    place.script.table.tell(forgot=place.script.table.end())
    with pytest.raises(JobError, match="deleted meanwhile is not known") as raised:
        place.run()
    assert "ownsTarget: true" in str(raised.value)
    assert "position reset" in str(raised.value)
    assert (place.position(), sorted(place.held.there())) == (before, ["a", "b"])
