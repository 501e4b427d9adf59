"""What the errors of psycopg mean to a reader: the server is away, or it refuses, in words."""

from __future__ import annotations

import re
from typing import Any

from vecferry.errors import VecferryError, near, redact, shorten
from vecferry.io.table_database import ConnectionLost, Refused
from vecferry.io.table_settings import TableConnection

_LOST_CLASSES = ("08", "53", "58")
_LOST = {"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "25P03", "57P05"}
"""Conflicts, a restart, and connections that the server ended."""
_STARTING = ("starting up", "shutting down", "recovery mode", "too many", "remaining connection")
_COLUMN = re.compile(r'column "?(?:[\w]+\.)?([^"]+?)"? does not exist')


def explained(
    error: Exception, connection: TableConnection, columns: tuple[str, ...] = ()
) -> VecferryError:
    """The error to raise for one of psycopg's; `columns` are those of the table being read."""
    state = getattr(error, "sqlstate", None)
    text = words_of(error)
    place = connection.place
    if state is None:
        return _of_connection(error, text, connection)
    if state[:2] in _LOST_CLASSES or state in _LOST:
        return ConnectionLost(f"the PostgreSQL server {place} does not answer: {text}")
    if state == "42703":
        match = _COLUMN.search(text)
        hint = near(match[1], columns) if match else ""
        return Refused(f"{text}{hint}; correct column, where or querySql")
    if state == "42P01":
        return Refused(f"{text}; correct table or querySql")
    if state == "42501":
        return Refused(f"user {connection.username!r} needs the right to SELECT: {text}")
    if state == "57014":
        return Refused(
            f"the server stopped the statement, by its time limit or on demand ({text}): read "
            "smaller ranges by a splitPk with an index, or raise statement_timeout for this user"
        )
    if state == "25006":
        return Refused(f"the session is read-only, and the statement would write: {text}")
    if state[:2] == "42":
        return Refused(f"the server does not understand column, where or querySql: {text}")
    return Refused(f"the PostgreSQL server {place} refuses ({state}): {text}")


def _of_connection(error: Exception, text: str, connection: TableConnection) -> VecferryError:
    low = text.casefold()
    place = connection.place
    if not any(w in low for w in _STARTING):
        if "certificate" in low:
            way = (
                f"caCert ({connection.ca_cert}) must name the authority that signed it, and host "
                "must be a name in it"
                if connection.ca_cert
                else "name the file of the authority that signed it as caCert"
            )
            return Refused(f"the certificate of the server {place} is not trusted ({text}): {way}")
        if "does not support ssl" in low:
            return Refused(
                f"the PostgreSQL server {place} offers no TLS, and the data source asks for it: "
                "switch it on at the server, or leave tls and caCert out"
            )
        if "fatal" in low and ("password" in low or "role " in low or "pg_hba" in low):
            return Refused(
                f"{place} refuses user {connection.username!r}: correct username or password "
                f"({text})"
            )
    import psycopg

    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return ConnectionLost(f"the PostgreSQL server {place} does not answer: {text}")
    return Refused(f"the PostgreSQL client: {text}")


def words_of(error: Any) -> str:
    """The server's message, or the client's on one line."""
    diag = getattr(error, "diag", None)
    text = getattr(diag, "message_primary", None) or str(error)
    return redact(shorten(text, 300))
