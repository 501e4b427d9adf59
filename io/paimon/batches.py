"""Record batches of a split of Paimon, bounded by bytes, read by Rust where that works.

The client, pypaimon, bounds batches by rows: 1,024 of a file, 65,536 of merged files. Rows with an
image each would fill the memory. Here the sizes of the files tell how many rows go into a batch.

The client's native reader takes a twentieth of the time for merged files, and gives equal rows. Its
options of storage differ from those of the Python reader, so it may fail where the other does not.
It is tried on the first split that a process reads. If it fails, the run goes on without it. Stands
apart from `source` because the reading of changes needs these batches as well.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from vecferry.io.paimon.client import Table, with_options
from vecferry.io.paimon.condition import Condition
from vecferry.steps import StepContext

DataSplit = Any
"""pypaimon's `DataSplit`."""
RecordBatch = Any
ArrowSchema = Any
Predicate = Any
"""pypaimon's `Predicate`."""

BATCH_BYTES = 8 << 20
"""About so many bytes of files make a batch."""
BATCH_ROWS = 4096
"""The most rows of a batch."""

_log = logging.getLogger(__name__)


class _Native:
    """Whether a process reads natively; None until it was tried."""

    def __init__(self) -> None:
        self.works: bool | None = None


def schema_of(table: Table) -> ArrowSchema:
    """The Arrow schema of all columns of a table."""
    from pypaimon.schema.data_types import PyarrowFieldParser

    return PyarrowFieldParser.from_paimon_schema(table.fields)


def read_builder(
    table: Table, columns: Iterable[str], condition: Condition | None, only: Predicate | None = None
) -> Any:
    """pypaimon's `ReadBuilder` of these columns, and of what it can decide of a condition.

    `only` is a further predicate of pypaimon.
    """
    builder = table.new_read_builder().with_read_type(_fields(table, columns))
    predicates = [] if only is None else [only]
    make = table.new_read_builder().new_predicate_builder()
    if condition is not None and (decided := condition.predicate(make)) is not None:
        predicates.append(decided)
    return builder.with_filter(make.and_predicates(predicates)) if predicates else builder


def _fields(table: Table, columns: Iterable[str]) -> list[Any]:
    by_name = {field.name: field for field in table.fields}
    return [by_name[name] for name in columns]


def _places(table: Table) -> set[str]:
    """The columns of which places are read, and not what lies there."""
    if not table.options.blob_as_descriptor():
        return set()
    return {field.name for field in table.fields if str(field.type).upper().startswith("BLOB")}


def rows_of_a_batch(split: DataSplit, *, blobs: bool = True) -> int:
    """How many rows of a split are read at a time; without `blobs` only the places of theirs are.

    A merge holds a batch of each of its files. The files of one row stand beside each other where
    columns or BLOBs are kept apart.
    """
    of_rows, of_blobs, files = 1, 0, 0
    for file in split.files:
        size = -(-file.file_size // max(1, file.row_count))
        if file.file_name.endswith(".blob"):
            of_blobs = max(of_blobs, size) if blobs else 0
        else:
            of_rows, files = max(of_rows, size), files + 1
    at_once = 1 if split.raw_convertible else max(1, files)
    return max(1, min(BATCH_ROWS, BATCH_BYTES // ((of_rows + of_blobs) * at_once)))


class Batches:
    """Reads splits of one table.

    Args:
      table: the table, opened in this process.
      columns: the columns of the batches.
      condition: what rows must meet; its columns are read, and left out of the batches.
      context: the step, whose run remembers whether the native reader works.
      only: a predicate of pypaimon: rows that it does not take may be left out.
    """

    def __init__(
        self,
        table: Table,
        columns: Sequence[str],
        condition: Condition | None,
        context: StepContext,
        only: Predicate | None = None,
    ) -> None:
        self._table, self._columns, self._condition = table, list(columns), condition
        self._only = only
        more = () if condition is None else condition.columns
        self._read = list(dict.fromkeys((*columns, *more)))
        self._native: _Native = context.once("native", _Native)
        self._places = _places(table) & {*columns}

    def of(self, split: DataSplit) -> Iterator[RecordBatch]:
        """The batches of a split, in the same order each time.

        Rows that do not meet the condition are left out; a batch may be empty. Raises what pypaimon
        does.
        """
        for batch in self._batches(split):
            met = batch if self._condition is None else self._condition.rows(batch)
            met = met.select(self._columns) if len(self._read) > len(self._columns) else met
            yield self._with_places(met) if self._places else met

    def _with_places(self, batch: RecordBatch) -> RecordBatch:
        """The batch with texts in place of the descriptors of BLOBs."""
        import pyarrow as pa

        from vecferry.io.paimon.blobs import place_of

        table = self._table.identifier.get_full_name()
        columns = {name: batch.column(name) for name in batch.schema.names}
        for name in self._places:
            found = [None if v is None else place_of(table, v) for v in columns[name].to_pylist()]
            columns[name] = pa.array(found, pa.string())
        return pa.RecordBatch.from_pydict(columns)

    def _batches(self, split: DataSplit) -> Iterator[RecordBatch]:
        rows = rows_of_a_batch(split, blobs=not self._places)
        if self._native.works is not False:
            batches = self._natively(split, rows)
            if batches is not None:
                yield from batches
                return
        read = self._reader(rows, native=False)
        if split.raw_convertible or not self._table.is_primary_key_table:
            yield from read.to_arrow_batch_reader([split], parallelism=1)
        else:
            yield from _merged(read.to_iterator([split]), self._table, self._read, rows)

    def _reader(self, rows: int, native: bool) -> Any:
        options = {"read.batch-size": str(rows), "read.native.enabled": str(native).lower()}
        table = with_options(self._table, options)
        return read_builder(table, self._read, self._condition, self._only).new_read()

    def _natively(self, split: DataSplit, rows: int) -> Iterator[RecordBatch] | None:
        """The batches of the native reader; None if it does not work here.

        What pypaimon offers openly goes on in Python without a word, and then merges by 65,536
        rows. So its inner part is asked.
        """
        read = self._reader(rows, native=True)
        try:
            schema = read._output_arrow_schema()
            batches = read._try_native_batches(
                [split], schema, parallelism=1, blob_parallelism=1, streaming=True
            )
            first = None if batches is None else list(islice(batches, 1))
        except Exception as e:
            if self._native.works:
                raise
            _log.info("Paimon is read in Python, as the native reader fails: %s", e)
            first = None
        self._native.works = first is not None
        return None if first is None else chain(first, batches)


def _merged(
    rows: Iterator[Any], table: Table, columns: list[str], size: int
) -> Iterator[RecordBatch]:
    """Batches of rows that pypaimon merges one by one."""
    import pyarrow as pa

    schema = schema_of(table)
    schema = pa.schema([schema.field(name) for name in columns])
    values = (row.row_tuple[row.offset : row.offset + row.arity] for row in rows)
    with contextlib.closing(rows):  # type: ignore[type-var]
        while some := list(islice(values, size)):
            made = zip(zip(*some, strict=True), schema, strict=True)
            arrays = [pa.array(column, field.type) for column, field in made]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
