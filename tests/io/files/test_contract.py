"""The file reader's claims on a folder of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.files import FormatCases, Place
from vecferry.io.files.settings import LocalConnection


class TestLocal(FormatCases):
    """All of them hold for a local folder."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        """A new folder."""

        def put(path: str, data: bytes) -> None:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(data)

        return Place(
            LocalConnection(path=str(tmp_path)), put, lambda path: (tmp_path / path).unlink()
        )


def test_the_claims_cover_every_format() -> None:
    """A new format joins the table; documents have a claim of their own."""
    from tests.contracts.files import FORMATS
    from vecferry.io.files.formats.base import FORMATS as KNOWN

    assert {case.parameters["fileFormat"] for case in FORMATS} | {"document"} == set(KNOWN)
