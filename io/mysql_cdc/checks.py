"""Whether a server's log can be followed as the job says; each fault with its repair."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from vecferry.errors import JobError, VecferryError
from vecferry.io.mysql.settings import MySqlConnection
from vecferry.io.mysql_cdc.chunks import whole_of
from vecferry.io.mysql_cdc.following import LOCK, file_time
from vecferry.io.mysql_cdc.server import LogServer
from vecferry.io.mysql_cdc.settings import MySqlCdcSettings
from vecferry.io.tables.database import Table

LEAST_SECONDS = 3600
"""A log that is kept for less time may be gone before a stopped job is started again."""


def problems_of(
    server: LogServer,
    settings: MySqlCdcSettings,
    connection: MySqlConnection,
    tables: Iterable[Table],
) -> list[str]:
    """Every reason why the log can't be followed.

    Args:
      server: the server.
      settings: the job's.
      connection: where the server is, for a connection that reads the log.
      tables: the tables that are followed.
    """
    given, found = server.variables, list[str]()
    user = connection.username
    if given.get("binlog_format", "ROW").upper() != "ROW":
        found.append(
            f"binlog_format is {given['binlog_format']}, which logs statements and not rows; SET "
            "GLOBAL binlog_format = 'ROW', and let the sessions of writers begin anew"
        )
    tables = list(tables)
    for table in tables:
        found += _of(partial(whole_of, server.database, settings.tables, table))
        if not server.maria and not server.has_gtids:
            found += _of(partial(_require_lock, server, table, user))
        if server.keeps_history(table) and not server.names_columns:
            found.append(
                f"{table.title} has system versioning, whose columns only the log can name; SET "
                "GLOBAL binlog_row_metadata = 'FULL'"
            )
    rights = _rights(server, connection, user)
    return [*found, *(rights or _left_out(server, tables))]


def notes_of(server: LogServer, tables: Iterable[Table]) -> list[str]:
    """What works, and what a person should know of it."""
    given, found = server.variables, list[str]()
    for table in tables:
        found += _cascades(server, table)
    seconds = int(given.get("binlog_expire_logs_seconds") or 0)
    seconds = seconds or 86_400 * int(float(given.get("expire_logs_days") or 0))
    if 0 < seconds < LEAST_SECONDS:
        found.append(
            f"the server keeps its log for {seconds} s only; a job that stands still for longer "
            "must read all anew (binlog_expire_logs_seconds)"
        )
    if server.logs_replicated() is None:
        found.append(
            "the server does not log what it replicates (log_slave_updates is OFF), and the user "
            "may not ask whether it is a replica; if it is one, follow another server"
        )
    image = given.get("binlog_row_image", "FULL").upper()
    if image != "FULL":
        found.append(
            f"binlog_row_image is {image}: what the log leaves out is read again by its key, which "
            "costs a query for each thousand rows"
        )
    return found


def _left_out(server: LogServer, tables: Iterable[Table]) -> Iterator[str]:
    """What the server does not log, though it logs."""
    for schema in dict.fromkeys(table.path[0] for table in tables):
        if not server.logs_database(schema):
            yield (
                f"the server does not log the database {schema} (binlog_do_db, binlog_ignore_db), "
                "so no change of its tables can be followed; take the option out, and start the "
                "server anew"
            )
    if server.logs_replicated() is False:
        yield (
            "the server is a replica, and does not log what it replicates; set log_slave_updates "
            "(log_replica_updates) and start it anew, or follow the server that it replicates"
        )


def _cascades(server: LogServer, table: Table) -> list[str]:
    """The foreign keys by which the server changes rows of a table, and logs nothing of it."""
    schema, name = table.path
    rows = server.database.texts(
        "SELECT constraint_name AS c, referenced_table_name AS t, delete_rule AS d, "
        "update_rule AS u FROM information_schema.referential_constraints "
        f"WHERE constraint_schema = {server.database.text_literal(schema)} "
        f"AND table_name = {server.database.text_literal(name)}"
    )
    found = []
    for row in rows:
        rules = [f"ON {verb} {row[k]}" for k, verb in (("d", "DELETE"), ("u", "UPDATE"))]
        rules = [rule for rule in rules if rule.endswith(("CASCADE", "SET NULL"))]
        if rules:
            found.append(
                f"{table.title}: the foreign key {row['c']} to {row['t']} is "
                f"{' and '.join(rules)}, "
                "and the server logs no row that it changes so; these rows stay as they were in "
                "the target until `vecferry verify JOB --repair`. Let triggers change them instead"
            )
    return found


def _require_lock(server: LogServer, table: Table, user: str) -> None:
    """Without GTIDs, a full load reads rows with a lock: see `LogServer.await_visible`."""
    try:
        server.database.texts(f"SELECT 1 FROM {table.sql} LIMIT 0 {LOCK}")
    except VecferryError as e:
        raise JobError(
            f"user {user!r} may not lock the rows of {table.title} that it reads, which a server "
            f"without GTIDs needs ({e}); GRANT LOCK TABLES ON the database TO this user, or set "
            "gtid_mode = ON"
        ) from e


def _rights(server: LogServer, connection: MySqlConnection, user: str) -> list[str]:
    """What the user lacks for reading the log, found by trying."""
    client = "BINLOG MONITOR" if server.maria else "REPLICATION CLIENT"
    try:
        end = server.end()
    except JobError as e:
        return e.problems
    except VecferryError as e:
        return [
            f"user {user!r} may not ask where the log ends ({e}); GRANT {client}, REPLICATION "
            f"SLAVE ON *.* TO this user"
        ]
    try:
        file_time(connection, end.place.file)
    except VecferryError as e:
        return [
            f"user {user!r} may not read the log ({e}); GRANT REPLICATION SLAVE ON *.* TO this user"
        ]
    return []


def _of(call: Callable[[], object]) -> list[str]:
    try:
        call()
    except JobError as e:
        return e.problems
    return []
