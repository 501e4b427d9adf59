"""A replay into a target that goes on meanwhile: the rows of rejects are read anew."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts import sync_memory
from tests.contracts.sync import DIMENSION, Scripted, run_here, write_job
from tests.contracts.sync_memory import held
from tests.transforms.embed.endpoints.server import EndpointServer, vector_of
from vecferry.pipelines.job.resolve import ResolvedStep, read_and_resolve
from vecferry.pipelines.launch import run_job
from vecferry.pipelines.run.anew import Anew, Followed
from vecferry.pipelines.run.options import RunOptions
from vecferry.pipelines.run.rejects import Replayed
from vecferry.pipelines.run.report import Report
from vecferry.rows import DELETE
from vecferry.steps import StepContext
from vecferry.testing.scripted import KINDS as SCRIPTED
from vecferry.testing.scripted import ScriptedSettings


class Shop:
    """A sync of a scripted table into memory, whose endpoint refuses texts with POISON."""

    def __init__(self, folder: Path, endpoint: str, *, versions: bool) -> None:
        self.script, self.name = Scripted(folder / "table"), uuid.uuid4().hex
        parameter = {
            "name": self.name,
            "column": ["id", "text", "vector"],
            "versions": versions,
        }
        writer = {"stepType": "held", "category": "writer", "name": "Write", "parameter": parameter}
        self.job = write_job(folder, self.script, writer, endpoint, random.Random(1), errorLimit={})
        self.kinds = (*self.script.kinds(), *sync_memory.KINDS)

    def sync(self) -> Report:
        """All that has happened to the table."""
        report = run_here(self.job, self.kinds)
        assert (report.state, report.lost) == ("DONE", 0), report.error
        return report

    def replay(self, report: Report) -> Report:
        """The rejects of a sync again."""
        assert report.rejects is not None
        options = RunOptions(
            rejects=str(self.job.parent / "rejects"), replay=report.rejects, preflight=False
        )
        again = run_job(read_and_resolve(str(self.job)), options)
        assert (again.state, again.lost) == ("DONE", 0), again.error
        return again

    def there(self) -> dict[str, tuple[str, bool]]:
        """By id the text, and whether its vector is there."""
        rows: dict[str, dict[str, Any]] = held(self.name).there()
        for row in rows.values():
            if row["vector"] is not None:
                assert row["vector"] == pytest.approx(vector_of(row["text"], DIMENSION))
        return {key: (row["text"], row["vector"] is not None) for key, row in rows.items()}


@pytest.fixture(params=[True, False], ids=["with versions", "without"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    with EndpointServer() as server:
        yield Shop(tmp_path, server.url, versions=request.param)


@pytest.mark.slow
def test_a_replay_reads_the_rows_as_they_stand(shop: Shop) -> None:
    """A row that was mended, one that is gone, one that is still bad; a newer row stays."""
    script = shop.script
    for key in "abcd":
        script.insert(key, f"old {key}")
    shop.sync()
    for key in "abcd":
        script.update(key, f"POISON {key}")
    refused = shop.sync()
    assert (refused.rows_read, refused.rows_rejected, refused.rows_written) == (4, 4, 4)
    assert (refused.state, refused.keys) == ("DONE", None), "a round is not judged by its rejects"
    assert shop.there() == {key: (f"POISON {key}", False) for key in "abcd"}

    script.update("a", "mended a")
    script.delete("b")
    script.update("d", "mended d")
    again = shop.replay(refused)
    assert (again.rows_read, again.rows_rejected, again.rows_deleted) == (4, 1, 1)
    now = {"a": ("mended a", True), "c": ("POISON c", False), "d": ("mended d", True)}
    assert shop.there() == now

    shop.sync()
    assert shop.there() == now


def test_a_row_that_is_gone_is_deleted_by_all_that_is_known_of_it(tmp_path: Path) -> None:
    """The writer's id need not be the source's key. What a step has made does not tell a key."""
    line = {"row": {"id": 1, "doc": {"$cut": {"bytes": 1}}, "isbn": "x"}, "key": None}
    replayed = Replayed("Embed", {**line, "step": "Embed", "origin": "log:1", "version": 7})
    reader = ResolvedStep(
        "Read", 0, SCRIPTED[0], ScriptedSettings.model_validate({"path": str(tmp_path)}), None
    )
    context = StepContext(step="Read", step_type="scripted")
    anew = Anew(Followed(reader, context, frozenset({"text"})))
    key = anew.key(replayed)
    assert key == (1,)
    (gone,) = anew.read([(key, replayed)])
    assert (gone.kind, dict(gone), gone.version) == (DELETE, {"id": 1, "isbn": "x"}, 7)
    assert Anew(Followed(reader, context, frozenset({"id"}))).key(replayed) is None


@pytest.mark.slow
def test_a_row_that_was_cut_is_read_anew(shop: Shop) -> None:
    """Its reject holds no more than the beginning of the text."""
    shop.script.insert("a", "POISON " * 200_000)
    refused = shop.sync()
    (part,) = Path(refused.rejects or "").glob("part-*.jsonl")
    assert "$cut" in json.loads(part.read_text())["row"]["text"]
    shop.script.update("a", "short")
    again = shop.replay(refused)
    assert (again.rows_read, again.rows_rejected, again.rows_written) == (1, 0, 1)
    assert shop.there() == {"a": ("short", True)}
