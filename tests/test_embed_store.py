"""Vectors paid for once: between bundles of a process, and between runs by the vector cache."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from tests.embed_support import (
    context,
    embedder,
    good,
    on_its_own_row,
    rejects,
    rows_of,
    run,
    settings_for,
)
from tests.endpoint_server import EndpointServer, every
from vecferry.errors import JobError, TransientError
from vecferry.transforms.embed_store import VectorStore, sqlite_path
from vecferry.transforms.embedder import Embedder


def _vector(*values):
    return np.array(values, dtype=np.float32)


def _uri(tmp_path):
    return f"sqlite:///{tmp_path / 'cache.db'}"


def test_a_second_run_of_the_same_input_sends_nothing(tmp_path):
    """What one run paid for the next takes from the file, each vector on its own row."""
    with EndpointServer() as server:
        settings = settings_for(server, vectorCacheUri=_uri(tmp_path))
        run(embedder(settings), rows_of(500))
        assert server.number == 50
        engine = embedder(settings)
        out = run(engine, rows_of(500))
        assert server.number == 50
    assert len(out) == 500
    assert all(on_its_own_row(row) for row in out)
    assert engine.counts.values == {"cache-hits": 500}


def test_changed_rows_are_sent_in_full_batches(tmp_path):
    """A few new texts among many known ones make few requests."""
    with EndpointServer() as server:
        settings = settings_for(server, vectorCacheUri=_uri(tmp_path))
        run(embedder(settings), rows_of(500))
        server.forget()
        rows = rows_of(500)
        for row in rows[::10]:
            row["text"] += " changed"
        out = run(embedder(settings), rows)
        assert server.number == 5
    assert all(on_its_own_row(row) for row in out)


def test_a_changed_model_or_dimension_never_meets_an_old_vector(tmp_path):
    """The key holds what a vector depends on."""
    with EndpointServer() as server:
        uri = _uri(tmp_path)
        run(embedder(settings_for(server, vectorCacheUri=uri)), rows_of(10))
        run(embedder(settings_for(server, vectorCacheUri=uri, dimension=128)), rows_of(10))
        other = settings_for(server, vectorCacheUri=uri, modelName="text-embedding-v3")
        run(embedder(other), rows_of(10))
        assert server.number == 3


@pytest.mark.parametrize(
    "content", [b"this is no database" * 100, b"SQLite format 3\0" + b"x" * 5000]
)
def test_a_damaged_file_is_set_aside_with_a_warning(tmp_path, caplog, content):
    """The run goes on with a new file; the old one stays for whoever wants to look."""
    path = tmp_path / "cache.db"
    path.write_bytes(content)
    store = VectorStore(path)
    store.put_many([(b"k", _vector(1, 2))])
    assert (store.get_many([b"k"], 2)[b"k"] == [1, 2]).all()
    store.close()
    assert "is damaged" in caplog.text
    assert [p.read_bytes() for p in tmp_path.glob("*.damaged-*")] == [content]


def test_a_file_damaged_while_it_is_in_use_costs_requests_not_rows(tmp_path, caplog):
    """The run goes on without the cache."""
    path = tmp_path / "cache.db"
    with EndpointServer() as server:
        one_run = context()
        settings = settings_for(server, vectorCacheUri=f"sqlite:///{path}", cacheBytes=0)
        engine = Embedder(settings, None, one_run)
        run(engine, rows_of(3000))
        engine._shared.store.close()
        store = engine._shared.store = VectorStore(path)
        store._db.execute("DROP TABLE vectors")
        out = run(Embedder(settings, None, one_run), rows_of(30))
    assert len(good(out)) == 30
    assert "goes on without it" in caplog.text


def test_it_keeps_to_its_size_and_lets_go_of_what_is_unused_longest(tmp_path):
    """Pruning removes the oldest use first."""
    store = VectorStore(tmp_path / "cache.db")
    store.put_many([(b"old%d" % i, _vector(*range(256))) for i in range(500)])
    store._db.execute("UPDATE vectors SET used = 100")
    store.put_many([(b"new%d" % i, _vector(*range(256))) for i in range(500)])
    before = store.stats()
    gone = store.prune(before.bytes * 2 // 3)
    after = store.stats()
    assert 300 < gone < 500
    assert after.entries == before.entries - gone == 1000 - gone
    assert after.bytes <= before.bytes * 2 // 3
    assert len(store.get_many([b"new%d" % i for i in range(500)], 256)) == 500
    assert store.get_many([b"new1"], 255) == {}
    store.close()


def test_many_processes_may_share_the_file(tmp_path):
    """Four write at once; everything is there, whole."""
    code = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from vecferry.transforms.embed_store import VectorStore\n"
        "me = int(sys.argv[2]); store = VectorStore(Path(sys.argv[1]))\n"
        "for i in range(50):\n"
        "    keys = [b'%d-%d-%d' % (me, i, k) for k in range(10)]\n"
        "    store.put_many([(key, np.full(8, me, 'f4')) for key in keys])\n"
        "assert not store._broken; store.close()\n"
    )
    path = str(tmp_path / "cache.db")
    command = [sys.executable, "-c", code, path]
    workers = [subprocess.Popen([*command, str(i)], env=os.environ) for i in range(4)]
    assert [worker.wait(60) for worker in workers] == [0] * 4
    store = VectorStore(tmp_path / "cache.db")
    assert store.stats().entries == 2000
    assert (store.get_many([b"3-49-9"], 8)[b"3-49-9"] == 3).all()
    store.close()


@pytest.mark.parametrize("uri", ["cache.db", "redis://h/0", "sqlite://h/x", "sqlite:///"])
def test_an_address_that_is_none_says_how_to_write_it(uri):
    """The way out is in the message."""
    with pytest.raises(JobError, match="write sqlite:///"):
        sqlite_path(uri)


def test_addresses_are_relative_or_absolute(tmp_path):
    """Three slashes and four."""
    assert str(sqlite_path("sqlite:///a/b.db")) == "a/b.db"
    assert str(sqlite_path("sqlite:////a/b.db")) == "/a/b.db"


def _in_threads(makers):
    results = [None] * len(makers)

    def work(i):
        results[i] = makers[i]()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(makers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    return results


def test_bundles_at_work_at_once_send_each_text_once():
    """What one bundle is sending another waits for, in the same process."""
    with EndpointServer(latency=0.02) as server:
        one_run = context(concurrent=8, parallelism=4)
        settings = settings_for(server)
        outs = _in_threads([lambda: run(Embedder(settings, None, one_run), rows_of(300))] * 4)
        assert all(len(out) == 300 for out in outs)
        assert all(on_its_own_row(row) for out in outs for row in out)
        assert len(server.sent()) == 300


def test_a_bundle_whose_text_another_could_not_get_tries_itself():
    """A refusal is not shared: each bundle asks, and rejects its own rows."""
    with EndpointServer(latency=0.02) as server:
        one_run = context(concurrent=8, parallelism=2)
        rows = rows_of(40)
        rows[7]["text"] = "POISON"
        settings = settings_for(server)
        outs = _in_threads([lambda: run(Embedder(settings, None, one_run), rows)] * 2)
        assert [len(rejects(out)) for out in outs] == [1, 1]
        assert [len(good(out)) for out in outs] == [39, 39]


def test_a_bundle_that_fails_or_is_closed_leaves_nobody_waiting():
    """Its texts are sent by those who waited for them."""
    with EndpointServer(latency=0.01, fault=every(1, "503")) as server:
        one_run = context(concurrent=4, parallelism=2)
        settings = settings_for(server, retryDeadlineSeconds=0.3)

        def fails():
            engine = Embedder(settings, None, one_run)
            with pytest.raises(TransientError):
                run(engine, rows_of(60))
            engine.close()
            return True

        assert _in_threads([fails] * 3) == [True] * 3
