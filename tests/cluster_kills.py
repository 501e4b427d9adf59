"""What a cluster must survive: processes killed in the middle of a job."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster_contract import Finished, Job, Runner, finished
from tests.endpoint_server import EndpointServer
from tests.services.redis_server import RedisServer
from tests.services.server import eventually, running

ROWS, BATCH = 20_000, 10
REQUESTS = ROWS // BATCH
IN_FLIGHT = 4


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
        """Waits until the job whose client was killed has ended by itself, or ends it."""

    def run_and_kill(self, job: Job, runner: Runner, kill: Callable[[], None]) -> Finished:
        """Runs the job and kills something when a third of the requests are made."""
        begun = time.monotonic()
        process = job.start(runner)
        eventually(lambda: job.endpoint.number > REQUESTS // 3 or process.poll() is not None, 120)
        assert process.poll() is None, process.communicate()
        kill()
        return finished(process, begun)

    def done(self, job: Job, outcome: Finished) -> None:
        """Each row is there once, and no request was made again but those in flight."""
        assert outcome.status == 0, outcome.err
        assert job.wrong() == []
        assert job.endpoint.number <= REQUESTS + IN_FLIGHT

    def test_a_killed_worker_process_costs_no_row(self, runner: Runner, job: Job) -> None:
        """The runner starts another one, which asks only for what nobody knows yet."""
        outcome = self.run_and_kill(
            job, runner, lambda: os.kill(python_workers()[0], signal.SIGKILL)
        )
        self.done(job, outcome)

    def test_a_killed_machine_costs_no_row(self, runner: Runner, job: Job) -> None:
        """A TaskManager or an executor, with the worker process in it."""
        outcome = self.run_and_kill(job, runner, self.kill_host)
        self.done(job, outcome)

    def test_a_killed_client_costs_no_row(self, runner: Runner, job: Job) -> None:
        """The job goes on; another run completes it, if need be, and asks for nothing twice."""
        process = job.start(runner)
        eventually(lambda: job.endpoint.number > REQUESTS // 3, 120)
        process.kill()
        process.communicate()
        self.end_of_orphan()
        self.done(job, job.run(runner))
