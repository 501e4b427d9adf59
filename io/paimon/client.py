"""A catalog and a table of Paimon, opened anew each time, and pypaimon's errors as ours.

A table holds a token and the schema of its time: it is never pickled and never kept for another
round. Workers open their own from the settings.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, TypeVar

from vecferry.errors import (
    FatalError,
    JobError,
    TransientError,
    VecferryError,
    near,
    redact,
    shorten,
)
from vecferry.io.common.reach import words
from vecferry.io.paimon.settings import PaimonConnection, PaimonSettings
from vecferry.retry import call_with_retries
from vecferry.steps import StepContext

T = TypeVar("T")

Catalog = Any
"""pypaimon's `Catalog`."""
Table = Any
"""pypaimon's `FileStoreTable`."""

CONNECT_SECONDS, READ_SECONDS = 15, 60

_AWAY = {
    "ServiceUnavailableException", "ServiceFailureException", "ConnectionError", "Timeout",
    "ConnectTimeout", "ReadTimeout", "ChunkedEncodingError",
}  # fmt: skip
_REFUSED = (
    "ACCESS_DENIED", "InvalidAccessKeyId", "INVALID_ACCESS_KEY_ID", "Forbidden",
    "SignatureDoesNotMatch", "SIGNATURE_DOES_NOT_MATCH", "InvalidClientTokenId",
    "INVALID_CLIENT_TOKEN_ID", "EXPIRED_TOKEN", "ExpiredToken",
)  # fmt: skip
"""What stores of the S3 kind say of keys that they do not take."""
_OLD_KEYS = ("_VALUE_STATS_COLS", "_EXTERNAL_PATH", "_FIRST_ROW_ID", "_WRITE_COLS")
"""Fields of manifests that Paimon 0.9 does not write and pypaimon requires."""


class Stopped(Exception):
    """The run was asked to stop while a call waited to be repeated."""


@functools.cache
def import_pypaimon() -> ModuleType:
    """The module `pypaimon`; JobError says how to install it."""
    try:
        import pypaimon
        from pypaimon.api.client import HttpClient
    except ImportError as e:
        raise JobError(
            f"reading Paimon needs pypaimon ({e}): pip install 'vecferry[paimon]'"
        ) from e
    # Its own are three minutes each, and are meant to be overridden.
    HttpClient._CONNECT_TIMEOUT_SECONDS = CONNECT_SECONDS
    HttpClient._READ_TIMEOUT_SECONDS = READ_SECONDS
    module: ModuleType = pypaimon
    return module


def plain_options(connection: PaimonConnection) -> dict[str, str]:
    """The options as pypaimon takes them, secrets revealed."""
    return {name: str.__str__(value) for name, value in connection.options.items()}


FILES_KEPT = "file-format.metadata-cache.max-size"
"""Bytes of opened files that pypaimon keeps for the next read; a job reads each file once."""


def open_catalog(connection: PaimonConnection) -> Catalog:
    """pypaimon's catalog; raises what pypaimon raises (see `classify`)."""
    options = {FILES_KEPT: "0", **plain_options(connection)}
    return import_pypaimon().CatalogFactory.create(options)


def open_table(
    settings: PaimonSettings,
    connection: PaimonConnection,
    options: Mapping[str, str] | None = None,
) -> Table:
    """The table with its newest schema, loaded anew; raises JobError and what pypaimon raises.

    `options` are options of the table for this handle, beside those that make reading right.
    """
    catalog = open_catalog(connection)
    from pypaimon.catalog.catalog_exception import (
        DatabaseNotExistException,
        TableNotExistException,
    )

    try:
        table = catalog.get_table(settings.full_name)
    except (DatabaseNotExistException, TableNotExistException) as e:
        raise _absent(catalog, settings) from e
    if not hasattr(table, "snapshot_manager"):
        raise JobError(
            f"{settings.full_name} is a {type(table).__name__}, whose rows Paimon does not keep: "
            "read its files with the step of their store"
        )
    # The job decides, and not the table's own option.
    blobs = {"blob-as-descriptor": str(settings.blob_as_descriptor).lower()}
    return with_options(table, {**_reading(table), **blobs, **(options or {})})


def with_options(table: Table, options: Mapping[str, str]) -> Table:
    """A copy of the table with options of its own; the table itself stays as it is."""
    return table.copy(dict(options)) if options else table


def _reading(table: Any) -> dict[str, str]:
    """Options without which a table is read wrongly."""
    options = {"read.native.enabled": "false"}
    if table.options.deletion_vectors_enabled():
        # Else what was not compacted yet is left out.
        options["deletion-vectors.merge-on-read"] = "true"
    return options


def _absent(catalog: Any, settings: PaimonSettings) -> JobError:
    """What is missing, the database or the table, with the nearest name."""
    database, table = settings.database, settings.table
    databases = _listed(catalog.list_databases)
    if databases is not None and database not in databases:
        return JobError(
            f"no database of the catalog has the name {database!r}{near(database, databases)}"
        )
    tables = _listed(lambda: catalog.list_tables(database)) or []
    return JobError(
        f"no table in database {database!r} has the name {table!r}{near(table, tables)}"
    )


def _listed(names: Callable[[], list[str]]) -> list[str] | None:
    """Names for a hint; None where this login may not list them."""
    from pypaimon.api.rest_exception import ForbiddenException
    from pypaimon.catalog.catalog_exception import DatabaseNoPermissionException

    try:
        return names()
    except (ForbiddenException, DatabaseNoPermissionException):
        return None


def told(error: BaseException) -> str:
    """An error on one line, without secrets."""
    text = str(error.args[0]) if error.args else ""
    name = type(error).__name__
    return shorten(redact(f"{name}: {text}" if text else name), 300)


def classify(error: Exception, connection: PaimonConnection, table: str = "") -> Exception:
    """What to do about an error of pypaimon; one that is not its own comes back as it is."""
    if isinstance(error, VecferryError | Stopped):
        return error
    causes = list(causes_of(error))
    names = {c.__name__ for cause in causes for c in type(cause).__mro__}
    where = f"the catalog at {connection.options['uri']}" if connection.is_rest else "the warehouse"
    old = next((c for c in causes if isinstance(c, KeyError) and c.args[:1] and
                c.args[0] in _OLD_KEYS), None)  # fmt: skip
    if old is not None:
        return FatalError(
            f"{table or 'the table'} was written by Paimon 0.9 or older, which pypaimon can't read "
            f"(its manifests lack {old.args[0]}): write or compact it with Paimon 1.0 or newer"
        )
    if names & {"NotAuthorizedException"}:
        return FatalError(
            f"{where} refuses the login: {told(error)}; correct the token, or the keys, in the "
            "options of the data source"
        )
    if names & {
        "ForbiddenException", "TableNoPermissionException", "DatabaseNoPermissionException",
        "PermissionError",
    }:  # fmt: skip
        return FatalError(
            f"{where} denies access: {told(error)}; grant this login the right to read {table}"
        )
    if names & _AWAY:
        fault = next((c for c in causes if isinstance(c, OSError) and c.errno), error)
        what = words(fault) if isinstance(fault, OSError) and fault.errno else told(error)
        return TransientError(f"{where} does not answer: {what}")
    return _of_files(error, causes, where)


def _of_files(error: Exception, causes: list[BaseException], where: str) -> Exception:
    if any(isinstance(c, FileNotFoundError) for c in causes):
        return FatalError(
            f"a file of the table is gone: {told(error)}; its snapshot has expired: run the job "
            "again, or keep snapshots longer (snapshot.time-retained)"
        )
    fault = next((c for c in reversed(causes) if isinstance(c, OSError)), None)
    if fault is not None:
        text = told(fault)
        if any(word in text for word in _REFUSED):
            return FatalError(f"{where} denies access: {text}; correct the keys of the data source")
        return TransientError(f"{where} can't be read: {text}")
    if type(error).__name__ == "RESTException":
        return TransientError(f"{where} does not answer: {told(error)}")
    return error


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """An error and what is behind it, the nearest first."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__


class PaimonClient:
    """Calls of one step, each repeated while the catalog is away, up to the step's deadline."""

    def __init__(
        self,
        settings: PaimonSettings,
        connection: PaimonConnection,
        context: StepContext,
        deadline: float | None = None,
    ) -> None:
        self.settings, self.connection = settings, connection
        self.deadline = context.retry_deadline if deadline is None else deadline
        self._stop: threading.Event = context.state.stop

    def call(self, what: str, ask: Callable[[], T]) -> T:
        """The answer; raises VecferryError, TransientError past the deadline only, or `Stopped`."""

        def attempt() -> T:
            try:
                return ask()
            except Exception as e:
                raise classify(e, self.connection, self.settings.full_name) from e

        return call_with_retries(attempt, deadline=self.deadline, what=what, sleep=self._pause)

    def table(self, options: Mapping[str, str] | None = None) -> Table:
        """The table, loaded anew; see `open_table`."""
        return self.call(
            f"opening {self.settings.full_name}",
            lambda: open_table(self.settings, self.connection, options),
        )

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped("the run was asked to stop")
