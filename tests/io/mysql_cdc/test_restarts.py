"""A sync under four writers, killed again and again, while its servers are restarted."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from tests.contracts.sync import AT_MOST_IN_FLIGHT, DIMENSION, differences, embedded, write_job
from tests.contracts.sync_nursery import Nursery
from tests.contracts.sync_stores import STORES
from tests.io.mysql_cdc.syncs import SERVERS, Followed
from tests.services.opensearch import OpenSearchServer
from tests.services.server import eventually, running
from tests.transforms.embed.endpoints.server import EndpointServer

pytestmark = [
    pytest.mark.service,
    pytest.mark.slow,
    pytest.mark.heavy(server=OpenSearchServer),
]

KILLS, WRITERS, KEYS = 10, 4, 3000


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    """Starts vecferry, with the reader loaded."""
    nursery = Nursery(tmp_path, "vecferry.io.mysql_cdc.kind")
    yield nursery
    nursery.close()


class Writers:
    """Threads that write to a table, whatever becomes of the server, and note each text."""

    def __init__(self, script: Followed, changes: int, seed: int) -> None:
        self.script, self.share = script, changes // WRITERS
        self.texts: set[str] = {""}
        self.done = 0
        self.threads = [
            threading.Thread(target=self._write, args=(random.Random(seed * 10 + n),))
            for n in range(WRITERS)
        ]
        for thread in self.threads:
            thread.start()

    def join(self) -> None:
        """Waits until all was written."""
        for thread in self.threads:
            thread.join()

    def _write(self, chance: random.Random) -> None:
        client: Any = None
        left = self.share
        while left:
            try:
                if client is None:
                    client = self.script.server.client()
                with client.cursor() as cursor:
                    self._change(cursor, chance)
                left -= 1
                self.done += 1
            except pymysql.err.IntegrityError:
                left -= 1  # the other key is taken
            except (pymysql.err.OperationalError, pymysql.err.InterfaceError, OSError):
                client = None
                time.sleep(0.2)
        client.close()

    def _change(self, cursor: Any, chance: random.Random) -> None:
        name, kind = self.script.name, chance.random()
        key, text = f"k{chance.randrange(KEYS)}", f"text {chance.randrange(10**9)}"
        self.texts.add(text)
        if kind < 0.4:
            cursor.execute(f"REPLACE INTO {name} (id, text) VALUES (%s, %s)", (key, text))
        elif kind < 0.7:
            cursor.execute(f"UPDATE {name} SET text = %s WHERE id = %s", (text, key))
        elif kind < 0.85:
            cursor.execute(f"DELETE FROM {name} WHERE id = %s", (key,))
        else:
            to = f"k{chance.randrange(KEYS)}"
            cursor.execute(f"UPDATE {name} SET id = %s WHERE id = %s", (to, key))


@pytest.mark.long
@pytest.mark.parametrize(
    ("changes", "kind"), [(3_000, "mysql"), (30_000, "mysql"), (30_000, "mariadb")]
)
def test_whatever_is_restarted_the_index_comes_to_equal_the_table(
    changes: int, kind: str, tmp_path: Path, nursery: Nursery
) -> None:
    """Ten kills of the sync, two restarts of the database and one of the index."""
    chance = random.Random(changes)
    script = Followed(running(SERVERS[kind]))
    for n in range(500):
        script.insert(f"k{n}", f"text of k{n}")
    first = set(script.rows().values())
    store = STORES["opensearch"][0](DIMENSION)
    try:
        with EndpointServer(latency=0.01) as endpoint:
            job = write_job(
                tmp_path, script, store.writer(), endpoint.url, chance, 50, speed={"concurrent": 8}
            )
            sources = tmp_path / "sources.json"
            sources.write_text(json.dumps({**script.sources(), "Store": store.source()}))
            line = ["run", str(job), "-d", str(sources), "--rejects", str(tmp_path / "rejects")]
            writers = Writers(script, changes, seed=changes)
            for n in range(KILLS):
                process = nursery.start(*line, "--continuous")
                time.sleep(chance.uniform(0.5, 4))
                if n in (3, 7):
                    script.server.kill()
                    script.server.start()
                elif n == 5:
                    running(OpenSearchServer).stop()
                    running(OpenSearchServer).start()
                time.sleep(chance.uniform(0.1, 1))
                assert nursery.status(process) is None, nursery.log.read_text()
                os.kill(process, signal.SIGKILL)
                assert nursery.ended(process) == -signal.SIGKILL
            writers.join()
            assert nursery.ended(nursery.start(*line)) == 0, nursery.log.read_text()
            script.client = script.server.client()
            assert differences(script.rows(), store.found()) == []
            inputs = embedded(endpoint)
            assert set(inputs) <= first | writers.texts
            assert len(inputs) <= len(set(inputs)) + (KILLS + 3) * AT_MOST_IN_FLIGHT
    finally:
        store.close()
    script.run("DROP TABLE {}")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["mysql", "mariadb"])
def test_a_kill_within_a_large_transaction_costs_nothing(
    kind: str, tmp_path: Path, nursery: Nursery
) -> None:
    """Of 20,000 changes of rows some are written when the sync is killed; the next run has all."""
    script, store = Followed(running(SERVERS[kind])), STORES["opensearch"][0](DIMENSION)
    script.insert("first", "text of the first")
    try:
        with EndpointServer(latency=0.02) as endpoint:
            job = write_job(
                tmp_path, script, store.writer(), endpoint.url, random.Random(1), 50,
                speed={"concurrent": 4},
            )  # fmt: skip
            sources = tmp_path / "sources.json"
            sources.write_text(json.dumps({**script.sources(), "Store": store.source()}))
            line = ["run", str(job), "-d", str(sources), "--rejects", str(tmp_path / "rejects")]
            assert nursery.ended(nursery.start(*line)) == 0, nursery.log.read_text()
            assert len(store.found()) == 1
            change_at_once(script)
            process = nursery.start(*line)
            eventually(lambda: len(store.found()) > 100)
            os.kill(process, signal.SIGKILL)
            assert nursery.ended(process) == -signal.SIGKILL
            assert differences(script.rows(), store.found()) != []
            assert nursery.ended(nursery.start(*line)) == 0, nursery.log.read_text()
            assert differences(script.rows(), store.found()) == []
            assert len(store.found()) == 6001
    finally:
        store.close()
        script.run("DROP TABLE {}")


def change_at_once(script: Followed) -> None:
    """8,000 inserts, 8,000 updates, 2,000 deletes and 2,000 other keys, in one transaction."""
    script.run("BEGIN")
    for at in range(0, 8000, 1000):
        rows = ", ".join(f"('k{n}', 'text {n}', {n})" for n in range(at, at + 1000))
        script.run("INSERT INTO {} VALUES " + rows)
    script.run("UPDATE {} SET text = CONCAT('later ', text) WHERE id LIKE 'k%'")
    script.run("DELETE FROM {} WHERE id LIKE 'k%' AND n < 2000")
    script.run("UPDATE {} SET id = CONCAT('o', id) WHERE id LIKE 'k%' AND n < 4000")
    script.run("COMMIT")
