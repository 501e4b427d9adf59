"""Why a cluster can't be reached, in words that say what to correct where that can be known."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from vecferry.errors import JobError, TransientError, redact, shorten
from vecferry.io.search_client import SearchClient, StatusError, advice, is_passing

PROBE_SECONDS = 3.0
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")
"""How OpenSSL names an answer that is no TLS, in its several versions."""
_MOST_CAUSES = 20


def unreachable(error: BaseException, where: str, hosts: Sequence[str]) -> Exception:
    """What it means that a client could not speak with any of `hosts`, such as ``http://h:9200``.

    A `JobError` where waiting can't help: the server wants TLS and the job does not, or the other
    way round, or its certificate is not trusted. Else a `TransientError`, which names no place.
    """
    causes = list(_causes(error))
    of_tls: list[BaseException] = [e for e in causes if isinstance(e, ssl.SSLError)]
    faults = of_tls or [e for e in causes if _is_plain(e)]
    cause = faults[0] if faults else error
    text = redact(shorten(_words(cause), 300))
    way = _way_out(cause, hosts)
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
        message = f"{what}: {advice(e)}"
        return TransientError(message) if is_passing(e.status) else JobError(message)
    except JobError as e:
        return e
    return TransientError(f"{what}: {redact(shorten(error))}")


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


def _words(cause: BaseException) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {cause.reason or cause}"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


def _way_out(cause: BaseException, hosts: Sequence[str]) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        if "mismatch" in cause.verify_message:
            return "name the host as its certificate does"
        if "expired" in cause.verify_message:
            return "renew it"
        return "give the certificate of the authority that signed it as caCert"
    if isinstance(cause, ssl.SSLError):
        no_tls = (cause.reason or "") in _NO_TLS
        return "the server speaks plain http: write http:// in the endpoint" if no_tls else ""
    broken = isinstance(cause, ConnectionError | http.client.HTTPException)
    if broken and not isinstance(cause, ConnectionRefusedError) and any(map(_speaks_tls, hosts)):
        return "the server speaks TLS: write https:// in the endpoint"
    return ""


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
