"""Workers that can't run a job: it fails in time, and the client is told why."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.cluster import Job, Runner, process
from tests.services.cluster import ROOT, Part
from tests.services.server import free_port
from tests.transforms.embed.endpoints.server import EndpointServer

IN_TIME = 600.0  # twenty attempts and more would take longer


class Small:
    """Claims that a small job tells."""

    @pytest.fixture
    def job(self, tmp_path: Path) -> Iterator[Job]:
        """Twenty rows."""
        with EndpointServer(max_inputs=10) as endpoint:
            job = Job(tmp_path, endpoint)
            job.write(20, files=2)
            yield job


class Workers(Small):
    """Claims of a cluster; a subclass has a fixture `runner`."""

    def failing(self, runner: Runner, job: Job, options: list[str]) -> str:
        """Runs the job, which must fail in time; gives the message."""
        outcome = job.run(runner.plus(*options))
        assert outcome.status == 1, outcome.err
        assert outcome.report["state"] == "FAILED"
        assert outcome.report["seconds"] < IN_TIME
        assert job.stored() == {}
        return str(outcome.report["error"])

    def test_a_worker_that_does_not_exist(self, runner: Runner, job: Job) -> None:
        """The program can't be started: it is named."""
        error = self.failing(runner, job, process("/nowhere/vecferry-worker"))
        assert "/nowhere/vecferry-worker" in error, error

    def test_a_worker_of_another_version_without_a_client(
        self, runner: Runner, job: Job, tmp_path: Path
    ) -> None:
        """Both versions are named, the module and the extra that brings it, and what to do."""
        info = tmp_path / "poor" / "vecferry-0.0.7.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vecferry\nVersion: 0.0.7\n")
        hidden = "import sys\nsys.modules['psycopg'] = None\n"
        (info.parent / "sitecustomize.py").write_text(hidden)
        folder = f"{info.parent}:{ROOT}"
        error = self.failing(runner, job, process(PYTHONPATH=folder))
        assert "it has vecferry 0.0.7" in error
        assert "pip install 'vecferry==" in error
        assert "it lacks psycopg" in error
        assert "vecferry[postgresql]" in error


class Pools(Small):
    """Claims of a cluster whose workers come from a pool."""

    @pytest.fixture
    def pool(self, request: pytest.FixtureRequest) -> Iterator[Part]:
        """A pool of workers that start as the test says."""
        port = free_port()
        command = [sys.executable, "-m", "tests.contracts.cluster_pool", str(port), request.param]
        part = Part("pool", command, port)
        part.start()
        yield part
        part.stop()

    @pytest.mark.parametrize("pool", ["vecferry-worker"], indirect=True)
    def test_a_pool_of_workers_runs_a_job(self, runner: Runner, job: Job, pool: Part) -> None:
        """Each worker is started by vecferry-worker."""
        outcome = job.run(self.pooled(runner, pool))
        assert outcome.status == 0, outcome.err
        assert job.wrong() == []

    @pytest.mark.parametrize("pool", ["false"], indirect=True)
    def test_a_pool_whose_workers_die_is_found_out(
        self, runner: Runner, job: Job, pool: Part
    ) -> None:
        """The runner would wait for ever; a small job before the real one does not."""
        begun = time.monotonic()
        arguments = job.arguments(self.pooled(runner, pool))
        i = arguments.index("-m")
        soon = "from vecferry.pipelines import cli; from vecferry.pipelines.cluster import probe; "
        soon += "probe.SECONDS = 3; cli.main()"
        arguments[i : i + 2] = ["-c", soon]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 2, done.stderr
        assert "no worker answered within 3 s" in done.stderr
        assert time.monotonic() - begun < IN_TIME

    def pooled(self, runner: Runner, pool: Part) -> Runner:
        """The runner with workers of the pool, one stream."""
        options = ["--environment_type=EXTERNAL", f"--environment_config=127.0.0.1:{pool.port}"]
        return runner.plus(*options, "--parallelism=1")


def program(name: str) -> str:
    """The path of a program of this Python, or of the system."""
    own = Path(sys.executable).with_name(name)
    if own.exists():
        return str(own)
    return subprocess.run(
        ["which", name], capture_output=True, text=True, check=True
    ).stdout.strip()
