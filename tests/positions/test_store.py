"""The store of positions: what is stored when, what stays, what is read after a fault."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from tests.positions.worker import at
from tests.services.server import eventually
from vecferry.errors import FatalError, JobError, TransientError, keep_secret
from vecferry.positions.entries import Outcome, Progress
from vecferry.positions.files import FilesPlace
from vecferry.positions.folder import FolderPlace
from vecferry.positions.holder import Holder
from vecferry.positions.lease import KEPT, LeaseLost
from vecferry.positions.place import NEAR
from vecferry.positions.requests import Answer, Request
from vecferry.positions.store import Positions

NEVER = 10_000.0


class Place(FolderPlace):
    """A folder whose calls are counted, and fail when a test says so."""

    def __init__(self, folder: Path, store: float) -> None:
        super().__init__(folder, replace(NEAR, store=store, renew=NEVER))
        self.away: Exception | None = None
        self.calls: list[str] = []
        self.folder = folder

    def create(self, name: str, data: bytes, *, lasting: bool = True) -> bool:
        """As a folder does."""
        if self.away is not None:
            raise self.away
        self.calls.append(name)
        return super().create(name, data, lasting=lasting)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty folder where each position is stored at once."""
    return Place(tmp_path / "positions", 0.0)


@pytest.fixture
def store(place: Place) -> Positions:
    """The positions in it."""
    return Positions(place, "job")


@pytest.fixture
def slow(tmp_path: Path) -> Positions:
    """Positions that are stored once, and then wait for hours."""
    return Positions(Place(tmp_path / "positions", NEVER), "job")


def take(store: Positions, run: str = "r") -> Holder:
    """A holder of the lease that tests give up by its `Lease`."""
    return Holder(run=run)


def stored(store: Positions) -> object:
    """The place in the source that is stored; None without one."""
    found = store.load()
    return found.position.at if found and found.position else None


def test_nothing_is_made_by_looking(store: Positions, place: Place) -> None:
    """A sync that never ran is Scheduled."""
    assert store.load() is None
    assert store.history() == []
    assert store.standing().state == "Scheduled"
    assert not place.folder.exists()


def test_a_position_comes_back_as_it_was_stored(store: Positions) -> None:
    """With whatever JSON the source uses."""
    given = replace(
        at(0), epoch=7, identity="ü/表", at={"file": "b.1", "n": 2**62, "x": [None, 1.5]}
    )
    with store.take(take(store)) as lease:
        assert lease.store(given, counters={"rounds": 3})
    found = store.load()
    assert found is not None
    assert found.position == given
    assert (found.epoch, found.counters, found.holder) == (7, {"rounds": 3}, None)


def test_positions_are_stored_no_more_often_than_the_place_s_pace(slow: Positions) -> None:
    """The first at once, the next ones wait; `last`, `flush` and `release` do not."""
    lease = slow.take(take(slow))
    assert lease.store(at(1))
    assert not lease.store(at(2))
    assert not lease.store(at(3))
    assert stored(slow) == 1
    lease.flush()
    assert stored(slow) == 3
    assert not lease.store(at(4))
    assert lease.store(at(5), last=True)
    assert stored(slow) == 5
    assert not lease.store(at(6))
    lease.release(Outcome(run="r", status=0))
    assert stored(slow) == 6
    assert [entry.why for entry in slow.history()] == ["taken", *["round"] * 3, "released"]


@pytest.mark.slow
def test_a_position_that_waits_is_stored_by_itself(tmp_path: Path) -> None:
    """A sync that waits for changes for hours leaves nothing behind."""
    store = Positions(Place(tmp_path / "p", 0.3), "job")
    with store.take(take(store)) as lease:
        assert lease.store(at(1))
        assert not lease.store(at(2))
        eventually(lambda: stored(store) == 2)


def test_a_position_waits_while_the_place_is_away(tmp_path: Path) -> None:
    """The error is transient; the thread stores it once the place is back."""
    place = Place(tmp_path / "p", 0.2)
    store = Positions(place, "job")
    with store.take(take(store)) as lease:
        place.away = TransientError("away")
        with pytest.raises(TransientError):
            lease.store(at(1), last=True)
        assert stored(store) is None
        place.away = None
        eventually(lambda: stored(store) == 1)


def test_the_last_twenty_entries_stay(store: Positions) -> None:
    """And their numbers go on."""
    with store.take(take(store)) as lease:
        for n in range(1, 51):
            lease.store(at(n))
        assert [e.number for e in store.history()] == list(range(52 - KEPT, 52))
        assert lease.stored.number == 51


def _no_json(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _no_fields(data: bytes) -> bytes:
    return b'{"format": 1}'


@pytest.mark.parametrize("spoilt", [_no_json, _no_fields, lambda data: b"", lambda data: b"\xff"])
def test_what_can_t_be_read_is_passed_over(
    store: Positions, place: Place, spoilt: Callable[[bytes], bytes]
) -> None:
    """The newest that can be read counts; the next number is beyond all names; a sync goes on."""
    with store.take(take(store)) as lease:
        lease.store(at(1))
        lease.store(at(2))
    newest = sorted(place.folder.glob("entry-*"))[-2:]
    for path in newest:
        path.write_bytes(spoilt(path.read_bytes()))
    assert stored(store) == 1
    found = store.load()
    assert found is not None
    place.pace = replace(place.pace, dead=0.0)  # the entry that can be read says that it is held
    with store.take(take(store)) as lease:
        assert lease.stored.number == found.number + 3
        lease.store(at(3))
    assert stored(store) == 3


def test_what_a_newer_version_wrote_is_refused(store: Positions, place: Place) -> None:
    """Rather than passed over, which would read the source from an older position."""
    store.take(take(store)).release()
    newest = sorted(place.folder.glob("entry-*"))[-1]
    newest.write_text(json.dumps({**json.loads(newest.read_text()), "format": 2}))
    for look in (store.load, store.standing, lambda: store.take(take(store))):
        with pytest.raises(JobError, match="a newer version of vecferry wrote them"):
            look()


def test_removed_positions_end_the_run_that_held_them(store: Positions, place: Place) -> None:
    """Its number would be the first again, beside whoever begins anew."""
    lease = store.take(take(store))
    lease.store(at(1))
    for path in place.folder.iterdir():
        path.unlink()
    with pytest.raises(LeaseLost, match="they were removed meanwhile"):
        lease.store(at(2))
    assert lease.lost.is_set()
    assert store.load() is None


def test_a_lease_that_was_lost_or_released_stores_nothing(store: Positions, place: Place) -> None:
    """Neither positions nor how the run ended."""
    place.pace = replace(place.pace, dead=0.0)
    first = store.take(take(store, "first"))
    second = store.take(take(store, "second"))
    for act in (lambda: first.store(at(1)), lambda: first.reset(), lambda: first.set(at(1))):
        with pytest.raises(LeaseLost, match=r"run second .* has taken them over"):
            act()
    first.release(Outcome(run="first", status=0))
    assert store.load() == second.stored
    second.release()
    with pytest.raises(FatalError, match="was released"):
        second.store(at(1))


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome(run="r", status=0), "Scheduled"),
        (Outcome(run="r", status=1), "Run Failed"),
        (Outcome(run="r", status=2, words="no table"), "Run Failed"),
        (None, "Scheduled"),
    ],
)
def test_a_sync_s_state_is_how_its_last_run_ended(
    store: Positions, outcome: Outcome | None, state: str
) -> None:
    """Running while the lease lives, and Run Failed once it died."""
    lease = store.take(take(store))
    assert store.standing().state == "Running"
    lease.release(outcome)
    assert store.standing().state == state
    store.take(take(store)).release()  # a command that took the lease says nothing of the run
    assert store.standing().state == state


def test_others_see_what_the_holder_told(store: Positions) -> None:
    """With its next sign of life, and after its end; secrets are starred out."""
    keep_secret("hunter2-hunter2")
    lease = store.take(take(store))
    told = Progress(phase="changes", behind=3, unit="files", rows=10, last_error="hunter2-hunter2!")
    lease.tell(told)
    lease.renew()
    seen = store.standing()
    assert seen.progress == replace(told, last_error="***!")
    assert seen.renewed is not None
    lease.tell(replace(told, rows=11))
    lease.release(Outcome(run="r", status=1, words="hunter2-hunter2 failed"))
    after = store.standing()
    assert after.progress == replace(told, rows=11, last_error="***!")
    assert after.stored is not None
    assert after.stored.outcome is not None
    assert after.stored.outcome.words == "*** failed"


def test_a_reset_forgets_the_position_and_keeps_the_epoch(store: Positions) -> None:
    """The next epoch must be greater than all that targets have seen."""
    with store.take(take(store)) as lease:
        lease.store(replace(at(1), epoch=4))
        lease.reset()
        assert lease.epoch == 4
        assert stored(store) is None
        lease.set(replace(at(9), epoch=5))
    found = store.load()
    assert found is not None
    assert (found.epoch, stored(store)) == (5, 9)
    assert [e.why for e in store.history()] == ["taken", "round", "reset", "set", "released"]


def test_a_holder_carries_out_what_commands_ask_for(store: Positions) -> None:
    """Oldest first; a request stays until its last answer, whoever holds the lease."""
    desk = store.requests
    first = desk.ask(Request(kind="resync", arguments={"keys": [1, 2]}, asked_by="process 1 on h"))
    second = desk.ask(Request(kind="repair"))
    assert [(r.id, r.kind) for r in desk.waiting()] == [(first, "resync"), (second, "repair")]
    desk.answer(first, Answer(text="1 of 2"))
    assert [r.id for r in desk.waiting()] == [first, second]
    desk.answer(first, Answer(text="done", done=True, status=1, result={"rows": 2}))
    assert [r.id for r in desk.waiting()] == [second]
    assert [a.text for a in desk.answers(first)] == ["1 of 2", "done"]
    assert desk.answers(first)[-1] == Answer(text="done", done=True, status=1, result={"rows": 2})
    desk.forget(first)
    desk.forget(second)
    assert desk.answers(first) == desk.waiting() == []


@pytest.mark.slow
def test_answers_that_nobody_fetches_go_in_time(store: Positions, place: Place) -> None:
    """Those of the last twenty requests stay."""
    for _ in range(30):
        asked = store.requests.ask(Request(kind="resync"))
        store.requests.answer(asked, Answer(text="x", done=True))
    assert len(place.names("answer-")) == 20
    assert place.names("request-") == []


@pytest.mark.slow
def test_threads_may_store_tell_and_renew_at_once(store: Positions) -> None:
    """Nothing is lost, no number is given twice."""
    lease = store.take(take(store))
    faults: list[Exception] = []

    def work() -> None:
        try:
            for n in range(20):
                lease.tell(Progress(rows=n))
                lease.renew()
                lease.store(at(n))
        except Exception as e:
            faults.append(e)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert lease.stored.number == 81
    lease.release()


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("a file in its place", FatalError, "name a folder that this user may read and write"),
        ("a file system without links", JobError, "name a folder on another disk"),
        ("a full disk", TransientError, "No space left"),
    ],
)
def test_a_folder_that_can_t_be_used_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, kind: type[Exception], words: str
) -> None:
    """And no part of a file is left."""
    folder = tmp_path / "p"
    if fault == "a file in its place":
        folder.write_text("x")
    else:
        number = 1 if "links" in fault else 28

        def link(*_: object) -> None:
            raise OSError(number, "No space left" if number == 28 else "Operation not permitted")

        monkeypatch.setattr("os.link", link)
    with pytest.raises(kind, match=words):
        Positions(FolderPlace(folder), "job").take(Holder(run="r"))
    if folder.is_dir():
        assert list(folder.iterdir()) == []


class Service:
    """A store of files in memory; one that `overwrites` ignores that a path is to be new."""

    name = "s3://bucket/positions"

    def __init__(self, *, overwrites: bool) -> None:
        self.overwrites, self.held = overwrites, dict[str, bytes]()

    def names(self, folder: str = "", head: str = "") -> list[str]:
        """All that begin so."""
        return [name for name in self.held if name.startswith(head)]

    def open(self, path: str) -> IO[bytes]:
        """The bytes."""
        if path not in self.held:
            raise FileNotFoundError(path)
        return io.BytesIO(self.held[path])

    def create(self, path: str, data: bytes) -> bool:
        """Says that the file is made, unless it is there and stays."""
        if path in self.held and not self.overwrites:
            return False
        self.held[path] = data
        return True

    def remove(self, path: str) -> None:
        """Forgets the file."""
        self.held.pop(path, None)

    def age(self, path: str) -> float:
        """None is old."""
        return 0.0


@pytest.mark.parametrize("overwrites", [True, False])
def test_a_service_that_overwrites_is_refused_before_a_lease_is_taken(overwrites: bool) -> None:
    """Two runs would hold the lease; whatever tried it out is removed."""
    service = Service(overwrites=overwrites)
    store = Positions(FilesPlace(service), "job")
    if overwrites:
        with pytest.raises(JobError, match="s3://bucket/positions: the service overwrites objects"):
            store.take(Holder(run="r"))
        assert service.held == {}
    else:
        with store.take(Holder(run="r")) as lease:
            assert lease.store(at(1), last=True)
        assert not service.names(head="probe-")
        assert stored(store) == 1
