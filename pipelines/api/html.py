"""What a notebook shows of rows, reports and counts: plain tables, without scripts.

Stands apart from `vecferry.pipelines.api.job` because it knows HTML, and no job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import numpy as np

from vecferry.errors import shorten

MOST_ROWS = 20
"""Rows that a notebook shows of a table."""
_LONG = 120


def table(rows: list[Mapping[str, Any]], columns: Iterable[str]) -> str:
    """The first rows as a table; the rest is counted."""
    names = list(columns)
    head = "".join(f"<th>{escape(str(name))}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{cell(row.get(name))}</td>' for name in names)}</tr>"
        for row in rows[:MOST_ROWS]
    )
    more = len(rows) - MOST_ROWS
    rest = f"<p>… and {more:,} more rows</p>" if more > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


def cell(value: object) -> str:
    """A value, cut where it is long; a secret that is known is hidden."""
    if isinstance(value, np.ndarray):
        text = f"[{', '.join(f'{x:.3f}' for x in value[:3])}, … {value.size:,} numbers]"
    elif isinstance(value, bytes):
        text = f"{len(value):,} bytes"
    elif isinstance(value, list) and len(value) > 8:
        text = f"[{shorten(', '.join(map(shorten, value[:3])), _LONG)}, … {len(value):,} items]"
    else:
        text = "" if value is None else shorten(value, _LONG)
    return escape(text)


def facts(title: str, values: Mapping[str, Any]) -> str:
    """Names and values under a title."""
    lines = "".join(
        f"<tr><th>{escape(name)}</th><td>{cell(value)}</td></tr>" for name, value in values.items()
    )
    return f"<h4>{escape(title)}</h4><table><tbody>{lines}</tbody></table>"
