"""Libraries in C that read users' bytes: damaged ones end in values or errors, and in no crash."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tests.effort import LONG
from tests.native import LIBRARIES, ends

COUNT = 500 if LONG else 40
APART = {"orc"} if int(pa.__version__.partition(".")[0]) < 24 else set()
"""What vecferry reads in a child process with this pyarrow, since it may crash."""


@pytest.mark.slow
@pytest.mark.tries
@pytest.mark.parametrize("name", sorted(set(LIBRARIES) - APART))
def test_damaged_contents_crash_no_library(name: str) -> None:
    """Each is read in a child, with 4 GiB of memory and a minute for each content."""
    found = ends(name, COUNT)
    assert found["lost"] == []
    assert found.get("words", 0) + found.get("read", 0) + found.get("memory", 0) == COUNT
