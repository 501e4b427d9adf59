"""How workers and launcher speak through a folder, and how repeated rejects become one."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.services.server import eventually
from vecferry.pipelines.run.rejects import ONCE, tidy_rejects
from vecferry.process import RunState, end_run, run_state
from vecferry.run.channel import ClusterState, complain, told


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder of this machine, and one of an fsspec file system."""
    return str(tmp_path / "run") if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def worker(folder: str, run: str) -> Any:
    """The end of a worker process."""
    return told(run, run_state(run), folder)


@pytest.mark.slow
def test_a_launcher_sees_the_sum_of_what_workers_counted(folder: str) -> None:
    """Counters, rejects, distributions; the latest that each process told."""
    runs = [uuid.uuid4().hex for _ in range(2)]
    launcher = ClusterState(3, folder)
    try:
        for run in runs:
            state = run_state(run)
            state.add({"rows-read": 10})
            state.reject("Embed", "refused-input")
            state.observe({"embed-in-flight": [2, 4]})
            worker(folder, run).tell()
        launcher.refresh(now=True)
        assert launcher.workers == 2
        assert launcher.counts() == {"rows-read": 20}
        assert launcher.rejects() == {("Embed", "refused-input"): 2}
        assert launcher.most("embed-in-flight") == 8
        assert not launcher.over_limit
        for _ in range(2):
            run_state(runs[0]).reject("Embed", "refused-input")
        eventually(lambda: launcher.refresh(now=True) or launcher.over_limit)
        launcher.settle({"rows-read": 19})
        assert launcher.counts() == {"rows-read": 19}
    finally:
        for run in runs:
            end_run(run)
    launcher.channel.remove()
    assert launcher.channel.read() == {}


@pytest.mark.slow
def test_workers_hear_of_a_stop(folder: str) -> None:
    """Within seconds, and with the reason."""
    run = uuid.uuid4().hex
    launcher = ClusterState(None, folder)
    try:
        worker(folder, run)
        launcher.channel.stop("interrupt")
        assert run_state(run).stop.wait(60)
        assert run_state(run).stopped_by == "interrupt"
    finally:
        end_run(run)


def test_what_a_worker_could_not_start_for_is_fatal(folder: str) -> None:
    """Trying again would not help."""
    launcher = ClusterState(None, folder)
    launcher.refresh(now=True)
    assert not launcher.fatal
    complain(folder, "it lacks psycopg")
    launcher.refresh(now=True)
    assert launcher.fatal
    assert launcher.failure == "it lacks psycopg"


def test_a_folder_that_can_not_be_written_to_costs_no_row(tmp_path: Path) -> None:
    """Telling is for people; the rows go on."""
    (tmp_path / "file").write_text("")
    run = uuid.uuid4().hex
    try:
        run_state(run).add({"rows-read": 1})
        worker(f"{tmp_path}/file/run", run).tell()
        assert run_state(run).counts() == {"rows-read": 1}
    finally:
        end_run(run)


def test_shares_follow_the_streams_of_a_process() -> None:
    """Two of four bundles at work in a process may use half of a quota; never more than all."""
    state = RunState()
    assert state.share("Embed", 4) == 0.25
    state.enter("Embed")
    state.enter("Embed")
    assert state.share("Embed", 4) == 0.5
    state.leave("Embed")
    assert state.share("Embed", 4) == 0.5  # what was spent by the other is spent
    assert state.share("Embed", 1) == 1.0


def line(step: str, origin: str, reason: str = "bad") -> bytes:
    """A line of a rejects file."""
    return json.dumps({"step": step, "reason": reason, "origin": origin}).encode() + b"\n"


def test_a_reject_of_a_repeated_bundle_is_there_once(folder: str) -> None:
    """Counted and kept once; rejects without an origin can't be told apart and all stay."""
    fs, path = fsspec.core.url_to_fs(folder)
    fs.makedirs(path, exist_ok=True)
    fs.pipe_file(f"{path}/part-a.jsonl", line("Embed", "f:1") + line("Embed", "f:2"))
    fs.pipe_file(
        f"{path}/part-b.jsonl", line("Embed", "f:1") + line("Read", "f:1") + line("Read", "") * 2
    )
    counts = {("Embed", "bad"): 2, ("Read", "bad"): 3}
    assert tidy_rejects(folder) == counts
    (left,) = fs.glob(f"{path}/part-*.jsonl")
    assert left.endswith(ONCE)
    assert len(fs.cat_file(left).splitlines()) == 5
    assert tidy_rejects(folder) == counts


def test_rejects_that_were_written_once_stay_where_they_are(folder: str) -> None:
    """Nothing is rewritten without need, and an absent folder holds none."""
    assert tidy_rejects(folder) == {}
    fs, path = fsspec.core.url_to_fs(folder)
    fs.makedirs(path, exist_ok=True)
    fs.pipe_file(f"{path}/part-a.jsonl", line("Embed", "f:1"))
    assert tidy_rejects(folder) == {("Embed", "bad"): 1}
    assert [p.rpartition("/")[2] for p in fs.glob(f"{path}/part-*.jsonl")] == ["part-a.jsonl"]
