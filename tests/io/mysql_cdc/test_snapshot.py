"""A full load under writers: no row is lost between what a SELECT sees and what the log tells."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pymysql
import pytest

from tests.effort import some
from tests.io.mysql_cdc.syncs import ALL, SERVERS, Followed, Job
from tests.services.server import running
from tests.transforms.embed.endpoints.server import EndpointServer

pytestmark = [pytest.mark.service, pytest.mark.slow]

WRITERS, ROWS = 8, 60


@pytest.fixture(params=[*SERVERS, pytest.param("mysql57", marks=pytest.mark.long)])
def script(request: pytest.FixtureRequest) -> Iterator[Followed]:
    """A table of some rows, each of which is written to all the time."""
    followed = Followed(running(ALL[request.param]))
    for n in range(ROWS):
        followed.insert(f"k{n}", "text 0")
    yield followed
    followed.run("DROP TABLE {}")
    followed.client.close()


@pytest.fixture
def endpoint() -> Iterator[EndpointServer]:
    """Without latency."""
    with EndpointServer(record=False) as server:
        yield server


class Writers:
    """Threads that update, delete and insert the same rows until they are stopped."""

    def __init__(self, script: Followed, seed: int) -> None:
        self.script, self.stopped, self.commits = script, threading.Event(), 0
        self.threads = [
            threading.Thread(target=self._write, args=(seed * 100 + n,)) for n in range(WRITERS)
        ]

    def __enter__(self) -> Writers:
        for thread in self.threads:
            thread.start()
        while self.commits < 20:
            time.sleep(0.01)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def _write(self, seed: int) -> None:
        chance, name = random.Random(seed), self.script.name
        with self.script.server.client() as client, client.cursor() as cursor:
            while not self.stopped.is_set():
                key, text = f"k{chance.randrange(ROWS)}", f"text {chance.randrange(20)}"
                kind = chance.random()
                with suppress(pymysql.err.OperationalError, pymysql.err.IntegrityError):
                    if kind < 0.7:
                        cursor.execute(f"UPDATE {name} SET text = %s WHERE id = %s", (text, key))
                    elif kind < 0.8:
                        cursor.execute(f"DELETE FROM {name} WHERE id = %s", (key,))
                    else:
                        insert = f"REPLACE INTO {name} (id, text) VALUES (%s, %s)"
                        cursor.execute(insert, (key, text))
                    self.commits += 1


@pytest.mark.parametrize("seed", some(range(100), 2))
def test_a_full_load_under_eight_writers_loses_nothing(
    script: Followed, seed: int, tmp_path: Path, endpoint: EndpointServer
) -> None:
    """With the transactions on disk before they can be seen, as careful servers have it."""
    with script.server.client() as root, root.cursor() as cursor:
        cursor.execute("SET GLOBAL sync_binlog = 1")
        cursor.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    job = Job(script, tmp_path, endpoint, chunkRows=7)
    with Writers(script, seed) as writers:
        assert job.run(until="now").state == "DONE"
        during = writers.commits
    assert during > 20
    report = job.run()
    assert (report.state, job.differences()) == ("DONE", [])
