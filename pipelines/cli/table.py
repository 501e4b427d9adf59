"""Rows as a table that fits the terminal: long values are cut, many columns become lines."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence

from vecferry.errors import hide_secrets, printable

LEAST_COLUMN = 12
"""So many characters a column needs to be worth reading."""
GAP = "  "
WIDE = 1 << 20
"""Wider than any line."""
LONGEST = 5000
"""So many characters of a value are looked at, however wide a table may be."""


def as_table(
    rows: Sequence[Mapping[str, object]], show: Callable[[object], str], *, wide: bool = False
) -> str:
    """The rows under the names of their columns, in lines as long as the terminal is wide.

    If the columns are too many for that, each column is a line, and each row a column. With `wide`,
    nothing is cut.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    width = WIDE if wide else shutil.get_terminal_size((100, 24)).columns
    cells = [[_cell(show, row, name, wide=wide) for name in names] for row in rows]
    heads = [_line(str(name)) for name in names]
    if wide or len(names) * LEAST_COLUMN <= width:
        return _drawn([heads, *cells], width)
    return "\n\n".join(
        _drawn(list(zip(heads, *some, strict=True)), width)
        for some in _shares(cells, max(1, width // (2 * LEAST_COLUMN)))
    )


def _shares(cells: list[list[str]], most: int) -> list[list[list[str]]]:
    return [cells[at : at + most] for at in range(0, len(cells), most)]


def _cell(
    show: Callable[[object], str], row: Mapping[str, object], name: str, *, wide: bool
) -> str:
    """A value in one line; secrets are hidden before it is cut, for half of one is not known."""
    if name not in row:
        return ""
    value = row[name]
    text = hide_secrets(value if isinstance(value, str) else show(value))
    return _line(text if wide else text[:LONGEST])


def _line(text: str) -> str:
    return printable(text, one_line=True)


def _drawn(lines: Sequence[Sequence[str]], width: int) -> str:
    """Lines whose parts stand below each other, cut to a width; East Asian letters take two."""
    from rich.cells import cell_len, set_cell_size

    natural = [max(map(cell_len, parts)) for parts in zip(*lines, strict=True)]
    widths = _fitted(natural, width - len(GAP) * (len(natural) - 1))

    def part(text: str, most: int) -> str:
        if cell_len(text) <= most:
            return text + " " * (most - cell_len(text))
        return set_cell_size(text, most - 1) + "…"

    drawn = (GAP.join(map(part, line, widths)) for line in lines)
    return "\n".join(line.rstrip() for line in drawn)


def _fitted(natural: Sequence[int], width: int) -> list[int]:
    """The widths of columns that share a width: only the widest ones are cut, all to the same."""
    if sum(natural) <= width:
        return list(natural)
    most, left = 0, width
    for count, one in zip(range(len(natural), 0, -1), sorted(natural), strict=True):
        most = max(1, left // count)
        if one > most:
            break
        left -= one
    return [min(one, most) for one in natural]
