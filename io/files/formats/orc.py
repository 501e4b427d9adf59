"""ORC, by pyarrow: a stripe is read at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vecferry.io.files.formats.base import ColumnarSpec

if TYPE_CHECKING:
    from vecferry.io.files.formats.columnar import Table
    from vecferry.steps import StepContext

TELLS_OVERFLOW = 25
"""The version of pyarrow from which it refuses a time that its nanoseconds do not reach.

An earlier one gives another time.
"""
IS_SOUND = 24
"""The version of pyarrow from which no damaged file is known that crashes the process.

With 19, one damaged file in thirty does.
"""


@dataclass(frozen=True, kw_only=True)
class OrcSpec(ColumnarSpec):
    """ORC; its units are stripes."""

    name, unit = "orc", "stripe"

    def table(self, raw: object, context: StepContext) -> Table:
        """The open file; in a child process with a pyarrow that some files crash."""
        import pyarrow

        if _major(pyarrow) >= IS_SOUND:
            return OrcTable(raw)
        from vecferry.io.files.formats.apart import children_of
        from vecferry.io.files.formats.apart_tables import TABLES, ApartTable

        kind = f"{OrcTable.__module__}:{OrcTable.__name__}"
        return ApartTable(children_of(context.scope, TABLES), kind, raw)  # type: ignore[arg-type]


class OrcTable:
    """An orc file; see `vecferry.io.files.formats.columnar.Table`."""

    def __init__(self, raw: object) -> None:
        import pyarrow.orc

        self._file = pyarrow.orc.ORCFile(raw)
        self.names = list(self._file.schema.names)
        self.units = self._file.nstripes
        tells = _major(pyarrow) >= TELLS_OVERFLOW
        timed = frozenset(f.name for f in self._file.schema if "timestamp" in str(f.type))
        self.doubtful = frozenset() if tells else timed
        self._rows: dict[int, int] = {}

    def rows(self, unit: int) -> int:
        """As the stripe says: pyarrow does not give the footer's numbers."""
        return self._rows.get(unit, 0)

    def batches(self, unit: int, names: list[str] | None) -> Iterator[Any]:
        """One batch."""
        # Of no column pyarrow gives no rows.
        batch = self._file.read_stripe(unit, columns=self.names[:1] if names == [] else names)
        self._rows = {unit: batch.num_rows}
        yield batch

    def close(self) -> None:
        """As elsewhere."""


def _major(pyarrow: Any) -> int:
    return int(pyarrow.__version__.partition(".")[0])
