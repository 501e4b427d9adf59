"""Jobs on Beam's own local runners: the one of Python, and Prism."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contracts.cluster import COUNTS, HERE, Contract, Job, Runner
from tests.services.install import Unavailable
from tests.services.prism import indoors, prism
from tests.transforms.embed.endpoints.server import EndpointServer

pytestmark = [pytest.mark.service, pytest.mark.slow]


class TestFnApiRunner(Contract):
    """The runner of Python, in a process of its own."""

    @pytest.fixture
    def runner(self) -> Runner:
        """No cluster."""
        return HERE


@pytest.mark.long
class TestWorkers(Contract):
    """Three worker processes; in a short run `tests/pipelines/run/test_workers.py` says as much."""

    @pytest.fixture
    def runner(self) -> Runner:
        """No cluster."""
        return HERE.plus("--workers", "3")


@pytest.mark.long
def test_workers_share_the_ranges_of_a_table(tmp_path: Path) -> None:
    """The same rows and counts as one process, from PostgreSQL into PostgreSQL."""
    with EndpointServer(max_inputs=10) as endpoint:
        job = Job(tmp_path, endpoint)
        made = "SELECT 'r' || n AS id, 'text ' || n AS text FROM generate_series(1, 60000) AS n"
        source = f"s_{uuid.uuid4().hex[:12]}"
        job.server.execute(
            f"CREATE TABLE {source} (id varchar(64) PRIMARY KEY, text varchar)",
            f"INSERT INTO {source} {made}",
            f"ANALYZE {source}",
        )
        reader, _, embed, writer = job.definition["steps"]
        table = {"datasource": "Table", "table": source, "splitPk": "id", "column": ["id", "text"]}
        reader |= {"stepType": "postgresql", "parameter": table}
        embed["parameter"] |= {"modelProvider": "local", "modelName": None}
        job.definition["steps"] = [reader, embed, writer]
        found = []
        for workers in ("1", "3"):
            done = job.run(HERE.plus("--workers", workers), "--no-preflight")
            assert done.status == 0, done.err
            vectors = {key: vector.tobytes() for key, (_, vector) in job.stored().items()}
            found.append(([done.report[name] for name in COUNTS], vectors))
            assert f"{workers} worker processes read" in done.err or workers == "1"
            job.server.execute(f'DROP TABLE "{job.table}"')
        assert found[0] == found[1]
        assert len(found[0][1]) == 60_000


class TestPrism(Contract):
    """Prism, started by the job."""

    @pytest.fixture
    def runner(self) -> Runner:
        """Its program is named, so that Beam downloads none."""
        try:
            program = prism()
        except Unavailable as e:
            pytest.skip(f"prism can't be had here: {e}")
        return Runner("PrismRunner", [f"--prism_location={program}"], committed=True)

    def at(self, runner: Runner, job: Job) -> Runner:
        """In a network of its own, from which the test's servers can be reached."""
        ports = indoors(job.endpoint.port, job.server.port)
        return replace(runner, prefix=ports)
