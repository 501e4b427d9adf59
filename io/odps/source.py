"""Reads a MaxCompute table into rows, without Beam: opens sessions, cuts splits, reads one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, repeat
from typing import Any, TypeVar

import orjson

from vecferry.errors import (
    PROGRAMMING_ERRORS,
    FatalError,
    JobError,
    TransientError,
    VecferryError,
    own_fault,
)
from vecferry.io.common.arrow import require_sound
from vecferry.io.odps.client import (
    OdpsClient,
    QuotaRefused,
    SessionLost,
    Stopped,
    classify,
    one_try,
)
from vecferry.io.odps.partitions import spec_of
from vecferry.io.odps.plan import (
    OdpsSession,
    OdpsSplit,
    SourceColumn,
    TablePlan,
    cut,
    reopened,
    run_query,
)
from vecferry.io.odps.settings import OdpsConnection, OdpsSettings
from vecferry.rows import Change, Reject, changes, encode_value
from vecferry.settings import Settings
from vecferry.steps import Counts, Plan, Size, StepContext

Reopen = Callable[[OdpsSession], OdpsSession]


class BatchStream:
    """Arrow record batches of a split, in order, each row once.

    A request that breaks is repeated from the first row that has not come. `reopen` opens a session
    in place of one that was lost, and raises if it would give other rows. The deadline counts from
    the last row that came. `most_rows` is how many the consumer may want.
    """

    def __init__(
        self, client: OdpsClient, split: OdpsSplit, reopen: Reopen, most_rows: int | None
    ) -> None:
        self._client, self._split, self._most_rows = client, split, most_rows
        self._session, self._reopen = split.session, reopen
        self._attached: Any = None
        self._open: _Response | None = None
        self._done = 0

    def batches(self) -> Iterator[tuple[int, Any]]:
        """Pairs of a batch's first row, counted in the session, and the batch."""
        backoff = self._client.backoff()
        while self._done < self._split.count:
            try:
                batch = self._next()
            except (TransientError, QuotaRefused, SessionLost) as e:
                self.close()
                self._recover(e, backoff)
                continue
            if batch.num_rows:
                at, self._done = self._split.start + self._done, self._done + batch.num_rows
                yield at, batch
                backoff = self._client.backoff()

    def close(self) -> None:
        """Gives back the connection."""
        opened, self._open = self._open, None
        if opened is not None:
            opened.close()

    def _recover(self, error: Exception, backoff: Any) -> None:
        if isinstance(error, QuotaRefused):
            self._client.use_public_quota(error)
            self._attached = None
            return
        if isinstance(error, SessionLost):
            self._attached = None
            self._session = self._reopen(self._session)
        wait = backoff.next_wait(error.retry_after if isinstance(error, TransientError) else None)
        if wait is None:
            raise FatalError(
                f"reading {self._where} gave up after {backoff.tries} tries: MaxCompute at "
                f"{self._client.endpoint}: {error}; run the job again when it is well"
            ) from error
        self._client.pause(wait)

    @property
    def _where(self) -> str:
        of = self._session.partition or self._client.settings.table
        return f"{of} from row {self._split.start + self._done} on"

    def _next(self) -> Any:
        try:
            if self._open is None:
                with one_try():
                    self._open = self._request()
            batch = self._open.read()
        except Exception as e:
            raise classify(e, self._client.quota) from e
        if self._open.left == 0:
            self.close()
        return batch

    def _request(self) -> _Response:
        if self._attached is None:
            self._attached = self._attach()
        rest = self._split.count - self._done
        # Where few rows are wanted, as in a preview, no more are asked for until they are needed.
        most = self._most_rows
        rows = rest if most is None else min(rest, max(most, self._done))
        columns = None if self._session.instance else self._split.columns
        return _Response(self._attached, self._split.start + self._done, rows, columns)

    def _attach(self) -> Any:
        session = self._session
        if session.instance:
            return self._client.instance_session(session.instance, session.download_id)
        table = self._client.settings.table
        return self._client.table_session(table, session.partition, session.download_id)


class _Response:
    """One answer of a tunnel: so many record batches from a row on, with checksums.

    `columns` are those of a table to ask for; None: all that a query gives.
    """

    def __init__(
        self, session: Any, start: int, rows: int, columns: tuple[str, ...] | None
    ) -> None:
        from odps.tunnel.io.reader import ArrowStreamReader

        schema = _wire_schema(session.schema, columns)
        # pyodps' own reader shows times in the machine's zone and overflows outside the years 1678
        # to 2261. It takes a stream that ends between two chunks for a whole one.
        body = session._build_input_stream(
            start, rows, compress=session._compress_option is not None,
            columns=columns and list(columns), arrow=True,
        )  # fmt: skip
        self._body = ArrowStreamReader(body, schema)
        self._batches: Any = None
        self.left = rows

    def read(self) -> Any:
        """The next batch of those that were asked for; `left` rows come after it."""
        import pyarrow as pa

        if self._batches is None:
            self._batches = pa.ipc.open_stream(self._body)
        try:
            batch = self._batches.read_next_batch()
            require_sound(batch)
        except StopIteration as e:
            raise TransientError(f"the stream ended {self.left} rows early") from e
        self.left -= batch.num_rows
        if self.left < 0:
            raise FatalError("MaxCompute sent more rows than were asked for; run the job again")
        return batch

    def close(self) -> None:
        self._body.close()


def _wire_schema(schema: Any, columns: tuple[str, ...] | None) -> Any:
    """What the batches hold, which the tunnel does not tell: columns in the table's order."""
    import pyarrow as pa

    from odps.tunnel.io.types import odps_type_to_arrow_type

    asked = None if columns is None else {c.lower() for c in columns}
    fields = []
    for column in schema.simple_columns:
        if asked is not None and column.name.lower() not in asked:
            continue
        kind = odps_type_to_arrow_type(column.type)
        if asked is None and pa.types.is_timestamp(kind) and kind.unit == "ns":
            kind = pa.struct([("sec", pa.int64()), ("nano", pa.int32())])
        fields.append(pa.field(column.name.lower(), kind))
    return pa.schema(fields)


T = TypeVar("T")

SLICE_ROWS = 1024
"""So many rows of a batch become Python objects at a time."""

CHECK_SECONDS = 10.0
"""How long a check waits for a server that does not answer."""


class OdpsSource:
    """The reader of the stepType odps; see `vecferry.steps.Reader`.

    The origin of a row is ``project.table/partition:n``, n being its number in the partition (of
    a table without partitions ``project.table:n``, of a query's result ``project.table/sql:n``).
    """

    def __init__(self, settings: OdpsSettings, connection: Settings, context: StepContext) -> None:
        if not isinstance(connection, OdpsConnection):
            raise JobError(
                f"step {context.step!r} needs a data source of the type odps; name one as "
                "`datasource`"
            )
        self.settings, self.connection = settings, connection
        self.context, self.counts = context, Counts()
        self._checked: TablePlan | None = None

    def check(self) -> None:
        """Raises JobError where the table can't be read as the job says. Reads no row."""
        try:
            client = OdpsClient(self.settings, self.connection, self.context, CHECK_SECONDS)
            plan = TablePlan(client, self.settings)
            partitions = plan.partitions()
            if plan.through_sql:
                run_query(client, "EXPLAIN " + plan.query(partitions[:1]))
            elif partitions or not plan.keys:
                plan.session(spec_of(partitions[0]) if partitions else "")
            self._checked = plan
        except JobError as e:
            raise JobError([self._told(p) for p in e.problems]) from e
        except (VecferryError, SessionLost, Stopped) as e:
            raise JobError(self._told(e)) from e

    def plan(self) -> Plan:
        """The ranges of rows to be read in parallel, and the rows of all sessions.

        What `check` has asked MaxCompute for is not asked for again. Raises JobError if the table
        lacks a partition of the job.
        """
        sessions = self._sessions()
        splits = cut(self._plan(), sessions, self.context.shared.concurrent)
        return Plan(splits=splits, size=Size(rows=sum(s.rows for s in sessions)))

    def read(self, split: OdpsSplit) -> Iterator[Change | Reject]:
        """The rows of one split, in order.

        Raises FatalError where the table changed after a lost session, where the server refuses,
        or does not come back within the deadline.
        """
        rows = _Rows(split, self.settings, self.context, self._prefix(split))
        stream = BatchStream(self._client(), split, self._reopen, self.context.read.row_limit)
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
            "a reject of a table is not read again; mend the value in the table, or leave the "
            "column out, and run the job again"
        )
        return self.context.reject("not-replayed", message, raw=raw, origin=origin)

    def _prefix(self, split: OdpsSplit) -> str:
        table = f"{self.settings.project or self.connection.project}.{self.settings.table}"
        place = "sql" if split.session.instance else split.session.partition
        return f"{table}/{place}:" if place else f"{table}:"

    def _client(self) -> OdpsClient:
        make = lambda: OdpsClient(self.settings, self.connection, self.context)  # noqa: E731
        return self.context.once("client", make)

    def _plan(self) -> TablePlan:
        def make() -> TablePlan:
            client, known = self._client(), self._checked
            return known.by(client) if known else TablePlan(client, self.settings)

        return self._in_words(lambda: self.context.once("plan", make))

    def _sessions(self) -> list[OdpsSession]:
        # Once in a process: a size and the splits of a run are of the same sessions.
        plan, limit = self._plan(), self.context.read.row_limit
        return self._in_words(lambda: self.context.once("sessions", lambda: plan.sessions(limit)))

    def _in_words(self, ask: Callable[[], T]) -> T:
        """What `ask` gives; an error of it names the step."""
        try:
            return ask()
        except JobError as e:
            raise JobError([self._told(p) for p in e.problems]) from e
        except (FatalError, SessionLost, Stopped) as e:
            raise FatalError(self._told(e)) from e

    def _told(self, error: object) -> str:
        mark, text = f"step {self.context.step!r}", str(error)
        return text if mark in text else f"{mark}: {text}"

    def _reopen(self, lost: OdpsSession) -> OdpsSession:
        # The splits of a lost session share the one that takes its place.
        what = f"session in place of {lost.download_id}"
        return self.context.once(what, lambda: reopened(self._plan(), lost))


class _Rows:
    """Makes rows of the record batches of one split."""

    def __init__(
        self, split: OdpsSplit, settings: OdpsSettings, context: StepContext, prefix: str
    ) -> None:
        from odps.types import validate_data_type
        from vecferry.io.odps.values import converter, partition_value

        self._context, self._prefix = context, prefix
        self._names = [s.name for s in split.sources]
        self._kinds = [s.kind for s in split.sources]
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
        from vecferry.io.common.unfit import UnfitValue

        try:
            columns: list[Any] = []
            for make in self._makers:
                columns.append(make(part))
        except PROGRAMMING_ERRORS as e:
            name, kind = self._names[len(columns)], self._kinds[len(columns)]
            raise own_fault(f"column {name!r} of type {kind}", e) from e
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

    def __init__(self, source: SourceColumn, convert: Any) -> None:
        self._name, self._convert = source.column.lower(), convert

    def index(self, part: Any) -> int:
        return int(part.schema.get_field_index(self._name))

    def __call__(self, part: Any) -> Any:
        return self._convert(part.column(self.index(part)))
