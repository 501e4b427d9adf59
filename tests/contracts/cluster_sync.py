"""A sync on a cluster: each round is a job of its own, and the launcher stores the positions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.cluster import Job, Runner
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.pipelines import cli, registry
from vecferry.testing.scripted import KINDS, ScriptedTable

PROGRAM = "from tests.contracts.cluster_sync import main; main()"


def main() -> None:
    """The command line, with the scripted source."""
    for kind in KINDS:
        registry.register(kind)
    cli.main()


class SyncJob(Job):
    """A job whose source is a scripted table, which the workers see as a file."""

    def __init__(self, folder: Path, endpoint: EndpointServer) -> None:
        super().__init__(folder, endpoint)
        self.scripted = ScriptedTable(folder / "scripted")
        embed, writer = self.definition["steps"][2:]
        reader = {
            "stepType": "scripted",
            "category": "reader",
            "name": "Reader",
            "parameter": {"path": str(self.scripted.folder), "parts": 2, "streams": 2},
        }
        writer["parameter"]["versionColumn"] = "version"
        writer["parameter"]["ownsTarget"] = True
        writer["parameter"]["column"].append({"name": "version", "type": "bigint"})
        self.definition["steps"] = [reader, embed, writer]
        self.definition["setting"]["positions"] = str(folder / "positions")

    def arguments(self, runner: Runner, *more: str) -> list[str]:
        """With a program that knows the source."""
        python, *rest = super().arguments(runner, *more)
        assert python == sys.executable
        return [python, "-c", PROGRAM, *rest[rest.index("-v") :]]

    def put(self, key: str, text: str) -> None:
        """A new row, or another text."""
        known = key in self.expected
        row = {"id": key, "text": text}
        (self.scripted.update if known else self.scripted.insert)(row)
        self.expected[key] = text

    def drop(self, key: str) -> None:
        """The row is gone."""
        self.scripted.delete(key)
        del self.expected[key]


class Syncs:
    """What a sync must do on a cluster; there is a fixture `runner`."""

    @pytest.fixture
    def job(self, tmp_path: Path) -> Iterator[SyncJob]:
        """20 ms a request."""
        with EndpointServer(max_inputs=10, latency=0.02) as endpoint:
            yield SyncJob(tmp_path, endpoint)

    def test_each_round_of_a_sync_is_a_job(self, runner: Runner, job: SyncJob) -> None:
        """The second run reads what has changed since, and rejects are in the folder of a round."""
        for n in range(60):
            job.put(f"r{n}", f"text {n}")
        first = job.run(runner)
        assert first.status == 0, first.out + first.err
        assert job.wrong() == []
        report: dict[str, Any] = first.report
        assert (report["rounds"], report["rows_read"], report["rows_written"]) == (2, 60, 60)
        job.put("new", "a new row")
        job.put("r1", "changed")
        job.drop("r2")
        job.scripted.insert({"id": "bad", "text": "POISON"})
        job.definition["setting"]["onReject"] = "delete"
        second = job.run(runner)
        assert second.status == 0, second.out + second.err
        report = second.report
        assert (report["rounds"], report["rows_read"], report["rows_rejected"]) == (1, 4, 1)
        assert job.wrong() == []
        (rejected,) = Path(report["rejects"]).glob("*/part-*.jsonl")
        assert "POISON" in rejected.read_text()
        assert report["position"]["at"] == {"offset": job.scripted.end()}

    def test_a_sync_is_not_left_to_itself(self, runner: Runner, job: SyncJob) -> None:
        """Nobody would store its positions."""
        outcome = job.run(runner, "--detach")
        assert outcome.status == 2
        assert "--detach: a sync stores its position after each round" in outcome.err
