"""Reads a MaxCompute table into rows, without Beam: opens sessions, cuts splits, reads one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, repeat
from typing import Any, TypeVar

import orjson

from vecferry.errors import FatalError, JobError, VecferryError
from vecferry.io.odps_client import OdpsClient, Stopped
from vecferry.io.odps_errors import SessionLost
from vecferry.io.odps_plan import OdpsSession, OdpsSplit, Source, TablePlan, cut, reopened
from vecferry.io.odps_settings import OdpsConnection, OdpsSettings
from vecferry.io.odps_sql import run_query
from vecferry.io.odps_stream import BatchStream
from vecferry.process import once
from vecferry.rows import Change, Reject, changes, encode_value
from vecferry.settings import Settings
from vecferry.steps import Counts, Size, StepContext

T = TypeVar("T")

SLICE_ROWS = 1024
"""So many rows of a batch become Python objects at a time."""

CHECK_SECONDS = 10.0
"""How long a check waits for a server that does not answer."""


class OdpsReader:
    """The reader of the stepType odps; see `vecferry.steps.Reader`.

    The origin of a row is ``project.table/partition:n``, n being its number in the partition (of
    a table without partitions ``project.table:n``, of a query's result ``project.table/sql:n``).
    """

    def __init__(self, settings: OdpsSettings, connection: Settings, context: StepContext) -> None:
        if not isinstance(connection, OdpsConnection):
            raise JobError(f"step {context.step!r} needs a data source of the type odps")
        self.settings, self.connection = settings, connection
        self.context, self.counts = context, Counts()

    def check(self) -> None:
        """Raises JobError where the table can't be read as the job says. Reads no row."""
        try:
            client = OdpsClient(self.settings, self.connection, self.context, CHECK_SECONDS)
            plan = TablePlan(client, self.settings)
            partitions = plan.partitions()
            if plan.through_sql:
                run_query(client, "EXPLAIN " + plan.query(partitions[:1]))
            elif partitions or not plan.keys:
                client.table_session(self.settings.table, _first(partitions))
        except JobError as e:
            raise JobError([self._told(p) for p in e.problems]) from e
        except (VecferryError, SessionLost, Stopped) as e:
            raise JobError(self._told(e)) from e

    def size(self) -> Size:
        """The rows of all sessions; opens them where that has not been done in this process."""
        return Size(rows=sum(s.rows for s in self._sessions()))

    def splits(self) -> list[OdpsSplit]:
        """The ranges of rows to be read in parallel; JobError where there is no partition."""
        return cut(self._plan(), self._sessions(), self.context.concurrent)

    def read(self, split: OdpsSplit) -> Iterator[Change | Reject]:
        """The rows of one split, in order.

        Raises FatalError where the table changed after a lost session, where the server refuses,
        or does not come back within the deadline.
        """
        rows = _Rows(split, self.settings, self.context, self._prefix(split))
        stream = BatchStream(self._client(), split, self._reopen, self.context.row_limit)
        try:
            for first, batch in stream.batches():
                for at in range(0, batch.num_rows, SLICE_ROWS):
                    part, n = batch.slice(at, SLICE_ROWS), 0
                    try:
                        for n, item in enumerate(rows.of(part, first + at), 1):  # noqa: B007
                            yield item
                    finally:
                        # Also where the consumer has had enough: what it took is counted.
                        self.counts.add("rows-read", n)
                        self.counts.add("bytes-read", part.nbytes)
        except Stopped:
            return
        except FatalError as e:
            raise FatalError(self._told(e), e.reason) from e
        except SessionLost as e:
            what = f"the download session was lost, and so was the one opened in its place: {e}"
            raise FatalError(self._told(f"{what}; run the job again")) from e
        finally:
            stream.close()

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """A reject again: what is wrong with a value can be mended in the table only."""
        message = (
            "a record of a table is not read again from its reject: mend the value in the table, "
            "or leave the column out, and run the job again"
        )
        return self.context.reject("not-replayed", message, raw=raw, origin=origin)

    def _prefix(self, split: OdpsSplit) -> str:
        table = f"{self.settings.project or self.connection.project}.{self.settings.table}"
        place = "sql" if split.session.instance else split.session.partition
        return f"{table}/{place}:" if place else f"{table}:"

    def _key(self, what: str) -> tuple[str, ...]:
        return (what, self.context.run, self.context.step, self.connection.endpoint)

    def _client(self) -> OdpsClient:
        make = lambda: OdpsClient(self.settings, self.connection, self.context)  # noqa: E731
        return once(self._key("odps-client"), make)

    def _plan(self) -> TablePlan:
        return self._once("odps-plan", lambda: TablePlan(self._client(), self.settings))

    def _sessions(self) -> list[OdpsSession]:
        # Once in a process: a size and the splits of a run are of the same sessions.
        plan, limit = self._plan(), self.context.row_limit
        return self._once("odps-sessions", lambda: plan.sessions(limit))

    def _once(self, what: str, make: Callable[[], T]) -> T:
        try:
            return once(self._key(what), make)
        except JobError as e:
            raise JobError([self._told(p) for p in e.problems]) from e
        except (FatalError, SessionLost, Stopped) as e:
            raise FatalError(self._told(e)) from e

    def _told(self, error: object) -> str:
        mark, text = f"step {self.context.step!r}", str(error)
        return text if mark in text else f"{mark}: {text}"

    def _reopen(self, lost: OdpsSession) -> OdpsSession:
        # The splits of a lost session share the one that takes its place.
        key = (*self._key("odps-reopened"), lost.download_id)
        return once(key, lambda: reopened(self._plan(), lost))


def _first(partitions: list[dict[str, str]]) -> str:
    from vecferry.io.odps_partitions import spec_of

    return spec_of(partitions[0]) if partitions else ""


class _Rows:
    """Makes rows of the record batches of one split."""

    def __init__(
        self, split: OdpsSplit, settings: OdpsSettings, context: StepContext, prefix: str
    ) -> None:
        from odps.types import validate_data_type

        from vecferry.io.odps_values import converter, partition_value

        self._context, self._prefix = context, prefix
        self._names = [s.name for s in split.sources]
        keys = dict(p.split("=", 1) for p in split.session.partition.split(",") if p)
        self._makers: list[Any] = []
        for source in split.sources:
            if not source.column:
                self._makers.append(_Same(source.constant))
            elif source.column in keys:
                kind = validate_data_type(source.kind)
                self._makers.append(_Same(partition_value(kind, keys[source.column])))
            else:
                convert = converter(validate_data_type(source.kind), settings.timezone)
                self._makers.append(_FromColumn(source, convert))

    def of(self, part: Any, first: int) -> list[Change | Reject]:
        """The rows of a part of a batch, the first of which is row `first` of the session."""
        from vecferry.io.odps_values import UnfitValue

        try:
            columns = [make(part) for make in self._makers]
        except UnfitValue as e:
            if part.num_rows == 1:
                return [self._reject(part, e, f"{self._prefix}{first}")]
            halves = (0, part.num_rows // 2), (part.num_rows // 2, part.num_rows)
            parts = (self.of(part.slice(a, b - a), first + a) for a, b in halves)
            return [item for half in parts for item in half]
        rows: Any = map(zip, repeat(self._names), zip(*columns, strict=True))
        return list(changes(rows, self._prefix, count(first)))

    def _reject(self, part: Any, error: Any, origin: str) -> Reject:
        raw: dict[str, Any] = {}
        at_fault = ""
        for name, make in zip(self._names, self._makers, strict=True):
            try:
                raw[name] = encode_value(make(part)[0])
            except ValueError:
                at_fault = at_fault or name
                raw[name] = encode_value(_as_sent(part.column(make.index(part))))
        message = f"{origin}: column {at_fault!r} holds {error}"
        text = orjson.dumps(raw).decode()
        return self._context.reject(error.reason, message, raw=text, origin=origin)


def _as_sent(column: Any) -> Any:
    """A value that Python can't hold, in the nearest form that it can."""
    import pyarrow as pa

    for kind in (pa.binary(), pa.int32(), pa.int64()):
        try:
            return column.cast(kind)[0].as_py()
        except pa.ArrowException:
            continue
    return f"a value of type {column.type}"


class _Same:
    """A column that is the same in each row of a split."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __call__(self, part: Any) -> Any:
        return [self._value] * part.num_rows


class _FromColumn:
    """A column of the table."""

    def __init__(self, source: Source, convert: Any) -> None:
        self._name, self._convert = source.column.lower(), convert

    def index(self, part: Any) -> int:
        return int(part.schema.get_field_index(self._name))

    def __call__(self, part: Any) -> Any:
        return self._convert(part.column(self.index(part)))
