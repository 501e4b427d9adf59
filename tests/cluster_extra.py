"""A package that comes with a job: its workers get it, and nothing else of the client's."""

from __future__ import annotations

import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_contract import Job, Runner
from tests.endpoint_server import EndpointServer

MODULE = '''
"""A step of one's own, stepType ``loud``: the text in capital letters."""
import functools
from dataclasses import dataclass

from vecferry.beam import OperatorTransform
from vecferry.pipelines import cli
from vecferry.pipelines.registry import Kind, register
from vecferry.settings import Settings
from vecferry.steps import Counts


class LoudSettings(Settings):
    def inputs(self):
        return ["text"]

    def outputs(self):
        return {"text": None}


class Loud:
    def __init__(self, settings, connection, context):
        self.counts = Counts()

    def process(self, change, stamp=None):
        return [(change.having({"text": change["text"].upper()}), stamp)]

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


class Extra:
    """Claims of a cluster; a subclass has a fixture `runner`."""

    @pytest.fixture
    def job(self, tmp_path: Path) -> Iterator[Job]:
        """Twenty rows, loud ones."""
        with EndpointServer(max_inputs=10) as endpoint:
            job = LoudJob(tmp_path, endpoint)
            job.write(20, files=2)
            (tmp_path / "own").mkdir()
            (tmp_path / "own" / "ferry_loud.py").write_text(textwrap.dedent(MODULE))
            step = {"stepType": "loud", "category": "map", "name": "Loud", "parameter": {}}
            job.definition["steps"].insert(2, step)
            yield job

    def test_a_package_that_comes_with_a_job_is_installed(
        self, runner: Runner, job: LoudJob
    ) -> None:
        """Workers find its step, which they do not have otherwise."""
        done = job.run(runner, f"--extra_package={wheel(job.folder)}")
        assert done.status == 0, done.err
        job.expected = {key: text.upper() for key, text in job.expected.items()}
        assert job.wrong() == []
