"""The mark of what made a table's vectors: a line of the table's comment, below the user's own."""

from __future__ import annotations

import re
from typing import Any

from vecferry.io.mark import NAME, Mark, Marking, from_json, tell_once, to_text
from vecferry.io.pgvector_client import told
from vecferry.io.pgvector_ddl import quoted_table
from vecferry.io.pgvector_settings import WriterSettings

_LINE = re.compile(rf"^{NAME}: (?P<mark>\{{.*\}})$", re.MULTILINE)


def read_comment(connection: Any, settings: WriterSettings) -> str | None:
    """The table's comment, empty where it has none; None where the server can't tell it.

    Not to be called in a transaction, which an answer that it can't would break.
    """
    import psycopg

    statement = "SELECT obj_description(to_regclass(%s), 'pg_class')"
    try:
        row = connection.execute(statement, [quoted_table(settings)]).fetchone()
    except (psycopg.NotSupportedError, psycopg.ProgrammingError):
        return None
    return (row[0] or "") if row else ""


def mark_in(comment: str | None) -> Mark | None:
    """The mark in a comment; None where it has none."""
    found = _LINE.search(comment or "")
    return from_json(found["mark"]) if found else None


def marked(comment: str, mark: Mark) -> str:
    """A comment with a mark in place of the one that it had, else below what it says."""
    line = f"{NAME}: {to_text(mark)}"
    if _LINE.search(comment):
        return _LINE.sub(lambda _: line, comment, count=1)
    return f"{comment}\n{line}" if comment else line


def comment_statement(settings: WriterSettings, comment: str, mark: Mark) -> str:
    """The statement that puts a mark into the table's comment."""
    from psycopg import sql

    text = sql.Literal(marked(comment, mark)).as_string(None)
    return f"COMMENT ON TABLE {quoted_table(settings)} IS {text}"


def remember(connection: Any, settings: WriterSettings, marking: Marking) -> None:
    """Marks a table that is there, where that is due; one whose owner is another is told of."""
    import psycopg

    tell_once(marking.context, "mark", marking.remarks())
    mark = marking.to_write()
    if mark is None:
        return
    comment = read_comment(connection, settings)
    if comment is None:  # what it says would be lost
        return
    try:
        connection.execute(comment_statement(settings, comment, mark))
    except psycopg.Error as e:
        note = f"what makes the vectors was not kept: {told(e)}"
        tell_once(marking.context, "mark", [note])
