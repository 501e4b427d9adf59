"""What errors of Milvus mean: on connecting, and of a write."""

from __future__ import annotations

from vecferry.errors import (
    FatalError,
    JobError,
    TerminalError,
    TransientError,
    redact,
    shorten,
)
from vecferry.io.milvus_settings import MilvusConnection
from vecferry.io.reach import tried, way_out, words
from vecferry.io.sink_store import TooLargeError


class StatusError(Exception):
    """A request that Milvus answered with an error; `code` is the new one, `legacy` the old."""

    def __init__(self, code: int, legacy: int, reason: str, retriable: bool = False) -> None:
        super().__init__(code, legacy, reason, retriable)
        self.code, self.legacy, self.reason, self.retriable = code, legacy, reason, retriable

    def __str__(self) -> str:
        return f"{shorten(redact(self.reason), 300)} (code {self.code or self.legacy})"


def text_of(error: BaseException) -> str:
    """What an error of pymilvus says."""
    return shorten(redact(str(getattr(error, "message", "") or error)), 300)


def connect_error(connection: MilvusConnection, error: Exception) -> Exception:
    """What an error on connecting to a server means."""
    where = f"Milvus at {connection.endpoint}"
    fault = tried(connection.endpoint, connection.ca_cert)
    if fault is not None and (way := way_out(fault, [connection.endpoint])):
        return JobError(f"{where}: {shorten(words(fault), 300)}: {way}")
    text, told = text_of(error), _answer(error) or text_of(error)
    if any(w in told.lower() for w in ("unauthenticated", "auth", "permission", "denied")):
        return JobError(f"{where} refuses the login: {told}")
    if "database" in text.lower() and "not" in text.lower():
        return JobError(f"{where}: {text}")
    why = text if fault is None else shorten(words(fault), 300)
    return TransientError(f"{where} can't be reached: {why}")


def _answer(error: BaseException) -> str | None:
    """What the server said, which pymilvus hides behind "server unavailable"."""
    cause = error.__cause__ or error.__context__
    details = getattr(cause, "details", None)
    return shorten(redact(str(details())), 300) if callable(details) else None


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
    """What a failed write means; an error that is unknown here comes back as it is."""
    if isinstance(error, StatusError):
        return _classify_status(error)
    if isinstance(error, ValueError) and "closed channel" in str(error):
        return TransientError("the client is just connecting anew")
    code = getattr(error, "code", None)
    if not callable(code):
        return error
    from grpc import StatusCode as codes  # type: ignore[import-untyped]

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
