"""A table of MySQL is followed alike on this machine, on Flink and on Spark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.cluster import Job, Runner
from tests.contracts.cluster_runners import each_runner
from tests.io.mysql_cdc.syncs import Followed
from tests.services.mysql8 import Mysql8
from tests.services.server import running
from tests.transforms.embed.endpoints.server import EndpointServer

__all__ = ["each_runner"]

pytestmark = [pytest.mark.service, pytest.mark.slow]


class LogJob(Job):
    """A job whose source is a table of a database, which all workers reach."""

    def __init__(self, folder: Path, endpoint: EndpointServer) -> None:
        super().__init__(folder, endpoint)
        self.followed = Followed(running(Mysql8))
        self.followed.run("DROP TABLE {}")
        self.followed.run("CREATE TABLE {} (id INT PRIMARY KEY, text TEXT)")
        self.sources["Database"] = self.followed.server.source
        embed, writer = self.definition["steps"][2:]
        self.reads: dict[str, Any] = {
            "datasource": "Database",
            "table": f"shop.{self.followed.name}",
            "chunkRows": 200,
        }
        reader = {
            "stepType": "mysql-cdc",
            "category": "reader",
            "name": "Reader",
            "parameter": self.reads,
        }
        writes: dict[str, Any] = writer["parameter"]
        writes["column"][0] = {"name": "id", "type": "bigint", "primaryKey": "true"}
        writes["column"].append({"name": "version", "type": "bigint"})
        writes |= {"versionColumn": "version", "ownsTarget": True}
        self.definition["steps"] = [reader, embed, writer]
        self.definition["setting"]["positions"] = str(folder / "positions")

    def put(self, rows: dict[int, str]) -> None:
        """New rows, or other texts, in one transaction."""
        with self.followed.client.cursor() as cursor:
            values = list(rows.items())
            cursor.executemany(f"REPLACE INTO {self.followed.name} VALUES (%s, %s)", values)
        self.expected |= rows

    def drop(self, *ids: int) -> None:
        """Rows are gone."""
        for i in ids:
            self.followed.run("DELETE FROM {} WHERE id = %s", i)
            del self.expected[i]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[LogJob]:
    """600 rows."""
    with EndpointServer(max_inputs=10) as endpoint:
        job = LogJob(tmp_path, endpoint)
        job.put({i: f"text {i}" for i in range(600)})
        yield job
        job.end()
        job.followed.run("DROP TABLE {}")


def test_a_table_is_loaded_and_followed_alike_by_every_runner(
    each_runner: Runner, job: LogJob
) -> None:
    """A job for each round; workers read the log themselves. A TRUNCATE is heard of there."""
    loaded = job.run(each_runner)
    assert loaded.status == 0, loaded.out + loaded.err
    assert loaded.report["rows_read"] == 600
    assert job.wrong() == []
    job.put({700: "a new row", 1: "changed", 2: "changed, too"})
    job.put({1: "changed twice"})
    job.drop(9)
    changed = job.run(each_runner)
    assert changed.status == 0, changed.out + changed.err
    assert job.wrong() == []
    report = changed.report
    total = report["rows_written"] + report["rows_deleted"] + report["rows_dropped"]
    assert total == report["rows_read"] + report["rows_added"]
    job.followed.run("TRUNCATE TABLE {}")
    job.expected.clear()
    job.put({5: "after the table was emptied"})
    anew = job.run(each_runner)
    assert anew.status == 0, anew.out + anew.err
    assert job.wrong() == []
    assert any("TRUNCATE" in note for note in anew.report["notes"])
