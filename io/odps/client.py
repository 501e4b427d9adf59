"""A MaxCompute project as one step sees it: tables, partitions and download sessions.

pyodps repeats failed requests by itself, some without end. Here each request is made once; what
may pass is repeated within the step's own deadline, and can be interrupted.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
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
from vecferry.io.odps.settings import OdpsConnection, OdpsSettings
from vecferry.retry import Backoff, call_with_retries
from vecferry.steps import StepContext


class SessionLost(Exception):
    """A download session that the server no longer knows, or that outlived its table's state."""


class QuotaRefused(Exception):
    """The exclusive data transmission quota can't be used."""


_LOST = {"NoSuchDownload", "StatusConflict", "TableModified", "DataVersionConflict"}
_BUSY = {
    "FlowExceeded", "SlotExceeded", "QPSExceeded", "RequestQuotaExceeded", "CorruptedDataStream",
    "DataUnderReplication", "IncompleteBody", "InternalServerError", "ServiceUnavailable",
    "ChecksumError", "ConnectTimeout", "BadGatewayError", "TunnelReadTimeout", "DecodeError",
}  # fmt: skip
_KEY = {
    "Unauthorized", "SignatureNotMatch", "InvalidAccessKeyId", "AuthorizationRequired",
    "AuthenticationRequestExpired",
}  # fmt: skip
_RIGHT = {"NoPermission", "AccessDenied", "Forbidden"}
_BROKEN = {"ArrowException", "HTTPError", "DecodeError"}
_STRANGE = {"JSONDecodeError", "ParseError", "InvalidURL", "MissingSchema", "InvalidSchema"}
_BUSY_STATUS = (308, 408, 429)


def told(error: BaseException) -> str:
    """An error on one line, without secrets: code and message, and the request's id if known."""
    from odps.errors import BaseODPSError

    code, request = type(error).__name__, None
    if isinstance(error, BaseODPSError):
        code, request = str(error.code or code), error.request_id
    message = error.args[0] if error.args else ""
    text = str(message) if str(message).startswith(code) else f"{code}: {message}"
    return shorten(redact(text), 300) + (f" (request {request})" if request else "")


def classify(error: Exception, quota: str | None = None) -> Exception:
    """What to do about an error: a VecferryError, `SessionLost` or `QuotaRefused`.

    `quota` is the exclusive quota that the request was made with. An error that is neither the
    network's nor MaxCompute's comes back as it is.
    """
    from odps.errors import BaseODPSError

    if isinstance(error, VecferryError | SessionLost | QuotaRefused):
        return error
    names, text = {c.__name__ for c in type(error).__mro__}, told(error)
    if not isinstance(error, BaseODPSError):
        return _of_the_network(error, names, text)
    names, status, words = {*names, str(error.code)}, error.status_code, text.lower()
    if names & _LOST or ("session" in words and ("expired" in words or "not exist" in words)):
        return SessionLost(text)
    if names & _BUSY or (status is not None and (status >= 500 or status in _BUSY_STATUS)):
        return TransientError(text)
    if quota and "quota" in words:
        return QuotaRefused(text)
    return FatalError(_advice(names, status, text))


def _of_the_network(error: Exception, names: set[str], text: str) -> Exception:
    if names & _STRANGE or (isinstance(error, ValueError) and isinstance(error, OSError)):
        return FatalError(f"this is not an answer of MaxCompute: {text}; correct the endpoint")
    broken = isinstance(error, OSError | EOFError) or names & _BROKEN
    return TransientError(text) if broken else error


def _advice(names: set[str], status: int | None, text: str) -> str:
    if names & _RIGHT or status == 403 or "ODPS-0420095" in text:
        return (
            f"MaxCompute denies access: {text}; grant this key's user Describe, Select and "
            "Download on the table (and CreateInstance on the project for `where`)"
        )
    if names & _KEY or status == 401 or "ODPS-0410" in text:
        return (
            f"MaxCompute refuses the access key: {text}; correct accessId and accessKey in the "
            "data source (and securityToken, where the key is a temporary one)"
        )
    return f"MaxCompute answers: {text}"


T = TypeVar("T")

CONNECT_SECONDS, READ_SECONDS = 15, 120
QUICK_SECONDS = 30
"""So long an answer is waited for where the caller has named a deadline of its own."""
MOST_NAMES = 2000
"""So many names of tables or projects are looked at for the nearest one."""

_log = logging.getLogger(__name__)


class Stopped(Exception):
    """The run was asked to stop while a request waited to be repeated."""


def import_odps() -> Any:
    """The module `odps`; JobError says how to install it."""
    try:
        import odps
        import odps.tunnel
    except ImportError as e:
        raise JobError(
            f"reading MaxCompute needs pyodps ({e}): pip install 'vecferry[odps]'"
        ) from e
    return odps


@contextmanager
def one_try(read_seconds: int | None = None) -> Iterator[None]:
    """Within it, pyodps repeats nothing and waits no longer than it has to."""
    options = import_odps().options
    from odps.config import option_context

    with option_context() as local:
        local.retry_times = 0
        local.connect_timeout = min(options.connect_timeout, CONNECT_SECONDS)
        local.read_timeout = min(options.read_timeout, read_seconds or READ_SECONDS)
        local.use_legacy_logview = True  # the other kind takes a request
        yield


class _OneTry:
    """Stands where pyodps has its endless repeating of tunnel requests."""

    def execute_with_retry_headers(self, request: Any, headers: Any, **_: Any) -> Any:
        return request(dict(headers or {}))

    def execute_with_retry(self, action: Any, **_: Any) -> Any:
        return action()


@functools.cache
def _tunnels() -> tuple[Any, Any]:
    """pyodps' two tunnels, with sessions that make each request once."""
    import_odps()
    from odps.tunnel import InstanceTunnel, TableTunnel
    from odps.tunnel.instancetunnel import InstanceDownloadSession
    from odps.tunnel.tabletunnel import TableDownloadSession

    class TableSession(TableDownloadSession):  # type: ignore[misc]
        __slots__ = ()
        retry_handler = _OneTry()

    class InstanceSession(InstanceDownloadSession):  # type: ignore[misc]
        __slots__ = ()
        retry_handler = _OneTry()

    class Tables(TableTunnel):  # type: ignore[misc]
        def session(self, table: str, partition: str, known: str | None, option: Any) -> Any:
            return TableSession(
                self.tunnel_rest, self._get_tunnel_table(table), partition or None,
                download_id=known, compress_option=option, quota_name=self._quota_name,
            )  # fmt: skip

    class Instances(InstanceTunnel):  # type: ignore[misc]
        def session(self, instance: str, known: str | None, option: Any) -> Any:
            from odps.models import Projects

            home = Projects(client=self.tunnel_rest)[self._project.name]
            return InstanceSession(
                self.tunnel_rest, home.instances[instance],
                download_id=known, compress_option=option, quota_name=self._quota_name,
            )  # fmt: skip

    return Tables, Instances


class OdpsClient:
    """The requests of one step, each repeated until it passes or `deadline` seconds are over.

    `quota` is the exclusive quota; once it is refused, all goes through the public one.
    """

    def __init__(
        self,
        settings: OdpsSettings,
        connection: OdpsConnection,
        context: StepContext,
        deadline: float | None = None,
    ) -> None:
        odps = import_odps()
        self.project = settings.project or connection.project
        self.quota = settings.quota
        self.settings, self.context = settings, context
        self.deadline = context.retry_deadline if deadline is None else deadline
        self._read_seconds = READ_SECONDS if deadline is None else QUICK_SECONDS
        self._compress = settings.is_compress
        self._tunnel_endpoint = connection.tunnel_endpoint
        self._lock = threading.Lock()
        self._stop = context.state.stop
        key, secret = _plain(connection.access_id), _plain(connection.access_key)
        token = connection.security_token
        account = None
        if token:
            account = odps.accounts.StsAccount(key, secret, _plain(token), expired_hours=None)
        with one_try(self._read_seconds):
            self.odps = odps.ODPS(
                account or key, None if account else secret, self.project, connection.endpoint,
                tunnel_endpoint=connection.tunnel_endpoint, overwrite_global=False,
                logview_host=connection.endpoint,  # else it is asked for; nobody is shown a link
            )  # fmt: skip
        self.endpoint = connection.endpoint

    def call(self, what: str, request: Callable[[], T]) -> T:
        """The answer to a request; raises FatalError, SessionLost or `Stopped`."""

        def attempt() -> T:
            try:
                with one_try(self._read_seconds):
                    return request()
            except Exception as e:
                raise classify(e, self.quota) from e

        try:
            return call_with_retries(attempt, deadline=self.deadline, what=what, sleep=self.pause)
        except TransientError as e:
            place = f"MaxCompute at {self.endpoint}"
            if self._tunnel_endpoint:
                place += f" with its Tunnel at {self._tunnel_endpoint}"
            way = "correct the data source's address, or run the job again when it answers"
            raise FatalError(f"{place}: {e}; {way}") from e
        except QuotaRefused as e:
            self.use_public_quota(e)
            return self.call(what, request)

    def pause(self, seconds: float) -> None:
        """Waits; raises `Stopped` where the run is asked to stop."""
        if self._stop.wait(seconds):
            raise Stopped("the run was asked to stop")

    def backoff(self) -> Backoff:
        """The pauses between tries, from now on."""
        return Backoff(deadline=self.deadline)

    def use_public_quota(self, why: Exception) -> None:
        """From now on without the exclusive quota; warns of it once."""
        with self._lock:
            quota, self.quota = self.quota, None
        if quota:
            _log.warning(
                "step %r: the data transmission quota %r is refused, reading goes on with the "
                "public one: %s", self.context.step, quota, why,
            )  # fmt: skip

    def table(self, name: str) -> Any:
        """A table with its columns; JobError names the nearest where there is none."""
        from odps import errors

        def load() -> Any:
            try:
                table = self.odps.get_table(name, project=self.project)
                table.reload()
            except errors.NoSuchObject as e:
                if isinstance(e, errors.NoSuchProject) or "project not found" in str(e).lower():
                    raise self._absent("project", self.project, self.odps.list_projects) from e
                if not e.code:  # a 404 without MaxCompute's own words
                    text = f"{self.endpoint} does not answer as MaxCompute does"
                    raise FatalError(f"{text}; correct the endpoint") from e
                listed = functools.partial(self.odps.list_tables, project=self.project)
                what = f"table in project {self.project!r}"
                raise self._absent(what, name, listed) from e
            return table

        return self.call(f"table {name!r}", load)

    def _absent(self, what: str, name: str, listed: Callable[[], Any]) -> JobError:
        try:
            names = [entry.name for entry in islice(listed(), MOST_NAMES)]
        except Exception:  # the name alone is told where the user may not list
            names = []
        return JobError(f"no {what} has the name {name!r}{near(name, names)}")

    def partitions(self, table: Any) -> list[dict[str, str]]:
        """All partitions of a table, in its order."""

        def load() -> list[dict[str, str]]:
            return [dict(p.partition_spec.kv) for p in table.iterate_partitions()]

        return self.call(f"the partitions of {table.name!r}", load)

    def modified(self, table: Any, partition: str) -> str:
        """When the data of a table or partition changed last; empty where it isn't told."""

        def load() -> str:
            of = table.get_partition(partition) if partition else table
            of.reload()
            return str(of.last_data_modified_time or "")

        return self.call(f"table {table.name!r}", load)

    def table_session(self, table: str, partition: str, known: str | None = None) -> Any:
        """A new download session of a table or partition, or the `known` one taken up again."""
        return self.call(
            f"a download session of {table}{'/' if partition else ''}{partition}",
            lambda: self._tunnel(0).session(table, partition, known, self._option()),
        )

    def instance_session(self, instance: str, known: str | None = None) -> Any:
        """A new download session of a query's result, or the `known` one taken up again."""
        return self.call(
            f"a download session of the query {instance}",
            lambda: self._tunnel(1).session(instance, known, self._option()),
        )

    def _tunnel(self, which: int) -> Any:
        return _tunnels()[which](
            self.odps, self.project, endpoint=self._tunnel_endpoint, quota_name=self.quota
        )

    def _option(self) -> Any:
        from odps.tunnel import CompressOption

        return CompressOption() if self._compress else None


def _plain(secret: str) -> str:
    """The text of a `Secret`, which shows itself as stars."""
    return str.__str__(secret)
