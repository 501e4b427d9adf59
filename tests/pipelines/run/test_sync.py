"""A sync of a scripted source: what every source that is followed must show."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.sync import Asked, Broken, Script, Scripted


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """An empty table."""
    return Scripted(tmp_path / "table")


@pytest.mark.slow
class TestBroken(Broken):
    """Broken off in this process."""


class TestAsked(Asked):
    """Asked for something while it is broken off in this process."""
