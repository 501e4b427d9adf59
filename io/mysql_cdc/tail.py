"""Reads the log for ever, in batches that end between transactions.

Stands apart from `vecferry.io.mysql_cdc.endless` because it knows no Beam, and from `following`
because a job in rounds fixes the end of each round beforehand.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from vecferry.errors import FatalError, JobError, ReadAnew, TransientError, shorten
from vecferry.io.mysql.settings import MySqlConnection
from vecferry.io.mysql_cdc.following import Following, LogSplit
from vecferry.io.mysql_cdc.history import told
from vecferry.io.mysql_cdc.log import (
    Alive,
    Begun,
    Committed,
    FileBegan,
    Prepared,
    RolledBack,
    Rotated,
)
from vecferry.io.mysql_cdc.place import Place
from vecferry.io.mysql_cdc.server import LogServer
from vecferry.io.mysql_cdc.settings import MySqlCdcSettings
from vecferry.io.mysql_cdc.source import At, MySqlChanges
from vecferry.positions import Position
from vecferry.retry import Backoff
from vecferry.rows import Change, Reject
from vecferry.steps import Counts, StepContext

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
"""A batch waits for a first change for so long at most."""
BATCH_SECONDS = 0.2
"""A batch goes on for so long after its first transaction, while more is there."""
LINGER_SECONDS = 0.01
"""Transactions that come so close behind each other make one batch."""
MOST_ROWS = 20_000
QUESTION_SECONDS = 5.0
"""A question is repeated for so long within a batch; afterwards the next batch asks again."""
CLOCK_SECONDS = 1.0
"""The log tells times in whole seconds."""

ANEW = (
    "load the tables again, and begin a new pipeline behind that, without the positions or the "
    "savepoint of this one"
)


def follows_only(settings: MySqlCdcSettings) -> MySqlCdcSettings:
    """The settings of a reader that loads nothing: what would load the tables anew is told."""
    told_so = {"scan_mode": "latest", "on_purged": "resync", "on_table_change": "resync"}
    return settings.model_copy(update=told_so)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Begin:
    """Where an endless reading begins; `until` is where it ends, None for ever."""

    at: At
    epoch: int
    until: At | None = None


def begin_of(
    settings: MySqlCdcSettings,
    connection: MySqlConnection,
    context: StepContext,
    *,
    since: str | None,
    until: str | None,
    epoch: int,
    position: Position | None,
) -> Begin:
    """Where to begin: at a stored position, else at `since`, else at the log's end.

    Raises JobError with all that the server lacks, and where the log behind the position is gone.
    """
    settings = follows_only(settings)
    if position is None and since is None and settings.scan_mode == "earliest":
        since = "earliest"
    source = MySqlChanges(settings, connection, context)
    source.check()
    end = None if until is None else source.end() if until == "now" else source.parse_until(until)
    if position is not None:
        span = source.span(position)
        if span.kind == "full" or span.renews or "load" in span.until:
            why = span.why or "the tables are others than those of the position"
            raise JobError(f"step {context.step!r}: {why}; {ANEW}")
        return Begin(at=position.at, epoch=max(epoch, position.epoch), until=end)
    if since == "earliest":
        first = settings.model_copy(update={"scan_mode": "earliest"})
        at = MySqlChanges(first, connection, context).span(None).since
    else:
        at = source.end() if since is None else source.parse_until(since)
    return Begin(at={**at, "gtids": ""}, epoch=epoch, until=end)


class Tail:
    """The log from a place on. Used by one thread at a time.

    Attributes:
      at: up to where the last batch has read, as `Position.at` has it.
      time: the commit time of what was read last, in seconds since 1970 by the server's clock. It
        never goes back. While the log is idle, it goes on.
    """

    def __init__(
        self,
        settings: MySqlCdcSettings,
        connection: MySqlConnection,
        context: StepContext,
        begin: Begin,
        since_time: float,
    ) -> None:
        self._context = context
        quick = dataclasses.replace(context, retry_deadline=QUESTION_SECONDS)
        self._following = Following(follows_only(settings), connection, quick)
        self._begin, self.at, self.time = begin, begin.at, since_time
        self._until = None if begin.until is None else place_of(begin.until)
        self._reset()
        self._singly = False  # a batch is one transaction, since a later one can't be followed
        self._backoff: Backoff | None = None
        self._not_before = 0.0

    def _reset(self) -> None:
        self._items: Iterator[Any] | None = None
        self._place = place_of(self.at)
        self._began = {self.at["file"]: self.at["began"]}
        self._open = self._turning = False
        self._known: dict[str, tuple[object, list[Any]]] = {}

    @property
    def counts(self) -> Counts:
        """What was counted of the log."""
        return self._following.counts

    @property
    def ended(self) -> bool:
        """Whether all is read that was to be read."""
        return self._until is not None and place_of(self.at) >= self._until

    def batch(self) -> Iterator[tuple[Change | Reject, float]]:
        """Some whole transactions: each change with the commit time of its transaction.

        Waits a short time for the first one; gives nothing if none has come. Afterwards `at` is
        behind them. If the server is away, `at` stays, and the next batch gives the same again. So
        it is with a transaction that can't be followed, until all before it has been passed.

        Raises:
          FatalError: the log tells what can't be followed, such as TRUNCATE.
          TransientError: the server was away for `StepContext.retry_deadline`.
        """
        wait = self._not_before - time.monotonic()
        if wait > 0:
            self._context.state.stop.wait(min(wait, IDLE_SECONDS))
            return
        try:
            yield from self._batch()
        except FatalError as e:
            given = self._place > place_of(self.at)
            self.close()
            if given and not self._singly:
                self._singly = True
                return
            if isinstance(e, ReadAnew):
                raise FatalError(f"{e}; {ANEW}", e.reason) from e
            raise
        except JobError as e:  # a table is gone
            self.close()
            raise JobError(f"{e}; {ANEW}") from e
        except TransientError as e:
            self._wait_after(e)
        else:
            self._backoff = None

    def _wait_after(self, error: TransientError) -> None:
        self.close()
        if self._backoff is None:
            self._backoff = Backoff(deadline=self._context.retry_deadline, cap=5.0)
        wait = self._backoff.next_wait(error.retry_after)
        if wait is None:
            raise TransientError(f"gave up after {self._backoff.tries} tries: {error}") from error
        log.warning("step %r: %s; the log is read again", self._context.step, shorten(error))
        self._not_before = time.monotonic() + wait

    def _batch(self) -> Iterator[tuple[Change | Reject, float]]:
        items = self._items or self._opened()
        idle_until = time.monotonic() + IDLE_SECONDS
        first, rows, stop = 0.0, 0, self._context.state.stop
        while True:
            if not self._open and not self._turning:
                if stop.is_set() or (self._until is not None and self._place >= self._until):
                    break
                now = time.monotonic()
                if first and self._singly:
                    break
                if first and (now > first + BATCH_SECONDS or rows >= MOST_ROWS):
                    break
                wait = LINGER_SECONDS if first else max(0.0, idle_until - now)
                if not self._following.waits(wait) or (not first and now >= idle_until):
                    break
            item = next(items)
            if isinstance(item, Change | Reject):
                rows += 1
                yield item, self.time
            else:
                first = first or (time.monotonic() if type(item) is Begun else 0.0)
                self._mark(item)
        for row in self._following.flush():
            yield row, self.time
        self._reach()

    def _mark(self, item: Any) -> None:
        """Takes in where a transaction, or a file, begins or ends."""
        kind = type(item)
        if kind is FileBegan:
            self._began[item.file] = item.time
            self._turning = False
            return
        if kind is Begun:
            self._open = True
            self.time = max(self.time, float(item.time))
            return
        if kind is Alive and self._open:
            return
        if kind is Alive and not item.time and item.place >= self._end:
            self.time = max(self.time, time.time() + self._ahead - CLOCK_SECONDS)
        if kind is Rotated:
            self._turning = True  # the next event tells when that file began
        if kind in (Committed, RolledBack, Prepared):
            self._open = False
        # From where a transaction of XA began, the log is read again before it is read on.
        self._place = max(self._place, item.place)

    def _reach(self) -> None:
        """Lets `at` say where the reading is now, between two transactions."""
        place, oldest = self._place, self._following.oldest_xa
        columns = {title: self._told(title, c) for title, c in self._following.columns.items()}
        at: At = {**self.at, "file": place.file, "offset": place.offset, "columns": columns}
        at["began"] = self._began.get(place.file, at["began"])
        at.pop("xa", None)
        if oldest is not None:
            at["xa"] = {"file": oldest.file, "offset": oldest.offset}
        self.at = at

    def _told(self, title: str, columns: Any) -> list[Any]:
        known = self._known.get(title)
        if known is None or known[0] is not columns:
            known = self._known[title] = columns, told(columns)
        return known[1]

    def _opened(self) -> Iterator[Any]:
        at, xa = self.at, self.at.get("xa")
        self._following.asks(self._ask)
        split = LogSplit(
            server=at["server"],
            since=self._place,
            gtids="",
            until=None,
            began=dict(self._began),
            epoch=self._begin.epoch,
            columns=at["columns"],
            xa=place_of(xa) if xa else None,
        )
        self._items = self._following.follow(split)
        return self._items

    def _ask(self, server: LogServer) -> None:
        """Makes sure that this is the server of the place, and sets the clock by its clock."""
        if server.name != self.at["server"]:
            raise FatalError(
                f"step {self._context.step!r}: the server is {server.name} now, and the place in "
                f"the log is of {self.at['server']}; {ANEW}"
            )
        self._end = server.end().place
        ((row),) = server.database.texts("SELECT UNIX_TIMESTAMP(NOW(6)) AS now")
        self._ahead = float(row["now"] or 0) - time.time()

    def close(self) -> None:
        """Closes the connections; the next batch opens them again."""
        items, self._items = self._items, None
        if items is not None:
            items.close()  # type: ignore[attr-defined]  # it is a generator
        self._following.close()
        self._reset()


def place_of(at: Mapping[str, Any]) -> Place:
    """The place in the log that a position names."""
    return Place(at["file"], at["offset"])
