"""One opening of a Milvus server or file per process, and what its errors mean."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vecferry.errors import (
    JobError,
)
from vecferry.io.milvus_errors import StatusError, connect_error, text_of
from vecferry.io.milvus_settings import MilvusConnection
from vecferry.io.reach import readable_ca
from vecferry.process import once
from vecferry.retry import call_with_retries

WRITE_SECONDS = 120.0
"""How long one write may take before it counts as lost, and is sent again."""


class MilvusHandle:
    """A client, and the calls that write through it without its hidden retries.

    pymilvus tries a call up to 75 times by itself, inserts included, which would double rows; the
    calls that write go straight to its connection, one try each.
    """

    def __init__(self, client: Any, connection: MilvusConnection) -> None:
        self.client = client
        self.is_file = connection.is_file
        self.seconds = connection.connect_timeout_ms / 1000
        # Milvus Lite has one writer for a collection: threads of this process take turns.
        self._turn = _file(connection).turn if self.is_file else contextlib.nullcontext()
        self._path = connection.endpoint if self.is_file else ""

    @functools.cached_property
    def _told(self) -> str:
        return str(self.client.get_server_version()).lower()

    @property
    def is_lite(self) -> bool:
        """Whether this is Milvus Lite 3, in a file or as a server.

        It tells "milvus_lite-3.2.2"; "v2.3.5-lite" is a whole server that comes in a wheel.
        """
        return self.is_file or self._told.startswith("milvus")

    @property
    def version(self) -> tuple[int, int] | None:
        """The server's version, such as (2, 3); None for Milvus Lite, and where it tells none."""
        found = None if self.is_lite else re.match(r"v?(\d+)\.(\d+)", self._told)
        return (int(found[1]), int(found[2])) if found else None

    def write(self, method: str, request: Any) -> None:
        """Carries out ``Insert``, ``Upsert`` or ``Delete``, once; raises what `classify` knows."""
        # The stub is asked for at each call: the client changes it when it reconnects.
        call = getattr(self.client._get_connection()._stub, method)
        with self._turn:
            status = call(request, timeout=WRITE_SECONDS).status
        if status.code or status.error_code:
            raise StatusError(status.code, status.error_code, status.reason, status.retriable)

    def close(self) -> None:
        """Closes the client; a file is closed with the last handle on it in this process."""
        self.client.close()
        if self.is_file:
            _file(self._path).leave()


class _File:
    """A Milvus Lite file in this process: its turn to write, and how many handles are open."""

    def __init__(self, path: str) -> None:
        self.path, self.turn = path, threading.Lock()
        self._lock = threading.Lock()
        self._handles = 0

    def enter(self) -> None:
        with self._lock:
            self._handles += 1

    def leave(self) -> None:
        from milvus_lite.server_manager import server_manager_instance

        with self._lock:
            self._handles -= 1
            if self._handles == 0:
                server_manager_instance.release_server(self.path)


def _file(connection: MilvusConnection | str) -> _File:
    path = connection if isinstance(connection, str) else connection.endpoint
    absolute = str(Path(path).absolute())
    return once(("milvus-file", absolute), lambda: _File(absolute))


def handle_of(connection: MilvusConnection, run: str) -> MilvusHandle:
    """The handle that everything of one run in this process shares, opened on first use.

    Raises:
      JobError: the connection is wrong, or the file is open in another process.
      TransientError: the server can't be reached.
    """
    where = str(Path(connection.endpoint).absolute()) if connection.is_file else connection.endpoint
    login = (connection.token, connection.username, connection.password)
    secret = hashlib.sha256(repr([v and str.__str__(v) for v in login]).encode()).hexdigest()
    key = ("milvus", run, where, connection.database, connection.ca_cert, secret)
    return once(key, lambda: _open(connection))


def handle_with_retries(
    connection: MilvusConnection, run: str, deadline: float | None
) -> MilvusHandle:
    """Like `handle_of`, but waits for a server that is away."""
    return call_with_retries(
        lambda: handle_of(connection, run),
        deadline=deadline,
        what=f"Milvus at {connection.endpoint}",
    )


def _open(connection: MilvusConnection) -> MilvusHandle:
    try:
        from pymilvus import MilvusClient
        from pymilvus.exceptions import MilvusException
    except ImportError as e:
        raise ModuleNotFoundError(
            "the Milvus writer needs pymilvus: pip install 'vecferry[milvus]'"
        ) from e
    _quieten(
        "pymilvus.decorators",
        "pymilvus.client.connection_manager",
        "milvus_lite.adapter.grpc.servicer",
    )
    login: dict[str, str] = {}
    if connection.ca_cert is not None:
        where = f"Milvus at {connection.endpoint}"
        login["server_pem_path"] = readable_ca(connection.ca_cert, where)
    if connection.token is not None:
        login["token"] = str.__str__(connection.token)
    elif connection.username is not None:
        login["token"] = f"{connection.username}:{str.__str__(connection.password or '')}"
    database = "" if connection.database == "default" else connection.database
    uri = connection.endpoint
    failures: list[BaseException] = []
    seconds = connection.connect_timeout_ms / 1000
    try:
        if connection.is_file:
            uri = str(Path(uri).absolute())
            _file(connection).enter()
            with _failures_of("milvus_lite.server_manager") as failures:
                client = MilvusClient(uri, db_name=database, timeout=seconds, **login)
        else:
            client = MilvusClient(uri, db_name=database, timeout=seconds, **login)
    except MilvusException as e:
        if connection.is_file:
            _file(connection).leave()
            raise JobError(_why_not_open(connection, failures, e)) from None
        raise connect_error(connection, e) from None
    return MilvusHandle(client, connection)


def _quieten(*names: str) -> None:
    """Keeps libraries from logging, with a traceback, each error that they also raise."""
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Milvus Lite lacks a call that pymilvus can do without.
    logging.getLogger("grpc._server").addFilter(_is_implemented)


def _is_implemented(record: logging.LogRecord) -> bool:
    return "Method not implemented" not in record.getMessage()


@contextlib.contextmanager
def _failures_of(name: str) -> Iterator[list[BaseException]]:
    """The exceptions that a library logs instead of raising them; they are not logged."""
    found: list[BaseException] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            found.append(record.exc_info[1])
        return not record.exc_info

    logger = logging.getLogger(name)
    logger.addFilter(keep)
    try:
        yield found
    finally:
        logger.removeFilter(keep)


def _why_not_open(
    connection: MilvusConnection, failures: list[BaseException], error: Exception
) -> str:
    path = connection.endpoint
    cause = failures[0] if failures else None
    if "milvus-lite is required" in str(error):
        return f"{path} needs Milvus Lite: pip install 'vecferry[milvus]'"
    if type(cause).__name__ == "DataDirLockedError":
        return (
            f"{path} is open in another process; Milvus Lite allows one. End that process, or let "
            "both use a server: milvus-lite server --data-dir DIR, and endpoint http://127.0.0.1:PORT"
        )
    if Path(path).is_file():
        return f"{path} is a file that Milvus Lite 3 can't open (it keeps a folder); name another"
    return f"{path} can't be opened as a Milvus Lite file: {text_of(cause or error)}"
