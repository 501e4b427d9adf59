"""What every vector cache holds to, in a SQLite file and in Redis."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pipelines.support import Bench, rows
from tests.services.redis_server import RedisServer
from tests.services.server import running
from tests.transforms.embed.cache.support import (
    MIB,
    Place,
    RedisPlace,
    SqlitePlace,
    backend_at,
    key_of,
    pairs,
    store_at,
    vector,
)
from tests.transforms.embed.endpoints.server import EndpointServer
from tests.transforms.embed.support import embedder, on_its_own_row, rows_of, run, settings_for
from vecferry.transforms.embed.cache.store import seal

KINDS = ["sqlite", pytest.param("redis", marks=pytest.mark.service)]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Somewhere to keep vectors, empty."""
    if request.param == "sqlite":
        yield SqlitePlace(tmp_path)
    else:
        found = RedisPlace(running(RedisServer))
        yield found
        found.client.close()


def _found(place: Place, first: int, last: int, dimension: int = 256) -> set[int]:
    """Which keys of a range it gives a right vector for."""
    store = store_at(place.uri)
    got = store.get_many([key_of(i) for i in range(first, last)], dimension)
    store.close()
    numbers = {int.from_bytes(key, "big") for key in got}
    assert all((got[key_of(i)] == vector(i, dimension)).all() for i in numbers)
    return numbers


def test_what_it_holds_is_asked_without_a_trace(place: Place) -> None:
    """An estimate reads no vector, and marks none as used."""
    store = store_at(place.uri)
    store.put_many(pairs(0, 1200))
    store.close()
    backend = backend_at(place.uri)
    try:
        keys = [key_of(i) for i in range(1000, 1500)]
        assert backend.holds(keys) == set(keys[:200])
        assert backend.holds([]) == set()
    finally:
        backend.close()


def _put_by_processes(place: Place, opened: str, keys: str) -> None:
    """Four processes put vectors at once; `keys` says by which, given the number `me` of each."""
    code = (
        "import sys\nfrom tests.transforms.embed.cache.support import *\n"
        f"me = int(sys.argv[2]); store, keys = {opened}, {keys}\n"
        "for at in keys: store.put_many(pairs(at, at + keys.step))\n"
        "assert not store._told; store.close()\n"
    )
    command = [sys.executable, "-c", code, place.uri]
    root = Path(__file__).parents[4]
    workers = [subprocess.Popen([*command, str(i)], cwd=root) for i in range(4)]
    assert [worker.wait(600) for worker in workers] == [0] * 4


class TestEveryVectorCache:
    """One class of tests, each run on each kind."""

    def test_it_gives_back_what_was_put_to_the_bit(self, place: Place) -> None:
        """Any float32, read-only, and nothing for a key that was never put."""
        exact = np.array([0.1, -0.0, 1e-45, 3.4e38], np.float32)
        store = store_at(place.uri)
        store.put_many([(key_of(1), exact)])
        store.close()
        again = store_at(place.uri)
        found = again.get_many([key_of(1), key_of(2)], 4)
        again.close()
        assert list(found) == [key_of(1)]
        assert found[key_of(1)].tobytes() == exact.tobytes()
        assert found[key_of(1)].dtype == np.float32
        assert not found[key_of(1)].flags.writeable

    def test_a_key_may_be_put_again(self, place: Place) -> None:
        """The later vector counts, and the entry once."""
        store = store_at(place.uri)
        for value in (1, 2):
            store.put_many([(key_of(1), vector(value))])
        assert (store.get_many([key_of(1)], 256)[key_of(1)] == 2).all()
        store.close()
        assert backend_at(place.uri).stats().entries == 1

    def test_a_second_run_of_the_same_input_sends_nothing(self, place: Place) -> None:
        """What one run paid for the next takes from the cache, each vector on its own row."""
        with EndpointServer() as server:
            settings = settings_for(server, vectorCache={"uri": place.uri})
            first = embedder(settings)
            run(first, rows_of(500))
            first._shared.close()
            assert server.number == 50
            second = embedder(settings)
            out = run(second, rows_of(500))
            assert server.number == 50
        assert len(out) == 500
        assert all(on_its_own_row(row) for row in out)
        assert second.counts.values == {"cache-hits": 500}

    def test_changed_rows_are_sent_in_full_batches(self, place: Place) -> None:
        """A few new texts among many known ones make few requests."""
        with EndpointServer() as server:
            settings = settings_for(server, vectorCache={"uri": place.uri})
            first = embedder(settings)
            run(first, rows_of(500))
            first._shared.close()
            server.forget()
            some = rows_of(500)
            for row in some[::10]:
                row["text"] += " changed"
            out = run(embedder(settings), some)
            assert server.number == 5
        assert all(on_its_own_row(row) for row in out)

    @pytest.mark.parametrize(
        "change",
        [
            {"dimension": 128},
            {"modelName": "text-embedding-v3"},
            {"sendDimension": False, "dimension": 1024},
            {"modelProvider": "bailian"},
        ],
        ids=["dimension", "model", "parameter", "provider"],
    )
    def test_what_a_vector_depends_on_never_meets_an_old_vector(
        self, place: Place, change: dict[str, Any]
    ) -> None:
        """Another model, dimension, parameter or provider: every text is sent again."""
        with EndpointServer() as server:
            cache = {"vectorCache": {"uri": place.uri}, "dimension": 1024}
            run(embedder(settings_for(server, **cache)), rows_of(10))
            run(embedder(settings_for(server, **(cache | change))), rows_of(10))
            assert [len(seen.inputs) for seen in server.good] == [10, 10]

    @pytest.mark.slow
    def test_many_threads_may_share_it(self, place: Place) -> None:
        """Eight put and get at once; nothing is lost or mixed up."""
        store, wrong = store_at(place.uri), []

        def work(me: int) -> None:
            for at in range(me * 1000, me * 1000 + 200, 10):
                store.put_many(pairs(at, at + 10))
                got = store.get_many([key_of(i) for i in range(at, at + 10)], 256)
                wrong.extend(at for i in range(at, at + 10) if (got[key_of(i)] != i).any())

        threads = [threading.Thread(target=work, args=(me,)) for me in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        store.close()
        assert wrong == []
        assert all(len(_found(place, me * 1000, me * 1000 + 200)) == 200 for me in range(8))

    @pytest.mark.slow
    def test_many_processes_may_share_it(self, place: Place) -> None:
        """Four write at once; everything is there, whole, and counted once."""
        _put_by_processes(place, "store_at(sys.argv[1])", "range(me * 400, me * 400 + 500, 10)")
        assert backend_at(place.uri).stats().entries == 1700
        assert len(_found(place, 0, 1700)) == 1700

    @pytest.mark.parametrize("damage", ["cut_short", "fill_with_nan"])
    def test_a_damaged_value_is_passed_over_and_made_anew(
        self, place: Place, damage: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One warning, however many there are; the others are still found."""
        store = store_at(place.uri)
        store.put_many(pairs(0, 10))
        for i in (3, 4):
            getattr(place, damage)(key_of(i))
        keys = [key_of(i) for i in range(10)]
        assert len(store.get_many(keys, 256)) == len(store.get_many(keys, 256)) == 8
        assert [r.message.count("damaged value") for r in caplog.records] == [1]
        store.put_many(pairs(3, 5))
        store.close()
        assert len(_found(place, 0, 10)) == 10

    @pytest.mark.slow
    def test_one_flipped_bit_is_never_a_wrong_vector(
        self, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        """At each byte of numbers and checksum: a miss, counted; one warning for all of them."""
        store, key, exact = store_at(place.uri), key_of(1), vector(0.5, 16)
        store.put_many([(key, exact)])
        size = len(seal(key, exact.tobytes()))
        for at in range(size):
            place.flip(key, at, at % 8)
            assert store.get_many([key], 16) == {}, at
            place.flip(key, at, at % 8)
            assert (store.get_many([key], 16)[key] == exact).all()
        store.close()
        assert store.take_damaged() == size
        assert store.take_damaged() == 0
        assert [r.message.count("wrong checksum") for r in caplog.records] == [1]

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda blob, other: other,
            lambda blob, other: blob[:-8],
            lambda blob, other: bytes(len(blob)),
            lambda blob, other: blob[4:-8] + blob[:4] + blob[-8:],
            lambda blob, other: blob[:-8] + other[-8:],
            lambda blob, other: b"",
        ],
        ids=["of another key", "without checksum", "zeros", "moved", "other's checksum", "empty"],
    )
    def test_a_value_that_was_not_kept_under_its_key_is_a_miss(
        self, place: Place, spoil: Callable[[bytes, bytes], bytes]
    ) -> None:
        """Whatever takes its place: a checksum of key and value tells."""
        one, other = (
            seal(key_of(i), np.arange(i, i + 16, dtype=np.float32).tobytes()) for i in (1, 2)
        )
        backend = backend_at(place.uri)
        backend.put_many([(key_of(1), spoil(one, other)), (key_of(2), other)])
        backend.close()
        store = store_at(place.uri)
        assert list(store.get_many([key_of(1), key_of(2)], 16)) == [key_of(2)]
        store.close()

    def test_a_job_asks_again_for_what_is_damaged(self, place: Place) -> None:
        """The rows get right vectors, and the counters tell of it."""
        with EndpointServer() as server:
            settings = settings_for(server, vectorCache={"uri": place.uri})
            first = embedder(settings)
            run(first, rows_of(20))
            first._shared.close()
            for i in (3, 4, 5):
                place.flip(first._shared.store_key(f"text {i}"), 40 + i, 7)
            second = embedder(settings)
            out = run(second, rows_of(20))
            assert sorted(server.good[-1].inputs) == ["text 3", "text 4", "text 5"]
        assert all(on_its_own_row(row) for row in out)
        assert second.counts.values["cache-damaged"] == 3

    def test_pruning_removes_what_was_not_used_for_longest(self, place: Place) -> None:
        """What was read lately stays, though it was put first; sizes are pruned alike."""
        store = store_at(place.uri)
        store.put_many(pairs(0, 1500))
        store.put_many(pairs(1500, 3000, dimension=512))
        place.backdate([key_of(i) for i in range(3000)], days=9)
        store.get_many([key_of(i) for i in range(100)], 256)  # used today
        store.get_many([key_of(i) for i in range(1500, 1600)], 512)
        backend = backend_at(place.uri)
        before = backend.stats()
        gone = backend.prune(before.bytes * 2 // 3)
        after = backend.stats()
        store.close()
        assert before.entries == 3000
        assert after.entries == before.entries - gone
        assert after.bytes <= before.bytes * 2 // 3
        assert gone < 2200  # not much more than was asked for
        assert _found(place, 0, 100) == set(range(100))
        assert _found(place, 1500, 1600, 512) == set(range(1500, 1600))
        assert before.oldest is not None
        assert backend.prune(before.bytes) == 0
        backend.close()

    @pytest.mark.slow
    def test_it_keeps_to_its_size_while_a_run_puts_more(self, place: Place) -> None:
        """Ten times its size goes in; what it holds, and the room it takes, stay near its bound."""
        store, most = store_at(place.uri, max_bytes=2 * MIB), 0
        for at in range(0, 20_000, 100):
            store.put_many(pairs(at, at + 100))
            if at % 1000 == 0:
                most = max(most, backend_at(place.uri).stats().bytes)
        store.close()
        assert most <= 2 * MIB + 2.5 * MIB  # what goes in between two looks, with its overhead
        assert backend_at(place.uri).stats().bytes <= 2 * MIB
        assert 0.5 * 2 * MIB < place.used_bytes() < 1.4 * 2 * MIB
        assert backend_at(place.uri).stats().entries > 500

    @pytest.mark.slow
    @pytest.mark.alone
    def test_it_keeps_to_its_size_with_many_processes_at_it(self, place: Place) -> None:
        """Four put and prune at once; none of them fails, and not much more goes than must."""
        opened = "store_at(sys.argv[1], max_bytes=2 * MIB)"
        _put_by_processes(place, opened, "range(me * 3000, me * 3000 + 3000, 50)")
        assert 0.5 * 2 * MIB < backend_at(place.uri).stats().bytes <= 2 * MIB

    def test_what_it_says_it_takes_is_what_it_takes(self, place: Place) -> None:
        """Within a tenth, for vectors of 1,024 dimensions."""
        store = store_at(place.uri)
        for at in range(0, 2000, 100):
            store.put_many(pairs(at, at + 100, dimension=1024))
        store.close()
        told = backend_at(place.uri).stats().bytes
        assert told == pytest.approx(place.used_bytes(), rel=0.1)

    @pytest.mark.slow
    def test_a_job_that_is_run_again_sends_nothing(
        self, place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """From end to end: the report counts 0 requests, and the same rows are written."""
        bench = Bench(tmp_path, capsys)
        bench.write_lines([{**row, "text": f"text {i % 40}"} for i, row in enumerate(rows(60))])
        bench.job["setting"]["vectorCache"] = {"uri": place.uri}
        with EndpointServer() as server:
            bench.step("Embed").update(
                modelProvider="openai",
                modelName="text-embedding-v4",
                apiKey="sk-test",
                endpoint=server.url,
            )
            first, second = bench.run(), bench.run()
        assert (first["embed"]["requests"], first["rows_written"]) == (4, 60)
        assert (second["embed"]["requests"], second["rows_written"]) == (0, 60)
        assert second["embed"]["cache_hits"] == 60

    @pytest.mark.slow
    def test_what_is_put_for_later_is_there_when_it_is_closed(self, place: Place) -> None:
        """However many threads put, also with vectors of several sizes under way."""
        store = store_at(place.uri)
        threads = [
            threading.Thread(target=lambda me=me: store.put_later(pairs(me, me + 10)))
            for me in range(0, 2000, 10)
        ]
        for thread in threads:
            thread.start()
        store.put_later(pairs(5000, 5010, dimension=64))
        for thread in threads:
            thread.join(60)
        store.close()
        assert len(_found(place, 0, 2000)) == 2000
        assert len(_found(place, 5000, 5010, dimension=64)) == 10

    def test_nothing_of_it_is_used_after_it_was_closed(
        self, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A thread of an aborted run that comes late finds nothing, and warns of nothing."""
        caplog.set_level(logging.INFO)
        store = store_at(place.uri)
        store.put_many(pairs(0, 1))
        store.close()
        store.put_many(pairs(1, 2))
        store.put_later(pairs(2, 3))
        assert store.get_many([key_of(0)], 256) == {}
        assert caplog.records == []
        assert json.dumps(backend_at(place.uri).stats().entries) == "1"
