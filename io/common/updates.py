"""An update as a sink can carry it out: what of it matters, and what it leaves behind.

A sink knows rows by its own id and routing, which come from columns of the source. If an update
changes such a column, the old row stays under its old id: so the old row is deleted first. If no
column changes of which something is written, the update is not worth a vector.

Stands apart from `vecferry.io.mysql_cdc.following` because each log of a database needs it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from decimal import Decimal

import numpy as np
import orjson

from vecferry.errors import FatalError
from vecferry.rows import DELETE, UPDATE, Change, encode_value
from vecferry.steps import Counts, ReadOptions


class Updates:
    """Turns the old and the new image of updates into changes for the steps behind a reader.

    Counts ``rows-dropped`` for an update that changes nothing of what is written. Counts
    ``rows-added`` for the delete of an old row. The reader itself counts ``rows-read``.

    Args:
      options: what the reader was told of the job.
      keys: the columns that tell rows apart in the source. They stand for the writer's id if the
        job does not tell which columns make it.
      counts: the reader's counters.
    """

    def __init__(self, options: ReadOptions, keys: Iterable[str], counts: Counts) -> None:
        known = options.id_columns
        self._id_columns = tuple(keys) if known is None else known
        self._mapped, self._counts = options.mapped_columns, counts

    def places(self, names: Sequence[str]) -> tuple[list[int], list[int]]:
        """Where columns of a row stand that make its id, and where those that are written.

        For a reader that compares values before it makes rows of them, with what `of` would do.
        """
        mapped = names if self._mapped is None else self._mapped
        ids = [i for i, name in enumerate(names) if name in self._id_columns]
        return ids, [i for i, name in enumerate(names) if name in mapped]

    def of(self, old: Change, new: Change) -> list[Change]:
        """The changes that carry out an update, in order: none, the new row, or a delete before it.

        Args:
          old: the row before the update, under the version that its delete is to have. It may lack
            columns; what it lacks counts as changed.
          new: the row after the update, which becomes an update.

        Raises:
          FatalError: `old` lacks a column that makes the writer's id.
        """
        if self._moves(old, new):
            self._counts.add("rows-added")
            # The origin tells rejects apart, each of which is kept once.
            gone = Change(old, kind=DELETE, version=old.version, origin=f"{new.origin}:old")
            new.kind = UPDATE
            return [gone, new]
        if self._mapped is not None and all(_same(old, new, name) for name in self._mapped):
            self._counts.add("rows-dropped")
            return []
        new.kind = UPDATE
        return [new]

    def _moves(self, old: Change, new: Change) -> bool:
        """Whether the writer's id or routing is another one now."""
        for name in self._id_columns:
            if name not in old and name in new:
                raise FatalError(
                    f"column {name!r} makes the id of the target's rows, and the source does not "
                    f"tell its old value ({new.origin}): let the source log whole rows",
                    "partial-row",
                )
        return not all(_same(old, new, name) for name in self._id_columns)


_ABSENT = object()


def _same(old: Change, new: Change, name: str) -> bool:
    """Whether a column has the same value and type in both rows; in doubt it has not."""
    one, other = old.get(name, _ABSENT), new.get(name, _ABSENT)
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, str | bytes | int):
        return bool(one == other)
    if isinstance(one, Decimal):  # 1.0 is written in another way than 1.00
        return not one.compare_total(other)
    if isinstance(one, float):
        return bool(one == other and (one or repr(one) == repr(other)))
    if isinstance(one, datetime.datetime | datetime.time):
        return bool(one == other and one.tzinfo == other.tzinfo)
    if isinstance(one, datetime.date):
        return bool(one == other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    try:
        return orjson.dumps(encode_value(one)) == orjson.dumps(encode_value(other))
    except TypeError:  # nested too deep
        return False
