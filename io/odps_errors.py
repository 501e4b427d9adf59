"""What the errors of MaxCompute and of pyodps mean, and how they are told."""

from __future__ import annotations

from typing import Any

from vecferry.errors import FatalError, TransientError, VecferryError, redact, shorten


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


def _code(error: Any) -> str:
    return str(getattr(error, "code", None) or type(error).__name__)


def told(error: BaseException) -> str:
    """An error on one line, without secrets: code and message, and the request's id if known."""
    message = error.args[0] if error.args else ""
    code, request = _code(error), getattr(error, "request_id", None)
    text = str(message) if str(message).startswith(code) else f"{code}: {message}"
    return shorten(redact(text), 300) + (f" (request {request})" if request else "")


def translate(error: Exception, quota: str | None = None) -> Exception:
    """What to do about an error: a VecferryError, `SessionLost` or `QuotaRefused`.

    `quota` is the exclusive quota that the request was made with. An error that is none of the
    network's or of MaxCompute's comes back as it is.
    """
    if isinstance(error, VecferryError | SessionLost | QuotaRefused):
        return error
    names = {_code(error), *(c.__name__ for c in type(error).__mro__)}
    text, status = told(error), getattr(error, "status_code", None)
    if not names & {"BaseODPSError"}:
        return _of_the_network(error, names, text)
    words = text.lower()
    if names & _LOST or ("session" in words and ("expired" in words or "not exist" in words)):
        return SessionLost(text)
    if names & _BUSY or (status is not None and (status >= 500 or status in _BUSY_STATUS)):
        return TransientError(text)
    if quota and "quota" in words:
        return QuotaRefused(text)
    return FatalError(_advice(names, status, text))


def _of_the_network(error: Exception, names: set[str], text: str) -> Exception:
    if names & _STRANGE or (isinstance(error, ValueError) and isinstance(error, OSError)):
        return FatalError(f"this is no answer of MaxCompute: {text}; correct the endpoint")
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
