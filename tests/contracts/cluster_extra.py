"""What the workers of a job get from its client: a package, and a share of its quota."""

from __future__ import annotations

import textwrap
import time
import zipfile
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contracts.cluster import Finished, Job, Runner, finished
from tests.contracts.cluster_kills import python_workers
from tests.services.server import eventually
from tests.transforms.embed.endpoints.server import EndpointServer

BATCH, RATE, SECONDS = 10, 20, 6
"""Inputs in a request, requests a second, seconds that the job takes at least."""

MODULE = '''
"""A step of one's own, stepType ``loud``: the text in capital letters."""
import functools
from dataclasses import dataclass

from vecferry.beam import OperatorTransform
from vecferry.pipelines import cli
from vecferry.pipelines.registry import Kind, register
from vecferry.settings import StepSettings
from vecferry.steps import Counts, Transformer


class LoudSettings(StepSettings):
    def inputs(self):
        return ["text"]

    def outputs(self):
        return {"text": None}


class Loud(Transformer):
    def __init__(self, settings, connection, context):
        self.counts = Counts()

    def process(self, change, stamp=None):
        return [(change.with_columns({"text": change["text"].upper()}), stamp)]

    def finish(self):
        return []

    def close(self):
        pass


@dataclass(kw_only=True, eq=False)
class MakeLoud(OperatorTransform):
    settings: LoudSettings
    verb = "Loud"
    step_type = "loud"

    def operator(self, context):
        return functools.partial(Loud, self.settings, None, context)


def main():
    names = ("LoudSettings", "Loud", "MakeLoud")
    register(Kind("loud", "transformer", *(f"ferry_loud:{name}" for name in names)))
    cli.main()
'''


def wheel(folder: Path) -> Path:
    """A wheel with the module, made by hand."""
    path = folder / "ferry_loud-1.0-py3-none-any.whl"
    info = "ferry_loud-1.0.dist-info"
    files = {
        "ferry_loud.py": textwrap.dedent(MODULE),
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: ferry-loud\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    listed = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": listed}.items():
            archive.writestr(name, text)
    return path


class LoudJob(Job):
    """Run by a client that has the module in a folder of its own."""

    def arguments(self, runner: Runner, *more: str) -> list[str]:
        """The command line that knows the step."""
        given = super().arguments(runner, *more)
        i = given.index("-m")
        code = f"import sys; sys.path.insert(0, {str(self.folder / 'own')!r}); import ferry_loud"
        given[i : i + 2] = ["-c", f"{code}; ferry_loud.main()"]
        return given


@dataclass
class Done:
    """A job and what it came to."""

    job: LoudJob
    outcome: Finished


class Extra:
    """Claims of a cluster that one job tells; there is a fixture `runner` for a whole module."""

    @pytest.fixture(scope="class")
    @classmethod
    def done(cls, runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
        """A job with a step of its own and a quota, on several worker processes."""
        folder = tmp_path_factory.mktemp("extra")
        (folder / "own").mkdir()
        (folder / "own" / "ferry_loud.py").write_text(textwrap.dedent(MODULE))
        with EndpointServer(max_inputs=BATCH) as endpoint:
            job = LoudJob(folder, endpoint)
            job.write(SECONDS * RATE * BATCH, files=8)
            step = {"stepType": "loud", "category": "map", "name": "Loud", "parameter": {}}
            job.definition["steps"].insert(2, step)
            job.definition["steps"][3]["parameter"]["requestsPerMinute"] = 60 * RATE
            begun = time.monotonic()
            process = job.start(runner, f"--extra_package={wheel(folder)}")
            eventually(lambda: len(python_workers()) > 1 or process.poll() is not None, 300)
            yield Done(job, finished(process, begun))

    def test_a_package_that_comes_with_a_job_is_installed(self, done: Done) -> None:
        """Workers find its step, which they do not have otherwise."""
        assert done.outcome.status == 0, done.outcome.err
        done.job.expected = {key: text.upper() for key, text in done.job.expected.items()}
        assert done.job.wrong() == []

    def test_a_quota_is_shared_out_by_the_worker_processes(self, done: Done) -> None:
        """They ask no more often than it allows in sum, and no less often when all are there."""
        at = [seen.at for seen in done.job.endpoint.requests]
        assert len(at) == SECONDS * RATE
        for seconds in (1.0, 2.0, 4.0):
            assert most(at, seconds) <= RATE * seconds + 4, seconds  # some come late together
        assert most(at, 2.0) >= 0.6 * RATE * 2.0  # one process alone has its share


def most(at: list[float], seconds: float) -> int:
    """The most of these moments that are within so many seconds."""
    return max(bisect_left(at, first + seconds) - i for i, first in enumerate(at))
