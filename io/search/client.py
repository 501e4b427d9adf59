"""A cluster as the search stores call it, and what its answers and failures mean."""

from __future__ import annotations

import abc
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self, TypeVar

from vecferry.errors import (
    FatalError,
    JobError,
    TerminalError,
    TransientError,
    redact,
    shorten,
    written,
)
from vecferry.io.common.reach import fault_of, readable_ca, way_out, words
from vecferry.io.search.settings import SearchConnection, SearchSettings
from vecferry.io.sink.store import TooLargeError
from vecferry.process import run_scope
from vecferry.retry import parse_retry_after

T = TypeVar("T")
Body = Mapping[str, Any] | bytes | None
"""What a request carries: an object of JSON, lines of JSON, or nothing."""

_PRESSURE = re.compile(r"operation_bytes=([0-9]+), max_\w+=([0-9]+)")


class StatusError(Exception):
    """An answer with a status of 400 or more; `kind` and `reason` are the server's."""

    def __init__(
        self, status: int, kind: str, reason: str, retry_after: float | None = None
    ) -> None:
        super().__init__(status, kind, reason, retry_after)
        self.status, self.kind, self.reason = status, kind, reason
        self.retry_after = retry_after

    def __str__(self) -> str:
        what = f"{self.kind}: {self.reason}" if self.kind else self.reason
        return f"{shorten(redact(what), 400) or 'no reason given'} (status {self.status})"


class SearchClient(Protocol):
    """A cluster, called by many threads; nothing is retried in here."""

    where: str

    def request(
        self, method: str, path: str, body: Body = None, params: Mapping[str, str] | None = None
    ) -> Any:
        """The answer of one call, from JSON: an object, or a list.

        Raises StatusError, and TransientError where the cluster can't be reached.
        """

    def close(self) -> None:
        """Closes its connections."""


def status_error(status: int, body: object, headers: Mapping[str, str]) -> StatusError:
    """The fault that an answer tells."""
    error = body.get("error") if isinstance(body, dict) else None
    after = parse_retry_after(headers.get("retry-after"), headers.get("date"))
    if isinstance(error, dict):
        kind, reason = kind_and_reason(error)
        return StatusError(status, kind, reason, after)
    return StatusError(status, "", written(error or body or ""), after)


def kind_and_reason(error: Mapping[str, Any]) -> tuple[str, str]:
    """The kind of a fault and its reason, with its causes, which name the value at fault."""
    kind, reason = written(error.get("type") or ""), written(error.get("reason") or "")
    cause = error.get("caused_by")
    while isinstance(cause, dict):
        more = written(cause.get("reason") or "")
        if more and more not in reason:
            reason = f"{reason}: {more}"
        cause = cause.get("caused_by")
    return kind, reason


def classify(error: Exception) -> Exception:
    """What a failed bulk request means; an error that is unknown here comes back as it is."""
    if not isinstance(error, StatusError):
        return error
    status = error.status
    if status == 413:
        return TooLargeError(f"the request is too large for the server: {error}")
    if status == 429:
        pressure = _PRESSURE.search(error.reason)
        if pressure and int(pressure.group(1)) > int(pressure.group(2)):
            return TooLargeError(str(error), passing=True)  # it won't pass at this size, ever
        return TransientError(str(error), error.retry_after)
    if status in (401, 403):
        return FatalError(f"the cluster refuses to write: {error}", "not-allowed")
    if status == 404:
        return FatalError(f"the index is gone: {error}", "no-index")
    if is_passing(status):
        return TransientError(str(error), error.retry_after)
    if status != 400:
        return FatalError(f"the cluster refuses such requests: {error}", "not-allowed")
    return TerminalError(f"the server refuses the row: {error}")


def is_passing(status: int) -> bool:
    """Whether an answer of this status may be another one later."""
    return status in (408, 425, 429) or status >= 500


def ask(client: SearchClient, call: Callable[[], T], what: str) -> T:
    """What `call` gives; its failure as the JobError that a person can act on."""
    try:
        return call()
    except TransientError as e:
        raise JobError(f"{client.where}: {e}: check the endpoint and the network") from e
    except StatusError as e:
        message = f"{client.where}: {what}: {with_way_out(e)}"
        if is_passing(e.status):
            raise JobError(message) from TransientError(message, e.retry_after)
        raise JobError(message) from e


def with_way_out(error: StatusError) -> str:
    """A fault with the way out of it, where there is one."""
    if error.status == 401:
        return f"the login is refused: correct it in the data source: {error}"
    if error.status == 403 and "block" not in error.kind:
        return f"this user may not do that: give it the rights: {error}"
    return str(error)


def unreachable(error: BaseException, where: str, hosts: Sequence[str]) -> Exception:
    """What it means that a client could not speak with any of `hosts`, such as ``http://h:9200``.

    A `JobError` where waiting can't help: only one side speaks TLS, or the certificate is not
    trusted. Else a `TransientError`, whose text does not name the cluster.
    """
    fault = fault_of(error)
    text = redact(shorten(words(fault), 300))
    way = way_out(fault, hosts)
    return (
        JobError(f"{where}: {text}: {way}") if way else TransientError(f"can't be reached: {text}")
    )


def undiscovered(client: SearchClient, error: BaseException) -> Exception:
    """What it means that a library found no nodes of a cluster; `client` asks it without that."""
    what = f"{client.where}: its nodes can't be discovered"
    try:
        client.request("GET", "/_nodes/http")
    except TransientError as e:
        return TransientError(f"{what}, as it {e}")
    except StatusError as e:
        message = f"{what}: {with_way_out(e)}"
        return TransientError(message) if is_passing(e.status) else JobError(message)
    except JobError as e:
        return e
    return TransientError(f"{what}: {redact(shorten(error))}")


ASK_SECONDS = 30.0
"""How long an answer to a question is awaited at most: no question of ours takes long."""


class LibraryClient(abc.ABC):
    """The client of a store's own library without its retries, which would hide a row's fate.

    Raises JobError where the library is absent or refuses the connection.
    """

    store: ClassVar[str]
    """The store, as messages name it."""
    extra: ClassVar[str]
    """What installs the library: ``pip install 'vecferry[extra]'``."""
    logger: ClassVar[str]
    """Where the library would log each answer but 200; our errors tell of them already."""
    threads: ClassVar[int] = 16
    """The most connections to a node."""

    @classmethod
    def shared(cls, connection: SearchConnection, settings: SearchSettings, run: str) -> Self:
        """The client that everything of one run in this process shares."""
        login = tuple(connection.login.items())
        options = (settings.timeout, settings.compress, settings.discovery, connection.ca_cert)
        key = (cls.extra, *connection.hosts, login, options)
        return run_scope(run).get(key, lambda: cls(connection, settings))

    def __init__(self, connection: SearchConnection, settings: SearchSettings) -> None:
        self.where, self.hosts = f"{self.store} at {connection.shown}", connection.hosts
        self._seconds = settings.timeout / 1000
        try:
            self._errors = self.errors()
        except ImportError as e:
            raise JobError(
                f"the {self.store} writer needs its client: pip install 'vecferry[{self.extra}]'"
            ) from e
        options: dict[str, Any] = {}
        if connection.ca_cert is not None:
            options["ca_certs"] = readable_ca(connection.ca_cert, self.where)
        logging.getLogger(self.logger).setLevel(logging.CRITICAL)
        try:
            self.client = self._opened(connection, settings, options)
        except (OSError, ValueError) as e:
            raise JobError(
                f"{self.where}: {redact(shorten(e))}; correct the addresses or caCert of the data "
                "source"
            ) from None
        except self._errors as e:
            plain = settings.model_copy(update={"discovery": False})
            raise undiscovered(type(self)(connection, plain), e) from None

    def request(
        self, method: str, path: str, body: Body = None, params: Mapping[str, str] | None = None
    ) -> Any:
        """See `SearchClient`."""
        try:
            return self._answer(method, path, body, params)
        except self._errors as e:
            raise self.classify(e) from None

    def close(self) -> None:
        """Closes its connections."""
        self.client.close()

    def seconds(self, method: str) -> float:
        """How long the answer to a call is awaited; a request that writes may take its time."""
        return min(self._seconds, ASK_SECONDS) if method == "GET" else self._seconds

    @abc.abstractmethod
    def errors(self) -> tuple[type[Exception], ...]:
        """What the library raises; raises ImportError where the library is absent."""

    @abc.abstractmethod
    def _opened(
        self, connection: SearchConnection, settings: SearchSettings, options: dict[str, Any]
    ) -> Any:
        """The library's client, without retries; `options` go to it as they are."""

    @abc.abstractmethod
    def _answer(self, method: str, path: str, body: Body, params: Mapping[str, str] | None) -> Any:
        """The answer of one call, from JSON; raises the library's `errors`."""

    @abc.abstractmethod
    def classify(self, error: Exception) -> Exception:
        """What an error of the library means; the errors of `SearchClient.request`."""
