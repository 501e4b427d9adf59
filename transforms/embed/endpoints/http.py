"""The seam between the endpoints and the library that speaks HTTP.

What stands behind it keeps to the docstring of `Http`, and `tests/contracts/http.py` holds that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

MAX_HEAD = 64 << 10
"""Bytes of an answer's head at most."""
MAX_BODY = 256 << 20
"""Bytes of an answer's body at most, as it comes and as it is once it is unzipped."""
CONNECT_SECONDS = 10.0
"""How long opening a connection may take, proxy and TLS included."""

T = TypeVar("T")


class HttpError(OSError):
    """An answer that ended early, is too large, is not HTTP, or may be that of another request."""


class StrayError(HttpError):
    """Bytes came that nobody asked for, after answers of the same connection had been used."""


@dataclass(slots=True)
class HttpAnswer:
    """An answer of any status; the names of headers are in lower case, the body is unzipped."""

    status: int
    headers: Mapping[str, str]
    data: bytes | bytearray


@dataclass(frozen=True, kw_only=True)
class HttpTarget:
    """Where requests go, and within which bounds.

    Attributes:
      url: the address of all requests.
      headers: the headers of all requests, beside those of HTTP itself.
      connections: how many connections stay open while they are idle.
      timeout: seconds from the beginning of a request to the end of its answer.
    """

    url: str
    headers: Mapping[str, str]
    connections: int
    timeout: float


class Http(Protocol):
    """POSTs to one `HttpTarget`, for many threads at once.

    A request is sent once, whatever becomes of it: it may be on the bill. A connection that the
    server has closed while it was idle is not used. Redirects are answers like others. TLS is
    verified by the authorities that ``REQUESTS_CA_BUNDLE`` or ``SSL_CERT_FILE`` name, else by those
    of the system. The proxy is the one that the environment names for the URL.

    An answer is used only if nothing came behind it, and if the connection has not given the same
    answer to another request. Otherwise the connection is closed, and the answer is an HttpError.
    """

    def send(
        self,
        body: bytes,
        read: Callable[[HttpAnswer], T],
        *,
        bound: int = MAX_BODY,
        about: str = "",
    ) -> T:
        """What `read` makes of the answer to a request with this body.

        The answer's body has at most `bound` bytes. `about` names the request in a StrayError. If
        `read` raises, the connection is not used again.

        Raises an OSError for everything that is not an answer: a TimeoutError past the deadline, an
        ssl.SSLCertVerificationError if a certificate is not trusted. An answer that is broken or
        past the bounds is an HttpError. A StrayError tells of earlier answers that were used.
        """

    def reach(self) -> None:
        """Opens a connection and closes it, proxy and TLS included; raises as `send` does."""

    def settle(self) -> None:
        """Raises StrayError if something came over a connection that is not in use."""

    def close(self) -> None:
        """Closes the connections that are not in use; raises as `settle` does, once."""


def open_http(target: HttpTarget) -> Http:
    """The client for a target; nothing is sent or opened yet.

    Raises JobError if the environment names authorities that can't be read, or a proxy that can't
    be used.
    """
    from vecferry.transforms.embed.endpoints.pool import Pool

    return Pool(target)
