"""What the errors of a MySQL client mean: the server is away, or it refuses, in words."""

from __future__ import annotations

import re
import ssl
from typing import Any

from vecferry.errors import VecferryError, near, redact, shorten
from vecferry.io.table_database import ConnectionLost, Refused
from vecferry.io.table_settings import TableConnection

_LOST = frozenset(
    {
        1040,  # too many connections
        1053,  # shutdown
        1152, 1158, 1159, 1160, 1161,  # the connection broke, as the server sees it
        1203, 1226,  # the user has too many connections
        1205, 1213,  # waited too long for a lock, deadlock
        1927,  # MariaDB: connection killed
        2002, 2003, 2006, 2013, 2055,  # the client's: not reached, gone, lost
        3169,  # session killed
        4031,  # disconnected by the server
    }
)  # fmt: skip
_TIMED_OUT = frozenset({1969, 3024})
_KILLED = 1317
_UNKNOWN_COLUMN = re.compile(r"Unknown column '(.+?)'")


def explained(
    error: Exception, connection: TableConnection, columns: tuple[str, ...] = ()
) -> VecferryError:
    """The error to raise for one of PyMySQL's; `columns` are those of the table being read."""
    code, text = _parts(error)
    cause = getattr(error, "original_exception", None)
    if isinstance(error, ssl.SSLError) or isinstance(cause, ssl.SSLError):
        return Refused(_tls(cause or error, connection))
    if code == 2026 and "doesn't support" in text:
        return Refused(
            f"the MySQL server {connection.place} offers no TLS, and the data source asks for it: "
            "switch it on at the server, or leave tls and caCert out"
        )
    if code in _LOST or code == 0 or "sequence number" in text:
        return ConnectionLost(f"the MySQL server {connection.place} does not answer: {text}")
    return Refused(_words(code, text, connection, columns))


def _parts(error: Exception) -> tuple[int, str]:
    arguments = error.args
    code = arguments[0] if arguments and isinstance(arguments[0], int) else 0 if _gone(error) else 1
    return code, redact(shorten(str(arguments[-1]) if arguments else type(error).__name__, 300))


def _gone(error: Any) -> bool:
    import pymysql

    return isinstance(error, pymysql.err.InterfaceError | OSError)


def _tls(error: Exception, connection: TableConnection) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        way = (
            f"caCert ({connection.ca_cert}) must name the authority that signed it, and host must "
            "be a name in it"
            if connection.ca_cert
            else "name the file of the authority that signed it as caCert"
        )
        return (
            f"the certificate of the MySQL server {connection.place} is not trusted "
            f"({error.verify_message}): {way}"
        )
    return f"no TLS with the MySQL server {connection.place}: {shorten(error)}"


def _words(code: int, text: str, connection: TableConnection, columns: tuple[str, ...]) -> str:
    user, place = connection.username, connection.place
    if code == 1045:
        return f"{place} refuses user {user!r}: correct username or password ({text})"
    if code in (1130, 1129):
        return f"{place} takes no connections from this machine: {text}"
    if code == 1044:
        return f"user {user!r} may not use the database {connection.database!r}: {text}"
    if code in (1142, 1143):
        return f"user {user!r} needs the right to SELECT: {text}"
    if code == 1054:
        match = _UNKNOWN_COLUMN.search(text)
        hint = near(match[1].rpartition(".")[2].strip("`"), columns) if match else ""
        return f"{text}{hint}; correct column, where or querySql"
    if code == 1064:
        return f"the server does not understand column, where or querySql: {text}"
    if code in _TIMED_OUT:
        return (
            f"the server stopped the statement after its time limit ({text}): read smaller ranges "
            "by a splitPk with an index, or raise max_execution_time (max_statement_time on "
            "MariaDB) for this user"
        )
    if code == _KILLED:
        return f"the statement was stopped at the server, by KILL or by its time limit ({text})"
    if code in (1290, 1792):
        return f"the session is read-only, and the statement would write: {text}"
    return f"the MySQL server {place} refuses ({code}): {text}"
