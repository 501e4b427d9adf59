"""Whether the server can read tables and queries as the job says; no row is read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from vecferry.errors import JobError, VecferryError
from vecferry.io.tables.database import Database, Table
from vecferry.io.tables.plan import TablePlanner, require_width
from vecferry.io.tables.settings import TableSettings

Describe = Callable[[Database, int, str], Table]
"""Gives the table of a group by its name."""


def problems(
    settings: TableSettings, open_group: Callable[[int], Database], describe: Describe
) -> list[str]:
    """Every reason why a table or query can't be read.

    Args:
      settings: the tables and queries.
      open_group: connects to the database of a group.
      describe: asks a database for a table.
    """
    found: list[str] = []
    for group, tables, queries in settings.groups:
        try:
            database = open_group(group)
        except VecferryError as e:
            found += _texts(e)
            continue
        try:
            for name in tables:
                found += _of(partial(_try_table, database, settings, group, name, describe))
            for sql in queries:
                found += _of(partial(database.explain, sql))
        finally:
            database.close()
    return found


def _try_table(
    database: Database, settings: TableSettings, group: int, name: str, describe: Describe
) -> None:
    """Runs the statement that reads the table, for no row; JobError names what is wrong."""
    table = describe(database, group, name)
    whole = TablePlanner(database, settings, group, table).whole()
    result = database.stream(whole.sql(limit=0), narrow=True)
    for _ in result.batches():
        pass
    require_width(whole, result.names)
    names = result.names[: whole.visible]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise JobError(
            f"{table.title}: two columns are called {twice[0]!r}; give one of them an alias "
            "(AS other)"
        )


def _of(call: Callable[[], object]) -> list[str]:
    try:
        call()
    except VecferryError as e:
        return _texts(e)
    return []


def _texts(error: VecferryError) -> list[str]:
    return error.problems if isinstance(error, JobError) else [str(error)]
