"""What a process keeps of a run: its state, and what is made once."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from typing import Any

import pytest

from vecferry.process import (
    GRACE_ROWS,
    RunScope,
    RunState,
    Scope,
    end_run,
    run_scope,
    run_state,
)


def test_a_scope_makes_one_for_all_threads() -> None:
    """Threads that ask at the same time get the same object, made once."""
    scope = Scope()
    made: list[int] = []
    barrier = threading.Barrier(8)
    got: list[Any] = []

    def make() -> object:
        made.append(1)
        time.sleep(0.02)  # long enough for the others to arrive
        return object()

    def ask() -> None:
        barrier.wait()
        got.append(scope.get("threads", make))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert len(got) == 8
    assert len({id(g) for g in got}) == 1


def test_a_scope_forgets_a_failure() -> None:
    """A `make` that raises leaves nothing behind: the next caller makes it."""
    scope = Scope()
    with pytest.raises(ZeroDivisionError):
        scope.get("fails", lambda: 1 // 0)
    assert scope.get("fails", lambda: "made") == "made"


def test_different_keys_do_not_wait_for_each_other() -> None:
    """While one object is being made another one can be had."""
    scope = Scope()
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert go_on.wait(60)
        return "slow"

    thread = threading.Thread(target=scope.get, args=("slow", slow))
    thread.start()
    assert begun.wait(60)
    assert scope.get("quick", lambda: "quick") == "quick"
    go_on.set()
    thread.join()
    assert scope.get("slow", lambda: "again") == "slow"


def test_what_a_run_has_made_is_closed_at_its_end() -> None:
    """A scope that ended is gone; what other runs and the process have made stays."""
    run, other = uuid.uuid4().hex, uuid.uuid4().hex
    closed: list[str] = []

    class Client:
        def __init__(self, name: str) -> None:
            self.name = name

        def close(self) -> None:
            closed.append(self.name)

    run_scope(run).get("client", lambda: Client("first"))
    run_scope(run).get("number", lambda: 1)
    kept = run_scope(other).get("client", lambda: Client("other"))
    end_run(run)
    assert closed == ["first"]
    end_run(run)
    assert closed == ["first"]
    assert run_scope(run).get("client", lambda: Client("second")).name == "second"
    assert run_scope(other).get("client", lambda: Client("never")) is kept
    end_run(run)
    end_run(other)


def test_a_run_notes_a_thing_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each text of each step, however many bundles would say it."""
    scope, log = RunScope("a run"), logging.getLogger("vecferry.test")
    assert [scope.note_once(log, "Writer", "slow") for _ in range(3)] == [True, False, False]
    assert scope.note_once(log, "Reader", "slow")
    assert caplog.messages == ["step 'Writer': slow", "step 'Reader': slow"]


def test_rejects_beyond_the_limit_stop_the_run() -> None:
    """The limit itself is allowed; one more ends the run 1,000 rows later, for its first cause."""
    state = RunState(reject_limit=1)
    state.reject("extract", "invalid-json")
    assert not state.over_limit
    state.reject("write", "too-long")
    assert state.over_limit
    assert [state.goes_on() for _ in range(GRACE_ROWS)] == [True] * (GRACE_ROWS - 1) + [False]
    assert state.stop.is_set()
    state.end("interrupted")
    assert state.stopped_by == "errorLimit"
    assert state.rejects() == {("extract", "invalid-json"): 1, ("write", "too-long"): 1}


def test_a_run_without_a_limit_takes_any_number_of_rejects() -> None:
    """No limit means unlimited, and counters add up."""
    state = RunState()
    for _ in range(1000):
        state.reject("s", "r")
    state.add({"rows-read": 3})
    state.add({"rows-read": 4, "rows-written": 1})
    assert not state.stop.is_set()
    assert state.counts() == {"rows-read": 7, "rows-written": 1}


def test_a_run_has_one_state_in_a_process() -> None:
    """All steps of a run count into the same state, made with the limit of the first."""
    run = uuid.uuid4().hex
    assert run_state(run, 5) is run_state(run)
    assert run_state(run).reject_limit == 5
    assert run_state(uuid.uuid4().hex) is not run_state(run)
