"""Rows as a table: as wide as the terminal, cut where the values are long, never in a secret."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from vecferry.errors import keep_secret
from vecferry.pipelines.cli.table import as_table

ROWS = [
    {"id": 1, "title": "Lighthouse loop", "about": "A flat walk along the cliffs. " * 5},
    {"id": 2, "title": "灯塔" * 30, "about": "two\nlines", "more": None},
]


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_no_line_is_longer_than_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters that take two cells count as two, and a column of short values stays whole."""
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = as_table(ROWS, repr).splitlines()
    assert max(map(cell_len, lines)) <= columns
    assert any(line.split()[:1] == ["1"] or line.split()[:2] == ["id", "1"] for line in lines)


def test_many_columns_become_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each column is named on a line of its own, and its values stand beside it."""
    monkeypatch.setenv("COLUMNS", "80")
    rows = [{f"c{i}": f"{row}.{i}" for i in range(30)} for row in range(2)]
    lines = as_table(rows, repr).splitlines()
    assert [line.split() for line in lines] == [[f"c{i}", f"0.{i}", f"1.{i}"] for i in range(30)]


def test_a_wide_table_cuts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value stands in one line, whatever the terminal."""
    monkeypatch.setenv("COLUMNS", "40")
    assert str(ROWS[0]["about"]).strip() in as_table(ROWS, repr, wide=True)
    assert "…" not in as_table(ROWS, repr, wide=True)


def test_half_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cuts a value would also cut the secret in it, which nobody knows again then."""
    monkeypatch.setenv("COLUMNS", "30")
    keep_secret("sk-abcdefghijklmnop")
    shown = as_table([{"id": 1, "note": "the key sk-abcdefghijklmnop is long"}], repr)
    assert "sk-abc" not in shown
