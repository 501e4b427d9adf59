"""Epochs of a sync: what begins one, what keeps one, and what is said of it; nothing in silence."""

from __future__ import annotations

import pytest

from tests.contracts import sync_memory
from tests.contracts.sync import Break
from tests.contracts.sync_memory import Held
from tests.pipelines.sync_place import Place
from vecferry.errors import JobError, TransientError
from vecferry.pipelines.run.sync import Step
from vecferry.versions import MAX_EPOCH

ROWS = [f"r{n}" for n in range(12)]


def break_off(place: Place) -> None:
    """A run that ends before the position of its first round is stored."""

    def on_step(now: Step) -> None:
        if now == "done":
            raise Break(now)

    with pytest.raises(Break):
        place.run(on_step)


@pytest.mark.slow
@pytest.mark.parametrize("versions", [True, False])
def test_lost_positions_lead_to_a_full_load_in_a_new_epoch(place: Place, versions: bool) -> None:
    """What was deleted meanwhile goes, and no change is stale; with versions and without."""
    place.writer["versions"] = versions
    place.insert("a", "b", "c")
    place.run()
    for path in (place.folder / "positions").iterdir():
        path.unlink()
    place.script.delete("b")
    place.script.update("a", "changed")
    report = place.run()
    assert (report.state, report.rows_stale, place.held.epoch) == ("DONE", 0, 2)
    assert any("has no position, and the target was filled in epoch 1" in n for n in report.notes)
    assert any("1 rows that the source no longer has were deleted" in n for n in report.notes)
    assert place.differences() == []


@pytest.mark.slow
@pytest.mark.parametrize("versions", [True, False])
def test_a_lost_index_is_filled_anew_though_there_is_a_position(
    place: Place, versions: bool
) -> None:
    """Whatever became of the mark."""
    place.writer["versions"] = versions
    place.insert("a", "b")
    place.run()
    sync_memory.HELD[place.name] = Held()
    place.insert("c")
    report = place.run()
    assert (report.state, report.rows_read) == ("DONE", 3)
    assert any("there is a position, and the target is empty" in note for note in report.notes)
    assert place.differences() == []


@pytest.mark.slow
def test_a_target_that_another_sync_filled_is_filled_anew(place: Place) -> None:
    """Its epoch is greater: every change of the old epoch would be stale."""
    place.insert("a")
    place.run()
    place.held.epoch = 9
    report = place.run()
    assert place.held.epoch == 10
    assert any("the target was filled in epoch 9" in note for note in report.notes)
    assert place.differences() == []


@pytest.mark.slow
def test_another_table_is_read_anew_in_a_new_epoch(place: Place) -> None:
    """Also while the sync runs; rows of the old one go."""
    place.insert("a", "b")
    place.run()
    place.script.table.tell(identity="another")
    place.script.truncate()
    place.insert("c")
    report = place.run()
    assert (report.state, place.held.epoch) == ("DONE", 2)
    assert any("'another' now, and the position is of 'scripted'" in n for n in report.notes)
    assert place.differences() == []
    assert report.position is not None
    assert report.position["identity"] == "another"


def test_an_epoch_that_versions_have_no_room_for_is_refused_with_a_cure(place: Place) -> None:
    """Nothing is written, as it would be stale for ever."""
    place.insert("a")
    place.held.epoch = MAX_EPOCH
    with pytest.raises(JobError, match="epoch 2048"):
        place.run()
    assert place.held.there() == {}


@pytest.mark.slow
def test_a_full_load_that_is_begun_again_takes_no_further_epoch(place: Place) -> None:
    """An outage of a day would use them up."""
    place.insert("a", "b")
    fails = [5]

    def on_step(step: Step) -> None:
        if step == "done" and fails[0]:
            fails[0] -= 1
            if "a" in place.script.rows():
                place.script.delete("a")
            raise TransientError("away")

    assert place.run(on_step).state == "DONE"
    assert place.held.epoch == 1
    assert place.differences() == []


@pytest.mark.slow
def test_a_full_load_that_is_killed_in_its_first_part_takes_no_further_epoch(
    place: Place,
) -> None:
    """Two thousand crashes would otherwise use them up; what was deleted meanwhile goes."""
    place.insert(*ROWS)
    for n in range(4):
        break_off(place)
        place.script.delete(f"r{n}")
    report = place.run()
    assert (report.state, place.held.epoch) == ("DONE", 1)
    assert any("the full load of epoch 1 is begun again" in note for note in report.notes)
    assert place.differences() == []


@pytest.mark.slow
def test_a_full_load_that_another_sync_overtook_takes_a_new_epoch(place: Place) -> None:
    """Its rows would be stale."""
    place.insert(*ROWS)
    break_off(place)
    place.held.epoch = 7
    assert place.run().state == "DONE"
    assert place.held.epoch == 8
    assert place.differences() == []


@pytest.mark.slow
def test_a_full_load_whose_log_is_gone_takes_a_new_epoch(place: Place) -> None:
    """What changed since its first try can't be read; nor may its rows be mixed with others."""
    place.insert(*ROWS)
    break_off(place)
    log = place.script.table.folder / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-3]))
    assert place.run().state == "DONE"
    assert place.held.epoch == 2
    assert place.differences() == []


@pytest.mark.slow
def test_a_lost_index_is_filled_though_its_full_load_was_broken_off(place: Place) -> None:
    """The position of before leads nowhere, and the target has some rows by now."""
    place.insert(*ROWS)
    place.run()
    sync_memory.HELD[place.name] = Held()
    place.reader["parts"] = 3
    break_off(place)
    assert place.held.there()
    assert place.run().state == "DONE"
    assert place.differences() == []
