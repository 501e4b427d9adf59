"""The first row of a key goes on, exactly, in bounded memory."""

from __future__ import annotations

import datetime
import tempfile
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from vecferry.process import end_run
from vecferry.rows import DELETE, UPDATE, Change, Reject
from vecferry.spill import SeenKeys
from vecferry.steps import StepContext
from vecferry.transforms.shape.deduplicating import Deduplicator
from vecferry.transforms.shape.settings import DeduplicateSettings


@pytest.fixture
def context():
    """A run of its own."""
    context = StepContext(step="D", step_type="deduplicate")
    yield context
    end_run(context.run)


def operator(context: StepContext, *columns: str) -> Deduplicator:
    """An operator, as each bundle has one."""
    return Deduplicator(DeduplicateSettings(columns=columns), None, context)


def test_later_rows_of_a_key_are_dropped(context: StepContext):
    """Over all bundles of the run, and counted."""
    one, other = operator(context, "a", "b"), operator(context, "a", "b")
    row = {"a": 1, "b": "x", "c": 1}
    assert one.process(Change(row)) == [(row, None)]
    assert one.process(Change({**row, "b": "y"})) != []
    assert other.process(Change({**row, "c": 2})) == []
    assert (one.counts.values, other.counts.values) == ({}, {"rows-dropped": 1})


VALUES: list[Any] = [
    None, "", "None", 1, "1", 1.0, True, Decimal("1"), Decimal("1.0"), b"1",
    datetime.date(2026, 1, 1), "2026-01-01", [1, 2], [12], {"a": 1}, float("nan"),
    np.zeros(2000, "f4"),
    np.concatenate([np.zeros(1000, "f4"), np.ones(1, "f4"), np.zeros(999, "f4")]),
]  # fmt: skip


def test_values_that_differ_are_told_apart(context: StepContext):
    """By value and type; nulls are the same, and the order of a map does not count."""
    deduplicator = operator(context, "a")
    assert all(deduplicator.process(Change({"a": value})) for value in VALUES)
    assert not any(deduplicator.process(Change({"a": value})) for value in VALUES)
    assert deduplicator.process(Change({"a": {"x": 1, "y": 2}}))
    assert not deduplicator.process(Change({"a": {"y": 2, "x": 1}}))


def test_changes_pass(context: StepContext):
    """An update or a delete says nothing of other rows."""
    deduplicator = operator(context, "a")
    for change in (Change({"a": 1}, kind=UPDATE), Change({}, kind=DELETE)):
        assert deduplicator.process(change) == deduplicator.process(change) == [(change, None)]


def test_a_row_without_the_column_is_rejected(context: StepContext):
    """With the nearest name."""
    ((out, _),) = operator(context, "path").process(Change({"paths": 1}))
    assert isinstance(out, Reject)
    assert (out.reason, out.message) == (
        "missing-column",
        "the row has no column 'path'; did you mean 'paths'?",
    )


def test_keys_beyond_memory_are_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each is new once, in whichever order they come again; the file goes at the end."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = SeenKeys(in_memory=100)
    assert all(seen.add(i) for i in range(1050))
    assert [*tmp_path.iterdir()] != []
    assert not any(seen.add(i) for i in reversed(range(1050)))
    seen.close()
    assert [*tmp_path.iterdir()] == []


def test_threads_share_the_keys():
    """Each key is new for one of them."""
    seen, new = SeenKeys(in_memory=300), []

    def work() -> None:
        new.extend(i for i in range(2000) if seen.add(i))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen.close()
    assert sorted(new) == list(range(2000))


def test_no_column_is_refused():
    """For all rows would be one."""
    with pytest.raises(ValidationError, match="columns is empty"):
        DeduplicateSettings(columns=())
