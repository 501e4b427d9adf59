"""What a sync leaves to its next run: a replay, another target, a time, an index half built."""

from __future__ import annotations

import dataclasses
import datetime
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.contracts import sync_memory
from tests.pipelines.run.test_sync_loop import adds_up, once, resolved_of
from tests.pipelines.sync_place import Place
from vecferry.pipelines.launch import run_job
from vecferry.pipelines.run.options import RunOptions
from vecferry.pipelines.run.report import STATUS


@pytest.mark.slow
def test_a_replay_stores_no_position(place: Place) -> None:
    """Rejects are behind the position, and a change that came meanwhile is before it."""
    place.setting["errorLimit"] = {}
    place.insert("a")
    place.script.insert("bad", "POISON")
    refused = place.run()
    assert refused.rows_rejected == 1
    place.script.update("bad", "mended")
    place.insert("late")
    before = place.positions.history()
    again = once(place, replay=refused.rejects)
    assert (again.state, again.rows_read, again.rows_written) == ("DONE", 1, 1)
    assert (again.rounds, again.position) == (None, None)
    assert place.positions.history() == before
    assert place.run().rows_read == 2
    assert place.differences() == []


@pytest.mark.slow
@pytest.mark.parametrize("synced", [True, False])
def test_a_run_into_a_new_target_stores_no_position(place: Place, synced: bool) -> None:
    """It reads all; the sync of the job's own target goes on from where it was."""
    place.insert("a", "b")
    if synced:
        place.run()
    place.insert("late")
    before = place.positions.history()
    own = place.writer["name"]
    place.writer["name"] = f"{own}-new"
    into = dataclasses.replace(resolved_of(place), instead_of=own)
    report = run_job(into, RunOptions(rejects=str(place.folder / "rejects")))
    assert (report.state, report.rows_read, report.position) == ("DONE", 3, None)
    assert sorted(sync_memory.held(f"{own}-new").there()) == ["a", "b", "late"]
    assert place.positions.history() == before
    place.writer["name"] = own
    assert place.run().rows_read == (1 if synced else 3)
    assert place.differences() == []


@pytest.mark.slow
@pytest.mark.parametrize(("resumed", "continuous"), [(False, False), (False, True), (True, False)])
def test_sigterm_while_the_index_is_built_leaves_it_to_the_next_run(
    place: Place, monkeypatch: pytest.MonkeyPatch, resumed: bool, continuous: bool
) -> None:
    """At the end of a load, and where an earlier run was broken off behind it."""
    told: list[str] = []
    interrupted: list[bool] = []
    built: list[bool] = []

    def end_load(self: Any, on_progress: Callable[[str], None], *, whole: bool = True) -> list[str]:
        if not whole or built:
            return []
        if not interrupted:
            interrupted.append(True)
            os.kill(os.getpid(), signal.SIGTERM)
        told.append("builds")
        on_progress("builds the index")
        built.append(True)
        return ["the index was built"]

    place.insert(*(f"r{n}" for n in range(5)))
    if resumed:
        place.run()
    before = place.position()
    monkeypatch.setattr(sync_memory.HeldTarget, "end_load", end_load, raising=False)
    report = place.run(continuous=continuous)
    assert (told, built) == (["builds"], [])
    assert report.state == ("DONE" if continuous else "CANCELLED")
    assert STATUS[report.state] == (0 if continuous else 130)
    words = [*report.notes, report.error or ""]
    assert any("interrupted; the position is the end of the last round" in w for w in words)
    assert adds_up(report)
    assert "not concluded" in report.notes
    assert place.position() == before
    assert place.positions.standing().state == ("Scheduled" if continuous else "Run Failed")
    place.insert("late")
    again = place.run()
    assert (again.state, built) == ("DONE", [True])
    assert again.notes.count("the index was built") == 1
    assert "concluded" in again.notes
    assert place.differences() == []


@pytest.mark.slow
def test_what_came_after_a_time_is_left_to_the_next_run(place: Place) -> None:
    """A time stands for the place where the source was then."""
    place.insert("a")
    place.run()
    place.insert("b", "c")
    asked = datetime.datetime.now().astimezone()
    place.insert("d")
    report = place.run(until=asked.isoformat())
    assert (report.state, report.rows_read) == ("DONE", 2)
    assert sorted(place.held.there()) == ["a", "b", "c"]
    assert place.run().rows_read == 1
    assert place.differences() == []
