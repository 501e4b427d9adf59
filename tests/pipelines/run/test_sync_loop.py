"""The loop of a sync: what is stored when, what is begun again, what ends it, what is told."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import threading
from typing import Any

import pytest

from tests.contracts import sync_memory
from tests.contracts.sync import embedded
from tests.pipelines.sync_place import Place
from tests.transforms.embed.endpoints.server import first
from vecferry.errors import JobError, TransientError
from vecferry.pipelines import registry
from vecferry.pipelines.job.resolve import ResolvedJob, read_and_resolve
from vecferry.pipelines.launch import run_job
from vecferry.pipelines.run import graph, sync
from vecferry.pipelines.run.logic import JobLogic
from vecferry.pipelines.run.options import RunOptions
from vecferry.pipelines.run.preflight import preflight
from vecferry.pipelines.run.report import STATUS, Report
from vecferry.pipelines.run.sync import Step
from vecferry.positions.folder import FolderPlace
from vecferry.positions.holder import Holder
from vecferry.positions.lease import Lease
from vecferry.positions.place import Pace
from vecferry.positions.store import Positions
from vecferry.steps import StepContext
from vecferry.stored import Reconciled


def adds_up(report: Report) -> bool:
    return report.lost == 0


@pytest.mark.slow
def test_a_sync_loads_all_follows_the_changes_and_ends_where_nothing_is_left(
    place: Place,
) -> None:
    """A later run goes on from the position, and does not read what was read."""
    place.insert(*(f"r{n}" for n in range(30)))
    place.reader["parts"] = 3
    report = place.run()
    assert (report.state, report.rounds, report.rows_read) == ("DONE", 3, 30)
    assert place.differences() == []
    place.insert("new")
    place.script.update("r1", "changed")
    place.script.delete("r2")
    again = place.run()
    assert (again.state, again.rounds, again.rows_read, again.rows_deleted) == ("DONE", 1, 3, 1)
    assert place.differences() == []
    assert again.position is not None
    assert again.position["at"] == place.position() == {"offset": place.script.table.end()}
    assert again.span == {
        "kind": "changes",
        "since": report.position and report.position["at"],
        "until": place.position(),
        "part": None,
        "rows": None,
    }
    idle = place.run()
    assert (idle.state, idle.rounds, idle.rows_read) == ("DONE", 0, 0)


@pytest.mark.slow
def test_a_target_is_dropped_by_the_first_run_only_and_concluded_once_all_is_in(
    place: Place,
) -> None:
    """`recreate` would drop what the position says is there."""
    place.insert("a")
    place.writer["recreate"] = True
    seen: list[tuple[Step, int]] = []
    place.run(lambda step: seen.append((step, place.held.concluded)))
    assert place.held.dropped == 1
    assert {n for step, n in seen if step != "conclude"} == {0, 1}
    assert [n for step, n in seen if step == "stored"] == [0]
    place.insert("b")
    place.run()
    assert place.held.dropped == 1
    assert place.differences() == []


@pytest.mark.slow
def test_an_alias_moves_though_the_source_is_never_at_its_end(place: Place) -> None:
    """It moves where the source ended when the full load was in; `--until now` ends as well."""
    place.insert("a")
    counter = iter(range(10**9))

    def writing(step: Step) -> None:
        if step == "span":
            place.insert(f"w{next(counter)}")

    report = place.run(writing, until="now")
    assert report.state == "DONE"
    assert place.held.concluded == 1
    rounds = [0]

    def stop_after(step: Step) -> None:
        writing(step)
        rounds[0] += step == "stored"
        if rounds[0] == 5 and step == "stored":
            place.script.table.tell(fatal="enough")

    report = place.run(stop_after, continuous=True)
    assert (report.state, place.held.concluded) == ("FAILED", 2)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["span", "plan", "epoch", "round", "done", "store", "conclude"])
def test_what_may_pass_is_begun_again_and_told_in_a_line(
    place: Place, step: Step, caplog: pytest.LogCaptureFixture
) -> None:
    """The report has each row once, though a round was begun twice."""
    place.insert(*(f"r{n}" for n in range(5)))
    fails = [2]

    def on_step(now: Step) -> None:
        if now == step and fails[0]:
            fails[0] -= 1
            raise TransientError("the network is away")

    with caplog.at_level(logging.WARNING):
        report = place.run(on_step)
    assert (report.state, report.rows_read, report.rows_written) == ("DONE", 5, 5)
    assert adds_up(report)
    told = [r.getMessage() for r in caplog.records if "begins again" in r.getMessage()]
    assert len(told) == 2
    assert all("the network is away" in line for line in told)
    assert place.differences() == []


@pytest.mark.slow
def test_a_round_that_fails_in_a_step_leaves_no_trace_in_the_counts(place: Place) -> None:
    """Neither of its rows nor of what it failed with: the next round counts from nothing."""
    place.insert(*(f"r{n}" for n in range(60)))
    place.script.table.tell(breaks_after=50)
    rounds = [0]

    def on_step(step: Step) -> None:
        rounds[0] += step == "round"
        if rounds[0] == 2:
            place.script.table.tell(breaks_after=None)

    report = place.run(on_step)
    assert (report.state, report.error) == ("DONE", None)
    assert (report.rows_read, report.rows_written, report.rounds) == (60, 60, 1)
    assert rounds[0] == 2
    inputs = embedded(place.endpoint)
    assert len(inputs) == len(set(inputs)), "what the failed round embedded is in the cache"


@pytest.mark.slow
def test_an_endpoint_that_is_away_for_longer_than_a_step_waits_costs_a_round(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round is begun again, and no row is rejected."""
    place.insert(*(f"r{n}" for n in range(20)))
    place.endpoint.fault = first(6, "503")
    monkeypatch.setattr("vecferry.pipelines.run.base.SYNC_RETRY_SECONDS", 0.05)
    report = place.run()
    assert (report.state, report.rows_written, report.rows_rejected) == ("DONE", 20, 0)
    assert place.differences() == []


@pytest.mark.slow
def test_what_cannot_pass_ends_the_sync_at_the_last_position(place: Place) -> None:
    """With its own words, and status 1 in what is stored."""
    place.insert("a", "b")
    place.run()
    before = place.position()
    place.insert("c")
    place.endpoint.key = "another key"
    report = place.run()
    assert report.state == "FAILED"
    assert "401" in (report.error or "")
    assert "fault of vecferry" not in (report.error or "")
    assert place.position() == before
    stored = place.positions.load()
    assert stored is not None
    assert stored.outcome is not None
    assert stored.outcome.status == 1
    assert place.positions.standing().state == "Run Failed"
    place.endpoint.key = "sk-test"
    assert place.run().state == "DONE"
    assert place.differences() == []
    assert place.positions.standing().state == "Scheduled"


@pytest.mark.slow
def test_the_patience_of_a_sync_that_ends_is_bounded(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails with what it waited for; what was stored stays."""
    monkeypatch.setattr(sync, "PATIENCE_SECONDS", 0.5)
    place.insert("a")
    place.script.table.tell(away=True)
    report = place.run()
    assert report.state == "FAILED"
    assert "the table is away" in (report.error or "")


@pytest.mark.slow
def test_a_sync_that_goes_on_outlasts_that_patience(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long its source is away."""
    monkeypatch.setattr(sync, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(sync, "MOST_WAIT_SECONDS", 0.001)
    place.insert("a")
    place.script.table.tell(away=True)
    assert place.run().state == "FAILED"
    tries: list[Step] = []

    def on_step(step: Step) -> None:
        if step == "span":
            tries.append(step)
        if len(tries) == 6:
            place.script.table.tell(away=None)
        if step == "conclude":
            place.script.table.tell(fatal="told to end")

    report = place.run(on_step, continuous=True)
    assert "told to end" in (report.error or "")
    assert len(tries) > 6
    assert (report.rounds, report.rows_written) == (1, 1)


@pytest.mark.slow
def test_rounds_are_as_far_apart_as_the_job_says(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each one that is DONE."""
    waits: list[float] = []
    monkeypatch.setattr(sync._Sync, "_wait", lambda self, seconds: waits.append(seconds))
    place.setting["pauseSeconds"] = 7
    place.reader["parts"] = 3
    place.insert(*(f"r{n}" for n in range(9)))
    assert place.run().rounds == 3
    assert waits == [7.0, 7.0, 7.0]


@pytest.mark.slow
def test_a_span_that_was_not_read_whole_is_not_stored(place: Place) -> None:
    """A source that gives less than it told is tried again, and then told."""
    place.insert("a")
    place.run()
    before = place.position()
    place.insert("b", "c")
    place.script.table.tell(leaves_out=1)
    report = place.run()
    assert report.state == "FAILED"
    assert "read 1 of the 2 rows of its span, 3 times in a row" in (report.error or "")
    assert place.position() == before
    place.script.table.tell(leaves_out=None)
    assert place.run().state == "DONE"
    assert place.differences() == []


@pytest.mark.slow
def test_error_limit_and_budget_are_of_a_round(place: Place) -> None:
    """One reject a round is within the limit for ever; two in one round are not."""
    place.setting["errorLimit"] = {"record": 1}
    place.setting["budget"] = {"requests": 4}
    place.reader["roundRows"] = 3
    place.run()
    for n in range(4):
        place.insert(f"good{n}", f"fine{n}")
        place.script.insert(f"bad{n}", f"POISON {n}")
    report = place.run()
    assert (report.state, report.rounds, report.rows_rejected) == ("DONE", 4, 4)
    assert report.embed.requests > 4
    before = place.position()
    place.script.insert("bad8", "POISON 8")
    place.script.insert("bad9", "POISON 9")
    report = place.run()
    assert report.state == "FAILED"
    assert "errorLimit: 2 rows rejected" in (report.error or "")
    assert place.position() == before


@pytest.mark.slow
def test_a_round_over_its_budget_ends_the_sync(place: Place) -> None:
    """What was left without a vector is read again next time."""
    place.setting["budget"] = {"requests": 1}
    place.run()
    place.insert(*(f"r{n}" for n in range(40)))
    report = place.run()
    assert report.state == "FAILED"
    assert "setting.budget allows 1 requests" in (report.error or "")
    del place.setting["budget"]
    assert place.run().state == "DONE"
    assert place.differences() == []


@pytest.mark.slow
def test_the_graph_is_built_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rounds run what the first has built, over other splits."""
    built: list[Any] = []
    graph_of = sync.graph_of
    monkeypatch.setattr(sync, "graph_of", lambda *a: built.append(1) or graph_of(*a))
    place.insert(*(f"r{n}" for n in range(20)))
    place.reader |= {"parts": 5, "roundRows": 2}
    report = place.run()
    assert (report.rounds, len(built)) == (5, 1)


@pytest.mark.slow
@pytest.mark.parametrize("theirs", [True, False])
def test_what_a_caller_froze_for_the_collector_stays_so(place: Place, theirs: bool) -> None:
    """Otherwise the first round's objects are frozen until the sync ends."""
    counts: list[int] = []
    place.held.called = lambda now: counts.append(gc.get_freeze_count())
    place.insert(*(f"r{n}" for n in range(20)))
    place.reader |= {"parts": 3}
    gc.collect()
    try:
        gc.freeze() if theirs else gc.unfreeze()
        place.run()
        after = gc.get_freeze_count()
    finally:
        gc.freeze()
    if theirs:
        assert counts[0] > 0
        assert after > counts[0] // 2
    else:
        assert (counts[0], after) == (0, 0)
        assert counts[-1] > 0


@pytest.mark.slow
def test_a_second_run_is_refused_and_told_who_holds_the_lease(place: Place) -> None:
    """Before it asks anything of source or target."""
    refused = pytest.raises(JobError, match=r"run the-first \(process")
    with place.positions.take(Holder(run="the-first")), refused:
        place.run()
    assert place.held.prepared == 0
    assert place.run().state == "DONE"


@pytest.mark.slow
def test_a_run_that_lost_its_lease_stores_nothing_more(place: Place) -> None:
    """It fails, and names who took it."""
    place.insert("a")
    others: list[Lease] = []
    hasty = FolderPlace(place.folder / "positions", Pace(renew=3, dead=0, store=1))

    def on_step(step: Step) -> None:
        if step == "store":
            others.append(Positions(hasty, "kept").take(Holder(run="the-other")))

    report = place.run(on_step)
    others[0].release()
    assert report.state == "FAILED"
    assert "the-other" in (report.error or "")
    assert place.position() is None


@pytest.mark.slow
def test_rows_of_others_stay_where_the_job_does_not_own_the_target(place: Place) -> None:
    """And the report says so."""
    place.writer["ownsTarget"] = False
    place.insert("a")
    place.held.rows["foreign"] = {"text": "x", "vector": None}
    place.held.versions["foreign"] = 1
    report = place.run()
    assert "foreign" in place.held.there()
    assert "rows that the source no longer has stay there" in report.notes


@pytest.mark.slow
def test_only_what_a_user_asked_for_is_read(place: Place) -> None:
    """Up to a place of the source, and no further."""
    place.insert("a", "b")
    place.run()
    place.insert("c")
    asked = place.script.table.end()
    place.insert("d")
    report = place.run(until=str(asked))
    assert (report.state, report.rows_read) == ("DONE", 1)
    assert sorted(place.held.there()) == ["a", "b", "c"]
    assert place.run(until="now").rows_read == 1


@pytest.mark.slow
def test_a_sync_goes_on_until_it_is_told_to_end(place: Place) -> None:
    """With `--continuous`, what is written meanwhile arrives."""
    place.insert("a")
    arrived = threading.Event()

    def on_step(step: Step) -> None:
        if step == "conclude":
            threading.Timer(0.5, lambda: place.insert("later")).start()
        if "later" in place.held.there() and step == "stored":
            arrived.set()
            place.script.table.tell(fatal="told to end")

    report = place.run(on_step, continuous=True)
    assert arrived.is_set()
    assert "told to end" in (report.error or "")
    assert report.rounds == 2


@pytest.mark.slow
def test_what_a_round_embeds_stays_for_the_next(place: Place) -> None:
    """The caches of a run are of all its rounds."""
    place.setting["vectorCache"] = None
    place.reader["roundRows"] = 1
    place.insert("a")
    texts = ["one", "two", "one", "two", "one"]
    place.run()
    for n, text in enumerate(texts):
        place.script.insert(f"k{n}", text)
    report = place.run()
    assert report.rounds == 5
    assert sorted(embedded(place.endpoint)) == ["one", "text of a", "two"]


def resolved_of(place: Place) -> ResolvedJob:
    """The job, its kinds registered."""
    for kind in (*place.script.kinds(), *sync_memory.KINDS):
        registry.register(kind)
    return read_and_resolve(str(place.job()))


def once(place: Place, **options: Any) -> Report:
    """Runs the job as a command line does."""
    rejects = str(place.folder / "rejects")
    return run_job(resolved_of(place), RunOptions(rejects=rejects, **options))


@pytest.mark.slow
def test_a_run_of_some_rows_reads_once_and_stores_nothing(place: Place) -> None:
    """`--limit` is for trying a job; the sync begins afterwards as if nothing had been."""
    place.insert("a", "b", "c")
    report = once(place, limit=2)
    assert (report.state, report.rows_read, report.rounds) == ("DONE", 2, None)
    assert place.positions.load() is None
    assert place.run().rows_read == 3
    assert place.differences() == []


@pytest.mark.slow
def test_a_reader_that_reads_once_makes_no_sync(place: Place) -> None:
    """As with any other source; what only a sync takes is refused."""
    place.insert("a")
    place.reader["mode"] = "full"
    place.setting["positions"] = None
    assert once(place).rows_written == 1
    with pytest.raises(JobError) as refused:
        once(place, continuous=True, until="now")
    continuous, until = refused.value.problems
    assert continuous.startswith("--continuous: this run reads its source once")
    assert until.startswith("--until: this run reads its source once")


def test_a_sync_without_a_place_for_its_positions_is_refused(place: Place) -> None:
    """With what to write; nothing is asked of source or target before."""
    place.setting["positions"] = None
    with pytest.raises(JobError, match=r"setting\.positions is missing: .* positions/JOB"):
        once(place)
    assert place.held.prepared == 0


PHASES = ["check", "prepare", "span", "plan", "epoch", "round", "send", "done", "reconcile"]
PHASES += ["store", "stored", "conclude"]


@pytest.mark.slow
@pytest.mark.in_turn("continuous")
@pytest.mark.parametrize("continuous", [True, False])
@pytest.mark.parametrize("phase", PHASES)
def test_sigterm_in_any_phase_is_told_and_nothing_is_lost(
    place: Place, phase: str, continuous: bool
) -> None:
    """What is stored is in the target; the next run brings the rest."""
    place.insert(*(f"r{n}" for n in range(30)))
    sent: list[str] = []

    def call(now: str) -> None:
        if now == phase and not sent:
            sent.append(now)
            os.kill(os.getpid(), signal.SIGTERM)

    place.held.called = call
    report = place.run(call, continuous=continuous, preflight=True)
    assert sent == [phase]
    assert report.state == ("DONE" if continuous else "CANCELLED")
    assert STATUS[report.state] == (0 if continuous else 130)
    told = [*report.notes, report.error or ""]
    assert any("interrupted; the position is the end of the last round" in text for text in told)
    assert report.rows_read == report.rows_written
    position = place.position()
    assert position == (report.position and report.position["at"])
    assert position is None or len(place.held.there()) == 30
    place.script.delete("r3")
    place.insert("late")
    assert place.run().state == "DONE"
    assert place.differences() == []
    assert place.held.concluded >= 1


@pytest.mark.slow
def test_each_step_of_a_sync_waits_for_300_seconds(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the round is begun again. A run that reads once waits for twice as long, and fails."""
    waits: list[tuple[str, float | None]] = []
    context_of = graph._context

    def seen(*given: Any) -> StepContext:
        context = context_of(*given)
        waits.append((context.step, context.retry_deadline))
        return context

    monkeypatch.setattr(graph, "_context", seen)
    monkeypatch.setattr(
        sync_memory.HeldTarget,
        "reconcile",
        lambda self, *_: waits.append(("reconcile", self.context.retry_deadline)) or Reconciled(),
    )
    place.insert("a")
    assert place.run().state == "DONE"
    assert {step for step, _ in waits} == {"Read", "Embed", "Write", "reconcile"}
    assert {seconds for _, seconds in waits} == {300.0}
    waits.clear()
    once(place, limit=1)
    assert {seconds for _, seconds in waits} == {600.0}


def test_a_time_that_is_none_is_refused_before_the_target_is_prepared(place: Place) -> None:
    """In the words of the source."""
    with pytest.raises(JobError, match="--until soon: is neither a place"):
        once(place, until="soon")
    assert place.held.prepared == 0


def test_an_id_by_which_rows_would_replace_each_other_ends_a_sync_before_it_begins(
    place: Place,
) -> None:
    """The id is made of `id`, and the source tells rows apart by another column."""
    place.insert("a", "b")
    place.reader["key"] = "text"
    job = json.loads(place.job().read_text())
    info = {"type": "pk", "column": ["id"]}
    job["steps"][-1] = {
        "stepType": "elasticsearch",
        "category": "writer",
        "parameter": {"datasource": "Target", "index": "i", "primaryKeyInfo": info},
    }
    path, sources = place.folder / "keys.json", place.folder / "sources.json"
    path.write_text(json.dumps(job))
    target = {"type": "elasticsearch", "endpoint": "http://127.0.0.1:9"}
    sources.write_text(json.dumps({"Target": target}))
    for kind in place.script.kinds():
        registry.register(kind)
    resolved = read_and_resolve(str(path), data_sources=str(sources))
    with pytest.raises(JobError) as caught:
        preflight(resolved, JobLogic(resolved, "a-run"))
    told = [text for text in caught.value.problems if "would replace each other" in text]
    assert len(told) == 1
    assert 'set primaryKeyInfo: {"type": "pk", "column": ["text"]}' in told[0]
