"""One client of a Milvus server or file per run and process, and what its errors mean."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vecferry.errors import FatalError, JobError, TerminalError, TransientError, redact, shorten
from vecferry.io.common.reach import readable_ca, tried, way_out, words
from vecferry.io.milvus.settings import MilvusConnection
from vecferry.io.sink.store import TooLargeError
from vecferry.process import PROCESS, run_scope

if TYPE_CHECKING:
    from pymilvus import MilvusClient

Method = Literal["Insert", "Upsert", "Delete"]
Message = Any
"""A message of Milvus's protocol, whose classes have no types."""


class StatusError(Exception):
    """A request that Milvus answered with an error; `code` is the new one, `legacy` the old."""

    def __init__(self, code: int, legacy: int, reason: str, retriable: bool = False) -> None:
        super().__init__(code, legacy, reason, retriable)
        self.code, self.legacy, self.reason, self.retriable = code, legacy, reason, retriable

    def __str__(self) -> str:
        return f"{shorten(redact(self.reason), 300)} (code {self.code or self.legacy})"


def message_of(error: BaseException) -> str:
    """What an error of pymilvus says."""
    from pymilvus.exceptions import MilvusException

    text = error.message if isinstance(error, MilvusException) else ""
    return shorten(redact(text or str(error)), 300)


def unreachable(connection: MilvusConnection, error: Exception) -> Exception:
    """What it means that a server could not be connected to: a JobError, or a TransientError."""
    where = f"Milvus at {connection.endpoint}"
    fault = tried(connection.endpoint, connection.ca_cert)
    if fault is not None and (way := way_out(fault, [connection.endpoint])):
        return JobError(f"{where}: {shorten(words(fault), 300)}: {way}")
    text = message_of(error)
    answer = _answer_behind(error) or text
    if any(w in answer.lower() for w in ("unauthenticated", "auth", "permission", "denied")):
        return JobError(f"{where} refuses the login: {answer}")
    if "database" in text.lower() and "not" in text.lower():
        return JobError(f"{where}: {text}")
    why = text if fault is None else shorten(words(fault), 300)
    return TransientError(f"{where} can't be reached: {why}")


def _answer_behind(error: BaseException) -> str | None:
    """What the server said, which pymilvus hides behind "server unavailable"."""
    from grpc import Call  # type: ignore[import-untyped]

    cause = error.__cause__ or error.__context__
    return shorten(redact(str(cause.details())), 300) if isinstance(cause, Call) else None


_PASSING_LEGACY = frozenset({45, 46, 48, 49, 52, 53, 54, 55, 56, 57, 100, 1000})
"""Not leader, no replica, denied by quota, rate limit, memory, disk, time tick, not ready."""
_PASSING_CODES = frozenset({2, 3, 4, 8, 9})
"""Unavailable, memory limit, request limit, rate limit, denied by quota."""
_FATAL_LEGACY = frozenset({3, 4, 200})
_FATAL_CODES = frozenset({100, 200, 800, 1400, 1401})
"""No such collection, partition or database; not logged in, not allowed."""
_PASSING_WORDS = (
    "connection refused", "deadline exceeded", "unavailable", "not ready", "no available",
    "not available", "timeout", "timed out", "context canceled", "node offline", "stopping",
)  # fmt: skip
_DISK_WORDS = ("no space left", "read-only file system", "[errno")


def classify(error: Exception) -> Exception:
    """What a failed call means; an error that is unknown here comes back as it is."""
    from pymilvus.exceptions import MilvusException

    if isinstance(error, MilvusException):
        retriable = bool(getattr(error, "retriable", False))  # pymilvus tells since 2.6
        error = StatusError(error.code, error.compatible_code, error.message, retriable)
    if isinstance(error, StatusError):
        return _classify_status(error)
    if isinstance(error, ValueError) and "closed channel" in str(error):
        return TransientError("the client is just connecting anew")
    code = getattr(error, "code", None)
    if not callable(code):
        return error
    from grpc import StatusCode as codes

    kind, details = code(), shorten(redact(str(error.details())), 300)  # type: ignore[attr-defined]
    text = f"{kind.name}: {details}"
    if kind == codes.RESOURCE_EXHAUSTED and ("larger than" in details or "too large" in details):
        return TooLargeError(f"the request is too large for the server: {text}")
    if kind in (codes.UNAUTHENTICATED, codes.PERMISSION_DENIED, codes.UNIMPLEMENTED):
        return FatalError(f"Milvus refuses to write: {text}", "not-allowed")
    if kind in (codes.INVALID_ARGUMENT, codes.OUT_OF_RANGE):
        return TerminalError(f"Milvus refuses the row: {text}")
    return TransientError(text)


def _classify_status(error: StatusError) -> Exception:
    words = error.reason.lower()
    if error.code in _FATAL_CODES or error.legacy in _FATAL_LEGACY:
        return FatalError(f"Milvus refuses to write: {error}", "not-allowed")
    if any(w in words for w in _DISK_WORDS):
        return FatalError(f"Milvus can't write: {error}", "no-space")
    if error.retriable or error.code in _PASSING_CODES or error.legacy in _PASSING_LEGACY:
        return TransientError(str(error))
    if any(w in words for w in _PASSING_WORDS):
        return TransientError(str(error))
    return TerminalError(f"Milvus refuses the row: {error}")


WRITE_SECONDS = 120.0
"""How long one write may take before it counts as lost, and is sent again."""


class MilvusHandle:
    """A client, and the calls that write through it without its hidden retries.

    pymilvus tries a call up to 75 times by itself. An insert would double rows so. The calls that
    write go straight to its connection, one try each.
    """

    def __init__(self, client: MilvusClient, connection: MilvusConnection) -> None:
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
        found = None if self.is_lite else re.match(r"v?([0-9]+)\.([0-9]+)", self._told)
        return (int(found[1]), int(found[2])) if found else None

    def write(self, method: Method, request: Message) -> None:
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
    return PROCESS.get(("milvus", "file", absolute), lambda: _File(absolute))


def handle_of(connection: MilvusConnection, run: str) -> MilvusHandle:
    """The handle that everything of one run in this process shares, opened on first use.

    Raises:
      JobError: the connection is wrong, or the file is open in another process.
      TransientError: the server can't be reached.
    """
    where = str(Path(connection.endpoint).absolute()) if connection.is_file else connection.endpoint
    login = (connection.token, connection.username, connection.password)
    key = ("milvus", where, connection.database, connection.ca_cert, login)
    return run_scope(run).get(key, lambda: _open(connection))


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
        raise unreachable(connection, e) from None
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
    return f"{path} can't be opened as a Milvus Lite file: {message_of(cause or error)}"
