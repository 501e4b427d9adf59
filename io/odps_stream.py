"""The record batches of a split, whatever happens on the way: resumed at the row reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from vecferry.errors import FatalError, TransientError
from vecferry.io.odps_client import OdpsClient, one_try
from vecferry.io.odps_errors import QuotaRefused, SessionLost, translate
from vecferry.io.odps_plan import OdpsSession, OdpsSplit

Reopen = Callable[[OdpsSession], OdpsSession]


class BatchStream:
    """Arrow record batches of a split, in order, each row once.

    A request that breaks is repeated from the first row that has not come; a session that was lost
    is opened again by `reopen`, which raises where it would give other rows. The deadline counts
    from the last row that came. `most_rows` is how many the consumer may want.
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
        wait = backoff.next_wait(getattr(error, "retry_after", None))
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
            raise translate(e, self._client.quota) from e
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
        return _Response(self._attached, self._split.start + self._done, rows, self._split.columns)

    def _attach(self) -> Any:
        session = self._session
        if session.instance:
            return self._client.instance_session(session.instance, session.download_id)
        table = self._client.settings.table
        return self._client.table_session(table, session.partition, session.download_id)


class _Response:
    """One answer of a tunnel: so many record batches from a row on, with checksums."""

    def __init__(self, session: Any, start: int, rows: int, columns: tuple[str, ...]) -> None:
        from odps.tunnel.io.reader import ArrowStreamReader

        of_instance = hasattr(session, "_instance")
        schema = _wire_schema(session.schema, columns, of_instance)
        # pyodps' own reader would show times in the machine's zone, overflow outside the years 1678
        # to 2261, and take a stream that ends between two chunks for a whole one.
        body = session._build_input_stream(
            start, rows, compress=session._compress_option is not None,
            columns=None if of_instance else list(columns), arrow=True,
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
        except StopIteration as e:
            raise TransientError(f"the stream ended {self.left} rows early") from e
        self.left -= batch.num_rows
        if self.left < 0:
            raise FatalError("MaxCompute sent more rows than were asked for; run the job again")
        return batch

    def close(self) -> None:
        self._body.close()


def _wire_schema(schema: Any, columns: tuple[str, ...], of_instance: bool) -> Any:
    """What the batches hold, which the tunnel does not tell: columns in the table's order."""
    import pyarrow as pa
    from odps.tunnel.io.types import odps_type_to_arrow_type

    asked = {c.lower() for c in columns}
    fields = []
    for column in schema.simple_columns:
        if not of_instance and column.name.lower() not in asked:
            continue
        kind = odps_type_to_arrow_type(column.type)
        if of_instance and pa.types.is_timestamp(kind) and kind.unit == "ns":
            kind = pa.struct([("sec", pa.int64()), ("nano", pa.int32())])
        fields.append(pa.field(column.name.lower(), kind))
    return pa.schema(fields)
