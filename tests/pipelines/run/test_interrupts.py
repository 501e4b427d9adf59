"""Ctrl-C and SIGTERM: the first lets a run come to its end, in each phase; the second ends it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.run.held import ROWS
from tests.pipelines.support import counts_add_up, environment, interrupt
from vecferry.pipelines.run import interrupts
from vecferry.pipelines.run.interrupts import Interrupted, breakable, listening, on_interrupt

SIGNALS = [signal.SIGINT, signal.SIGTERM]
BOTH = [
    pytest.param(signal.SIGTERM, id="SIGTERM"),
    pytest.param(signal.SIGINT, id="SIGINT", marks=pytest.mark.long),
]
"""In each phase; a run of every day tries the one that ended a process before anything was told."""
SECONDS = 300  # a process needs two minutes to come up where thirty others do
JOB = {
    "type": "job",
    "name": "held",
    "steps": [
        {"stepType": "held", "category": "reader", "name": "Read", "parameter": {}},
        {"stepType": "held", "category": "writer", "name": "Write", "parameter": {}},
    ],
}


@dataclass
class Holds:
    """A server that holds the request of one phase until it is let go."""

    phase: str
    answer: bytes = b""
    url: str = ""
    seen: list[str] = field(default_factory=list)
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def held_at(phase: str, answer: bytes = b"") -> Iterator[Holds]:
    """A server of its own for one run."""
    holds = Holds(phase, answer)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.path.strip("/")
            holds.seen.append(asked)
            if asked == phase:
                holds.reached.set()
                if not answer:
                    holds.released.wait(SECONDS)
            body = answer if asked == phase else b""
            with suppress(OSError):  # who asked may have ended
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        holds.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield holds
        finally:
            holds.released.set()
            server.shutdown()


@contextmanager
def started(folder: Path, holds: Holds, command: str = "run") -> Iterator[subprocess.Popen[str]]:
    """A command that has come to the phase in which it is held."""
    (folder / "job.json").write_text(json.dumps(JOB))
    own = ["--json", "--report", "report.json"] if command == "run" else ["--connect"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.pipelines.run.ferry_held", command, "job.json", *own],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(HOLD_AT=holds.url),
    )  # fmt: skip
    try:
        assert holds.reached.wait(SECONDS), process.poll() is not None and process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("phase", ["startup", "resolve"])
def test_what_has_no_run_yet_ends_at_once(tmp_path: Path, phase: str, kind: signal.Signals) -> None:
    """With status 130 and without a traceback; there is nothing to report."""
    with held_at(phase) as holds, started(tmp_path, holds) as process:
        process.send_signal(kind)
        out, err = process.communicate(timeout=SECONDS)
    told = json.loads(out)["errors"] if out else []
    assert process.returncode == 130
    assert [one["message"] for one in told] in ([], ["interrupted"])
    assert err.split() in ([], ["interrupted"])
    assert not (tmp_path / "report.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("phase", ["check", "list", "build", "prepare"])
def test_a_run_that_has_read_nothing_ends_at_once_with_a_report(
    tmp_path: Path, phase: str, kind: signal.Signals
) -> None:
    """A server that does not answer keeps nobody waiting; the report says that nothing was done."""
    with held_at(phase) as holds, started(tmp_path, holds) as process:
        process.send_signal(kind)
        out, err = process.communicate(timeout=SECONDS)
    report = json.loads(out)
    assert (process.returncode, report["state"], report["rows_read"]) == (130, "CANCELLED", 0)
    assert "no row was written" in report["error"]
    assert "Traceback" not in err
    assert json.loads((tmp_path / "report.json").read_text()).items() <= report.items()
    assert not (tmp_path / "rejects").exists()
    assert "read" not in holds.seen


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("phase", ["read", "drain", "conclude", "close"])
def test_what_was_read_is_finished_and_reported(
    tmp_path: Path, phase: str, kind: signal.Signals
) -> None:
    """CANCELLED with 130 in each phase; the last step is done if it had begun, else it is not."""
    with held_at(phase) as holds, started(tmp_path, holds) as process:
        interrupt(process, kind)
        holds.released.set()
        out, err = process.communicate(timeout=SECONDS)
    report = json.loads(out)
    assert (process.returncode, report["state"]) == (130, "CANCELLED"), err
    assert json.loads((tmp_path / "report.json").read_text()).items() <= report.items()
    assert counts_add_up(report)
    assert 0 < report["rows_written"] <= ROWS
    assert (report["rows_written"] == ROWS) == (phase != "read")
    concluded = phase in ("conclude", "close")
    assert ("conclude" in holds.seen) == concluded
    assert ("not concluded" in report["error"]) != concluded
    assert report["notes"] == (["concluded"] if concluded else [])
    assert "close" in holds.seen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"),
    [
        SIGNALS,
        pytest.param(*SIGNALS[::-1], marks=pytest.mark.long),
        pytest.param(*SIGNALS[:1] * 2, marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize(
    "phase", ["read", *(pytest.param(p, marks=pytest.mark.long) for p in ("drain", "close"))]
)
def test_the_second_signal_ends_a_run_at_once(
    tmp_path: Path, phase: str, first: signal.Signals, second: signal.Signals
) -> None:
    """Whichever they are, and though a server does not answer."""
    with held_at(phase) as holds, started(tmp_path, holds) as process:
        interrupt(process, first)
        process.send_signal(second)
        out, err = process.communicate(timeout=SECONDS)
    (told,) = json.loads(out)["errors"]
    assert (process.returncode, told["message"]) == (130, "interrupted")
    assert "Traceback" not in err


@pytest.mark.slow
def test_the_second_signal_ends_what_is_stuck_in_a_library(tmp_path: Path) -> None:
    """Python calls no handler while its main thread is in C; the process ends all the same."""
    with held_at("conclude", b"stick") as holds, started(tmp_path, holds) as process:
        while process.poll() is None:  # two signals at once would be one
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        assert process.returncode == 130


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOTH)
def test_a_check_ends_at_once(tmp_path: Path, kind: signal.Signals) -> None:
    """A command that changes nothing has nothing to finish."""
    with held_at("check") as holds, started(tmp_path, holds, "check") as process:
        process.send_signal(kind)
        out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, out, err.split()) == (130, "", ["interrupted"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    "phase", ["read", *(pytest.param(p, marks=pytest.mark.long) for p in ("startup", "conclude"))]
)
def test_a_signal_that_is_ignored_from_the_start_stays_ignored(
    tmp_path: Path, phase: str, kind: signal.Signals
) -> None:
    """As a shell starts what is to go on in the background."""
    program = (
        f"import runpy, signal, sys; signal.signal({kind:d}, signal.SIG_IGN)\n"
        "sys.argv[1:] = ['run', 'job.json', '--json']\n"
        "runpy.run_module('tests.pipelines.run.ferry_held', run_name='__main__')"
    )
    (tmp_path / "job.json").write_text(json.dumps(JOB))
    with held_at(phase) as holds:
        process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(HOLD_AT=holds.url),
        )  # fmt: skip
        assert holds.reached.wait(SECONDS)
        process.send_signal(kind)
        holds.released.set()
        out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, json.loads(out)["state"]) == (0, "DONE"), err


# --- in a program of somebody else ---------------------------------------------------------------


def test_the_outermost_decides_what_the_first_signal_means() -> None:
    """A chain of runs ends after the one that is under way, which is not told."""
    told: list[str] = []
    with on_interrupt(lambda: told.append("chain")):
        with breakable(), on_interrupt(lambda: told.append("run")):
            signal.raise_signal(signal.SIGTERM)
            assert not interrupts.told_to_end(), "the chain knows what to do"
        with breakable(), on_interrupt(lambda: told.append("next run")):
            pass
    assert told == ["chain"]


def test_a_signal_that_came_before_is_told_on_entry() -> None:
    """So none is lost between two phases."""
    told: list[str] = []
    with listening():
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.told_to_end()
        with on_interrupt(lambda: told.append("now")):
            assert told == ["now"]
        with pytest.raises(Interrupted), breakable():
            told.append("never")
        with breakable(False):
            told.append("finished")
    assert told == ["now", "finished"]


def test_the_second_signal_means_what_its_context_says() -> None:
    """Or the end, as in any other program."""
    told: list[str] = []
    with on_interrupt(lambda: told.append("first"), lambda: told.append("second")):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert told == ["first", "second"]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    with on_interrupt(lambda: told.append("again")):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert told == ["first", "second", "again"]


def test_handlers_are_given_back() -> None:
    """Also where a library has taken a signal in the meantime."""
    before = [signal.getsignal(one) for one in SIGNALS]
    with listening():
        signal.signal(signal.SIGINT, lambda *_: None)
        told: list[str] = []
        with on_interrupt(lambda: told.append("ours again")):
            signal.raise_signal(signal.SIGINT)
        assert told == ["ours again"]
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_elsewhere_than_in_the_main_thread_nothing_is_caught() -> None:
    """Python would refuse it."""
    done: list[bool] = []

    def work() -> None:
        with listening(), breakable(), on_interrupt(lambda: None):
            done.append(interrupts.told_to_end())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [False]
