"""What goes wrong between here and MaxCompute: nothing is lost, nothing comes twice."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.io.odps.server import OdpsServer, Table
from tests.io.odps.support import ROWS, ids, read_all, reader, talks
from vecferry.errors import FatalError, JobError, TerminalError, TransientError
from vecferry.io.odps.client import QuotaRefused, SessionLost, classify
from vecferry.process import run_state

ALL = list(range(ROWS))
WHERE = {"where": "id >= 0", "enableWhere": True}


@pytest.fixture
def server() -> Iterator[OdpsServer]:
    """A server with `talks`, whose batches are small."""
    with OdpsServer(batch_rows=100) as server:
        server.chunk = 1024
        server.add(talks())
        yield server


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other at once."""
    monkeypatch.setattr("vecferry.retry.random.uniform", lambda a, b: b / 100)


@pytest.mark.slow
@pytest.mark.parametrize("through", ["tunnel", "sql"])
@pytest.mark.parametrize("fault", ["reset", "close", "cut", "short", "500", "503", "429", "lost"])
def test_a_broken_read_goes_on_at_the_row_it_had_reached(
    server: OdpsServer, fault: str, through: str
) -> None:
    """In the middle of a range, twice."""
    server.fail("data", fault, times=2)
    of = reader(server, **(WHERE if through == "sql" else {}))
    assert ids(read_all(of)) == ALL
    assert of.counts.values["rows-read"] == ROWS
    starts = [p["rowrange"] for k, _, p in server.seen if k == "data"]
    assert len(starts) == 3
    if fault == "short":
        assert len(set(starts)) == 3  # what had come whole was not asked for again


@pytest.mark.slow
def test_a_session_lost_again_as_it_is_opened_anew_fails_the_run_in_words(
    server: OdpsServer,
) -> None:
    """The step is named, as in every error of a run."""
    of = reader(server)
    splits = of.plan().splits
    server.lose_sessions()
    server.fail("session", "lost", times=99)
    with pytest.raises(FatalError, match=r"step 'Reader': the download session was lost, and so"):
        list(of.read(splits[0]))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["endpoint", "tunnelEndpoint"])
def test_a_server_that_takes_connections_and_never_answers_fails_the_check(
    server: OdpsServer, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon, and with the address to correct; making the client asks for nothing."""
    monkeypatch.setattr("vecferry.io.odps.client.QUICK_SECONDS", 1)
    monkeypatch.setattr("vecferry.io.odps.source.CHECK_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        given = server.connection(**{place: f"{address}/api" if place == "endpoint" else address})
        begun = time.monotonic()
        with pytest.raises(JobError, match=rf"{address}.*; correct the data source's address"):
            reader(server, connection=given).check()
        assert time.monotonic() - begun < 60  # a client alone tries for many minutes


@pytest.mark.slow
def test_a_connection_that_closes_within_a_body_costs_only_what_had_not_come(
    server: OdpsServer,
) -> None:
    """What had come, checked by its checksums, is not asked for again."""
    rows = [{"id": i, "text": f"{i:5}" * 200} for i in range(ROWS)]
    server.add(Table("long", {"id": "bigint", "text": "string"}, {"": rows}))
    server.fail("data", "close", times=2)
    items = read_all(reader(server, table="long", partition=[], column=["*"]))
    assert [dict(i) for i in items] == rows
    starts = [int(p["rowrange"][1:].split(",")[0]) for k, _, p in server.seen if k == "data"]
    assert 0 == starts[0] < starts[1] < starts[2] < ROWS


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["table", "partitions", "service", "session", "attach"])
@pytest.mark.parametrize("fault", ["500", "429", "reset"])
def test_every_other_request_is_repeated_too(server: OdpsServer, kind: str, fault: str) -> None:
    """From the table's columns to taking up a session."""
    server.fail(kind, fault)
    assert ids(read_all(reader(server))) == ALL


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["query", "state", "result"])
def test_a_querys_requests_are_repeated_too(server: OdpsServer, kind: str) -> None:
    """From its start to its end."""
    server.fail(kind, "500")
    assert ids(read_all(reader(server, **WHERE))) == ALL


@pytest.mark.slow
def test_a_server_that_stays_away_ends_the_run_and_rejects_no_row(server: OdpsServer) -> None:
    """Within the deadline, which counts from the last row that came."""
    of = reader(server, context={"retry_deadline": 0.3})
    (split,) = of.plan().splits
    server.fail("data", "reset")
    server.fail("data", "503", times=float("inf"))
    started = time.monotonic()
    with pytest.raises(FatalError, match=r"step 'Reader': .*gave up after .*ServiceUnavailable"):
        list(of.read(split))
    assert time.monotonic() - started < 60


@pytest.mark.slow
def test_the_rows_before_a_fatal_fault_have_been_given(server: OdpsServer) -> None:
    """In order, from the first."""
    of = reader(server, context={"retry_deadline": 0.3})
    (split,) = of.plan().splits
    server.fail("data", "short")
    server.fail("data", "503", times=float("inf"))
    given: list[int] = []
    with pytest.raises(FatalError):
        given.extend(item["id"] for item in of.read(split))
    assert given == list(range(ROWS // 2))
    assert of.counts.values["rows-read"] == ROWS // 2


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_does_not_wait_for_a_server(server: OdpsServer) -> None:
    """The first Ctrl-C ends the reading where it stands."""
    of = reader(server, context={"retry_deadline": 600.0})
    (split,) = of.plan().splits
    server.fail("data", "short")
    server.fail("data", "503", times=float("inf"))
    stop = run_state(of.context.run).stop
    server.on_request = lambda kind: (
        threading.Timer(0.3, stop.set).start() if kind == "data" else None
    )
    started = time.monotonic()
    assert ids(list(of.read(split))) == list(range(ROWS // 2))
    assert time.monotonic() - started < 120


@pytest.mark.slow
def test_a_lost_session_is_opened_again_once_for_all_its_splits(server: OdpsServer) -> None:
    """Where the table is as it was, the rows are the same."""
    of = reader(server, maxSplitRows=300)
    splits = of.plan().splits
    first = list(of.read(splits[0]))
    server.lose_sessions()
    rest = [item for split in splits[1:] for item in of.read(split)]
    assert ids(first + rest) == ALL
    assert server.count("session") == 2


@pytest.mark.slow
def test_a_session_that_expires_in_the_middle_is_taken_up_again(server: OdpsServer) -> None:
    """However often: here each session answers four requests."""
    server.session_requests = 4
    assert ids(read_all(reader(server, maxSplitRows=300))) == ALL
    assert server.count("session") > 2


@pytest.mark.slow
@pytest.mark.parametrize("rows", [ROWS - 1, ROWS], ids=["other count", "same count"])
def test_a_table_that_changed_behind_a_lost_session_ends_the_run(
    server: OdpsServer, rows: int
) -> None:
    """Rows would be lost or come twice, and nobody could tell."""
    of = reader(server, maxSplitRows=1500)
    splits = of.plan().splits
    list(of.read(splits[0]))
    new = [{"id": -i, "sentence": "new"} for i in range(rows)]
    server.replace("talks", "split=dev", new)
    server.lose_sessions()
    with pytest.raises(FatalError, match="changed while it was read") as caught:
        list(of.read(splits[1]))
    assert "partition 'split=dev' of table 'talks'" in str(caught.value)


def test_a_lost_session_of_a_query_gives_the_same_result_again(server: OdpsServer) -> None:
    """The query is not run a second time."""
    of = reader(server, maxSplitRows=1500, **WHERE)
    splits = of.plan().splits
    server.replace("talks", "split=dev", [{"id": -1, "sentence": "new"}])
    server.lose_sessions()
    assert ids([i for s in splits for i in of.read(s)]) == ALL
    assert server.count("query") == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["service", "session", "attach", "data"])
def test_a_refused_quota_gives_way_to_the_public_one(
    server: OdpsServer, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """With one warning, whenever it is refused, also in the middle of a split."""
    of = reader(server, tunnelQuota="exclusive", maxSplitRows=500)
    if kind == "data":
        server.fail("data", "short")
    server.fail(kind, "quota", times=float("inf"))
    with caplog.at_level(logging.WARNING):
        assert ids(read_all(of)) == ALL
    warnings = [r.getMessage() for r in caplog.records if "quota 'exclusive'" in r.getMessage()]
    assert len(warnings) == 1
    assert "public" in warnings[0]


@pytest.mark.slow
def test_an_unknown_quota_gives_way_and_a_known_one_is_used(
    server: OdpsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The quota goes with each request of the tunnel."""
    with caplog.at_level(logging.WARNING):
        read_all(reader(server, tunnelQuota="exclusive"))
    assert caplog.text == ""
    tunnel = [p for k, _, p in server.seen if k in ("session", "attach", "data")]
    assert {p.get("quotaName") for p in tunnel} == {"exclusive"}
    with caplog.at_level(logging.WARNING):
        assert ids(read_all(reader(server, tunnelQuota="exlusive"))) == ALL
    assert "'exlusive' is refused" in caplog.text


@pytest.mark.slow
def test_the_public_quota_is_not_named_to_the_server(server: OdpsServer) -> None:
    """DataWorks writes it as `default`."""
    read_all(reader(server, tunnelQuota="default"))
    assert not any("quotaName" in p for _, _, p in server.seen)


def test_a_query_that_fails_is_told_with_its_text(server: OdpsServer) -> None:
    """And with the words of MaxCompute."""
    server.add(Table("v", {"id": "bigint"}, {"": [{"id": 1}]}))
    of = reader(server, table="v", partition=[], column=["id"], where="nope > 1", enableWhere=True)
    with pytest.raises(FatalError, match="no such column: nope") as caught:
        of.plan()
    assert "nope > 1" in str(caught.value)


def test_a_query_that_nobody_waits_for_any_more_is_stopped(server: OdpsServer) -> None:
    """What it scans is billed."""
    server.query_looks = 10**9
    of = reader(server, **WHERE)
    stop = run_state(of.context.run).stop
    server.on_request = lambda kind: stop.set() if kind == "state" else None
    with pytest.raises(FatalError, match="step 'Reader': the run was asked to stop"):
        of.plan()
    assert [i.stopped for i in server.instances.values()] == [True]


@pytest.mark.parametrize("status", [200, 404])
def test_a_server_that_is_none_of_maxcompute_is_told_so(status: int) -> None:
    """A wrong endpoint must not read like a missing table."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<html>a page</html>")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as page, OdpsServer() as server:
        threading.Thread(target=page.serve_forever, args=(0.05,), daemon=True).start()
        connection = server.connection(endpoint=f"http://127.0.0.1:{page.server_address[1]}/api")
        with pytest.raises(JobError, match="correct the endpoint"):
            reader(server, connection=connection).check()
        page.shutdown()


def _error(code: str, message: str = "", status: int | None = None) -> Exception:
    from odps.errors import ODPSError

    return ODPSError(message, code=code, status_code=status)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (_error("FlowExceeded", "Your flow quota is exceeded", 429), TransientError),
        (_error("SlotExceeded", "Your slot quota is exceeded. Quota: mine", 400), TransientError),
        (_error("InternalServerError", "", 500), TransientError),
        (ConnectionResetError("reset"), TransientError),
        (EOFError(), TransientError),
        (_error("NoSuchDownload", "", 404), SessionLost),
        (_error("StatusConflict", "The download session is expired", 400), SessionLost),
        (_error("TableModified", "", 400), SessionLost),
        (_error("Any", "The tunnel quota mine has expired", 403), QuotaRefused),
        (_error("NoPermission", "", 403), FatalError),
        (_error("InvalidColumnSpec", "", 400), FatalError),
        (TypeError("a fault of our own"), TypeError),
        (TerminalError("known"), TerminalError),
    ],
)
def test_each_error_has_its_consequence(error: Exception, kind: type[Exception]) -> None:
    """Waiting for bandwidth is not a refused quota, and a fault of our own is not repeated."""
    assert type(classify(error, "mine")) is kind
