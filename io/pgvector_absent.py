"""What a person is told of a table that is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vecferry.errors import near
from vecferry.io.pgvector_ddl import quote
from vecferry.io.pgvector_settings import WriterSettings
from vecferry.io.pgvector_table import name_parts, neighbours

if TYPE_CHECKING:
    from vecferry.io.pgvector_session import Session

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
