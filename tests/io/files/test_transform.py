"""ReadFiles in a Beam pipeline."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from vecferry.errors import JobError
from vecferry.io.files import ReadFiles
from vecferry.io.files.settings import FilesSettings, LocalConnection
from vecferry.process import run_state
from vecferry.settings import Settings
from vecferry.steps import ReadOptions, StepContext

JOB = FilesSettings.model_validate({"object": "*.jsonl", "fileFormat": "jsonl"})


@pytest.mark.slow
def test_rows_and_rejects_of_several_files(tmp_path: Path) -> None:
    """Rows keep their origin; a record that is not a row goes to `rejected`."""
    (tmp_path / "a.jsonl").write_text('{"id":1}\nbad\n')
    (tmp_path / "b.jsonl").write_text('{"id":2}\n')
    with beam.Pipeline(runner="FnApiRunner") as p:
        read = p | ReadFiles(settings=JOB, connection=LocalConnection(path=str(tmp_path)))
        rows = read.rows | beam.Map(lambda row: (row["id"], row.origin))
        assert_that(rows, equal_to([(1, "a.jsonl:0"), (2, "b.jsonl:0")]))
        rejected = read.rejected | beam.Map(lambda r: (r.reason, r.raw, r.origin, r.step_type))
        assert_that(
            rejected, equal_to([("invalid-json", "bad", "a.jsonl:9", "file")]), label="Rejected"
        )


@pytest.mark.slow
def test_the_example_of_the_docs_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the page says of an own pipeline is what happens."""
    page = (Path(__file__).parents[3] / "docs" / "files.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text('{"id":1,"text":"x","more":2}\nbad\n')
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    printed = capfd.readouterr().out
    assert "{'id': 1, 'text': 'x'}" in printed
    assert "invalid-json a.jsonl, byte 29: the line is not JSON" in printed


@pytest.mark.slow
def test_every_row_is_counted(tmp_path: Path) -> None:
    """The run's state has the counts, rejects included, as does Beam."""
    (tmp_path / "a.jsonl").write_text('{"id":1}\nbad\n' * 500)
    context = StepContext(step="Reader", step_type="file")
    pipeline = beam.Pipeline(runner="FnApiRunner")
    connection = LocalConnection(path=str(tmp_path))
    _ = pipeline | ReadFiles(settings=JOB, connection=connection, context=context)
    result = pipeline.run()
    result.wait_until_finish()
    expected = {"rows-read": 1000, "rows-rejected": 500, "bytes-read": 13 * 500, "splits-read": 1}
    assert run_state(context.run).counts() == expected
    counters: Any = result.metrics().query()["counters"]
    counted = {c.key.metric.name: c.committed for c in counters}
    assert {k: counted[k] for k in expected} == expected


@pytest.mark.slow
def test_throttled_rows_take_their_time(tmp_path: Path) -> None:
    """500 rows at 1,000 a second take half a second."""
    (tmp_path / "a.jsonl").write_text("{}\n" * 500)
    connection = LocalConnection(path=str(tmp_path))
    context = StepContext(step="Reader", step_type="file", read=ReadOptions(rows_per_second=1000))
    with beam.Pipeline(runner="FnApiRunner") as p:
        read = p | ReadFiles(settings=JOB, connection=connection, context=context)
        spans = (
            read.rows
            | beam.Map(lambda _: time.monotonic())
            | beam.CombineGlobally(lambda times: _span(list(times)))
        )
        assert_that(spans, lambda got: _within(got[0]))
    assert run_state(context.run).counts()["rows-read"] == 500


def _span(times: list[Any]) -> tuple[float, float]:
    pairs = [t if isinstance(t, tuple) else (t, t) for t in times]
    return min((p[0] for p in pairs), default=1e18), max((p[1] for p in pairs), default=-1e18)


def _within(span: tuple[float, float]) -> None:
    assert span[1] - span[0] > 0.3


def test_what_is_no_file_store_is_refused_at_construction() -> None:
    """Not on a worker, an hour later."""
    with pytest.raises(JobError, match="holds no files"):
        ReadFiles(settings=JOB, connection=Settings())
