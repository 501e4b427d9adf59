"""The writer of rejects takes whatever a step refused, and says in words what its disk refuses."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest

from vecferry.pipelines.run.rejects import WriteRejectsFn, to_line
from vecferry.process import end_run, run_state
from vecferry.rows import Change, Reject


def _deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": [value]}
    return value


@pytest.mark.parametrize(
    "row",
    [
        {"v": _deep(127)},
        {"v": _deep(400)},
        {"v": _deep(5000)},
        {"\ud800": 1},
        {"v": {"\udc00": "\ud800"}},
        {"v": ["\ud800", {"a\udfff": 1}]},
        {"n" * 100_000: 1},
        {"v": 10**4000},
    ],
)
def test_any_row_becomes_a_line(row: dict[str, Any]) -> None:
    """Deep values, surrogates in names and values, long names and numbers: all give one line."""
    odd = "S\ud800"
    reject = Reject(odd, "x", reason="r", message=odd, row=Change(row), origin=odd, key=odd)
    line = to_line(reject, "run")
    assert line.count(b"\n") == 1
    assert orjson.loads(line)["reason"] == "r"


@pytest.mark.parametrize("folder", ["/dev/full/x", "{tmp}/file/x", "{tmp}/" + "n" * 300])
def test_a_folder_that_takes_nothing_ends_the_reading_in_words(tmp_path: Path, folder: str) -> None:
    """The failure names the folder and what to do; nothing counts as rejected."""
    (tmp_path / "file").touch()
    run = uuid.uuid4().hex
    state = run_state(run)
    state.reject("S", "r")
    fn = WriteRejectsFn(folder.format(tmp=tmp_path), run)
    fn.start_bundle()
    fn.process(Reject(step="S", step_type="x", reason="r", message="m", raw="a"))
    try:
        assert state.failure.startswith("--rejects ")
        assert "can't be written to" in state.failure
        assert state.stop.is_set()
        assert state.counts() == {"rows-unkept": 1}
        assert state.rejects().get(("S", "r"), 0) == 0
    finally:
        end_run(run)
