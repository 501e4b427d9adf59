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
from vecferry.transforms.embed.cache.store import MOST_WAITING

ROWS, BATCH = 20_000, 10
REQUESTS = ROWS // BATCH
IN_FLIGHT = 4
NOT_KEPT = MOST_WAITING // BATCH + 1
"""The most requests whose vectors wait for the cache in one process, and one that is half kept."""


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
    def job(self, tmp_path: Path, endpoint: EndpointServer) -> Iterator[Job]:
        """20,000 rows, vectors kept in Redis."""
        job = Job(tmp_path, endpoint)
        job.write(ROWS, files=16)
        cache = {"uri": running(RedisServer).uri}
        job.definition["setting"] = {
            "speed": {"concurrent": str(IN_FLIGHT)},
            "vectorCache": cache,
        }
        yield job
        job.end()

    def kill_host(self) -> None:
        """Kills what a worker process runs in: a TaskManager or an executor."""
        raise NotImplementedError

    def end_of_orphan(self) -> None:
        """Waits until the job whose client was killed has ended by itself."""
        raise NotImplementedError

    def nothing_lost(self, job: Job, again: int) -> None:
        """Each row is there once; at most so many requests were sent again."""
        assert job.wrong() == []
        assert job.endpoint.number - REQUESTS <= again

    def test_a_killed_worker_process_and_a_killed_machine_cost_no_row(
        self, runner: Runner, job: Job
    ) -> None:
        """A worker process, then a TaskManager or an executor: the runner starts others.

        They ask only for what nobody knows yet.
        """
        begun = time.monotonic()
        process = job.start(runner)
        until(job, process, REQUESTS // 4)
        again = cost_of_a_kill()
        os.kill(python_workers()[0], signal.SIGKILL)
        until(job, process, REQUESTS // 2)
        again += cost_of_a_kill()
        self.kill_host()
        outcome = finished(process, begun)
        assert outcome.status == 0, outcome.err
        self.nothing_lost(job, again)

    @pytest.mark.long
    @pytest.mark.parametrize("seed", range(6))
    def test_workers_killed_at_any_moments_cost_no_row(
        self, runner: Runner, job: Job, seed: int
    ) -> None:
        """Three times in a run, whichever worker process it is."""
        chance = random.Random(seed)
        begun = time.monotonic()
        process, again = job.start(runner), 0
        for moment in sorted(chance.sample(range(REQUESTS * 3 // 4), 3)):
            until(job, process, moment)
            eventually(lambda: len(python_workers()) > 0)
            again += cost_of_a_kill()
            os.kill(chance.choice(python_workers()), signal.SIGKILL)
        outcome = finished(process, begun)
        assert outcome.status == 0, outcome.err
        self.nothing_lost(job, again)
        print(f"{job.endpoint.number - REQUESTS} requests were sent again, {again} may be")

    def test_a_killed_client_costs_no_row(self, runner: Runner, job: Job) -> None:
        """The job goes on to its end without it."""
        process = job.start(runner)
        until(job, process, REQUESTS // 3)
        process.kill()
        process.communicate()
        self.end_of_orphan()
        self.nothing_lost(job, again=0)


def cost_of_a_kill() -> int:
    """The most requests that are sent again if a worker process is killed now.

    Lost are those in flight, `IN_FLIGHT` in all processes together, and what was answered and waits
    for the cache. A runner may end all worker processes because of one.
    """
    return IN_FLIGHT + len(python_workers()) * NOT_KEPT


def until(job: Job, process: subprocess.Popen[str], requests: int) -> None:
    """Waits until a run that goes on has made so many requests."""
    eventually(lambda: job.endpoint.number > requests or process.poll() is not None, 900)
    assert process.poll() is None, process.communicate()
