"""A vector cache in Redis when Redis is not well: away, hung, full, locked, read-only."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.pipelines.support import Bench, counts_add_up, rows
from tests.services.redis_server import RedisServer
from tests.services.server import eventually, free_port, running
from tests.transforms.embed.cache.support import MIB, RedisPlace, key_of, pairs, store_at
from tests.transforms.embed.endpoints.server import EndpointServer
from tests.transforms.embed.support import (
    embedder,
    good,
    on_its_own_row,
    rows_of,
    run,
    settings_for,
)
from vecferry.errors import JobError
from vecferry.transforms.embed.cache import redis as embed_store_redis
from vecferry.transforms.embed.cache import store as embed_store
from vecferry.transforms.embed.cache.redis import entry_bytes

service = pytest.mark.service
PASSWORD = "p@ss/w?rd#1"
ENCODED = "p%40ss%2Fw%3Frd%231"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of the test's own, which it may kill, stop or reconfigure."""
    running(RedisServer)  # skips where there is none
    own = RedisServer()
    own.install()
    own.start()
    yield own
    own.kill()
    own.remove()


def _set(server: RedisServer, **options: object) -> None:
    with redis.Redis.from_url(server.uri) as client:
        for name, value in options.items():
            client.config_set(name.replace("_", "-"), str(value))


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def _hang(server: RedisServer) -> None:
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)


@service
@pytest.mark.parametrize("how", ["kill", "hang"])
def test_a_redis_that_dies_or_hangs_in_mid_run_costs_no_row(
    server: RedisServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """The job is done, each row written once, with one warning; a hung one holds it up briefly."""
    monkeypatch.setattr(embed_store_redis, "ANSWER_SECONDS", 0.5)
    bench = Bench(tmp_path, capsys)
    bench.write_lines(rows(2000))
    bench.job["setting"]["vectorCache"] = {"uri": server.uri}
    with EndpointServer(latency=0.01) as endpoint:
        bench.step("Embed").update(
            modelProvider="openai",
            modelName="text-embedding-v4",
            apiKey="sk-test",
            endpoint=endpoint.url,
        )

        def spoil() -> None:
            eventually(lambda: endpoint.number >= 20)
            server.kill() if how == "kill" else _hang(server)

        spoiler = threading.Thread(target=spoil)
        spoiler.start()
        started = time.monotonic()
        outcome = bench.call("run", "--json")
        seconds = time.monotonic() - started
        spoiler.join()
        assert endpoint.number == 200
    assert outcome.status == 0, outcome.err
    report = outcome.json
    assert report["state"] == "DONE"
    assert counts_add_up(report)
    assert len(bench.stored(["id"])) == report["rows_written"] == 2000
    assert outcome.err.count("vector cache") == outcome.err.count("goes on without it") == 1
    assert seconds < 90  # it asked 200 times, and waited half a second for one answer or a few


@service
def test_a_redis_that_comes_back_is_used_again(
    server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left alone for a while, and then tried: an endless job gets its cache back."""
    monkeypatch.setattr(embed_store, "AWAY_SECONDS", 0.2)
    store = store_at(server.uri)
    store.put_many(pairs(0, 5))
    server.kill()
    assert store.get_many([key_of(0)], 256) == {}
    store.put_many(pairs(5, 10))
    server.start()

    def is_back() -> bool:
        store.put_many(pairs(10, 15))
        return bool(store.get_many([key_of(10)], 256))

    eventually(is_back)
    store.close()
    assert len(_warnings(caplog)) == 1


@service
def test_what_is_away_is_not_asked_again_at_once(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hung server holds a run up once, not with each lookup."""
    monkeypatch.setattr(embed_store_redis, "ANSWER_SECONDS", 0.3)
    store = store_at(server.uri)
    store.put_many(pairs(0, 1))
    _hang(server)
    asked: list[str] = []
    backend = store._open
    assert backend is not None
    for name in ("get_many", "put_many"):
        ask = getattr(backend, name)
        monkeypatch.setattr(backend, name, lambda *args, ask=ask: asked.append("") or ask(*args))
    for _ in range(50):
        assert store.get_many([key_of(0)], 256) == {}
        store.put_many(pairs(0, 1))
    store.close()
    assert len(asked) == 1


@service
@pytest.mark.parametrize("trouble", ["full", "replica"])
def test_a_server_that_takes_nothing_more_is_still_read(
    server: RedisServer, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    """OOM and READONLY end the writing with one warning; what is there is found."""
    store = store_at(server.uri)
    store.put_many(pairs(0, 100))
    with redis.Redis.from_url(server.uri) as client:
        if trouble == "full":
            client.config_set("maxmemory", 1)
        else:
            client.replicaof("127.0.0.1", 1)
    for i in range(100, 110):
        store.put_many(pairs(i, i + 1))
    found = store.get_many([key_of(i) for i in range(110)], 256)
    assert len(found) == 100
    assert all((vector_found == i).all() for i, vector_found in enumerate(found.values()))
    store.close()
    (warning,) = _warnings(caplog)
    assert "only reads from it" in warning
    assert {"full": "maxmemory", "replica": "read only replica"}[trouble] in warning


@service
def test_a_connection_that_the_server_closed_is_opened_again_unnoticed(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """As servers and firewalls do with one that was idle for long."""
    store = store_at(server.uri)
    with redis.Redis.from_url(server.uri) as client:
        for i in range(3):
            store.put_many(pairs(i, i + 1))
            client.client_kill_filter(_type="normal", skipme=True)
            assert store.get_many([key_of(i)], 256)
            client.client_kill_filter(_type="normal", skipme=True)
    store.close()
    assert _warnings(caplog) == []


@service
def test_a_node_of_a_cluster_is_refused_before_the_run() -> None:
    """It would give only some of the keys; a proxy before the cluster gives all."""
    running(RedisServer)

    class Node(RedisServer):
        def command(self) -> list[str]:
            return [*super().command(), "--cluster-enabled", "yes", "--cluster-port",
                    str(free_port())]  # fmt: skip

    node = Node()
    node.install()
    node.start()
    try:
        with redis.Redis.from_url(node.uri) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            eventually(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        with pytest.raises(JobError, match="node of a cluster"):
            store_at(node.uri).check()
    finally:
        node.kill()
        node.remove()


@service
def test_values_of_another_type_are_misses_and_are_replaced(server: RedisServer) -> None:
    """Somebody's list under our name does not stop the run."""
    store = store_at(server.uri)
    store.put_many(pairs(0, 2))
    with redis.Redis.from_url(server.uri) as client:
        client.delete(f"vecferry:v1:{key_of(1).hex()}")
        client.rpush(f"vecferry:v1:{key_of(1).hex()}", "x")
    assert list(store.get_many([key_of(0), key_of(1)], 256)) == [key_of(0)]
    store.put_many(pairs(1, 2))
    assert len(store.get_many([key_of(0), key_of(1)], 256)) == 2
    store.close()


@service
def test_other_data_in_the_same_database_is_left_alone(server: RedisServer) -> None:
    """Pruning to nothing removes our keys only."""
    with redis.Redis.from_url(server.uri, decode_responses=True) as client:
        client.set("theirs", "x")
        store = store_at(server.uri, max_bytes=MIB)
        store.put_many(pairs(0, 2000))
        backend = embed_store.open_backend(server.uri, create=False)
        assert backend.prune(0) > 0
        backend.close()
        store.close()
        assert set(client.keys()) == {"theirs", "vecferry:v1:sizes"}


@service
@pytest.mark.parametrize("size", [256, 1000, 1024, 3072, 4096, 6144, 8192, 16384])
def test_the_room_of_a_value_is_told_rightly(server: RedisServer, size: int) -> None:
    """Within a tenth of what Redis itself has taken, for every size of vectors."""
    place = RedisPlace(server)
    store = store_at(server.uri)
    for at in range(0, 4000, 200):
        store.put_many(pairs(at, at + 200, dimension=size // 4))
    taken = place.used_bytes() - 200_000  # a connection's buffers
    assert 4000 * entry_bytes(size) == pytest.approx(taken, rel=0.1)
    store.close()
    place.client.close()


@service
@pytest.mark.parametrize(
    ("user", "says"),
    [("", "Authentication required"), (":wrongpw@", "invalid"), ("nobody:wrongpw@", "invalid")],
)
def test_a_missing_or_wrong_password_is_told_before_the_run(
    server: RedisServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    user: str,
    says: str,
) -> None:
    """Exit status 2, nothing written, and the password is not shown."""
    _set(server, requirepass=PASSWORD)
    bench = Bench(tmp_path, capsys)
    bench.write_lines(rows(3))
    bench.job["setting"]["vectorCache"] = {"uri": f"redis://{user}127.0.0.1:{server.port}/0"}
    for command in (("run",), ("check", "--connect")):
        outcome = bench.call(*command)
        assert outcome.status == 2
        assert "user or password are wrong or missing" in outcome.err
        assert says in outcome.err
        assert "wrongpw" not in outcome.out + outcome.err
    assert not (tmp_path / "vectors.db").exists()


@service
def test_a_password_is_nowhere_to_be_seen(
    server: RedisServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not in report, output, logs or rejects, whether the cache works or fails."""
    _set(server, requirepass=PASSWORD)
    uri = f"redis://:{ENCODED}@127.0.0.1:{server.port}/0"
    caplog.set_level(logging.DEBUG)
    bench = Bench(tmp_path, capsys)
    bench.write_lines([*rows(30), {"id": "bad"}])
    bench.job["setting"].update(vectorCache={"uri": uri}, errorLimit={"record": 5})
    shown = []
    for command in (
        ("run", "--json"), ("check",), ("check", "--connect", "--json"), ("cache", "stats"),
    ):  # fmt: skip
        path = bench.save()
        source = ["-d", str(tmp_path / "sources.json")]
        end = ["--rejects", str(tmp_path / "rejects")] if command[0] == "run" else []
        named = 2 if command[0] == "cache" else 1
        outcome = bench.line(*command[:named], path, *command[named:], *source, *end)
        assert outcome.status == 0, outcome.err
        shown.append(outcome.out + outcome.err)
    server.kill()
    shown += [bench.call("check", "--connect").err, bench.line("cache", "stats", uri).err]
    settings = settings_for(None, vectorCache={"uri": uri})
    shown += [repr(settings), settings.model_dump_json(), str(settings.vector_cache)]
    shown += [caplog.text, *(p.read_text() for p in tmp_path.glob("rejects/*/*"))]
    assert not [text for text in shown if PASSWORD in text or ENCODED in text]
    assert sum(f"redis://***@127.0.0.1:{server.port}/0" in text for text in shown) >= 5


@service
def test_users_need_few_rights(server: RedisServer) -> None:
    """Those that the page names are enough to read, write and prune."""
    page = (Path(__file__).parents[4] / "docs" / "vector-cache.md").read_text()
    (rule,) = [line for line in page.splitlines() if line.startswith("ACL SETUSER")]
    with redis.Redis.from_url(server.uri) as client:
        client.execute_command(*rule.replace(">…", ">secretpw").split())
    name = rule.split()[2]
    store = store_at(f"redis://{name}:secretpw@127.0.0.1:{server.port}/0", max_bytes=MIB)
    store.check()
    for at in range(0, 3000, 100):
        store.put_many(pairs(at, at + 100))
    assert store.get_many([key_of(2999)], 256)
    store.close()
    assert store._told == set()


@service
def test_tls_is_verified(tmp_path: Path) -> None:
    """rediss:// with the right authority works, with none it is refused, before the run."""
    running(RedisServer)
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip

    class TlsServer(RedisServer):
        def command(self) -> list[str]:
            given = [str(self.port) if a == str(self.port) else a for a in super().command()]
            at = given.index("--port")
            given[at] = "--tls-port"
            return [*given, "--port", "0", "--tls-cert-file", str(cert), "--tls-key-file",
                    str(key), "--tls-auth-clients", "no"]  # fmt: skip

        def ready(self) -> None:
            socket.create_connection(("127.0.0.1", self.port), 1).close()

    own = TlsServer()
    own.install()
    own.start()
    try:
        uri = f"rediss://127.0.0.1:{own.port}/0"
        store = store_at(f"{uri}?ssl_ca_certs={cert}")
        store.put_many(pairs(0, 1))
        assert store.get_many([key_of(0)], 256)
        store.close()
        with pytest.raises(JobError, match="certificate verify failed"):
            store_at(uri).check()
        with pytest.raises(JobError, match="No such file"):
            store_at(f"{uri}?ssl_ca_certs=/none.pem").check()
    finally:
        own.kill()
        own.remove()


@pytest.mark.slow
def test_a_port_where_nobody_speaks_redis_is_told_before_the_run() -> None:
    """Nobody there, somebody who says nothing, somebody who speaks something else."""
    with EndpointServer() as http, socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = socket.create_server(("127.0.0.1", 0))
        closed = nobody.getsockname()[1]
        nobody.close()
        quiet = silent.getsockname()[1]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(embed_store_redis, "ANSWER_SECONDS", 0.3)
            for port, says in ((closed, "refused"), (quiet, "no answer within")):
                with pytest.raises(JobError, match=says):
                    store_at(f"redis://127.0.0.1:{port}/0").check()
            port = int(http.url.rpartition(":")[2].partition("/")[0])
            with pytest.raises(JobError, match=f"vector cache redis://127.0.0.1:{port}/0: "):
                store_at(f"redis://127.0.0.1:{port}/0").check()


@pytest.mark.slow
def test_an_absent_client_is_named_with_the_extra_to_install() -> None:
    """Before a run, in words."""
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from vecferry.transforms.embed.cache.store import VectorStore\n"
        "from vecferry.transforms.embed.cache.settings import cache_settings\n"
        "from vecferry.errors import JobError\n"
        "try: VectorStore(cache_settings('redis://127.0.0.1:1/0')).check()\n"
        "except JobError as e: print(e)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'vecferry[redis]'" in done.stdout, done.stderr


def test_a_cache_that_is_away_from_the_start_costs_no_row_without_preflight(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A worker that can't reach it goes on without."""
    with EndpointServer() as endpoint:
        settings = settings_for(endpoint, vectorCache={"uri": "redis://127.0.0.1:1/0"})
        out = run(embedder(settings), rows_of(300))
        assert endpoint.number == 30
    assert all(on_its_own_row(row) for row in good(out))
    assert len(good(out)) == 300
    assert len(_warnings(caplog)) == 1
