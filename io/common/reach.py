"""Why a server can't be reached, in words that say what to correct where that can be known."""

from __future__ import annotations

import errno
import http.client
import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from vecferry.errors import JobError

PROBE_SECONDS = 3.0
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")
"""How the versions of OpenSSL name an answer without TLS."""
_MOST_CAUSES = 20


def readable_ca(path: str, where: str) -> str:
    """The path of a CA certificate, which a client would otherwise miss only once it connects."""
    try:
        if Path(path).is_fifo():
            raise OSError("a pipe is not a file")  # opening one waits for its writer
        ssl.create_default_context(cafile=path)
    except OSError as e:  # also what ssl raises for a file without a certificate
        why = e.strerror or e
        raise JobError(
            f"{where}: caCert {path}: {why}; name a file of certificates in PEM"
        ) from None
    return path


def fault_of(error: BaseException) -> BaseException:
    """What is behind an error of a client: a fault of TLS, else of the network, else the error."""
    causes = list(_causes(error))
    of_tls: list[BaseException] = [e for e in causes if isinstance(e, ssl.SSLError)]
    faults = of_tls or [e for e in causes if _is_plain(e)]
    return faults[0] if faults else error


def words(fault: BaseException) -> str:
    """A fault in few words."""
    if isinstance(fault, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {fault.verify_message}"
    if isinstance(fault, ssl.SSLError):
        return f"TLS failed: {fault.reason or fault}"
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror
    return str(fault) or type(fault).__name__


def way_out(fault: BaseException, hosts: Sequence[str]) -> str:
    """What to correct for a fault with one of `hosts`, such as ``http://h:9200``.

    An empty text where that can't be known, and it may pass.
    """
    if isinstance(fault, ssl.SSLCertVerificationError):
        if "mismatch" in fault.verify_message:
            return "name the host as its certificate does"
        if "expired" in fault.verify_message:
            return "renew it"
        return "give the certificate of the authority that signed it as caCert"
    if isinstance(fault, ssl.SSLError):
        no_tls = (fault.reason or "") in _NO_TLS
        return "the server speaks no TLS: write http:// in the endpoint" if no_tls else ""
    broken = isinstance(fault, ConnectionError | http.client.HTTPException)
    if broken and not isinstance(fault, ConnectionRefusedError) and any(map(_speaks_tls, hosts)):
        return "the server speaks TLS: write https:// in the endpoint"
    return ""


def tried(url: str, ca: str | None) -> BaseException | None:
    """The fault that connecting to a URL has, for clients that don't tell; None where it has none.

    A server of TLS at a URL of http breaks the connection off.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    address = (parts.hostname or "", parts.port or (443 if secure else 80))
    try:
        with socket.create_connection(address, PROBE_SECONDS) as plain:
            if secure:
                context = ssl.create_default_context(cafile=ca)
                context.wrap_socket(plain, server_hostname=parts.hostname).close()
    except (OSError, ValueError) as e:
        return e
    reset = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    return reset if _speaks_tls(url) else None


def _is_plain(error: BaseException) -> bool:
    """Whether this is the fault itself, not a client's wrapping of it."""
    if type(error).__module__.partition(".")[0] in ("urllib3", "requests"):
        return False
    return isinstance(error, OSError | http.client.HTTPException)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it came from, wherever its library keeps that."""
    todo, seen = [error], 0
    while todo and seen < _MOST_CAUSES:
        one, seen = todo.pop(0), seen + 1
        yield one
        kept = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        more = getattr(one, "errors", None)
        listed = more if isinstance(more, list | tuple) else ()
        todo += [e for e in (*kept, *listed) if isinstance(e, BaseException)]


def _speaks_tls(host: str) -> bool:
    """Whether a server that is called by http answers as one of https does."""
    parts = urlsplit(host)
    if parts.scheme != "http":
        return False
    context = ssl.create_default_context()
    context.check_hostname = False  # nothing is sent: only whether there is TLS is asked
    context.verify_mode = ssl.CERT_NONE
    address = (parts.hostname or "", parts.port or 80)
    try:
        with (
            socket.create_connection(address, PROBE_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname),
        ):
            return True
    except OSError:
        return False
