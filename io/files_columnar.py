"""Parquet and orc files as pyarrow has them, behind one face."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

BATCH_BYTES = 1 << 20
MOST_ROWS = 4096
PAGE_BUFFER = 256 << 10
LEAST_REPEATED, MOST_REPEATED_BYTES = 256, 64 << 20
"""A value that is stored once for many rows takes its place in each row of a batch."""


class Table(Protocol):
    """A file of columns that is cut into units: row groups, or stripes.

    `names` are those of its columns; `twice` is one that several of them have, else empty.
    """

    names: list[str]
    twice: str
    units: int

    def rows(self, unit: int) -> int:
        """How many rows the unit has; 0 where that is not known before it has been read."""

    def batches(self, unit: int, names: list[str] | None) -> Iterator[Any]:
        """The unit's rows as Arrow record batches of the columns `names`; None: of all."""


class Parquet:
    """A parquet file; its pages are read as rows are asked for."""

    def __init__(self, raw: Any) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(
            raw,
            buffer_size=PAGE_BUFFER,
            pre_buffer=False,
            coerce_int96_timestamp_unit="us",  # nanoseconds overflow outside the years 1677 to 2262
            page_checksum_verification=True,
        )
        self.names = list(self._file.schema_arrow.names)
        self.twice = _twice(self.names)
        self.units = self._file.metadata.num_row_groups

    def rows(self, unit: int) -> int:
        """As the footer says."""
        return int(self._file.metadata.row_group(unit).num_rows)

    def batches(self, unit: int, names: list[str] | None) -> Iterator[Any]:
        """Batches of about a megabyte; of more where a few long values come over and over."""
        group = self._file.metadata.row_group(unit)
        width = max(1, group.total_byte_size // max(1, group.num_rows))
        rows = min(MOST_ROWS, max(1, BATCH_BYTES // width))
        rows = min(rows, max(LEAST_REPEATED, MOST_REPEATED_BYTES // self._longest(group)))
        yield from self._file.iter_batches(
            rows, row_groups=[unit], columns=names, use_threads=False
        )

    def _longest(self, group: Any) -> int:
        """About the most bytes that a value may have which is stored once for many rows."""
        longest = 1
        for i in range(group.num_columns):
            chunk = group.column(i)
            if chunk.has_dictionary_page and chunk.dictionary_page_offset is not None:
                packed = chunk.data_page_offset - chunk.dictionary_page_offset
                ratio = chunk.total_uncompressed_size / max(1, chunk.total_compressed_size)
                size = min(packed * ratio, chunk.total_uncompressed_size)
                longest = max(longest, int(size))
        return longest


class Orc:
    """An orc file; a stripe is read at once."""

    def __init__(self, raw: Any) -> None:
        import pyarrow.orc

        self._file = pyarrow.orc.ORCFile(raw)
        self.names = list(self._file.schema.names)
        self.twice = _twice(self.names)
        self.units = self._file.nstripes
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


def _twice(names: list[str]) -> str:
    return next((n for n in names if names.count(n) > 1), "")
