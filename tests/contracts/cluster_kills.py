"""What a cluster must survive: processes killed in the middle of a job."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.cluster import Job, Runner, finished
from tests.services.redis_server import RedisServer
from tests.services.server import eventually, running
from tests.transforms.embed.endpoints.server import EndpointServer

ROWS, BATCH = 20_000, 10
REQUESTS = ROWS // BATCH
IN_FLIGHT = 4
NOT_KEPT = 25  # whose vectors were in the queue of the cache, on a busy machine


def processes(words: str) -> list[int]:
    """The ids of the processes that this session started whose command line has `words`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, UnicodeDecodeError):
            continue
        if words in command and os.getpid() in ancestors(int(folder.name)):
            found.append(int(folder.name))
    return sorted(found)


def ancestors(pid: int) -> list[int]:
    """The parents of a process, its own first."""
    found: list[int] = []
    while pid > 1:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            break
        pid = int(stat.rpartition(")")[2].split()[1])
        found.append(pid)
    return found


def python_workers() -> list[int]:
    """The worker processes of running jobs."""
    return processes("vecferry-worker")


class Kills:
    """Claims of a cluster; a subclass has fixtures `runner` and says what it may lose."""

    @pytest.fixture
    def endpoint(self) -> Iterator[EndpointServer]:
        """5 ms a request."""
        with EndpointServer(max_inputs=BATCH, latency=0.005, record=False) as server:
            yield server

    @pytest.fixture
    def job(self, tmp_path: Path, endpoint: EndpointServer) -> Job:
        """20,000 rows, vectors kept in Redis."""
        job = Job(tmp_path, endpoint)
        job.write(ROWS, files=16)
        cache = {"uri": running(RedisServer).uri}
        job.definition["setting"] = {
            "speed": {"concurrent": str(IN_FLIGHT)},
            "vectorCache": cache,
        }
        return job

    def kill_host(self) -> None:
        """Kills what a worker process runs in: a TaskManager or an executor."""
        raise NotImplementedError

    def end_of_orphan(self) -> None:
        """Waits until the job whose client was killed has ended by itself."""
        raise NotImplementedError

    def nothing_lost(self, job: Job, kills: int) -> None:
        """Each row is there once; only what was in flight, or not kept yet, is asked for again."""
        assert job.wrong() == []
        assert job.endpoint.number <= REQUESTS + kills * (IN_FLIGHT + NOT_KEPT)

    def test_a_killed_worker_process_and_a_killed_machine_cost_no_row(
        self, runner: Runner, job: Job
    ) -> None:
        """A worker process, then a TaskManager or an executor: the runner starts others.

        They ask only for what nobody knows yet.
        """
        begun = time.monotonic()
        process = job.start(runner)
        until(job, process, REQUESTS // 4)
        os.kill(python_workers()[0], signal.SIGKILL)
        until(job, process, REQUESTS // 2)
        self.kill_host()
        outcome = finished(process, begun)
        assert outcome.status == 0, outcome.err
        self.nothing_lost(job, kills=2)

    @pytest.mark.long
    @pytest.mark.parametrize("seed", range(6))
    def test_workers_killed_at_any_moments_cost_no_row(
        self, runner: Runner, job: Job, seed: int
    ) -> None:
        """Three times in a run, whichever worker process it is."""
        chance = random.Random(seed)
        begun = time.monotonic()
        process = job.start(runner)
        for moment in sorted(chance.sample(range(REQUESTS * 3 // 4), 3)):
            until(job, process, moment)
            eventually(lambda: len(python_workers()) > 0)
            os.kill(chance.choice(python_workers()), signal.SIGKILL)
        outcome = finished(process, begun)
        assert outcome.status == 0, outcome.err
        self.nothing_lost(job, kills=3)

    def test_a_killed_client_costs_no_row(self, runner: Runner, job: Job) -> None:
        """The job goes on to its end without it."""
        process = job.start(runner)
        until(job, process, REQUESTS // 3)
        process.kill()
        process.communicate()
        self.end_of_orphan()
        self.nothing_lost(job, kills=1)


def until(job: Job, process: subprocess.Popen[str], requests: int) -> None:
    """Waits until a run that goes on has made so many requests."""
    eventually(lambda: job.endpoint.number > requests or process.poll() is not None, 300)
    assert process.poll() is None, process.communicate()
