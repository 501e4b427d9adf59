"""Distinct keys are counted exactly while they fit, then estimated; sketches of workers merge."""

from __future__ import annotations

import math
import uuid
from pathlib import Path
from typing import Any

import pytest

from vecferry.distinct import DistinctKeys, KeyCount, count_all
from vecferry.process import end_run, run_state
from vecferry.run.channel import ClusterState, told


@pytest.mark.parametrize(
    "keys",
    [
        [f"key {i}" for i in range(5000)],
        list(range(-2500, 2500)),
        [(i, "größe") for i in range(5000)],
        [f"灯塔 {i} \ud800" for i in range(5000)],
        [f"{i}".encode() for i in range(5000)],
    ],
    ids=["texts", "numbers", "several columns", "halves of characters", "bytes"],
)
def test_keys_that_fit_are_counted_exactly(keys: list[Any]) -> None:
    """However often each comes."""
    counted = DistinctKeys(14)
    for _ in range(3):
        counted.add(keys)
    assert counted.count() == KeyCount(5000, True, 5000, 5000)
    assert counted.added == 15_000


def test_more_keys_are_estimated_within_bounds() -> None:
    """The estimate says that it is one, and how far it may be off."""
    counted = DistinctKeys(10)
    counted.add(range(50_000))
    found = counted.count()
    assert not found.exact
    assert found.least <= 50_000 <= found.most
    assert 45_000 < found.distinct < 55_000
    assert len(counted.to_bytes()) < 20_000


@pytest.mark.parametrize("log_size", [14, 8])
def test_sketches_of_workers_merge(log_size: int) -> None:
    """A key that two of them wrote, as after a repeated bundle, counts once."""
    parts = []
    for first in (0, 1000, 1500):
        counted = DistinctKeys(log_size)
        counted.add(range(first, first + 1000))
        parts.append(counted.to_bytes())
    found = count_all(parts)
    assert found.exact == (log_size == 14)
    assert found.least <= 2500 <= found.most
    assert count_all([]) == KeyCount(0, True, 0, 0)
    with pytest.raises(ValueError, match="not a sketch"):
        count_all([b"nonsense"])


def test_a_launcher_knows_the_keys_of_all_its_workers(tmp_path: Path) -> None:
    """And says nothing where the runner counted rows of which no worker has told the keys."""
    runs = [uuid.uuid4().hex for _ in range(2)]
    launcher = ClusterState(None, str(tmp_path / "run"))
    try:
        for number, run in enumerate(runs):
            state = run_state(run)
            reporter = told(run, state, str(tmp_path / "run"))
            # Each bundle ends right after another, and the process may end with any of them.
            for first in (number, number + 5):
                state.add_keys([f"key {i}" for i in range(first, first + 5)])
                state.add({"rows-keyed": 5})
                reporter._due = math.inf
                reporter.tell()
        launcher.gather()
        assert launcher.workers == 2
        assert launcher.keys() == KeyCount(11, True, 11, 11)
        launcher.settle({"rows-keyed": 20})
        assert launcher.keys() == KeyCount(11, True, 11, 11)
        launcher.settle({"rows-keyed": 21})
        assert launcher.keys() is None
    finally:
        for run in runs:
            end_run(run)


def test_rows_are_told_though_their_keys_were_told_before_they_were_counted(
    tmp_path: Path,
) -> None:
    """The reporter's thread may come between the two, and the process may end with the bundle."""
    run = uuid.uuid4().hex
    launcher = ClusterState(None, str(tmp_path / "run"))
    try:
        state = run_state(run)
        reporter = told(run, state, str(tmp_path / "run"))
        reporter.close()
        state.add_keys(["a", "b", "a"])
        reporter.tell()
        state.add({"rows-keyed": 3})
        reporter._due = math.inf
        reporter.tell()
        launcher.gather()
        launcher.settle({"rows-keyed": 3})
        assert launcher.keys() == KeyCount(2, True, 2, 2)
    finally:
        end_run(run)
