"""Reads the rows of rejects anew from a source that is followed, for a replay.

Apart from `vecferry.pipelines.run.graph` because a table that is followed goes on while rejects
wait. Another change of the row may be in the target by now. So the row is read as it stands, and
keeps the version of the rejected change. A store with versions then keeps a newer row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from vecferry.pipelines.job.resolve import ResolvedStep
from vecferry.pipelines.run.rejects import Replayed, read_rejects
from vecferry.retry import call_with_retries
from vecferry.rows import DELETE, Change
from vecferry.steps import ChangeSource, StepContext

Key = tuple[Any, ...]

ROWS = 500
"""Rows that are asked for at once."""


@dataclass(frozen=True)
class Followed:
    """The source of a job that is followed, as a worker makes it.

    Attributes:
      reader: the job's first step.
      context: the reader's.
      made: the columns that later steps make, and that may hide a column of the source.
    """

    reader: ResolvedStep
    context: StepContext
    made: frozenset[str]


class Anew:
    """Which rejects are read anew, by their key in the source, and how."""

    def __init__(self, followed: Followed) -> None:
        self._reader, self._context = followed.reader.name, followed.context
        self._source: ChangeSource = followed.reader.logic(followed.context)
        self._columns = self._source.keys()
        self._hidden = not followed.made.isdisjoint(self._columns)

    def key(self, replayed: Replayed) -> Key | None:
        """The key of the row in its source; None if the reject does not tell it."""
        if replayed.step == self._reader:
            try:
                key = replayed.key()
            except ValueError:  # cut, or hidden
                return None
            return tuple(key) if isinstance(key, list) else None
        known = {} if self._hidden else replayed.known()
        values = tuple(known.get(name) for name in self._columns)
        return None if None in values else values

    def read(self, wanted: list[tuple[Key, Replayed]]) -> Iterator[Change]:
        """A row for each reject, as it stands in the source; a delete where it is gone."""
        context = self._context
        keys = list(dict.fromkeys(key for key, _ in wanted))
        found = call_with_retries(
            lambda: list(self._source.fetch(keys, None)),
            deadline=context.retry_deadline,
            what=f"step {context.step!r}: reading rejected rows anew",
        )
        rows = {tuple(row.get(name) for name in self._columns): row for row in found}
        for key, replayed in wanted:
            row = rows.get(key)
            if row is None:
                known = replayed.known() | dict(zip(self._columns, key, strict=True))
                change = Change(known, kind=DELETE)
            else:
                change = Change(row, kind=row.kind, version=row.version)
            change.origin = replayed.line["origin"]
            version = replayed.line.get("version")
            change.version = change.version if version is None else version
            yield change


class _ReadAnewFn(beam.DoFn):
    def __init__(self, folder: str, followed: Followed) -> None:
        self.folder, self.followed = folder, followed

    def process(self, _: Any) -> Iterator[Any]:
        anew, context = Anew(self.followed), self.followed.context
        state, limit = context.state, context.read.row_limit
        wanted: list[tuple[Key, Replayed]] = []
        for replayed in read_rejects(self.folder):
            key = anew.key(replayed)
            if key is None:
                continue
            if state.stop.is_set() or (state.over_limit and not state.goes_on()):
                break
            if limit is not None and not state.hand_out(limit):
                state.end("limit")
            state.add({"rows-read": 1})
            wanted.append((key, replayed))
            if len(wanted) == ROWS:
                yield from anew.read(wanted)
                wanted = []
        yield from anew.read(wanted)


@dataclass(kw_only=True, eq=False)
class ReadAnew(beam.PTransform):
    """Gives the rows of all rejects of a folder that tell the key of their row."""

    folder: str
    followed: Followed

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[Change]:
        """The rows; the source has no rejects here."""
        fn = _ReadAnewFn(self.folder, self.followed)
        return begin | "Start" >> beam.Impulse() | "Read anew" >> beam.ParDo(fn)
