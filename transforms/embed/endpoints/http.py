"""Requests to one URL over connections that stay open, and what a failure of one means."""

from __future__ import annotations

import re
import ssl
from typing import Any
from urllib.parse import urlsplit

import orjson

from vecferry.errors import FatalError, TransientError, VecferryError, redact, shorten
from vecferry.retry import http_date, parse_retry_after
from vecferry.transforms.embed.endpoints.base import AbsentError, PoisonError, ThrottledError
from vecferry.transforms.embed.endpoints.wire import Wire

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
    r"(\d+) (?:inputs?|texts?|items?|rows)"
    r"|maximum (?:allowed )?(?:client )?batch size(?: is| of|:)? (\d+)"
    r"|array with maximum length (\d+)",
    re.IGNORECASE,
)


class HttpClient:
    """POSTs JSON to one URL; many threads, at most `connections` that stay open.

    TLS is verified, redirects are refused, proxies come from the environment.
    """

    def __init__(
        self, url: str, headers: dict[str, str], *, connections: int, timeout: float
    ) -> None:
        self.url = url
        plain = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "vecferry",
        }
        self._wire = Wire(url, plain | headers, connections=connections, timeout=timeout)

    def post(self, body: bytes) -> bytes | bytearray:
        """The body of a 200; everything else raises what `fault_of` makes of it."""
        try:
            response = self._wire.post(body)
        except OSError as e:
            raise self._fault(e) from e
        if response.status == 200:
            return response.data
        raise fault_of(self.url, response.status, response.headers, bytes(response.data))

    def reach(self) -> None:
        """Opens and closes a connection, proxy and TLS included."""
        try:
            self._wire.connect().close()
        except OSError as e:
            raise self._fault(e) from e

    def close(self) -> None:
        """Closes the connections that are not in use."""
        self._wire.close()

    def _fault(self, e: OSError) -> VecferryError:
        text = redact(shorten(e)) or type(e).__name__
        if isinstance(e, ssl.SSLCertVerificationError):
            return FatalError(
                f"{self.url}: its certificate is not trusted ({text}): set REQUESTS_CA_BUNDLE or "
                "SSL_CERT_FILE to the file of the authority that signed it"
            )
        return TransientError(f"{self.url}: {text}")


def fault_of(url: str, status: int, headers: Any, body: bytes) -> VecferryError:
    """What an answer other than 200 means for the batch it answers."""
    code, said = _said(body)
    text = f"{url} answers {status}: {said}" if said else f"{url} answers {status}"
    if 300 <= status < 400:
        target = redact(shorten(headers.get("location") or "nowhere"))
        return FatalError(
            f"{url} redirects to {target}, which is not followed: put the final address in endpoint"
        )
    if code in FATAL_CODES or status in (401, 402, 403):
        return FatalError(f"{text}: check apiKey, modelName and the account's rights")
    if status == 429:
        return ThrottledError(text, _wish(headers))
    if status in POISON:
        return _poison(text, status, said)
    if status >= 500 or status in PASSING or status < 300:
        return TransientError(text, _wish(headers))
    kind = AbsentError if status in (404, 405) else FatalError
    bare = urlsplit(url).path == "/embeddings"
    hint = ": most servers want /v1 at the end of endpoint" if bare and kind is AbsentError else ""
    return kind(f"{text}: check endpoint and modelName{hint}")


def _wish(headers: Any) -> float | None:
    in_ms = parse_retry_after(headers.get("retry-after-ms"))
    if in_ms is not None:
        return in_ms / 1000
    return parse_retry_after(headers.get("retry-after"), http_date(headers.get("date")))


def _poison(text: str, status: int, said: str) -> PoisonError:
    found = _LIMIT.search(said)
    limit = int(next(g for g in found.groups() if g)) if found else None
    return PoisonError(text, "too-large" if status == 413 else "refused-input", limit or None)


def said_in(content: dict[str, Any]) -> str:
    """What an answer of status 200 that holds no vectors says instead: its message, else keys."""
    where = content.get("error", content)
    message = where.get("message") if isinstance(where, dict) else where
    return redact(shorten(message or sorted(content)))


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
