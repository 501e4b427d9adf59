"""Requests to one URL over connections that stay open, and what a failure of one means."""

from __future__ import annotations

import os
import re
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import orjson
import urllib3
from urllib3.exceptions import HTTPError, SSLError
from urllib3.util import Timeout, make_headers

from vecferry.errors import FatalError, TransientError, VecferryError, redact, shorten
from vecferry.retry import parse_retry_after
from vecferry.transforms.endpoints.base import PoisonError, ThrottledError

CONNECT_SECONDS = 10.0
POISON = frozenset({400, 413, 422})
PASSING = frozenset({408, 409, 421, 425})
FATAL_CODES = frozenset(
    {
        "AccessDenied",
        "AccessDenied.Unpurchased",
        "Arrearage",
        "InvalidApiKey",
        "Model.AccessDenied",
        "ModelNotFound",
        "insufficient_quota",
        "invalid_api_key",
        "invalid_model",
        "model_not_found",
    }
)
"""Codes of vendors that mean every other request fails alike, whatever the status."""

_LIMIT = re.compile(
    r"batch size is invalid, it should not be larger than (\d+)"
    r"|(?:at most|maximum of|no more than|larger than|exceed(?:s|ed)?(?: the)?(?: limit(?: of)?)?) "
    r"(\d+) (?:inputs?|texts?|items?|rows)",
    re.IGNORECASE,
)


class HttpClient:
    """POSTs JSON to one URL; many threads, one pool of `connections` that stay open.

    TLS is verified, redirects are refused, proxies come from the environment.
    """

    def __init__(
        self, url: str, headers: dict[str, str], *, connections: int, timeout: float
    ) -> None:
        self.url = url
        self._timeout = Timeout(connect=min(CONNECT_SECONDS, timeout), read=timeout)
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "vecferry",
            **make_headers(keep_alive=True, accept_encoding="gzip"),
            **headers,
        }
        parts = urlsplit(url)
        self._host, self._tls = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        options: dict[str, Any] = {"maxsize": connections, "block": False, "retries": False}
        if self._tls:
            options["ca_certs"] = os.environ.get("REQUESTS_CA_BUNDLE")
        self.proxy = None if proxy_bypass(self._host) else getproxies().get(parts.scheme)
        if self.proxy:
            self._manager: urllib3.PoolManager = urllib3.ProxyManager(self.proxy, **options)
        else:
            self._manager = urllib3.PoolManager(**options)
        # Past the manager, which costs a fifth of a call, wherever it adds nothing.
        self._pool = None if self.proxy else self._manager.connection_from_url(url)
        self._target = parts.path + (f"?{parts.query}" if parts.query else "")

    def post(self, body: bytes) -> bytes:
        """The body of a 200; everything else raises what `fault_of` makes of it."""
        try:
            if self._pool is not None:
                response = self._pool.urlopen(
                    "POST",
                    self._target,
                    body,
                    self._headers,
                    retries=False,
                    redirect=False,
                    assert_same_host=False,
                    timeout=self._timeout,
                )
            else:
                response = self._manager.request(
                    "POST",
                    self.url,
                    body=body,
                    headers=self._headers,
                    redirect=False,
                    timeout=self._timeout,
                )
        except SSLError as e:
            raise self._tls_fault(e) from e
        except (HTTPError, OSError) as e:
            raise TransientError(f"{self.url}: {redact(shorten(_cause(e)))}") from e
        if response.status == 200:
            return response.data
        raise fault_of(self.url, response.status, response.headers, response.data)

    def reach(self) -> None:
        """Opens and closes a connection, TLS included; to the proxy where there is one."""
        host, port, tls = self._host, self._port, self._tls
        if self.proxy:
            parts = urlsplit(self.proxy)
            host, port, tls = parts.hostname or "", parts.port or 80, False
        try:
            with socket.create_connection((host, port), CONNECT_SECONDS) as plain:
                if tls:
                    bundle = os.environ.get("REQUESTS_CA_BUNDLE")
                    context = ssl.create_default_context(cafile=bundle)
                    with context.wrap_socket(plain, server_hostname=host):
                        pass
        except ssl.SSLError as e:
            raise self._tls_fault(e) from e
        except OSError as e:
            raise TransientError(f"{self.url}: {shorten(e)}") from e

    def close(self) -> None:
        """Closes the connections that are not in use."""
        self._manager.clear()

    def _tls_fault(self, e: Exception) -> VecferryError:
        text = shorten(_cause(e))
        if "CERTIFICATE_VERIFY_FAILED" not in text and "hostname" not in text:
            return TransientError(f"{self.url}: {text}")
        return FatalError(
            f"{self.url}: its certificate is not trusted ({text}): set REQUESTS_CA_BUNDLE or "
            "SSL_CERT_FILE to the file of the authority that signed it"
        )


def _cause(e: BaseException) -> BaseException:
    """The innermost error: urllib3 wraps each in two others."""
    while (inner := getattr(e, "reason", None) or e.__cause__) and inner is not e:
        if not isinstance(inner, BaseException):
            break
        e = inner
    return e


def fault_of(url: str, status: int, headers: Any, body: bytes) -> VecferryError:
    """What an answer other than 200 means for the batch it answers."""
    code, said = _said(body)
    text = f"{url} answers {status}: {said}" if said else f"{url} answers {status}"
    if 300 <= status < 400:
        target = redact(shorten(headers.get("Location") or "nowhere"))
        return FatalError(
            f"{url} redirects to {target}, which is not followed: put the final address in endpoint"
        )
    if code in FATAL_CODES or status in (401, 403):
        return FatalError(f"{text}: check apiKey, modelName and the account's rights")
    if status == 429:
        return ThrottledError(text, _wish(headers))
    if status in POISON:
        return _poison(text, status, said)
    if status >= 500 or status in PASSING or status < 300:
        return TransientError(text, _wish(headers))
    return FatalError(f"{text}: check endpoint and modelName")


def _wish(headers: Any) -> float | None:
    in_ms = parse_retry_after(headers.get("retry-after-ms"))
    return in_ms / 1000 if in_ms is not None else parse_retry_after(headers.get("Retry-After"))


def _poison(text: str, status: int, said: str) -> PoisonError:
    found = _LIMIT.search(said)
    limit = int(next(g for g in found.groups() if g)) if found else None
    return PoisonError(text, "too-large" if status == 413 else "refused-input", limit or None)


def _said(body: bytes) -> tuple[str, str]:
    """The error code and message of a body, in any of the vendors' shapes."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "", redact(shorten(body[:1000].decode("utf-8", "replace")))
    if not isinstance(content, dict):
        return "", redact(shorten(content))
    inner = content.get("error")
    where = inner if isinstance(inner, dict) else content
    code = where.get("code") or where.get("type") or ""
    message = where.get("message") or where.get("detail") or inner or content.get("msg") or content
    return str(code), redact(shorten(message))
