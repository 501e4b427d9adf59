"""The jobs in examples/ do what they show, and so do the scripts around them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.effort import some
from tests.io.paimon.support import WHY as LAKE

ROOT = Path(__file__).parent.parent
JOBS = sorted((ROOT / "examples").glob("*.json"))
SOURCES = ["--data-sources", "examples/datasources.yaml"]


def vecferry(*arguments: str, folder: Path, status: int = 0) -> str:
    """What a command prints, started in the checkout with its files and vectors in `folder`."""
    places = {
        "FILES": str(folder),
        "VECTORS": str(folder / "vectors.db"),
        "LAKE": str(folder / "lake"),
    }
    done = subprocess.run(
        [str(Path(sys.executable).parent / "vecferry"), *arguments],
        cwd=ROOT,
        env={**os.environ, **places},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def run(job: str, folder: Path) -> dict[str, Any]:
    """The report of a job that must succeed."""
    report = folder / "report.json"
    rejects = ["--rejects", str(folder / "rejects")]
    vecferry("run", job, *SOURCES, *rejects, "--report", str(report), folder=folder)
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def query(job: str, text: str, folder: Path) -> list[dict[str, Any]]:
    """The three nearest rows."""
    told = vecferry("query", job, *SOURCES, "-k", "3", "--json", text, folder=folder)
    found: list[dict[str, Any]] = json.loads(told)["hits"]
    return found


def test_every_example_is_tested() -> None:
    """A job that is added to examples/ must be added here."""
    assert [job.name for job in JOBS] == [
        "csv-to-milvus.json", "docs-to-milvus.json", "lake-to-milvus.json",
        "mysql-cdc-to-milvus.json", "packages-to-milvus.json",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_examples_are_valid(job: Path, tmp_path: Path) -> None:
    """Each example passes its static check, without a warning."""
    if job.name.startswith("lake-"):
        pytest.importorskip("pypaimon", reason=LAKE)
    told = vecferry("check", str(job), *SOURCES, folder=tmp_path)
    assert "valid" in told
    assert "warning" not in told.lower()


@pytest.mark.slow
def test_the_example_over_our_own_pages_answers(tmp_path: Path) -> None:
    """Each page is a document; a question finds the page that answers it."""
    job = "examples/docs-to-milvus.json"
    report = run(job, tmp_path)
    pages = len(list((ROOT / "docs").rglob("*.md")))
    assert (report["state"], report["rows_read"], report["rows_split"]) == ("DONE", pages, pages)
    hits = query(job, "Which hostile documents are rejected, such as those with macros?", tmp_path)
    assert "documents.md" in {hit["path"] for hit in hits}


@pytest.mark.slow
def test_the_csv_example_answers(tmp_path: Path) -> None:
    """Twelve trails are searchable by what they are like; a second run leaves twelve."""
    job = "examples/csv-to-milvus.json"
    for _ in range(2):
        report = run(job, tmp_path)
        assert (report["state"], report["rows_written"]) == ("DONE", 12)
    hits = query(job, "look at the stars at night", tmp_path)
    assert hits[0]["title"] == "Night sky plateau"
    assert (hits[0]["km"], hits[0]["source"]) == (5.5, "trails.csv")
    titles = {hit["title"] for hit in query(job, "swim in warm water", tmp_path)}
    assert "Hot springs valley" in titles
    assert len({hit["id"] for hit in query(job, "a walk", tmp_path)}) == 3


@pytest.mark.slow
def test_a_lake_table_into_milvus_lite(tmp_path: Path) -> None:
    """The trails of the table that the job's condition takes, the corrected one with its length."""
    pytest.importorskip("pypaimon", reason=LAKE)
    made = [sys.executable, "examples/lake_table.py", str(tmp_path / "lake")]
    subprocess.run(made, cwd=ROOT, check=True)
    job = "examples/lake-to-milvus.json"
    report = run(job, tmp_path)
    assert (report["state"], report["rows_read"], report["rows_written"]) == ("DONE", 11, 11)
    assert query(job, "look at the stars at night", tmp_path)[0]["title"] == "Night sky plateau"
    lighthouse = query(job, "a lighthouse, seals on the rocks", tmp_path)[0]
    assert (lighthouse["id"], lighthouse["km"]) == (1, 7.5)


@pytest.mark.slow
def test_the_packages_example_answers(tmp_path: Path) -> None:
    """What installed packages say of themselves is found by what somebody looks for."""
    texts = tmp_path / "packages.jsonl"
    subprocess.run(
        [sys.executable, "examples/describe_packages.py", str(texts)], cwd=ROOT, check=True
    )
    rows = [json.loads(line) for line in texts.read_text(encoding="utf-8").splitlines()]
    assert len(rows) > 1000
    assert len({row["id"] for row in rows}) == len(rows)
    assert max(len(row["text"]) for row in rows if not row["id"].endswith(":0")) <= 400

    job = "examples/packages-to-milvus.json"
    report = run(job, tmp_path)
    assert report["rows_read"] == report["rows_written"] == len(rows)
    assert report["rows_rejected"] == 0
    for text, package in [
        ("make HTTP requests", "requests"),
        ("fast JSON serialisation", "orjson"),
        ("read environment variables from a file", "python-dotenv"),
    ]:
        assert package in [hit["package"] for hit in query(job, text, tmp_path)]


@pytest.mark.slow
@pytest.mark.parametrize("sink", some(["count", "milvus"], 1))
def test_the_benchmark_runs(sink: str) -> None:
    """The benchmark of the main job writes the same rows both ways; how fast is not tested here."""
    arguments = ["--rows", "3000", "--rounds", "1", "--sinks", sink]
    done = subprocess.run(
        [sys.executable, "bench/main_job.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{sink}: ours / loop = " in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("rows/s") == 2
