"""A table of Paimon comes to the same on this machine, on Flink and on Spark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.io.paimon.support import WHY

pytest.importorskip("pypaimon", reason=WHY)

from tests.contracts.cluster import Job, Runner
from tests.contracts.cluster_runners import each_runner
from tests.io.paimon.following import Changing, keyed
from tests.io.paimon.support import DATABASE, Warehouse
from tests.transforms.embed.endpoints.server import EndpointServer

__all__ = ["each_runner"]

pytestmark = [pytest.mark.service, pytest.mark.slow]


class LakeJob(Job):
    """A job whose source is a table in a folder, which all workers see."""

    def __init__(self, folder: Path, endpoint: EndpointServer) -> None:
        super().__init__(folder, endpoint)
        warehouse = Warehouse(folder / "warehouse")
        self.lake: Changing = keyed(warehouse)
        self.sources["Lake"] = {"type": "paimon", "options": warehouse.options}
        embed, writer = self.definition["steps"][2:]
        self.reads: dict[str, Any] = {
            "datasource": "Lake",
            "database": DATABASE,
            "table": "t",
            "column": ["id", "text"],
        }
        reader = {
            "stepType": "paimon",
            "category": "reader",
            "name": "Reader",
            "parameter": self.reads,
        }
        self.writes: dict[str, Any] = writer["parameter"]
        self.writes["column"][0] = {"name": "id", "type": "bigint", "primaryKey": "true"}
        self.definition["steps"] = [reader, embed, writer]

    def put(self, rows: dict[int, str]) -> None:
        """New rows, or other texts, in one commit."""
        self.lake.put(*({"id": i, "text": text} for i, text in rows.items()))
        self.expected |= rows

    def drop(self, *ids: int) -> None:
        """Rows are gone."""
        self.lake.delete(*({"id": i, "text": ""} for i in ids))
        for i in ids:
            del self.expected[i]

    def follow(self) -> None:
        """From now on the table is followed, a part for each bucket."""
        self.reads |= {"scanMode": "full-then-incremental", "roundRows": 200}
        self.writes |= {"versionColumn": "version", "ownsTarget": True}
        self.writes["column"].append({"name": "version", "type": "bigint"})
        self.definition["setting"]["positions"] = str(self.folder / "positions")


@pytest.fixture
def job(tmp_path: Path) -> Iterator[LakeJob]:
    """600 rows of four commits, some of which replace others."""
    with EndpointServer(max_inputs=10) as endpoint:
        job = LakeJob(tmp_path, endpoint)
        for n in range(4):
            job.put({i: f"text {i} of commit {n}" for i in range(n * 150, n * 150 + 200)})
        job.drop(3, 4)
        yield job
        job.end()


def test_a_table_is_read_and_followed_alike_by_every_runner(
    each_runner: Runner, job: LakeJob
) -> None:
    """Loaded in parts, then followed, a job for each round. Workers open the catalog themselves."""
    job.follow()
    loaded = job.run(each_runner)
    assert loaded.status == 0, loaded.out + loaded.err
    assert (loaded.report["rounds"], loaded.report["rows_read"]) == (2, 648)
    assert job.wrong() == []
    job.put({700: "a new row", 1: "changed", 2: "changed, too"})
    job.put({1: "changed twice"})
    job.drop(9)
    job.lake.truncate()
    job.expected.clear()
    job.put({5: "after the table was emptied", 701: "another new row"})
    job.reads["roundRows"] = 10_000
    changed = job.run(each_runner)
    assert changed.status == 0, changed.out + changed.err
    assert job.wrong() == []
    report = changed.report
    assert report["rounds"] == 1
    assert report["rows_written"] + report["rows_deleted"] == report["rows_read"]
    assert report["position"]["at"]["snapshot"] == job.lake.last
