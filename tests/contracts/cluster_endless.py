"""A job without an end on a cluster: how soon rows arrive, how it ends, how it goes on."""

from __future__ import annotations

import re
import signal
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.contracts.cluster import DIMENSION, Job, Runner, finished
from tests.services.flink import Flink
from tests.services.server import eventually
from tests.transforms.embed.endpoints.server import EndpointServer


class EndlessJob(Job):
    """Ticks -> vectors -> a table that notes when each row came."""

    def __init__(self, folder: Path, endpoint: EndpointServer) -> None:
        super().__init__(folder, endpoint)
        self.definition["steps"][:2] = [
            {"stepType": "ticks", "category": "reader", "name": "Ticks", "parameter": {}}
        ]
        writer = self.definition["steps"][-1]["parameter"]
        writer["column"].append({"name": "at", "type": "float8"})
        writer["schemaCreateMode"] = "ignore"
        self.server.execute(
            f'CREATE TABLE "{self.table}" (id varchar(64) PRIMARY KEY, text varchar, '
            f"vector vector({DIMENSION}), at float8, "
            "stored float8 DEFAULT extract(epoch FROM clock_timestamp()))"
        )

    def arguments(self, runner: Runner, *more: str) -> list[str]:
        """The command line that knows the source."""
        given = super().arguments(runner, *more)
        i = given.index("-m")
        given[i : i + 2] = ["-c", "from tests.shared.endless_source import main; main()"]
        return given

    def delay(self, last: int) -> float:
        """Seconds from a row to its arrival, the median of the `last` rows."""
        asked = f'SELECT stored - at FROM "{self.table}" ORDER BY at DESC LIMIT {last}'
        with self.server.client() as connection:
            return statistics.median(float(row[0]) for row in connection.execute(asked).fetchall())

    def numbers(self) -> set[int]:
        """The numbers of the rows that are there."""
        with self.server.client() as connection:
            rows = connection.execute(f'SELECT id FROM "{self.table}"').fetchall()
        return {int(row[0][1:]) for row in rows}


class Endless:
    """Claims of a Flink cluster; a subclass has fixtures `runner` and `cluster`."""

    @pytest.fixture
    def job(self, tmp_path: Path) -> Any:
        """An endpoint that takes 5 ms."""
        with EndpointServer(max_inputs=10, latency=0.005) as endpoint:
            yield EndlessJob(tmp_path, endpoint)

    def test_rows_arrive_within_a_second_and_a_savepoint_goes_on(
        self, runner: Runner, job: EndlessJob, cluster: Flink
    ) -> None:
        """Left to the cluster, stopped as it was told, resumed there: no row is missing."""
        left = [a for a in job.arguments(runner, "--detach") if a != "--json"]
        done = subprocess.run(left, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        eventually(lambda: len(job.numbers()) > 200)
        eventually(lambda: job.delay(last=100) < 1.0)  # when the workers have come up
        stop = re.findall(r"^stop with a savepoint: (.+)$", done.stdout, re.MULTILINE)
        answer = subprocess.run(stop[0], shell=True, check=True, capture_output=True, text=True)
        number = re.findall(r'"request-id":"(\w+)"', answer.stdout)[0]
        base = re.findall(r"(http://\S+/jobs/\w+)/savepoints", stop[0])[0]
        eventually(lambda: completed(f"{base}/savepoints/{number}"))
        path = requests.get(f"{base}/savepoints/{number}", timeout=60).json()
        eventually(lambda: not cluster.jobs("RUNNING", "CANCELLING"))
        before = max(job.numbers())

        begun = time.monotonic()
        process = job.start(runner, f"--savepoint_path={path['operation']['location']}")
        eventually(lambda: max(job.numbers()) > before + 60)
        process.send_signal(signal.SIGINT)
        again = finished(process, begun)
        assert again.status == 130, again.err
        assert again.report["state"] == "CANCELLED"
        assert again.report["rows_read"] == again.report["rows_written"]
        eventually(lambda: not cluster.jobs("RUNNING", "CANCELLING", "RESTARTING"))
        numbers = job.numbers()
        assert numbers == set(range(max(numbers) + 1))
        assert again.report["rows_read"] < max(numbers)  # it did not begin anew


def completed(url: str) -> bool:
    """Whether a savepoint is there."""
    told = requests.get(url, timeout=60).json()
    return bool(told["status"]["id"] == "COMPLETED")
