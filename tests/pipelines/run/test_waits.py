"""What a run says while it waits for a server, and how a signal ends the waiting."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.io.sink import memory as memory_sink
from tests.pipelines.support import Bench, counts_add_up, environment, rows
from tests.transforms.embed.endpoints.server import EndpointServer, every
from vecferry import waits
from vecferry.pipelines.run import progress
from vecferry.pipelines.run.events import Event
from vecferry.run import giving_up
from vecferry.transforms.embed import engine
from vecferry.waits import WAITS, Waits, in_words

QUICK = 0.4
"""Seconds in the place of the five after which a wait is told, and of what follows a signal."""
ROWS = 400


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    made = Bench(tmp_path, capsys)
    made.write_lines(list(rows(ROWS)))
    made.job["steps"][-1] = memory_sink.step()
    made.job["setting"]["speed"] = {"concurrent": 4}
    return made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tells waits soon, and gives up soon after a signal."""
    monkeypatch.setattr(progress, "WAIT_SECONDS", QUICK)
    monkeypatch.setattr(waits, "SILENT_SECONDS", QUICK)
    monkeypatch.setattr(engine, "STILL_SECONDS", QUICK)
    monkeypatch.setattr(giving_up.GivingUp.soon, "__defaults__", (QUICK,))


@dataclass
class Listener:
    """A server that takes connections and never answers, or that is not there."""

    url: str


@contextmanager
def listener(*, there: bool) -> Iterator[Listener]:
    """A port that takes connections and says nothing, or one that refuses them."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if there:
            taken.listen(100)
        yield Listener(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")


def embed_at(bench: Bench, url: str, **more: Any) -> None:
    """Lets the job embed at an address."""
    bench.step("Embed").update(
        {
            "modelProvider": "openai",
            "modelName": "text-embedding-v4",
            "apiKey": "sk-test",
            "endpoint": url,
            "retryDeadlineSeconds": 600,
        }
        | more
    )


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said of a wait, on a terminal and off it; the first one is answered by SIGTERM."""
    told: list[str] = []
    original = progress.WaitLog.take

    def take(self: progress.WaitLog, event: Event) -> None:
        before = dict(self._said)
        original(self, event)
        if self._said != before and self._said and not told:
            told.append(progress.progress_text(event))
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(progress.WaitLog, "take", take)
    return told


WAITED = {
    "502": r"/v1/embeddings answers 502: .*; \d+ tr(y|ies), giving up in (9 min \d+|10 min 0) s",
    "503": r"/v1/embeddings answers 503: .*; \d+ tr(y|ies), giving up in (9 min \d+|10 min 0) s",
    "500": r"/v1/embeddings answers 500: .*; \d+ tr(y|ies), giving up in (9 min \d+|10 min 0) s",
    "429": r"/v1/embeddings answers 429: .*; \d+ tr(y|ies)",
    "429-now": r"/v1/embeddings answers 429: .*; \d+ tr(y|ies)",
    "html": r"answers 200 with what is not JSON.*; \d+ tr(y|ies), giving up in (9|10) min",
    "reset": r"/v1/embeddings: .*; \d+ tr(y|ies), giving up in (9|10) min",
    "truncated": r"/v1/embeddings: .*; \d+ tr(y|ies), giving up in (9|10) min",
    "refused": r"/v1.*refuse.*; \d+ tr(y|ies), giving up in (9|10) min",
    "silent": r"http://127.0.0.1:\d+/v1.*; no answer for \d+ s",
}
"""By the fault of each answer, what is said of it."""
FAILED = {
    "401": "answers 401",
    "403": "answers 403",
    "404": "answers 404",
    "redirect": "redirects to",
    "wrong-dimension": "64",
}
"""Faults that waiting does not mend: the run fails at once, and says why."""


@contextmanager
def at_fault(fault: str) -> Iterator[str]:
    """The address of an endpoint each of whose answers is at fault."""
    if fault in ("refused", "silent"):
        with listener(there=fault == "silent") as nobody:
            yield nobody.url
        return
    with EndpointServer(fault=every(1, fault)) as server:
        yield server.url


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", WAITED)
def test_what_a_run_waits_for_is_said_and_a_signal_ends_the_waiting(
    bench: Bench, seen: list[str], fault: str
) -> None:
    """In the log and on the line of a terminal; what was read and waits is unfinished."""
    with at_fault(fault) as url:
        embed_at(bench, url)
        outcome = bench.call("run", "--json", "--no-preflight", "--concurrent-runs")
    report = outcome.json
    said = re.search(r"step 'Embed': embedding with \S+: (.*)", outcome.err)
    assert said, outcome.out + outcome.err
    assert re.search(WAITED[fault], said[0])
    assert re.search(WAITED[fault], seen[0])
    assert (outcome.status, report["state"]) == (130, "CANCELLED")
    assert counts_add_up(report)
    assert report["rows_unfinished"] == report["rows_read"] > 0
    assert f"{report['rows_unfinished']:,} rows that were read are unfinished" in report["error"]
    assert report["phases"]["running"] + report["phases"]["finishing"] < 10
    assert WAITS.of("") == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAILED)
def test_what_no_waiting_mends_fails_the_run_at_once(bench: Bench, fault: str) -> None:
    """Within seconds, with the server's words."""
    with at_fault(fault) as url:
        embed_at(bench, url)
        outcome = bench.call("run", "--json", "--no-preflight", "--concurrent-runs")
    assert outcome.status == 1
    assert FAILED[fault] in outcome.json["error"]
    assert outcome.json["phases"]["running"] < 10


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("written_first", [0, 100])
def test_a_run_of_the_same_job_writes_what_was_unfinished(
    bench: Bench, seen: list[str], written_first: int
) -> None:
    """The rows that were embedded before are written; none is lost, none is counted twice."""
    memory_sink.KEPT.clear()
    away = lambda n, _: "503" if n >= written_first // 10 else None  # noqa: E731
    with EndpointServer(fault=away) as server:
        embed_at(bench, server.url)
        report = bench.run("--no-preflight", "--concurrent-runs")
        assert report["state"] == "CANCELLED"
        assert counts_add_up(report)
        written = {row["id"] for row in memory_sink.KEPT}
        assert len(written) == len(memory_sink.KEPT) == report["rows_written"]
        assert report["rows_written"] >= written_first
        assert report["rows_unfinished"] == report["rows_read"] - report["rows_written"] > 0
        server.fault = None
        again = bench.run("--concurrent-runs")
    assert (again["state"], again["rows_unfinished"]) == ("DONE", 0)
    assert {row["id"] for row in memory_sink.KEPT} == {row["id"] for row in rows(ROWS)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "kind"), [("silent", signal.SIGTERM), ("refused", signal.SIGINT)]
)
def test_a_signal_ends_a_run_against_a_dead_endpoint_within_ten_seconds(
    bench: Bench, fault: str, kind: signal.Signals
) -> None:
    """A process of its own, with no time made shorter; the report is written."""
    path = bench.folder / "report.json"
    with at_fault(fault) as url:
        embed_at(bench, url)
        bench.job["steps"][-1] = memory_sink.step()
        process = subprocess.Popen(
            [
                sys.executable, "-m", "tests.pipelines.run.ferry_memory", "run", bench.save(),
                "--no-preflight", "--concurrent-runs", "--report", str(path), "--events", "-",
                "-d", str(bench.folder / "sources.json"),
            ],
            cwd=bench.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment(),
        )  # fmt: skip
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if json.loads(line)["waits"]:
                    break
            began = time.time()
            process.send_signal(kind)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert path.exists(), (process.returncode, out, err)
    report, last = json.loads(path.read_text()), json.loads(out.splitlines()[-1])
    assert last["report"] == report
    assert (process.returncode, report["state"]) == (130, "CANCELLED"), err
    assert counts_add_up(report)
    assert report["rows_unfinished"] == report["rows_read"] > 0
    assert datetime.fromisoformat(last["time"]).timestamp() - began < 10


# --- the list of waits ---------------------------------------------------------------------------


def test_a_wait_is_told_in_words() -> None:
    """As a person reads it."""
    now = [1000.0]
    told = Waits(lambda: now[0])
    told.failed("call", "step 'Embed'", "http://x answers 502", tries=4, left=590, run="run")
    (wait,) = told.of("run")
    assert wait.text(now[0]) == (
        "step 'Embed': http://x answers 502; 4 tries, giving up in 9 min 50 s"
    )
    assert told.of("another run") == []
    told.over("call")
    assert told.of("run") == []


def test_a_thread_that_nobody_waits_for_tells_no_wait() -> None:
    """Such as a look that was late and is left behind; other threads tell theirs."""
    told = Waits(lambda: 1000.0)
    seen: list[int] = []

    def work() -> None:
        told.keep_quiet()
        told.failed("call", "step 'Read'", "502", tries=1, left=None)
        with told.request("step 'Read'", "http://x", ""):
            seen.append(len(told.of("")))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (seen, told.of("")) == ([0], [])
    told.failed("call", "step 'Read'", "502", tries=1, left=None)
    assert len(told.of("")) == 1


def test_many_calls_that_wait_are_one_wait() -> None:
    """It has the first begin, the most tries, and the nearest end."""
    now = [1000.0]
    told = Waits(lambda: now[0])
    told.failed("one", "step 'Embed'", "502", tries=1, left=600, run="run")
    now[0] = 1010.0
    told.failed("two", "step 'Embed'", "503", tries=1, left=100, run="run")
    told.failed("one", "step 'Embed'", "504", tries=7, left=590, run="run")
    (wait,) = told.of("run")
    assert (wait.since, wait.tries, wait.until) == (1000.0, 7, 1110.0)


def test_a_slow_server_is_not_told_as_one_that_is_silent() -> None:
    """It may take three times as long as its slowest answer."""
    now = [1000.0]
    told = Waits(lambda: now[0])
    with told.request("step 'Embed'", "http://x", "run"):
        now[0] += 4.0
    with told.request("step 'Embed'", "http://x", "run"):
        now[0] += 11.0
        assert told.of("run") == []
        now[0] += 2.0
        (wait,) = told.of("run")
    assert wait.text(now[0]) == "step 'Embed': http://x; no answer for 13 s"
    assert told.of("run") == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (590, "9 min 50 s"), (7500, "2 h 5 min"), (-3, "0 s")],
)
def test_seconds_are_told_in_words(seconds: float, words: str) -> None:
    """To what a person cares for."""
    assert in_words(seconds) == words


def test_a_wait_is_told_after_five_seconds_and_each_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And that it is over."""
    teller, said = progress.WaitLog(), []
    told = Waits(lambda: 0.0)
    told.failed("call", "step 'Embed'", "http://x answers 502", tries=1, left=None, run="run")
    for now in [float(n) for n in range(80)]:
        event = Event(
            kind="progress", at=now, phase="running", stopping=False, seconds=now, counts={},
            rejects={}, waits=told.of("run") if now < 70 else (),
        )  # fmt: skip
        teller.take(event)
        said += [(now, text) for text in caplog.messages[len(said) :]]
    assert [at for at, _ in said] == [5.0, 65.0, 70.0]
    assert said[-1][1] == "step 'Embed': goes on, after 70 s"


def test_giving_up_tells_whoever_waits_once() -> None:
    """Also one that begins to wait afterwards; not one that waits no longer."""
    told: list[str] = []
    end = giving_up.GivingUp()
    gone, there = (lambda: told.append("gone")), (lambda: told.append("there"))
    end.tell(gone)
    end.tell(there)
    end.forget(gone)
    over = threading.Event()
    end.tell(over.set)
    end.soon(0.01)
    assert over.wait(10)
    end.tell(lambda: told.append("late"))
    assert told == ["there", "late"]
