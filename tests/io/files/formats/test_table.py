"""The table of formats: what one adds to it, and what it costs a check of a job."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.files import items_of
from vecferry.io.files import FilesSettings, LocalConnection
from vecferry.io.files.formats.base import FORMATS, FileSplit, FormatSpec
from vecferry.io.files.source import FileSource
from vecferry.rows import Change, Reject
from vecferry.steps import StepContext


@dataclass(frozen=True, kw_only=True)
class PairsSpec(FormatSpec):
    """A format of a stranger: ``name=value`` a line, and a file is one row."""

    name = "pairs"
    splittable = False

    def reader(self, context: StepContext, opener: Any) -> PairsReader:
        """Reads whole files."""
        return PairsReader(self)


class PairsReader:
    """Reads files of pairs."""

    def __init__(self, spec: PairsSpec) -> None:
        self._spec = spec

    def check(self, path: str, raw: Any) -> None:
        """Takes any file."""

    def batches(self, split: FileSplit, raw: Any) -> Iterator[tuple[list[Change | Reject], int]]:
        """The row of the file."""
        row = dict(line.split("=", 1) for line in raw.read().decode().splitlines())
        change = Change({**row, **self._spec.constants(split.path)}, origin=f"{split.path}:0")
        yield [change], split.size

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """Rejects nothing, so nothing is read again."""
        raise NotImplementedError


def test_a_format_is_added_by_a_module_and_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings know its name and name it to who errs; the format says what may be cut."""
    monkeypatch.setitem(FORMATS, "pairs", f"{__name__}:PairsSpec")
    (tmp_path / "a").write_text("x=1\ny=2\n")
    settings = FilesSettings.model_validate(
        {"path": "*", "fileFormat": "pairs", "column": [{"name": "f", "from": "fileName"}]}
    )
    source = FileSource(
        settings,
        LocalConnection(path=str(tmp_path)),
        StepContext(step="Reader", step_type="file"),
        split_bytes=3,
    )
    assert items_of(source) == [{"x": "1", "y": "2", "f": "a"}]
    with pytest.raises(ValueError, match="pairz"):
        FilesSettings.model_validate({"path": "*", "fileFormat": "pairz"})


_CHECKED = """
import sys
from vecferry.io.files.settings import FilesSettings
for name in sys.argv[1:]:
    header = name in ("csv", "tsv", "text")
    FilesSettings.model_validate({"path": "a", "fileFormat": name, "skipHeader": header}).spec
print(*sorted({m.partition(".")[0] for m in sys.modules} & {"numpy", "pyarrow", "msgspec"}))
"""


@pytest.mark.slow
def test_the_settings_of_no_format_load_a_library() -> None:
    """`vecferry check` is done before numpy alone would be loaded."""
    command = [sys.executable, "-c", _CHECKED, *FORMATS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
