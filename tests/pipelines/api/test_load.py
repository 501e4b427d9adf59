"""`vecferry.load`: a job in Python says and does what the command line says and does."""

from __future__ import annotations

import datetime
import decimal
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import vecferry
from tests.pipelines.support import Bench, rows
from vecferry.pipelines.api import html
from vecferry.pipelines.api.rows import Rows


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A folder with a job that is right, and ten rows, one of them without a text."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines([*rows(9), {"id": 9, "text": ["<b>"]}])
    return bench


def loaded(bench: Bench) -> vecferry.LoadedJob:
    """The job of the bench."""
    return vecferry.load(bench.save(), data_sources=bench.folder / "sources.json")


def test_loading_a_job_checks_it_and_imports_neither_beam_nor_a_client(bench: Bench) -> None:
    """As ``vecferry check`` does; a notebook's first cell must not take seconds."""
    sources = bench.folder / "sources.json"
    program = (
        "import sys, vecferry\n"
        f"job = vecferry.load({bench.save()!r}, data_sources={str(sources)!r})\n"
        "print(repr(job), [m for m in ('apache_beam', 'pymilvus', 'rich') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith("→ Writer> []")


def test_a_wrong_job_is_told_with_every_mistake(bench: Bench) -> None:
    """By the error of the command line."""
    path = Path(bench.save())
    text = json.loads(path.read_text())
    text["setting"] = {"errorLimit": {"record": "many"}, "speed": {"concurrent": 0}}
    path.write_text(json.dumps(text))
    with pytest.raises(vecferry.JobError) as told:
        vecferry.load(path, data_sources=bench.folder / "sources.json")
    assert len(told.value.problems) == 2


@pytest.mark.slow
def test_a_job_is_checked_previewed_estimated_run_and_searched(bench: Bench) -> None:
    """The whole way of a notebook, on one job; each answer is Arrow, and a table in a notebook."""
    job = loaded(bench)
    rejects = str(bench.folder / "rejects")
    job.check(rejects=rejects)

    preview = job.preview(2)
    assert list(preview.steps) == list(job.steps)
    last = preview[list(job.steps)[-1]].to_arrow()
    assert last.num_rows == 2
    assert pa.list_(pa.float32()) in last.schema.types
    assert preview._repr_html_().count("<table>") == len(job.steps)

    estimate = job.estimate()
    assert estimate.counts["rows"] == 10
    assert estimate.to_arrow().column("rows").to_pylist() == [10]

    lines: list[str] = []
    result = job.run(rejects=rejects, progress=lines.append)
    assert result.state == "DONE"
    assert result.report["rows_written"] + result.report["rows_rejected"] == 10
    assert "DONE" in str(result)
    assert "DONE" in result._repr_html_()
    assert lines
    assert "read" in lines[-1]
    result.raise_for_state()

    hits = job.query("row 3", k=2)
    assert len(hits) == 2
    assert pa.table(hits).column("score").to_pylist() == [hit["score"] for hit in hits]
    with pytest.raises(vecferry.JobError, match="text is empty"):
        job.query(" ")


@pytest.mark.slow
def test_a_run_that_failed_is_told_and_raises_only_if_asked(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report is there to be looked at; off a terminal no line of progress is shown."""
    bench.write_lines([{"id": 1, "text": "a"}, "{cut"])
    job = vecferry.load(
        bench.save(),
        data_sources=bench.folder / "sources.json",
        assignments={"setting.errorLimit.record": "0"},
    )
    result = job.run(rejects=str(bench.folder / "rejects"))
    assert result.state == "FAILED"
    assert [row["rows"] for row in result.rejected_by] == [1]
    with pytest.raises(vecferry.VecferryError, match="FAILED"):
        result.raise_for_state()
    assert "rows/s" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, None], pa.int64()),
        (["a", None], pa.string()),
        ([np.zeros(2, np.float32), None], pa.list_(pa.float32())),
        ([datetime.date(2026, 1, 2)], pa.date32()),
        ([decimal.Decimal("1.5")], pa.decimal128(2, 1)),
        ([{"a": 1}], pa.struct([("a", pa.int64())])),
        ([1, "a"], pa.string()),
        ([2**80], pa.string()),
        ([None], pa.null()),
    ],
)
def test_values_become_a_column_of_arrow(values: list[object], expected: pa.DataType) -> None:
    """By their type; those without a common type as JSON."""
    column = Rows([{"x": value} for value in values]).to_arrow().column("x")
    assert column.type == expected
    assert len(column) == len(values)


def test_rows_are_a_sequence_of_dicts_with_all_columns() -> None:
    """A row may lack a column."""
    found = Rows([{"a": 1}, {"b": 2}])
    assert found.columns == ["a", "b"]
    assert list(found[:1]) == [{"a": 1}]
    assert found[1] == {"b": 2}
    assert repr(found) == "<2 rows of a, b>"
    assert found.to_arrow().to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": 2}]
    assert Rows([], ("step", "rows")).to_arrow().column_names == ["step", "rows"]


def test_what_a_notebook_shows_is_escaped_and_cut() -> None:
    """A row comes from anywhere, and a notebook runs scripts."""
    shown = html.table([{"<i>": "<script>", "v": np.zeros(9, np.float32)}] * 50, ["<i>", "v"])
    assert "<script>" not in shown
    assert "<i>" not in shown
    assert "9 numbers" in shown
    assert "30 more rows" in shown
    assert len(html.cell("x" * 10_000)) < 200
