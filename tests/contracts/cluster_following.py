"""Following a job on a cluster, ending it, leaving it."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.cluster import Job, Runner, finished
from tests.contracts.cluster_kills import until
from tests.pipelines.support import interrupt
from tests.services.server import eventually
from tests.transforms.embed.endpoints.server import EndpointServer


class Following:
    """Claims of a cluster; a subclass has a fixture `runner` and says what still runs."""

    @pytest.fixture
    def endpoint(self) -> Iterator[EndpointServer]:
        """50 ms a request."""
        with EndpointServer(max_inputs=10, latency=0.05, record=False) as server:
            yield server

    @pytest.fixture
    def job(self, tmp_path: Path, endpoint: EndpointServer) -> Job:
        """20,000 rows, for half a minute."""
        job = Job(tmp_path, endpoint)
        job.write(20_000, files=8)
        return job

    def jobs(self) -> list[str]:
        """The jobs that run on the cluster."""
        raise NotImplementedError

    def test_one_interrupt_finishes_what_was_read(self, runner: Runner, job: Job) -> None:
        """All workers stop reading; each row that was read is written, and the report says so."""
        begun = time.monotonic()
        process = job.start(runner)
        until(job, process, 50)
        process.send_signal(signal.SIGINT)
        done = finished(process, begun)
        assert done.status == 130, done.err
        assert done.report["state"] == "CANCELLED"
        assert 0 < done.report["rows_read"] < 20_000
        assert done.report["rows_read"] == done.report["rows_written"] == len(job.stored())
        eventually(lambda: not self.jobs())  # executors and slots are given back a moment later

    def test_two_interrupts_end_the_job_on_the_cluster(self, runner: Runner, job: Job) -> None:
        """When the client has ended, no job is left, and no request is made any more."""
        begun = time.monotonic()
        process = job.start(runner)
        until(job, process, 50)
        interrupt(process)  # and waits, since two signals at once would be one
        process.send_signal(signal.SIGINT)
        done = finished(process, begun)
        assert done.status == 130, done.err
        eventually(lambda: not self.jobs())
        eventually(lambda: job.endpoint.under_way == 0)
        seen = job.endpoint.number
        assert seen < 2000
        time.sleep(1)
        assert job.endpoint.number == seen


class Leaving:
    """``--detach`` on a cluster whose address is known."""

    def test_a_job_that_is_left_can_be_ended_as_told(self, runner: Runner, job: Job) -> None:
        """The launcher tells how to follow and how to cancel, and what it tells works."""
        arguments = [a for a in job.arguments(runner, "--detach") if a != "--json"]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "RUNNING" in done.stdout
        eventually(lambda: job.endpoint.number > 20)
        (cancel,) = re.findall(r"^cancel: (.+)$", done.stdout, re.MULTILINE)
        subprocess.run(cancel, shell=True, check=True, capture_output=True)
        eventually(lambda: not self.jobs())  # type: ignore[attr-defined]

    def test_what_the_launcher_does_in_the_end_is_refused(self, runner: Runner, job: Job) -> None:
        """Nobody would judge the errorLimit of a job that was left."""
        job.definition["setting"]["errorLimit"] = {"record": "5"}
        done = job.run(runner, "--detach")
        assert done.status == 2
        assert "errorLimit" in done.err
        assert job.endpoint.number == 0
