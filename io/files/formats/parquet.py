"""Parquet, by pyarrow: pages are read as rows are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vecferry.io.files.formats.base import ColumnarSpec

if TYPE_CHECKING:
    from vecferry.io.files.formats.columnar import Table
    from vecferry.steps import StepContext

BATCH_BYTES = 1 << 20
MOST_ROWS = 4096
PAGE_BUFFER = 256 << 10
LEAST_REPEATED, MOST_REPEATED_BYTES = 256, 64 << 20
"""A value that is stored once for many rows takes its place in each row of a batch."""


@dataclass(frozen=True, kw_only=True)
class ParquetSpec(ColumnarSpec):
    """Parquet; its units are row groups."""

    name, unit = "parquet", "row group"

    def table(self, raw: object, context: StepContext) -> Table:
        """The open file."""
        return ParquetTable(raw)


class ParquetTable:
    """A parquet file; see `vecferry.io.files.formats.columnar.Table`."""

    doubtful: frozenset[str] = frozenset()

    def __init__(self, raw: object) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(
            raw,
            buffer_size=PAGE_BUFFER,
            pre_buffer=False,
            coerce_int96_timestamp_unit="us",  # nanoseconds overflow outside the years 1677 to 2262
            page_checksum_verification=True,
        )
        self.names = list(self._file.schema_arrow.names)
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

    def close(self) -> None:
        """As elsewhere."""
        self._file.close()

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
