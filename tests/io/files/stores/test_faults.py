"""Stores that fail: for a time, and no row is lost; for good, and it is told what to mend."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.contracts.files import Place
from tests.io.files.stores.proxy import Fault, Proxy, cut, hang, reset, status
from tests.io.files.stores.support import (
    buckets_have_names,
    gcs_place,
    gcs_source,
    hdfs_place,
    hdfs_source,
    oss_source,
    s3_place,
    s3_source,
)
from tests.services.gcs import Gcs
from tests.services.hdfs import Hdfs
from tests.services.server import free_port, running
from tests.services.versitygw import SECRET_KEY, Versitygw
from vecferry.errors import FatalError, JobError, TransientError, VecferryError
from vecferry.io.files import GcsConnection, HdfsConnection, OssConnection, S3Connection
from vecferry.io.files.connections import FileConnection
from vecferry.io.files.stores import gcs as files_store_gcs
from vecferry.io.files.stores import hdfs as files_store_hdfs
from vecferry.io.files.stores import remote as files_store_remote
from vecferry.io.files.stores import s3 as files_store_s3

pytestmark = pytest.mark.service

LINES = [b'{"n":%d,"t":"%s"}\n' % (i, b"x" * 900) for i in range(3000)]


def connection(given: dict[str, Any]) -> FileConnection:
    """A data source as a job would have it."""
    kinds: dict[str, Any] = {
        "s3": S3Connection, "oss": OssConnection, "hdfs": HdfsConnection, "gcs": GcsConnection
    }  # fmt: skip
    made: FileConnection = kinds[given["type"]].model_validate(given)
    return made


@pytest.fixture(params=["s3", "hdfs", "gcs"])
def proxied(request: pytest.FixtureRequest) -> Iterator[tuple[Place, Proxy]]:
    """A store behind a proxy, which has answered before; files are put past the proxy."""
    kind = request.param
    server = running({"s3": Versitygw, "hdfs": Hdfs, "gcs": Gcs}[kind])
    place = {"s3": s3_place, "hdfs": hdfs_place, "gcs": gcs_place}[kind]()
    source = {"s3": s3_source, "hdfs": hdfs_source, "gcs": gcs_source}[kind]
    with Proxy(server.url) as proxy:
        yield replace(place, connection=connection(source(endpoint=proxy.url))), proxy


FAULTS: dict[str, Fault] = {
    "500": status(500),
    "503": status(503, b"<Error><Code>SlowDown</Code><Message>slow down</Message></Error>"),
    "429": status(429),
    "reset": reset,
    "cut": cut,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_costs_no_row(proxied: tuple[Place, Proxy], fault: str) -> None:
    """Reading goes on at the byte that it had come to."""
    place, proxy = proxied
    path = f"{place.folder()}/a.jsonl"
    place.put(path, b"".join(LINES))
    source = place.reader(path, fileFormat="jsonl", column=[{"name": "n", "type": "long"}])
    rows = source.read(source.plan().splits[0])
    got = [next(rows)["n"]]
    proxy.faults = [FAULTS[fault]] * 3
    got += [row["n"] for row in rows]  # type: ignore[index]
    assert proxy.met == 3
    assert got == list(range(3000))
    assert source.counts.values == {"rows-read": 3000, "bytes-read": sum(map(len, LINES))}


def test_a_service_that_is_silent_is_asked_again(
    proxied: tuple[Place, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read waits READ_SECONDS, not for ever."""
    place, proxy = proxied
    monkeypatch.setattr(files_store_s3, "READ_SECONDS", 0.3)
    monkeypatch.setattr(files_store_hdfs, "READ_SECONDS", 0.3)
    monkeypatch.setitem(files_store_gcs._TIMEOUT, "timeout", (1, 0.3))
    path = f"{place.folder()}/a.jsonl"
    place.put(path, LINES[0])
    source = place.reader(path, fileFormat="jsonl")
    (split,) = source.plan().splits
    proxy.faults = [hang]
    assert len(list(source.read(split))) == 1
    assert proxy.met == 1


def test_a_service_that_stays_away_fails_the_job_by_the_file_s_name(
    proxied: tuple[Place, Proxy],
) -> None:
    """After the deadline, with what can be done; no row is rejected for it."""
    place, proxy = proxied
    path = f"{place.folder()}/a.parquet"
    place.put(path, b"".join(LINES))
    store = place.connection.open_files(0.5)
    with store.open(path) as file:
        file.read(1)
        proxy.faults = [status(503)] * 1000
        with pytest.raises(TransientError, match=rf"{path}: gave up after .*; run the job again"):
            file.read()


@pytest.mark.parametrize("name", ["a.parquet", "a.orc"])
def test_a_fault_below_arrow_keeps_its_kind(name: str) -> None:
    """Arrow makes of it an error of its own, which would blame the file."""
    from tests.contracts.files import FORMATS

    case = next(c for c in FORMATS if c.name == name)
    place = s3_place()
    with Proxy(running(Versitygw).url) as proxy:
        away = replace(place, connection=connection(s3_source(endpoint=proxy.url)))
        path = f"{place.folder()}/{name}"
        place.put(path, case.make())
        source = away.reader(path, **case.parameters)
        (split,) = source.plan().splits
        denied = b"<Error><Code>ExpiredToken</Code><Message>it has expired</Message></Error>"
        proxy.faults = [status(403, denied)]
        with pytest.raises(FatalError, match=rf"{name}: the security token has expired"):
            list(source.read(split))


def test_a_server_killed_and_started_again_costs_no_row() -> None:
    """In the middle of a file; none is lost, none comes twice."""
    server = Versitygw()
    server.install()
    server.prepare()
    server.start()
    try:
        folder = server.data / Versitygw.bucket
        (folder / "a.jsonl").write_bytes(b"".join(LINES))
        given = s3_source(endpoint=server.url)
        place = replace(s3_place(), connection=connection({**given, "path": ""}))
        source = place.reader("a.jsonl", fileFormat="jsonl", column=[{"name": "n"}])
        rows = source.read(source.plan().splits[0])
        got = [next(rows)["n"]]
        server.kill()
        reading = threading.Thread(target=lambda: got.extend(row["n"] for row in rows))
        reading.start()
        reading.join(0.5)
        assert reading.is_alive()
        server.start()
        reading.join(120)
        assert got == list(range(3000))
    finally:
        server.stop()
        server.remove()


def nobody() -> str:
    """An address at which nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


WRONG: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "s3 secret": (
        lambda: s3_source(accessKeySecret="another-secret-1"),
        "accessKeySecret does not belong to accessKeyId: correct the keys",
    ),
    "s3 key": (
        lambda: s3_source(accessKeyId="AKIANOBODY"),
        "accessKeyId is not known there: correct the keys",
    ),
    "s3 certificates": (
        lambda: s3_source(endpoint="https://127.0.0.1:1", caCert="/absent.pem"),
        "caCert /absent.pem: No such file or directory; name a file of certificates in PEM",
    ),
    "hdfs certificates": (
        lambda: hdfs_source(endpoint="https://127.0.0.1:1", caCert=__file__),
        "caCert .*; name a file of certificates in PEM",
    ),
    "s3 bucket": (lambda: s3_source(bucket="absent"), "the bucket 'absent' does not exist"),
    "s3 endpoint": (lambda: s3_source(endpoint=nobody()), "does not answer: .*refused"),
    "s3 folder": (lambda: s3_source(path="absent"), "'s3://bucket/absent' .*not exist"),
    "oss secret": (
        lambda: oss_source(accessKeySecret="another-secret-1"),
        "accessKeySecret does not belong to accessKeyId: correct the keys",
    ),
    "oss bucket": (lambda: oss_source(bucket="absent"), "the bucket 'absent' does not exist"),
    "hdfs user": (
        lambda: hdfs_source(path="private"),
        "user 'alice' may not read it: grant",
    ),
    "hdfs endpoint": (lambda: hdfs_source(endpoint=nobody()), "does not answer: .*refused"),
    "hdfs port": (
        lambda: hdfs_source(endpoint=running(Hdfs).rpc.replace("hdfs:", "http:")),
        "does not speak WebHDFS .*: correct the endpoint",
    ),
    "hdfs folder": (lambda: hdfs_source(path="absent"), "absent' .*does not exist"),
    "gcs bucket": (lambda: gcs_source(bucket="absent"), "the bucket 'absent' does not exist"),
    "gcs endpoint": (lambda: gcs_source(endpoint=nobody()), "does not answer: .*refused"),
    "gcs key": (
        lambda: gcs_source(credentials="/absent/key.json"),
        "credentials of the data source can't be used: No such file",
    ),
    "gcs sound key": (
        lambda: gcs_source(credentials={"type": "service_account", "private_key": "secret-1"}),
        "credentials of the data source can't be used: it is not a key of a service account",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_data_source_is_told_at_once(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to correct, by name; no secret."""
    monkeypatch.setattr(files_store_remote, "FIRST_SECONDS", 0.3)
    given, message = WRONG[case]
    if case == "hdfs user":
        server = running(Hdfs)
        server.call("PUT", "private", op="MKDIRS")
        server.call("PUT", "private", op="SETPERMISSION", permission="700")
    source = given()  # which may start a server
    begun = time.monotonic()
    place = Place(connection(source), lambda *_: None, lambda _: None)
    with buckets_have_names(), pytest.raises(VecferryError, match=message) as raised:
        place.reader("*.jsonl", fileFormat="jsonl").check()
    assert "secret-1" not in str(raised.value)
    assert SECRET_KEY not in str(raised.value)
    assert time.monotonic() - begun < 300  # a server that is away is waited for ten minutes


def s3_answer(code: int, name: str) -> Fault:
    body = f"<Error><Code>{name}</Code><Message>said so</Message></Error>" if name else "<p>hi"
    return status(code, body.encode(), x_amz_bucket_region="eu-west-1")


def hdfs_answer(code: int, name: str) -> Fault:
    if name == "nested":
        return status(code, b"[" * 5000 + b"]" * 5000)
    body = f'{{"RemoteException":{{"exception":"{name}","message":"said so"}}}}' if name else "<p>"
    return status(code, body.encode())


def gcs_answer(code: int, name: str) -> Fault:
    return status(code, b"<p>hi")


S3 = (Versitygw, s3_source, s3_answer)
HDFS = (Hdfs, hdfs_source, hdfs_answer)
GCS = (Gcs, gcs_source, gcs_answer)
ANSWERS = {
    "s3: clock": (S3, 403, "RequestTimeTooSkewed", FatalError, "clock is wrong: set it"),
    "s3: rights": (S3, 403, "AccessDenied", FatalError, "grant them the reading of objects"),
    "s3: key": (S3, 403, "InvalidAccessKeyId", FatalError, "accessKeyId is not known there"),
    "s3: token": (S3, 400, "ExpiredToken", FatalError, "security token has expired: correct"),
    "s3: archived": (S3, 403, "InvalidObjectState", FatalError, "archived: restore it first"),
    "s3: region": (S3, 301, "PermanentRedirect", FatalError, "correct endpoint or region"),
    "s3: web page": (S3, 404, "", FatalError, "refuses .*correct endpoint and bucket"),
    "s3: busy": (S3, 503, "SlowDown", TransientError, "busy or broken .*SlowDown"),
    "s3: odd": (S3, 418, "Teapot", FatalError, "the service refuses .*Teapot"),
    # A name node on standby is asked again, since it may take over.
    "hdfs: standby": (HDFS, 403, "StandbyException", TransientError, "name the active one"),
    "hdfs: kerberos": (HDFS, 401, "", FatalError, "wants a proof of who the user is"),
    "hdfs: lost": (HDFS, 403, "BlockMissingException", TransientError, "can't give it now"),
    "hdfs: web page": (HDFS, 404, "", FatalError, "does not speak WebHDFS .*HTTP address"),
    "hdfs: odd": (HDFS, 400, "IllegalArgumentException", FatalError, "the service refuses"),
    "hdfs: nested": (HDFS, 400, "nested", FatalError, "does not speak WebHDFS .*HTTP address"),
    "hdfs: nested listing": (HDFS, 200, "nested", FatalError, "does not speak WebHDFS: correct"),
    "gcs: rights": (GCS, 403, "", FatalError, "role Storage Object Viewer"),
    "gcs: login": (GCS, 401, "", FatalError, "no credentials were found: give a key"),
    "gcs: busy": (GCS, 503, "", TransientError, "busy or broken"),
    "gcs: odd": (GCS, 400, "", FatalError, "the service refuses"),
    "gcs: web page": (GCS, 200, "", FatalError, "does not speak Google's API"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_each_answer_of_a_store_is_told_for_what_it_is(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also Amazon's and Alibaba Cloud's codes; what no test server says, the proxy does."""
    monkeypatch.setattr(files_store_remote, "FIRST_SECONDS", 0.2)
    (server, source, answer), code, name, kind, message = ANSWERS[case]
    with Proxy(running(server).url) as proxy:
        proxy.faults = [answer(code, name)] * 100
        store = connection(source(endpoint=proxy.url)).open_files()
        with pytest.raises(kind, match=message):
            store.find("*")


def test_gcs_is_asked_for_the_generation_that_was_listed() -> None:
    """The emulator heeds it not; an answer of 412, as the service gives it, fails the job."""
    place = gcs_place()
    path = f"{place.folder()}/a"
    place.put(path, b"x")
    with Proxy(running(Gcs).url) as proxy:
        store = connection(gcs_source(endpoint=proxy.url)).open_files()
        (file,) = store.find(path)
        assert store.open(path, file).read() == b"x"
        assert f"ifGenerationMatch={file.version}" in proxy.seen[-1]
        proxy.faults = [status(412)]
        with pytest.raises(FatalError, match="changed since it was listed"):
            store.open(path, file).read()


def test_a_data_node_that_can_t_be_reached_is_named() -> None:
    """The name node answers, and sends readers to an address that they don't know."""
    place = hdfs_place()
    path = f"{place.folder()}/a"
    place.put(path, b"x")
    with Proxy(running(Hdfs).url) as proxy:
        store = connection(hdfs_source(endpoint=proxy.url)).open_files(0.2)
        file = store.open(path)
        target = f"http://127.0.0.1:{free_port()}"

        def elsewhere(handler: Any) -> bool:
            handler.send_response(307)
            handler.send_header("Location", f"{target}/webhdfs/v1/a")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return True

        proxy.faults = [elsewhere] * 100
        with pytest.raises(TransientError, match=f"the data node {target[7:]} does not answer"):
            file.read()


def test_missing_clients_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip tells how."""
    import sys

    for module, given, extra in (
        ("boto3.session", s3_source(endpoint=nobody()), "s3"),
        ("google.cloud.storage", gcs_source(endpoint=nobody()), "gcs"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        if extra == "gcs":
            import google.cloud

            monkeypatch.delattr(google.cloud, "storage")
        with pytest.raises(JobError, match=rf"pip install 'vecferry\[{extra}\]'"):
            connection(given).open_files().find("*")
