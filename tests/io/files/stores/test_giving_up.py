"""A store that is away, and a run that is interrupted: nobody waits for the store any more."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.io.sink import memory as memory_sink
from tests.pipelines.support import Bench, counts_add_up, rows
from vecferry.errors import TransientError
from vecferry.io.files import GcsConnection, HdfsConnection, OssConnection, S3Connection
from vecferry.io.files.stores import remote
from vecferry.process import end_run, run_state
from vecferry.run import giving_up
from vecferry.steps import RunContext, StepContext
from vecferry.waits import WAITS

QUICK = 0.3
KEYS = {"accessKeyId": "id", "accessKeySecret": "secret", "bucket": "books"}
SOURCES: dict[str, dict[str, Any]] = {
    "s3": {"type": "s3", "pathStyle": True, **KEYS},
    "oss": {"type": "oss", **KEYS},
    "hdfs": {"type": "hdfs", "user": "alice"},
    "gcs": {"type": "gcs", "bucket": "books", "credentials": "anonymous"},
}
CONNECTIONS: dict[str, Any] = {
    "s3": S3Connection, "oss": OssConnection, "hdfs": HdfsConnection, "gcs": GcsConnection
}  # fmt: skip
AWAY = ["refused", "silent"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives up soon after a signal."""
    monkeypatch.setattr(remote, "STILL_SECONDS", QUICK)
    monkeypatch.setattr(giving_up.GivingUp.soon, "__defaults__", (QUICK,))


@pytest.fixture(autouse=True)
def _hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets ``books.localhost``, the virtual host of a bucket, be this machine."""
    ask = socket.getaddrinfo

    def asked(host: Any, *more: Any, **named: Any) -> Any:
        own = isinstance(host, str) and host.endswith("localhost")
        return ask("127.0.0.1" if own else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", asked)


@contextmanager
def away(kind: str) -> Iterator[tuple[str, Callable[[], bool]]]:
    """A store's address, which refuses or says nothing; and whether somebody has come."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == "silent":
            taken.listen(100)
        taken.setblocking(False)
        kept: list[socket.socket] = []

        def came() -> bool:
            if kind == "refused":
                return bool(WAITS.of(""))
            try:
                kept.append(taken.accept()[0])
            except BlockingIOError:
                return False
            return True

        yield f"http://localhost:{taken.getsockname()[1]}", came
        for one in kept:
            one.close()


def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition."""
    while not condition():
        time.sleep(0.02)


@pytest.mark.parametrize("fault", AWAY)
@pytest.mark.parametrize("kind", SOURCES)
def test_a_call_to_a_store_that_is_away_ends_when_servers_are_given_up(
    kind: str, fault: str
) -> None:
    """Though the store has answered before, and is waited for ten minutes."""
    run = uuid.uuid4().hex
    context = StepContext(step="Read", step_type="file", shared=RunContext(id=run))
    with away(fault) as (url, came):
        store = CONNECTIONS[kind].model_validate({**SOURCES[kind], "endpoint": url}).open_files()
        store.heed(context)
        store._contact.answered = True
        outcome: list[BaseException] = []

        def work() -> None:
            try:
                store.info("a.jsonl")
            except BaseException as e:
                outcome.append(e)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            until(came)
            assert thread.is_alive()
            began = time.monotonic()
            run_state(run).giving_up.set()
            thread.join(60)
            assert time.monotonic() - began < 10
            assert [type(e) for e in outcome] == [TransientError]
            assert "interrupted" in str(outcome[0]) or "asked to stop" in str(outcome[0])
            assert not WAITS.of(run)
        finally:
            end_run(run)


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A job that reads files and keeps rows in memory."""
    bench = Bench(tmp_path, capsys)
    bench.job["steps"][-1] = memory_sink.step()
    return bench


@contextmanager
def signalled(when: Callable[[], bool]) -> Iterator[list[float]]:
    """Sends SIGTERM to this process once a condition holds; gives the moment."""
    at: list[float] = []
    over = threading.Event()

    def work() -> None:
        while not when():
            if over.wait(0.02):
                return
        at.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield at
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("fault", AWAY)
@pytest.mark.parametrize("kind", SOURCES)
def test_a_signal_ends_a_run_whose_store_never_answered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: str, fault: str
) -> None:
    """At once, with a report that says so and the status of an interrupted run."""
    monkeypatch.setattr(remote, "FIRST_SECONDS", 600.0)
    with away(fault) as (url, came), signalled(came) as at:
        bench.sources["Files"] = {**SOURCES[kind], "endpoint": url}
        report = bench.run("--concurrent-runs", "--report", str(bench.folder / "report.json"))
        took = time.monotonic() - at[0]
    assert took < 10
    assert (report["state"], report["rows_read"]) == ("CANCELLED", 0)
    assert "no row was written" in report["error"]
    assert json.loads((bench.folder / "report.json").read_text()).items() <= report.items()


class Hdfs:
    """A name node with one file that it gives in ranges, and at last no answer for."""

    def __init__(self, data: bytes, fault: str) -> None:
        self.data, self.fault = data, fault
        self.stuck, self.over = threading.Event(), threading.Event()
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served._answer(self)

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Hdfs:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = {n: v[0] for n, v in parse_qs(urlsplit(request.path).query).items()}
        status = {
            "pathSuffix": "", "type": "FILE", "length": len(self.data), "modificationTime": 1000
        }  # fmt: skip
        at = int(asked.get("offset", 0))
        if asked["op"] == "OPEN" and at > 0:
            self.stuck.set()
            if self.fault == "silent":
                self.over.wait()
            request.send_error(503)
            return
        folder = not urlsplit(request.path).path.endswith("rows.jsonl")
        body = json.dumps({"FileStatus": {**status, "type": "DIRECTORY" if folder else "FILE"}})
        answer = body.encode()
        if asked["op"] == "OPEN":
            answer = self.data[at : at + int(asked["length"])]
        request.send_response(200)
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["503", "silent"])
def test_a_signal_ends_a_run_whose_store_goes_away_while_it_is_read(
    bench: Bench, fault: str
) -> None:
    """What was read is written and counted; the rest is left to a run of the same job."""
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows(20_000))
    assert len(lines) > remote.LEAST_AHEAD * 2
    with Hdfs(lines, fault) as store, signalled(store.stuck.is_set) as at:
        bench.sources["Files"] = {"type": "hdfs", "endpoint": store.url, "user": "alice"}
        report = bench.run("--concurrent-runs", "--workers", "1")
        took = time.monotonic() - at[0]
    assert report["state"] == "CANCELLED", report
    assert counts_add_up(report)
    assert 0 < report["rows_written"] < 20_000
    assert report["rows_unfinished"] == 0
    assert took < 60  # a model computes what was read
