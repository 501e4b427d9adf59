"""A sync of a source that forgets: what it is asked to keep, and what becomes of what it forgot."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contracts.sync import Break
from tests.pipelines.sync_place import Place
from vecferry.errors import JobError


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


@pytest.mark.slow
def test_changes_that_name_no_rows_let_all_be_read_anew(place: Place) -> None:
    """In a new epoch, and what is gone goes; a text that is known costs no request."""
    place.insert("a", "b")
    place.run()
    paid = len(place.endpoint.good)
    place.script.delete("a")
    place.script.table.tell(unnamed="TRUNCATE names no rows")
    report = place.run()
    assert (report.state, place.held.epoch, place.differences()) == ("DONE", 2, [])
    assert any("TRUNCATE names no rows" in note for note in report.notes)
    assert len(place.endpoint.good) == paid


@pytest.mark.slow
def test_changes_that_name_no_rows_end_a_sync_that_may_not_delete(place: Place) -> None:
    """Nothing is written, the position stays, and the two ways out are named."""
    place.writer["ownsTarget"] = False
    place.insert("a", "b")
    place.run()
    before = place.position()
    place.script.delete("a")
    place.script.table.tell(unnamed="TRUNCATE names no rows")
    report = place.run()
    assert report.state == "FAILED"
    assert "TRUNCATE names no rows" in (report.error or "")
    assert "ownsTarget: true" in (report.error or "")
    assert (place.position(), sorted(place.held.there())) == (before, ["a", "b"])


@pytest.mark.slow
def test_changes_that_are_counted_anew_go_on_under_a_new_epoch(place: Place) -> None:
    """Nothing is read anew; the target knows the epoch before it is written to."""
    place.insert("a", "b")
    place.run()
    place.script.table.tell(renews="another server")
    place.script.update("a", "another text of a")
    place.script.delete("b")
    report = place.run()
    assert (report.state, report.rows_read, report.rows_stale) == ("DONE", 2, 0)
    assert (place.held.epoch, place.differences()) == (2, [])
    assert any("another server: changes go on under a new epoch" in note for note in report.notes)
    place.script.update("a", "the last text of a")
    assert place.run().rows_stale == 0
    assert (place.held.epoch, place.differences()) == (2, [])


@pytest.mark.slow
@pytest.mark.parametrize("step", ["epoch", "round", "done", "store"])
def test_a_new_epoch_of_changes_that_is_broken_off_is_begun_again(place: Place, step: str) -> None:
    """Whatever was stored of it."""
    place.insert("a", "b")
    place.run()
    place.script.table.tell(renews="another server")
    place.script.update("a", "another text of a")

    def on_step(now: str) -> None:
        if now == step:
            raise Break(now)

    with pytest.raises(Break):
        place.run(on_step)
    report = place.run()
    assert (report.state, report.rows_stale, place.differences()) == ("DONE", 0, [])
