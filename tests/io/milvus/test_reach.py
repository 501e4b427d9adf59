"""A Milvus that can not be spoken with, or used as a job wants it, is told before the run."""

from __future__ import annotations

import pytest

from tests.services.milvus import MilvusServer, TlsMilvusServer
from tests.services.server import running, stop
from vecferry.errors import JobError, TransientError
from vecferry.io.milvus import MilvusConnection, MilvusSettings
from vecferry.io.milvus.target import MilvusTarget
from vecferry.process import end_run
from vecferry.steps import StepContext
from vecferry.testing.sinks import rows, write

pytestmark = [pytest.mark.service, pytest.mark.slow]

COLUMNS = [
    {"name": "id", "type": "VarChar", "primaryKey": True, "maxLength": 64},
    {"name": "text", "type": "VarChar", "maxLength": 200},
    {"name": "vector", "type": "FloatVector", "dimension": 8},
]


@pytest.fixture(scope="module")
def secure():
    """A server with TLS."""
    yield running(TlsMilvusServer)
    stop(TlsMilvusServer)


@pytest.fixture
def target():
    """Makes targets, each with a client of its own."""
    runs = []

    def make(
        endpoint: str, *, ca: object = None, seconds: int = 120, **settings: object
    ) -> MilvusTarget:
        context = StepContext(step="Writer", step_type="milvus", retry_deadline=seconds)
        runs.append(context.run)
        connection = MilvusConnection(
            endpoint=endpoint,
            connect_timeout_ms=seconds * 1000,
            ca_cert=None if ca is None else str(ca),
        )
        given = {"collection": "reached", "column": COLUMNS, **settings}
        return MilvusTarget(MilvusSettings.model_validate(given), connection, context)

    yield make
    for run in runs:
        end_run(run)


def elsewhere(uri: str) -> str:
    """Another name of an address: pymilvus has one connection for each, however it was made."""
    return uri.replace("127.0.0.1", "localhost")


def test_a_server_with_tls_is_written_to_where_its_authority_is_given(secure, target) -> None:
    """As caCert."""
    there = target(secure.uri, ca=secure.ca)
    there.prepare()
    written, rejects = write(there, rows(10))
    assert (len(written), rejects, there.row_count()) == (10, [], 10)


def test_a_certificate_that_is_not_trusted_says_why_and_what_to_give(secure, target) -> None:
    """Of no known authority, of another one, or made out for another name."""
    named = elsewhere(secure.uri)
    for ca in (None, secure.data / "other-ca.pem"):
        with pytest.raises(JobError, match=r"not trusted: .*issuer.* as caCert"):
            target(named, ca=ca, seconds=5).check()
    with pytest.raises(JobError, match=r"not valid for 'localhost'.*name the host"):
        target(named, ca=secure.ca, seconds=5).check()
    with pytest.raises(JobError, match=r"caCert /no-such\.pem: No such file"):
        target(secure.uri, ca="/no-such.pem").check()


def test_tls_on_one_side_only_says_so_and_is_not_waited_for(secure, target) -> None:
    """Neither by the check nor by a worker."""
    plain = elsewhere(running(MilvusServer).uri)
    for endpoint, way in (
        (plain.replace("http:", "https:"), "speaks no TLS: write http://"),
        (elsewhere(secure.uri).replace("https:", "http:"), "speaks TLS: write https://"),
    ):
        with pytest.raises(JobError, match=way):
            target(endpoint, seconds=5).check()
        with pytest.raises(JobError, match=way):
            target(endpoint, seconds=5).operator()


def test_a_server_that_is_away_says_why(target) -> None:
    """And is waited for by a worker."""
    with pytest.raises(JobError, match=r"127\.0\.0\.1:9 can't be reached: Connection refused"):
        target("http://127.0.0.1:9", seconds=2).check()
    with pytest.raises(TransientError, match="gave up"):
        target("http://127.0.0.1:9", seconds=2).operator()


def test_what_a_server_is_too_old_for_is_told_by_the_check_and_drops_nothing(target) -> None:
    """Also where the collection is there, and would be made anew."""
    uri = running(MilvusServer).uri
    there = target(uri)
    there.prepare()
    write(there, rows(10))
    nullable = [*COLUMNS, {"name": "km", "type": "Double", "nullable": True}]
    recreate = {"schemaCreateMode": "recreate", "ownsTarget": True}
    for more in ({"collection": "is_new"}, recreate):
        for act in (MilvusTarget.check, MilvusTarget.prepare):
            with pytest.raises(JobError, match=r"version 2\.3, and nullable .*'km'.* needs 2\.5"):
                act(target(uri, column=nullable, **more))
    assert there.row_count() == 10


def test_a_ca_certificate_is_for_https_only() -> None:
    """With http it would look as if the connection were encrypted."""
    with pytest.raises(ValueError, match="caCert is given, and the endpoint is not https"):
        MilvusConnection.model_validate({"endpoint": "http://h:19530", "caCert": "ca.pem"})
