"""What a Hologres database holds; see `vecferry.browse`."""

from __future__ import annotations

from vecferry.browse import Draft
from vecferry.errors import JobError
from vecferry.io.postgresql.browse import PostgresBrowser


class HologresBrowser(PostgresBrowser):
    """Schemas, and tables in them, as of PostgreSQL, whose protocol Hologres speaks."""

    def draft(self, path: str) -> Draft:
        """Raises JobError: a data source of type hologres is written to, and not read."""
        raise JobError(
            "a data source of type hologres is written to; to read it, give it the type postgresql"
        )
