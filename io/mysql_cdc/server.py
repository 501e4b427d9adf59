"""What a server of MySQL or MariaDB says of its binary log, to whoever plans what is read.

The log's end as ``SHOW MASTER STATUS`` tells it runs ahead of what a SELECT sees: a transaction is
in the log before its rows are visible. `LogServer.await_visible` waits until a SELECT that begins
afterwards sees all that stands before a place.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vecferry.errors import FatalError, JobError, TransientError
from vecferry.io.mysql.client import MySqlDatabase
from vecferry.io.mysql_cdc.gtid import GtidSet
from vecferry.io.mysql_cdc.place import Place
from vecferry.io.mysql_cdc.stream import name_of
from vecferry.io.tables.database import Refused, Table

VISIBLE_SECONDS = 30.0
"""How long a transaction may take from the log to its rows; a slow disk takes a second."""
_OWNED = re.compile(
    r"([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?::([a-z_]\w*))?|:([0-9]+)#"
)
"""A source, perhaps with a tag, or a number; a source follows a thread's number without a sign."""
_EVENTS = 10_000
"""So many events are asked for at once."""
_BEGINS = ("Gtid", "Anonymous_Gtid", "Rotate", "Stop")
"""What the events begin with before which a transaction has ended, in ``SHOW BINLOG EVENTS``."""


@dataclass(frozen=True, kw_only=True)
class LogEnd:
    """Where a log ends: the end of a transaction.

    Attributes:
      place: the file and the offset.
      gtids: what the server has executed, without what is not visible yet; empty without GTIDs.
    """

    place: Place
    gtids: str


class LogServer:
    """Questions about the log of one server, over a connection of its own. Used by one thread."""

    def __init__(self, database: MySqlDatabase) -> None:
        self.database = database
        self.maria = database.maria
        names = "log_bin binlog_format binlog_row_image binlog_row_metadata gtid_mode server_uuid"
        more = "server_id hostname port gtid_domain_id binlog_expire_logs_seconds expire_logs_days"
        more += " lower_case_table_names log_slave_updates log_replica_updates"
        self.variables = self._variables(f"{names} {more}".split())

    def _variables(self, names: list[str]) -> dict[str, str]:
        listed = ", ".join(f"'{name}'" for name in names)
        rows = self.database.texts(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({listed})")
        return {str(row["Variable_name"]): row["Value"] or "" for row in rows}

    @property
    def name(self) -> str:
        """Which server this is: another server has another log."""
        return name_of(self.variables)

    @property
    def has_gtids(self) -> bool:
        """Whether transactions have ids that other servers know."""
        return self.maria or self.variables.get("gtid_mode") == "ON"

    @property
    def names_columns(self) -> bool:
        """Whether the log itself names the columns of its rows."""
        return self.variables.get("binlog_row_metadata", "").upper() == "FULL"

    def end(self) -> LogEnd:
        """Where the log ends now; JobError where the server writes none."""
        # MariaDB's ids are asked for first: so they are of transactions before the place. What
        # `gtids_at` tells is exact, and costs the server a look at all of the file.
        gtids = self._one("SELECT @@GLOBAL.gtid_binlog_pos AS g") or "" if self.maria else ""
        rows = self._status()
        if not rows:
            raise JobError(
                "the server writes no binary log: set log_bin (on PolarDB loose_polar_log_bin) and "
                "start it anew"
            )
        row = rows[0]
        place = Place(str(row["File"]), int(row["Position"] or 0))
        if not self.maria:
            gtids = (row.get("Executed_Gtid_Set") or "").replace("\n", "")
        return LogEnd(place=place, gtids=gtids)

    def gtids_at(self, place: Place) -> str:
        """What MariaDB had executed at a place of its log."""
        sql = f"SELECT BINLOG_GTID_POS('{place.file}', {place.offset}) AS g"
        return self._one(sql) or ""

    def _status(self) -> list[dict[str, str | None]]:
        try:
            return self.database.texts("SHOW MASTER STATUS")
        except Refused as e:
            if "SHOW MASTER" not in str(e) and "syntax" not in str(e) and "MASTER" not in str(e):
                raise
        return self.database.texts("SHOW BINARY LOG STATUS")  # since MySQL 8.2

    def logs_database(self, schema: str) -> bool:
        """Whether changes of a database's tables are logged: a server may be told to leave it."""
        row = next(iter(self._status()), {})
        only, never = (
            [name for name in (row.get(column) or "").split(",") if name]
            for column in ("Binlog_Do_DB", "Binlog_Ignore_DB")
        )
        return schema in only if only else schema not in never

    def logs_replicated(self) -> bool | None:
        """Whether the log has what the server itself replicates; None where that is not known."""
        given = self.variables
        if given.get("log_replica_updates", given.get("log_slave_updates", "ON")) == "ON":
            return True
        asks = ["SHOW ALL SLAVES STATUS"] if self.maria else ["SHOW REPLICA STATUS"]
        for ask in [*asks, "SHOW SLAVE STATUS"]:
            with contextlib.suppress(Refused):
                return not self.database.texts(ask)
        return None

    def files(self) -> dict[str, int]:
        """The size of each file of the log, in order."""
        rows = self.database.texts("SHOW BINARY LOGS")
        return {str(row["Log_name"]): int(row["File_size"] or 0) for row in rows}

    def holds(self, gtids: str) -> bool:
        """Whether the server has executed all of these transactions."""
        if self.maria:
            executed = self._one("SELECT @@GLOBAL.gtid_binlog_pos AS g") or ""
            known = GtidSet.parse(executed, maria=True)
            return GtidSet.parse(gtids, maria=True).issubset(known)
        sql = f"SELECT GTID_SUBSET('{gtids}', @@GLOBAL.gtid_executed) AS g"
        return self._one(sql) == "1"

    def keeps_behind(self, gtids: str) -> bool:
        """Whether all transactions that are not among these are still in the log."""
        if self.maria:
            return True  # the server says so when the log is read
        sql = f"SELECT GTID_SUBSET(@@GLOBAL.gtid_purged, '{gtids}') AS g"
        return self._one(sql) == "1"

    def cut(self, since: Place, until: Place, most: int) -> Place:
        """The end of a transaction about `most` bytes behind `since`, at most `until`."""
        files = self.files()
        order = list(files)
        if since.file not in files:
            return until
        at = order.index(since.file)
        if since.file == until.file:
            if until.offset - since.offset <= most:
                return until
        elif files[since.file] - since.offset <= most:
            # To the end of this file, and of the following ones while they fit.
            room = most - (files[since.file] - since.offset)
            for name in order[at + 1 :]:
                if name == until.file:
                    return until if until.offset <= room else Place(name, 4)
                if files[name] > room:
                    return Place(name, 4)
                room -= files[name]
            return until
        found = self._transaction_end(since, since.offset + most)
        if found is not None:
            return found
        if since.file == until.file:
            return until
        return Place(order[at + 1], 4)

    def _transaction_end(self, since: Place, least: int) -> Place | None:
        """Where the first transaction ends at or behind the offset `least`, in the same file."""
        skipped, window = 1024, 256
        begin = f"SHOW BINLOG EVENTS IN '{since.file}' FROM {since.offset} LIMIT "
        rows: list[dict[str, str | None]] = []
        low = 0
        while True:  # how many events lie before `least`
            rows = self.database.texts(f"{begin}{skipped}, 1")
            if not rows or int(rows[0]["Pos"] or 0) >= least:
                break
            low, skipped = skipped, skipped * 4
        high = skipped
        while high - low > window:
            middle = (low + high) // 2
            rows = self.database.texts(f"{begin}{middle}, 1")
            if rows and int(rows[0]["Pos"] or 0) < least:
                low = middle
            else:
                high = middle
        while True:
            rows = self.database.texts(f"{begin}{low}, {window}")
            for row in rows:
                if int(row["Pos"] or 0) >= least and _begins(row):
                    return Place(since.file, int(row["Pos"] or 0))
            if len(rows) < window:
                return None
            low, window = low + window, window * 2

    def border(self, place: Place) -> Place:
        """Where the last transaction ends, or begins, at or before `place`, in the same file.

        Reading can't begin elsewhere: behind the middle of a transaction its rest is lost.
        """
        found = at = 4
        while True:
            sql = f"SHOW BINLOG EVENTS IN '{place.file}' FROM {at} LIMIT {_EVENTS}"
            rows = self.database.texts(sql)
            for row in rows:
                if int(row["Pos"] or 0) > place.offset:
                    return Place(place.file, found)
                if _begins(row):
                    found = int(row["Pos"] or 0)
                at = int(row["End_log_pos"] or 0)
            if len(rows) < _EVENTS:  # the file ends with the end of a transaction
                return place if place.offset == at else Place(place.file, found)

    def keeps_history(self, table: Table) -> bool:
        """Whether MariaDB keeps former rows in the table itself, and logs them as rows of it."""
        if not self.maria:
            return False
        schema, name = map(self.database.text_literal, table.path)
        return bool(
            self.database.texts(
                "SELECT 1 AS found FROM information_schema.tables WHERE table_type = 'SYSTEM "
                f"VERSIONED' AND table_schema = {schema} AND table_name = {name}"
            )
        )

    # What a SELECT sees

    def await_visible(self, place: Place, wait: Callable[[float], object]) -> bool:
        """Waits until a SELECT sees all transactions that end at or before `place`.

        False where this server can't tell, as MySQL without GTIDs. Then a SELECT must lock what it
        reads, and so waits for the writers by itself. `place` is at most the log's end as it was
        told before. Raises TransientError where a transaction takes longer than 30 seconds.
        """
        if self.maria:
            return self._await_snapshot(place, wait)
        if not self.has_gtids:
            return False
        # What stands in the log and is not visible yet is owned by the thread that commits it.
        owned = gtids_of(self._one("SELECT @@GLOBAL.gtid_owned AS g") or "")
        if owned:
            sql = f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{owned}', {VISIBLE_SECONDS:.0f}) AS g"
            if self._one(sql) != "0":
                self._gone_or_late(owned)
        return True

    def _gone_or_late(self, owned: str) -> None:
        """Raises TransientError unless what was owned is executed, or was rolled back."""
        still = gtids_of(self._one("SELECT @@GLOBAL.gtid_owned AS g") or "")
        if still:
            sql = f"SELECT GTID_SUBTRACT('{owned}', GTID_SUBTRACT('{owned}', '{still}')) AS g"
            if self._one(sql):
                raise TransientError(
                    f"the server has not committed {owned} within {VISIBLE_SECONDS:.0f} s, and it "
                    "stands in the log"
                )

    def _await_snapshot(self, place: Place, wait: Callable[[float], object]) -> bool:
        deadline = time.monotonic() + VISIBLE_SECONDS
        while True:
            self.database.run("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            try:
                sql = "SHOW SESSION STATUS LIKE 'Binlog_snapshot_%'"
                rows = {
                    str(r["Variable_name"]).lower(): r["Value"] for r in self.database.texts(sql)
                }
            finally:
                self.database.run("COMMIT")
            file, offset = rows.get("binlog_snapshot_file"), rows.get("binlog_snapshot_position")
            if not file:
                raise FatalError(
                    "MariaDB does not tell Binlog_snapshot_position, so nobody knows what a SELECT "
                    "sees; switch the binary log on for InnoDB tables"
                )
            if Place(file, int(offset or 0)) >= place:
                return True
            if time.monotonic() > deadline:
                raise TransientError(
                    f"the server has not committed what stands in the log before {place} within "
                    f"{VISIBLE_SECONDS:.0f} s"
                )
            wait(0.01)

    def _one(self, sql: str) -> str | None:
        (row,) = self.database.texts(sql)
        return next(iter(row.values()))

    def close(self) -> None:
        """Closes the connection."""
        self.database.close()


def gtids_of(owned: str) -> str:
    """The ids in ``gtid_owned``, ``uuid:12#thread:13#thread``, as a set; empty without one."""
    found: dict[str, list[str]] = {}
    source = ""
    for match in _OWNED.finditer(owned):
        if match[1]:
            source = f"{match[1]}:{match[2]}" if match[2] else match[1]
        elif source:
            found.setdefault(source, []).append(match[3])
    return ",".join(f"{source}:{':'.join(numbers)}" for source, numbers in found.items())


def _begins(row: Mapping[str, str | None]) -> bool:
    """Whether an event of ``SHOW BINLOG EVENTS`` stands between two transactions."""
    return (row["Event_type"] or "").startswith(_BEGINS)
