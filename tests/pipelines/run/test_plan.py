"""A source is listed once in a run, by the launcher, however many splits it has."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services.cluster import ROOT, worker_environment
from tests.shared import counted
from vecferry.beam import Dealt
from vecferry.errors import FatalError
from vecferry.pipelines.job.resolve import read_and_resolve
from vecferry.pipelines.registry import Registry, using
from vecferry.pipelines.run.graph import RunPlan, build
from vecferry.pipelines.run.local import LocalRun
from vecferry.pipelines.run.options import RunOptions
from vecferry.pipelines.run.splits import INLINE_BYTES, elsewhere, here, remove_splits
from vecferry.process import end_run
from vecferry.steps import Plan

MANY = 100_000
PORTABLE = ["--runner", "PortableRunner", "--job_endpoint=embed"]
APART = [
    *(*PORTABLE, "--shared-files", "--environment_type=beam:env:harness_subprocess_python:v1"),
    f"--environment_config={sys.executable} -m apache_beam.runners.worker.sdk_worker_main",
]
"""Workers in processes of their own, as on a cluster."""


def run(folder: Path, splits: int, *options: str) -> dict[str, Any]:
    """Runs the job in a process of its own; its report."""
    (folder / "job.json").write_text(json.dumps(counted.job(folder, splits)))
    command = [sys.executable, "-m", "tests.shared.counted", "run", str(folder / "job.json")]
    done = subprocess.run(
        [*command, "--json", "--rejects", str(folder / "rejects"), *options],
        cwd=ROOT,
        env={**os.environ, **worker_environment()},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["state"] == "DONE", done.stderr
    return report


def lines(path: Path) -> list[str]:
    """The lines of a file."""
    return path.read_text().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="this process"),
        pytest.param([*PORTABLE, "--environment_type=LOOPBACK"], id="threads of this process"),
        pytest.param(APART, id="other processes"),
    ],
)
def test_a_run_lists_its_source_once(tmp_path: Path, options: list[str]) -> None:
    """Check, size, streams and graph are of one listing, wherever workers are."""
    report = run(tmp_path, 40, *options)
    assert report["rows_read"] == report["rows_written"] == 40
    assert len(set(lines(tmp_path / "kept"))) == 40
    assert lines(tmp_path / "listings") == ["listed"]
    assert not list((tmp_path / "rejects").glob("*"))


@pytest.mark.slow
def test_a_limited_run_lists_its_source_once(tmp_path: Path) -> None:
    """Splits beyond the limit are not read."""
    assert run(tmp_path, 40, "--limit", "3")["rows_written"] == 3
    assert lines(tmp_path / "listings") == ["listed"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], APART], ids=["here", "elsewhere"])
def test_a_run_of_many_splits_reads_each_once(tmp_path: Path, options: list[str]) -> None:
    """Also where they are too many for the pipeline; nothing of them stays behind."""
    report = run(tmp_path, MANY, *options)
    assert report["rows_read"] == report["rows_written"] == MANY
    kept = lines(tmp_path / "kept")
    assert len(kept) == len(set(kept)) == MANY
    assert lines(tmp_path / "listings") == ["listed"]
    assert not list((tmp_path / "rejects").glob("*"))


@pytest.fixture
def many() -> list[Any]:
    """More splits than a pipeline should hold."""
    return counted.many_splits(MANY)


@pytest.fixture
def registry() -> Iterator[None]:
    """The stepType `counted`, for one test."""
    own = Registry()
    for kind in counted.KINDS:
        own.register(kind)
    with using(own):
        yield


@pytest.mark.slow
def test_many_splits_do_not_travel_in_the_pipeline(
    tmp_path: Path, registry: None, many: list[Any]
) -> None:
    """Its description stays far below a megabyte."""
    (tmp_path / "job.json").write_text(json.dumps(counted.job(tmp_path, MANY)))
    resolved = read_and_resolve(str(tmp_path / "job.json"))
    run = LocalRun(resolved, RunOptions(rejects=str(tmp_path)), ())
    try:
        handed = (run.hand_over(Plan(splits=many)), elsewhere(str(tmp_path), many, 4))
        for splits in handed:
            pipeline = run.pipeline()
            build(pipeline, resolved, RunPlan(run=run.id, rejects=run.rejects, splits=splits))
            assert len(pipeline.to_runner_api().SerializeToString()) < INLINE_BYTES / 8
    finally:
        end_run(run.id)


@pytest.mark.slow
def test_many_splits_are_shared_out_by_files(tmp_path: Path, many: list[Any]) -> None:
    """One for each stream, and each split is in one of them."""
    dealt = pickle.loads(pickle.dumps(elsewhere(str(tmp_path), many, 4)))()
    assert len(dealt) == len(list((tmp_path / "splits").iterdir())) == 4
    assert all(isinstance(part, Dealt) for part in dealt)
    assert sorted(split for part in dealt for split in part) == many
    remove_splits(str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_worker_takes_no_splits_that_somebody_else_wrote(tmp_path: Path, many: list[Any]) -> None:
    """What is unpickled is what the launcher wrote, though others may write to the folder."""
    first, *_ = elsewhere(str(tmp_path), many, 4)()
    next((tmp_path / "splits").glob("00000*")).write_bytes(pickle.dumps(["theirs"]))
    with pytest.raises(FatalError, match="was changed since it was written"):
        list(first)
    remove_splits(str(tmp_path))
    with pytest.raises(FatalError, match="workers must reach the folder"):
        list(first)


def test_few_splits_travel_in_the_pipeline(tmp_path: Path) -> None:
    """Neither this process nor a folder has to keep them."""
    for handed in (here("a run", [1, 2, 3]), elsewhere(str(tmp_path / "no"), [1, 2, 3], 2)):
        assert pickle.loads(pickle.dumps(handed))() == [1, 2, 3]
    assert not (tmp_path / "no").exists()
