"""Looking at a data source: what is there, its columns, some of its rows. Nothing is changed.

A connector names its `Browser` in its `ConnectionType`, so that commands and user interfaces look
at all data sources alike. A path has slashes between its parts; the empty path is the top.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from vecferry.errors import FatalError, JobError, TransientError, near

if TYPE_CHECKING:
    from vecferry.steps import Source

SECONDS = 20.0
"""How long a look may take: a person waits for it."""

PAGE = 100
"""How many entries a page has, unless somebody asks for another number."""

SAMPLE = 100
"""How many records are looked at to tell the columns of what does not name them."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Something that a data source holds.

    Attributes:
      name: the last part of its path.
      path: its path in the data source, for `browse`, `columns` and `sample`.
      kind: what it is: ``folder``, ``file``, ``database``, ``schema``, ``table``, ``view``,
        ``partition``, ``collection``, ``index`` or ``alias``.
      holds: whether `browse` finds entries in it.
      rows: how many rows it has, as far as the source tells; perhaps an estimate.
      bytes: its size.
    """

    name: str
    path: str
    kind: str
    holds: bool = False
    rows: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some entries, sorted by name; `next` is the `after` of the next page, None at the end."""

    entries: list[Entry]
    next: str | None = None


@dataclass(frozen=True, kw_only=True)
class ColumnInfo:
    """A column: `type` in the words of its source; None where the source does not tell."""

    name: str
    type: str
    key: bool = False
    nullable: bool | None = None


@dataclass(frozen=True, kw_only=True)
class TableInfo:
    """What has rows: its columns, and what else there is to tell, such as a file's format."""

    columns: list[ColumnInfo]
    details: dict[str, str | int | bool] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """How a job would read what was looked at: the stepType and parameters of a reader.

    The types of `columns` are those of a job: string, long, double, boolean, date, vector. What
    else there is has the type json or binary.
    """

    step_type: str
    parameter: dict[str, Any]
    columns: list[ColumnInfo]


class Browser(Protocol):
    """Looks at one data source, read-only; it is made of a connection and a number of seconds.

    All methods raise JobError where the source can't be reached, or a path leads nowhere.
    """

    def test(self) -> str:
        """Connects, and gives what answered, in words, such as ``MariaDB 11.4.2``."""

    def browse(self, path: str, limit: int, after: str | None) -> Page:
        """At most `limit` entries of `path` whose names come behind `after`."""

    def columns(self, path: str) -> TableInfo:
        """The columns of what is at `path`."""

    def sample(self, path: str, rows: int) -> list[dict[str, Any]]:
        """At most `rows` rows of what is at `path`."""

    def draft(self, path: str) -> Draft:
        """How a job would read what is at `path`."""

    def close(self) -> None:
        """Closes connections."""


def page_of(entries: Iterable[Entry], limit: int, after: str | None) -> Page:
    """A page of entries that come in any order; memory grows with the page only."""
    rest = (e for e in entries if after is None or e.name > after)
    first = heapq.nsmallest(limit + 1, rest, key=lambda e: e.name)
    return Page(entries=first[:limit], next=first[limit - 1].name if len(first) > limit else None)


def parts_of(path: str, names: tuple[str, ...], least: int = 0) -> list[str]:
    """The parts of a path, at least `least` and at most one for each of `names`; else JobError."""
    parts = [part for part in path.split("/") if part]
    if not least <= len(parts) <= len(names):
        raise JobError(
            f"PATH: {path!r} has {len(parts)} parts; write {'/'.join(names).upper() or 'none'}, "
            "or see what is there with `vecferry sources browse`"
        )
    return parts


def first_rows(source: Source, most: int) -> list[dict[str, Any]]:
    """The first rows of a source; what it rejects is left out. JobError if it rejects them all."""
    from vecferry.rows import Reject

    found: list[dict[str, Any]] = []
    refused: Reject | None = None
    try:
        for split in source.plan().splits:
            for item in source.read(split):
                if isinstance(item, Reject):
                    refused = refused or item
                else:
                    found.append(dict(item))
                if len(found) == most:
                    return found
    except (TransientError, FatalError) as e:
        raise JobError(str(e)) from e
    if not found and refused is not None:
        raise JobError(f"{refused.origin}: the first record can't be read: {refused.message}")
    return found


_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
_REAL = re.compile(r"-?(0|[1-9]\d{0,17})(\.\d+)?([eE][-+]?\d+)?")
_BY_PYTHON = {
    "str": "string", "bytes": "binary", "datetime": "date", "date": "date", "bool": "boolean",
}  # fmt: skip


def type_of(values: Sequence[Any], *, read_texts: bool = False) -> str:
    """The type of `Draft` that all values fit; null fits each.

    With `read_texts`, texts that are all numbers have the type of numbers.
    """
    given = [v for v in values if v is not None and v != ""]
    if not given:
        return "string"
    if all(hasattr(v, "shape") for v in given):
        return "vector"
    kinds = {type(v).__name__ for v in given}
    if kinds == {"str"} and read_texts:
        return _type_of_texts(given)
    if kinds <= {"int", "float"}:
        return "long" if kinds == {"int"} else "double"
    return _BY_PYTHON.get(kinds.pop(), "json") if len(kinds) == 1 else "json"


def _type_of_texts(texts: Sequence[str]) -> str:
    if all(_WHOLE.fullmatch(text) for text in texts):
        return "long"
    if all(_REAL.fullmatch(text) for text in texts):
        return "double"
    return "boolean" if all(t.lower() in ("true", "false") for t in texts) else "string"


def drafted(columns: Sequence[ColumnInfo], rows: Sequence[Mapping[str, Any]]) -> list[ColumnInfo]:
    """Columns of a source, with the types of a job as the rows have them."""
    return [
        replace(column, type=type_of([row.get(column.name) for row in rows])) for column in columns
    ]


def not_there(what: str, name: str, known: Iterable[str]) -> JobError:
    """The error for a path that leads nowhere, with the nearest name that is there."""
    names = sorted(known)
    there = near(name, names) or (f"; there are {', '.join(names[:5])}" if names else "")
    return JobError(f"PATH: there is not a {what} {name!r}{there}")
