"""What a person is told of a table that is not there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vecferry.errors import near
from vecferry.io.postgresql.catalog import name_parts, neighbours, quote, quoted_table
from vecferry.io.postgresql.client import told
from vecferry.io.postgresql.settings import WriterSettings
from vecferry.io.sink.mark import NAME, Mark, Marking, from_json, tell_once, to_text

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


if TYPE_CHECKING:
    from vecferry.io.postgresql.session import Session

_SCHEMA = """
SELECT n.nspname, has_schema_privilege(n.oid, 'USAGE') AND has_schema_privilege(n.oid, 'CREATE'),
       current_user
FROM pg_catalog.pg_namespace n WHERE n.nspname = coalesce(%s, current_schema())
"""
_SCHEMAS = """
SELECT nspname FROM pg_catalog.pg_namespace
WHERE nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%' ORDER BY 1 LIMIT 200
"""


def absent(settings: WriterSettings, session: Session) -> str:
    """That the table does not exist, with what there is in its place."""
    names = neighbours(session.connection, settings.table)
    return f"table {settings.table!r} does not exist{near(settings.table, names)}{_list(names)}"


def missing(
    settings: WriterSettings, session: Session, where: str, made: Callable[[], list[str]]
) -> list[str]:
    """Why the job can't do without the table, which is not there; empty where it will make it.

    `made` gives the statements that would create it.
    """
    nowhere = _no_schema(settings, session)
    what = f"{where}: {nowhere or absent(settings, session)}"
    problems = settings.creation_problems()
    if settings.schema_create_mode == "ignore":
        remedy = "create it, or set schemaCreateMode to createIfNotExist"
        if nowhere:
            remedy = "create it and the table in it, or name another"
        if not problems:
            remedy += f". The statement would be: {' '.join('; '.join(made()).split())}"
        return [f"{what}; {remedy}"]
    if nowhere:
        schema, _ = name_parts(settings.table)
        remedy = f"have it created (CREATE SCHEMA {quote(schema)}), or name" if schema else "name"
        return [f"{what}; {remedy} another in table"]
    if session.lacks_pgvector() and any(
        c.sql and c.sql.name in ("vector", "halfvec") for c in settings.column
    ):
        problems.append(
            "the database lacks pgvector: have someone with the right run CREATE EXTENSION vector"
        )
    problems += _forbidden(settings, session)
    return [f"{what} and can't be created: {p}" for p in problems]


def _no_schema(settings: WriterSettings, session: Session) -> str:
    """That the schema of the table does not exist; empty where it does."""
    schema, _ = name_parts(settings.table)
    if session.connection.execute(_SCHEMA, [schema]).fetchone() is not None:
        return ""
    if schema is None:
        return f"table {settings.table!r} names no schema, and no schema of search_path exists"
    names = [name for (name,) in session.connection.execute(_SCHEMAS).fetchall()]
    return (
        f"schema {schema!r} of table {settings.table!r} does not exist{near(schema, names)}"
        f"{_list(names)}"
    )


def _forbidden(settings: WriterSettings, session: Session) -> list[str]:
    schema, _ = name_parts(settings.table)
    name, allowed, user = session.connection.execute(_SCHEMA, [schema]).fetchone()
    if allowed:
        return []
    grant = f"GRANT USAGE, CREATE ON SCHEMA {quote(name)} TO {quote(user)}"
    return [f"this user may not create tables in schema {name!r}: {grant}"]


def _list(names: list[str]) -> str:
    return f" (there are: {', '.join(names[:20])})" if names else ""
