"""What commands ask of a sync: carried out once, between two rounds, wherever who carries it out
is broken off.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.sync import Break
from tests.effort import spread
from tests.pipelines.cli.test_positions import Line
from tests.pipelines.sync_place import Place
from tests.services.server import eventually
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.errors import FatalError, JobError, TransientError
from vecferry.pipelines.run.report import Report
from vecferry.pipelines.run.requests import span_of_keys
from vecferry.pipelines.run.sync import Step
from vecferry.positions.entries import Begun
from vecferry.positions.holder import Holder
from vecferry.positions.requests import Answer, Json, Request, RequestKind
from vecferry.versions import MAX_EPOCH

KINDS = ["reset", "set", "resync", "range", "repair"]
ROWS = [f"r{n}" for n in range(12)]
STEPS: list[Step] = ["request", "repair", "effect", "answer", "round", "done", "store", "stored"]


class Asked(Place):
    """A sync whose target has a fault of each kind, and what is asked of the sync."""

    def break_rows(self) -> None:
        """A row is missing, one is a ghost, one has another text, one another's vector."""
        held = self.held
        held.rows.pop("r1")
        ghost = {**held.rows["r2"], "id": "ghost"}  # type: ignore[dict-item]
        held.rows["ghost"], held.versions["ghost"] = ghost, held.versions["r2"]
        held.rows["r3"] = {**held.rows["r3"], "text": "not this"}  # type: ignore[dict-item]
        other = held.rows["r5"]
        assert other is not None
        held.rows["r4"] = {**held.rows["r4"], "vector": other["vector"]}  # type: ignore[dict-item]

    def request(self, kind: str) -> Request:
        """What a command leaves."""
        arguments: dict[str, Json] = {}
        name: RequestKind = "resync"
        if kind == "range":
            arguments = {"first": "r1", "last": "r4"}
        elif kind == "set":
            name, arguments = "set", {"at": {"offset": 0}, "identity": "scripted"}
        elif kind == "reset":
            name = "reset"
        elif kind == "repair":
            name = "repair"
        return Request(kind=name, arguments=arguments, asked_by="a test")

    def answers(self, asked: str) -> list[Answer]:
        """What was answered."""
        return self.positions.requests.answers(asked)

    def in_thread(self, **options: Any) -> Following:
        """The sync, going on for ever in a thread."""
        return Following(self, options)


class Following:
    """A sync that follows in a thread, until it is told to end."""

    def __init__(self, place: Asked, options: dict[str, Any]) -> None:
        self.place = place
        self.reports: list[Report] = []
        self.steps: list[Step] = []
        self._options = options
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.reports.append(self.place.run(self.steps.append, continuous=True, **self._options))

    def __enter__(self) -> Following:
        self._thread.start()
        eventually(lambda: "conclude" in self.steps or self.reports)
        return self

    def __exit__(self, *_: object) -> None:
        self.place.script.table.tell(fatal="told to end")
        self._thread.join()
        self.place.script.table.tell(fatal=None)


@pytest.fixture
def place(tmp_path: Path, endpoint: EndpointServer) -> Asked:
    """A table of some rows, loaded; then its target is broken."""
    place = Asked(tmp_path, endpoint)
    place.insert(*ROWS)
    place.script.update("r2", "changed")
    assert place.run().state == "DONE"
    place.break_rows()
    return place


@pytest.fixture
def line(place: Asked, capsys: pytest.CaptureFixture[str]) -> Line:
    """The command line."""
    return Line(place, capsys)


def words_of(place: Asked, kind: str) -> list[str]:
    """The command line that asks for this."""
    job = str(place.job())
    return {
        "reset": ["position", "reset", job],
        "set": ["position", "set", job, "0"],
        "resync": ["resync", job],
        "range": ["resync", job, "--from", "r1", "--to", "r4"],
        "repair": ["verify", job, "--repair"],
    }[kind] + (["--rejects", str(place.folder / "rejects")] if kind not in ("reset", "set") else [])


def mends(place: Asked, kind: str) -> None:
    """The faults that are mended by what was asked for, once a sync has come to its end."""
    wrong = place.differences()
    if kind == "range" or kind == "set":  # the ghost is not at the source
        assert wrong == ["ghost: is too much"]
    else:
        assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("versions", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_command_carries_it_out_where_no_run_holds_the_sync(
    place: Asked, line: Line, kind: str, versions: bool
) -> None:
    """Nothing waits afterwards; what is written later is newer than what was mended."""
    place.writer["versions"] = versions
    before = line.json("status", str(place.job()))
    status, _, err = line.call(*words_of(place, kind))
    assert status == 0, err
    assert place.positions.requests.waiting() == []
    after = line.json("status", str(place.job()))
    assert after["state"] == "Scheduled"
    if kind != "reset":
        assert after["epoch"] == before["epoch"] + 1
    if kind in ("reset", "set"):
        place.run()
    mends(place, kind)
    place.script.update("r1", "later")
    place.script.update("r3", "later still")
    assert place.run().rows_stale == 0
    mends(place, kind)
    assert place.positions.place.names("answer-") == []


@pytest.mark.slow
def test_what_waits_is_shown(place: Asked, line: Line) -> None:
    """With who asked; looking changes nothing."""
    place.positions.requests.ask(place.request("repair"))
    for _ in range(2):
        (waiting,) = line.json("status", str(place.job()))["waiting"]
        assert (waiting["kind"], waiting["asked_by"]) == (
            "repair",
            place.request("repair").asked_by,
        )
    _, out, _ = line.call("status", str(place.job()))
    assert "  waits: repair, asked for by " in out
    assert place.run().state == "DONE"
    assert line.json("status", str(place.job()))["waiting"] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_holds_the_sync_carries_it_out_between_two_rounds(
    place: Asked, line: Line, kind: str
) -> None:
    """The command waits, says for whom, and shows the answer; the run goes on."""
    with place.in_thread() as following:
        status, _, err = line.call(*words_of(place, kind))
        assert status == 0, err
        assert "waits for run " in err
        eventually(lambda: "answer" in following.steps)
        place.script.update("r1", "later")
        eventually(lambda: place.held.there().get("r1", {}).get("text") == "later")
        eventually(lambda: not due(place))
    (report,) = following.reports
    assert "told to end" in (report.error or "")
    mends(place, kind)


def due(place: Asked) -> bool:
    """Whether the position is not at the end of the table."""
    return place.position() != {"offset": place.script.table.end()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "step"), spread([(kind, step) for step in STEPS for kind in KINDS], 6)
)
def test_a_holder_that_is_broken_off_leaves_the_request_to_the_next(
    place: Asked, kind: str, step: Step
) -> None:
    """It is carried out once, and answered, though nobody waits for the answer any more."""
    request = place.request(kind)
    place.positions.requests.ask(request)
    reached = [False]

    def on_step(now: Step) -> None:
        if now == step and not reached[0]:
            reached[0] = True
            raise Break(step)

    with contextlib.suppress(Break):
        place.run(on_step)
    assert place.run().state == "DONE"
    assert place.positions.requests.waiting() == []
    last = place.answers(request.id)[-1]
    assert (last.done, last.status) == (True, 0), last
    mends(place, kind)
    kept = [entry.why for entry in place.positions.history()]
    assert kept.count("reset") == (kind in ("reset", "resync"))
    assert kept.count("set") == (kind == "set")
    stored = place.positions.load()
    assert stored is not None
    assert stored.epoch == 2
    place.script.update("r1", "later")
    assert place.run().rows_stale == 0
    mends(place, kind)
    stored = place.positions.load()
    assert stored is not None
    assert (stored.carried, stored.begun) == ((), None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["range", "repair"])
def test_what_fails_and_may_pass_is_begun_again_in_the_same_epoch(place: Asked, kind: str) -> None:
    """Whoever waits is told so once."""
    request = place.request(kind)
    place.positions.requests.ask(request)
    fails = [3]

    def on_step(now: Step) -> None:
        if now == ("repair" if kind == "repair" else "store") and fails[0]:
            fails[0] -= 1
            raise TransientError("the network is away")

    assert place.run(on_step).state == "DONE"
    told = [answer.text for answer in place.answers(request.id)]
    assert len([text for text in told if "the network is away" in text]) == 1
    mends(place, kind)
    assert place.held.epoch == 2


@pytest.mark.slow
def test_a_request_that_can_not_be_carried_out_is_answered_and_the_sync_goes_on(
    place: Asked,
) -> None:
    """What is written afterwards is not stale, though an epoch was begun."""
    place.held.rows["r1"] = place.held.rows["r5"]
    request = place.request("repair")
    place.positions.requests.ask(request)
    place.script.update("r7", "newer")

    def on_step(now: Step) -> None:
        if now == "repair":
            raise FatalError("no such right")

    report = place.run(on_step)
    assert (report.state, report.rows_stale) == ("DONE", 0)
    last = place.answers(request.id)[-1]
    assert (last.done, last.status, last.text) == (True, 1, "no such right")
    assert report.position is not None
    assert report.position["epoch"] == place.held.epoch == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["range", "repair", "resync"])
def test_sigterm_while_a_request_is_carried_out_leaves_it_to_the_next_run(
    place: Asked, kind: str
) -> None:
    """It is not answered before it is done."""
    request = place.request(kind)
    place.positions.requests.ask(request)
    sent: list[Step] = []

    def on_step(now: Step) -> None:
        if now == ("repair" if kind == "repair" else "round") and not sent:
            sent.append(now)
            os.kill(os.getpid(), signal.SIGTERM)

    assert place.run(on_step).state == "CANCELLED"
    assert [r.id for r in place.positions.requests.waiting()] == [request.id]
    assert place.run().state == "DONE"
    assert place.answers(request.id)[-1].status == 0
    mends(place, kind)
    place.script.update("r1", "later")
    assert place.run().rows_stale == 0
    mends(place, kind)


def test_a_source_that_can_not_read_a_range_says_so() -> None:
    """With what to leave out."""
    with pytest.raises(JobError, match="leave out --from and --to"):
        span_of_keys(object(), None, "a", None)


@pytest.mark.slow
def test_a_request_that_ends_three_runs_is_given_up(place: Asked) -> None:
    """A fourth run does not try; the sync works again."""
    request = place.request("repair")
    place.positions.requests.ask(request)

    def on_step(now: Step) -> None:
        if now == "repair":
            raise Break(now)

    for _ in range(3):
        with pytest.raises(Break):
            place.run(on_step)
    assert place.run(on_step).state == "DONE"
    last = place.answers(request.id)[-1]
    assert (last.done, last.status) == (True, 1)
    assert "given up: 3 runs ended" in last.text


@pytest.mark.slow
def test_requests_are_carried_out_in_the_order_in_which_they_were_made(place: Asked) -> None:
    """Also those of two commands at once: each is answered."""
    asked = [place.positions.requests.ask(place.request(kind)) for kind in KINDS * 2]
    assert place.run().state == "DONE"
    for one in asked:
        assert place.answers(one)[-1].status == 0
    assert place.differences() == []


@pytest.mark.slow
def test_a_resync_while_the_table_is_written_to_ends_with_what_the_table_holds(
    place: Asked, line: Line
) -> None:
    """Its parts take turns with rounds of changes."""
    place.reader |= {"parts": 4, "roundRows": 3}
    ends = threading.Event()

    def write() -> None:
        n = 0
        while not ends.is_set():
            n += 1
            place.script.insert(f"w{n % 40}", f"text {n}")
            place.script.delete(f"w{(n + 20) % 40}")
            ends.wait(0.01)

    with place.in_thread() as following:
        writer = threading.Thread(target=write)
        writer.start()
        status, _, err = line.call(*words_of(place, "resync"))
        ends.set()
        writer.join()
        assert status == 0, err
        assert following.steps.count("reconcile") == 1
        eventually(lambda: not due(place))
    assert place.differences() == []


@pytest.mark.slow
def test_what_is_asked_for_during_a_full_load_waits_for_its_end(place: Asked) -> None:
    """A repair would mend what is yet to be loaded; the command is told why it waits."""
    first, second = place.request("resync"), place.request("repair")
    place.reader["parts"] = 3
    place.positions.requests.ask(first)
    left: list[str] = []

    def on_step(now: Step) -> None:
        if now == "stored" and not left:
            left.append(place.positions.requests.ask(second))

    assert place.run(on_step).state == "DONE"
    told = [answer.text for answer in place.answers(second.id)]
    assert told[-1] == "source and target are equal"
    assert place.answers(first.id)[-1].text == "the source was read again"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["range", "repair"])
def test_without_a_full_load_there_is_nothing_to_mend(place: Asked, line: Line, kind: str) -> None:
    """Told with exit status 2; the full load is left to a run."""
    assert line.call(*words_of(place, "reset"))[0] == 0
    status, _, err = line.call(*words_of(place, kind))
    assert status == 2
    assert "run the job first" in err
    assert place.positions.requests.waiting() == []
    assert place.positions.load().position is None  # type: ignore[union-attr]


@pytest.mark.slow
def test_no_epoch_is_left_for_what_needs_one(place: Asked, line: Line) -> None:
    """Told before anything is forgotten or written; the sync goes on as it was."""
    with place.positions.take(Holder(run="before")) as lease:
        position = lease.stored.position
        assert position is not None
        place.held.epoch = MAX_EPOCH
        lease.begin(Begun(epoch=MAX_EPOCH))
        lease.store(position.__class__(**{**vars(position), "epoch": MAX_EPOCH}), last=True)
    rows = place.held.there()
    for kind in KINDS:
        status, _, err = line.call(*words_of(place, kind))
        assert status == 2, kind
        assert "fill a new target" in err
    assert place.held.there() == rows
    place.script.update("r6", "newer")
    assert place.run().state == "DONE"
    assert place.held.there()["r6"]["text"] == "newer"


@pytest.mark.slow
def test_a_command_that_fails_withdraws_what_it_asked_for(place: Asked, line: Line) -> None:
    """So that no later run does what nobody waits for."""
    place.held.away = True
    status, _, err = line.call(*words_of(place, "repair"))
    assert status == 2
    assert "the memory is away" in err
    place.held.away = False
    assert place.positions.requests.waiting() == []


@pytest.mark.slow
def test_a_request_that_somebody_removed_is_told(place: Asked, line: Line) -> None:
    """Nobody waits for its answer for ever."""
    job = words_of(place, "reset")

    def remove() -> None:
        eventually(lambda: place.positions.requests.waiting() != [])
        for request in place.positions.requests.waiting():
            place.positions.requests.forget(request.id)

    with place.positions.take(Holder(run="busy")):
        remover = threading.Thread(target=remove)
        remover.start()
        status, _, err = line.call(*job)
        remover.join()
    assert status == 1
    assert "somebody removed it" in err


def compared(line: Line, *more: str) -> Any:
    """The exit status of a comparison, and what it printed as JSON; the errors of status 2."""
    status, out, _ = line.call("verify", str(line.place.job()), "--json", *more)
    told = json.loads(out)
    return status, "; ".join(e["message"] for e in told["errors"]) if status == 2 else told


@pytest.mark.slow
def test_a_comparison_tells_each_kind_of_fault_and_changes_nothing(line: Line) -> None:
    """With exit status 1; 0 once all is mended. The source is read in parts."""
    line.place.reader["parts"] = 3
    before = line.place.positions.load()
    status, told = compared(line)
    assert status == 1
    assert {k: n for k, n in told["found"].items() if n} == {
        "missing": 1,
        "ghost": 1,
        "different": 1,
        "wrongVector": 1,
    }
    assert told["examples"]["different"] == [{"key": "r3", "fields": ["text"]}]
    assert (told["same"], told["moving"], told["unknown"]) == (False, 0, 0)
    assert line.place.positions.load() == before
    _, text, _ = line.call("verify", str(line.place.job()))
    assert text.startswith("kept: 4 differ: 12 rows in the source, 12 in the target")
    assert "different 1: a value differs: r3 (text)" in text
    status, told = compared(line, "--repair", "--rejects", str(line.place.folder / "rejects"))
    assert status == 0
    assert (told["repaired"]["written"], told["repaired"]["deleted"]) == (3, 1)
    assert compared(line)[0] == 0


@pytest.mark.slow
def test_rows_that_changed_since_the_position_are_not_judged(line: Line) -> None:
    """No run writes them meanwhile: the next one will."""
    place = line.place
    place.script.update("r3", "again another")
    place.script.delete("r9")
    place.insert("new")
    status, told = compared(line)
    assert (status, told["moving"]) == (1, 3)
    assert {k: n for k, n in told["found"].items() if n} == {
        "missing": 1,
        "ghost": 1,
        "wrongVector": 1,
    }


@pytest.mark.slow
def test_beside_a_running_sync_a_difference_counts_only_if_it_stays(line: Line) -> None:
    """The comparison takes no lease, and looks again once the position has moved past."""
    place = line.place
    assert isinstance(place, Asked)
    assert line.call(*words_of(place, "repair"))[0] == 0
    ends = threading.Event()

    def write() -> None:
        n = 0
        while not ends.is_set():
            n += 1
            place.script.update(f"r{n % 12}", f"text {n}")
            ends.wait(0.02)

    with place.in_thread():
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(3):
                status, told = compared(line)
                assert (status, told["same"]) == (0, True), told
        finally:
            ends.set()
            writer.join()
        eventually(lambda: not due(place))  # else a change that is under way brings it back
        place.held.rows.pop("r5")
        status, told = compared(line)
        assert (status, told["found"]["missing"]) == (1, 1)


@pytest.mark.slow
def test_what_can_not_be_compared_now_is_told_before(line: Line) -> None:
    """With exit status 2."""
    place = line.place
    place.script.table.tell(identity="another")
    status, err = compared(line)
    assert status == 2
    assert "'another' now, and the position is of 'scripted'" in err
    place.script.table.tell(identity=None)
    with place.positions.take(Holder(run="before")) as lease:
        lease.reset()
    status, err = compared(line)
    assert status == 2
    assert "nothing was loaded yet" in err


@pytest.mark.slow
def test_a_row_that_a_repair_can_not_write_is_a_reject_and_told(line: Line) -> None:
    """Kept with its reason; what stood there of its key goes on as `onReject` says."""
    place = line.place
    place.setting["errorLimit"] = {"record": 5}
    place.script.update("r6", "POISON text")
    place.run()
    place.held.rows["r6"] = {**place.held.there()["r5"], "id": "r6"}
    rejects = place.folder / "rejects"
    status, told = compared(line, "--repair", "--rejects", str(rejects))
    assert status == 1
    assert told["repaired"]["rejected"] == 1
    assert place.held.there()["r6"]["text"] == "POISON text"
    kept = [json.loads(one) for part in rejects.rglob("*.jsonl") for one in part.open()]
    assert {one["row"]["id"] for one in kept} >= {"r6"}
