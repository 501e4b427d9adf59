"""The writer of rejects takes whatever a step refused, and says in words what its disk refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from vecferry.errors import FatalError
from vecferry.pipelines.run.rejects import WriteRejectsFn, to_line
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
def test_a_folder_that_takes_nothing_ends_the_run_in_words(tmp_path: Path, folder: str) -> None:
    """The error names the folder and what to do."""
    (tmp_path / "file").touch()
    fn = WriteRejectsFn(folder.format(tmp=tmp_path), "run")
    fn.start_bundle()
    with pytest.raises(FatalError, match=r"folder of rejects .* can't be written .*--rejects"):
        fn.process(Reject(step="S", step_type="x", reason="r", message="m", raw="a"))
