"""The client of PostgreSQL: what errors mean, TLS, and servers that do not answer."""

from __future__ import annotations

import psycopg
import pytest

from tests.io.postgresql.support import Tables, backends, processes, stopped
from tests.services.postgres import DATABASE, PASSWORD, USER, PostgresTls
from tests.services.server import eventually, running
from vecferry.errors import FatalError, TerminalError, TransientError
from vecferry.io.postgresql import PostgresConnection
from vecferry.io.postgresql.client import classify, connect
from vecferry.io.sink import TooLargeError
from vecferry.io.tables.database import ConnectionLost, Refused
from vecferry.process import end_run
from vecferry.testing.sinks import rows, write

HERE = PostgresConnection(host="h", database="d", username="u")


@pytest.fixture
def tables():
    tables = Tables("postgresql")
    yield tables
    tables.close()


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("08006", TransientError),
        ("40001", TransientError),
        ("40P01", TransientError),
        ("53300", TransientError),
        ("55P03", TransientError),
        ("57P01", TransientError),
        ("57014", TransientError),
        ("XX000", TransientError),
        ("53200", TooLargeError),
        ("53100", FatalError),
        ("25006", FatalError),
        ("26000", FatalError),
        ("28P01", FatalError),
        ("42P01", FatalError),
        ("42501", FatalError),
        ("3D000", FatalError),
        ("22001", TerminalError),
        ("23505", TerminalError),
        ("P0001", TerminalError),
    ],
)
def test_what_a_state_of_the_server_means(state, kind):
    """What passes is retried, what every row would meet is fatal, the rest is a row's fault."""
    assert type(classify(psycopg.errors.lookup(state)("words"), HERE)) is kind


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("08006", ConnectionLost),
        ("40P01", ConnectionLost),
        ("53100", ConnectionLost),
        ("53200", ConnectionLost),
        ("53300", ConnectionLost),
        ("57P01", ConnectionLost),
        ("22012", Refused),
        ("25006", Refused),
        ("42501", Refused),
        ("42703", Refused),
        ("57014", Refused),
        ("P0001", Refused),
        ("XX001", Refused),
    ],
)
def test_what_a_state_of_the_server_means_to_a_reader(state, kind):
    """The server is away, or the statement will fail again: a reader has no row to reject."""
    assert type(classify(psycopg.errors.lookup(state)("words"), HERE, ["id"])) is kind


def test_an_error_that_is_ours_is_not_taken_for_the_servers():
    """A lost connection may come back; a fault of the program is raised as it is."""
    assert type(classify(psycopg.OperationalError("server closed"), HERE)) is ConnectionLost
    assert type(classify(ZeroDivisionError("ours"), HERE)) is ZeroDivisionError
    refused = Refused("refuses the login")
    assert classify(refused, HERE) is refused


@pytest.mark.service
def test_a_certificate_is_asked_for_and_checked(tmp_path):
    """With the authority that signed it the login is made over TLS; with another it is refused."""
    server = running(PostgresTls)
    given = {"host": "127.0.0.1", "port": server.port, "username": USER, "database": DATABASE}
    trusting = PostgresConnection.model_validate(
        {**given, "password": PASSWORD, "caCert": str(server.ca)}
    )
    with connect(trusting) as connection:
        assert connection.pgconn.ssl_in_use
    (tmp_path / "ca.pem").write_bytes((server.data / "server.pem").read_bytes())
    doubting = trusting.model_copy(update={"ca_cert": str(tmp_path / "ca.pem")})
    with pytest.raises(Refused, match=r"certificate of .* is not trusted"):
        connect(doubting)


@pytest.mark.service
def test_a_backend_that_stops_costs_no_row_and_does_not_come_too_late(tables):
    """Its rows go over another connection; once it goes on, it changes nothing any more."""
    others = set(backends(tables.server))
    target = tables.target(batchSize=50)
    target.answer_seconds = 0.5
    write(target, rows(200))
    numbers = set(backends(tables.server)) - others
    assert numbers
    with stopped(numbers):
        operator = target.operator()
        again = [{**row, "text": "second"} for row in rows(200)]
        written, rejects = write(target, again, operator)
        assert (len(written), rejects) == (200, [])
        assert operator.counts.values["write-retries"] > 0
        written, rejects = write(target, [{**row, "text": "third"} for row in rows(200)])
        assert (len(written), rejects) == (200, [])
    eventually(lambda: numbers.isdisjoint(backends(tables.server)))
    assert tables.ask("SELECT DISTINCT text, count(*) FROM @t GROUP BY text") == [("third", 200)]


@pytest.mark.service
def test_a_server_that_stops_is_given_up_within_the_deadline(tables):
    """The run fails, rather than wait for ever; the next run loses no row."""
    target = tables.target(retry_deadline=2)
    operator = target.operator()
    with stopped(processes(tables.server)), pytest.raises(TransientError, match="does not answer"):
        write(target, rows(20), operator)
    written, rejects = write(tables.target(), rows(20))
    assert (len(written), rejects) == (20, [])
    assert target.row_count() == 20


@pytest.mark.service
def test_a_lock_that_is_held_too_long_is_given_up_within_the_deadline(tables):
    """A server that waits is as silent as one that stopped; what was given up is not done later."""
    others = set(backends(tables.server))
    target = tables.target(retry_deadline=1)
    write(target, rows(20))
    with tables.server.client(autocommit=False) as holder:
        holder.execute(f'SELECT * FROM "{tables.table}" FOR UPDATE')
        with pytest.raises(TransientError, match="it was silent for 1 s"):
            write(target, [{**row, "text": "second"} for row in rows(20)])
        end_run(target.context.run)
        holder.rollback()
    eventually(lambda: others >= set(backends(tables.server)))
    assert tables.ask("SELECT count(*) FROM @t WHERE text = 'second'") == [(0,)]
