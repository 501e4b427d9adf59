"""Requests in JSON to one URL: how they are written, read, and what a failure of one means."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import orjson

from vecferry.errors import FatalError, TransientError, VecferryError, redact, shorten
from vecferry.retry import parse_retry_after
from vecferry.settings import Secret
from vecferry.transforms.embed.endpoints.base import AbsentError, PoisonError, ThrottledError
from vecferry.transforms.embed.endpoints.http import (
    MAX_BODY,
    Http,
    HttpAnswer,
    HttpTarget,
    StrayError,
    open_http,
)
from vecferry.transforms.embed.endpoints.spec import EndpointSpec

LEAST_BOUND = 1 << 20
"""Bytes that an answer may have beside its vectors."""
LARGEST_DIMENSION = 8192
"""A model may give more numbers than it was asked for: the answer is read, and tells how many."""
NUMBER_BYTES = 64
"""Bytes that a number may take, blanks and line break included."""

T = TypeVar("T")

POISON = frozenset({400, 413, 422})
PASSING = frozenset({408, 409, 421, 425})
REFUSING = frozenset({404, 405, 406, 410, 411, 415, 426, 428})
"""Statuses that say of the address or of the form of requests what no text can change."""
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
    r"batch size is invalid, it should not be larger than ([0-9]+)"
    r"|(?:at most|maximum of|no more than|larger than|exceed(?:s|ed)?(?: the)?(?: limit(?: of)?)?) "
    r"([0-9]+) (?:inputs?|texts?|items?|rows)"
    r"|maximum (?:allowed )?(?:client )?batch size(?: is| of|:)? ([0-9]+)"
    r"|array with maximum length ([0-9]+)",
    re.IGNORECASE,
)

_TOKENS = re.compile(
    r"(?:context length(?: of the model)?(?: is|:| of)? |less than |exceeds?(?: the)?(?: maximum"
    r"| limit)?(?: of| is|:)? |up to |at most |limit(?: is| of|:)? |max(?:imum)?(?: of| is|:)? "
    r"|length should be \[[0-9]+, ?)([0-9][0-9,]{0,8})(?:\]|[ -]?tokens?)",
    re.IGNORECASE,
)
_MOST = r"max|exceed|too |longer|limit|range|less|at most|up to|最大|超"
_LENGTH = r"token|length|long|context|character|长"
_LONG = re.compile(
    rf"(?:{_MOST})[^.]{{0,80}}(?:{_LENGTH})|(?:{_LENGTH})[^.]{{0,80}}(?:{_MOST})", re.IGNORECASE
)
"""Words of servers for a text that is too long."""


class JsonClient:
    """POSTs JSON to `url` over an `Http`; for many threads."""

    def __init__(self, url: str, http: Http, dimension: int = 0) -> None:
        self.url, self._http = url, http
        self._item_bytes = max(dimension, LARGEST_DIMENSION) * NUMBER_BYTES

    def post(
        self, request: object, read: Callable[[dict[str, Any]], T], inputs: Sequence[object] = ()
    ) -> T:
        """What `read` makes of the JSON object of an answer with status 200.

        Everything else raises what `fault_of` makes of it. A request that can't be written as JSON
        raises PoisonError, and nothing is sent. If `read` raises, the answer's connection is closed
        with it. The answer is as large as the vectors of `inputs` may be, at most.
        """

        def judged(answer: HttpAnswer) -> T:
            if answer.status == 200:
                return read(json_object(self.url, answer.data))
            raise fault_of(self.url, answer.status, answer.headers, bytes(answer.data))

        body = json_body(request)
        del request  # the body has its images by now
        bound = min(MAX_BODY, LEAST_BOUND + len(inputs) * self._item_bytes)
        try:
            return self._http.send(body, judged, bound=bound, about=_about(inputs))
        except OSError as e:
            raise self._fault(e) from e

    def reach(self) -> None:
        """Opens and closes a connection, proxy and TLS included."""
        try:
            self._http.reach()
        except OSError as e:
            raise self._fault(e) from e

    def settle(self) -> None:
        """Raises FatalError if the server sent what nobody asked for."""
        try:
            self._http.settle()
        except OSError as e:
            raise self._fault(e) from e

    def close(self) -> None:
        """Closes the connections that are not in use; raises as `settle` does."""
        try:
            self._http.close()
        except OSError as e:
            raise self._fault(e) from e

    def _fault(self, e: OSError) -> VecferryError:
        text = redact(shorten(e)) or type(e).__name__
        if isinstance(e, ssl.SSLCertVerificationError):
            return FatalError(
                f"{self.url}: its certificate is not trusted ({text}): set REQUESTS_CA_BUNDLE or "
                "SSL_CERT_FILE to the file of the authority that signed it"
            )
        if isinstance(e, StrayError):
            return FatalError(
                f"{self.url}: {redact(str(e))}: have the server or proxy mended, then embed the "
                "rows of that time again; clear the vector cache before, if the step has one"
            )
        return TransientError(f"{self.url}: {text}")


def _about(inputs: Sequence[object]) -> str:
    """What names a request of these inputs to a person."""
    if not inputs:
        return ""
    first = inputs[0]
    shown = repr(first[:40]) if isinstance(first, str) else "an image"
    return shown if len(inputs) == 1 else f"{len(inputs)} inputs from {shown}"


def open_client(spec: EndpointSpec, url: str, connections: int) -> JsonClient:
    """A client for the requests of an endpoint to `url`, one of the addresses of `spec`."""
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "User-Agent": "vecferry",
        **authorization(spec),
        **{name: revealed(text) for name, text in spec.headers},
    }
    target = HttpTarget(url=url, headers=headers, connections=connections, timeout=spec.timeout)
    return JsonClient(url, open_http(target), spec.dimension)


def authorization(spec: EndpointSpec) -> dict[str, str]:
    """The header that carries the key, as the provider wants it; none without a key."""
    if spec.api_key is None:
        return {}
    key = revealed(spec.api_key)
    return {"Authorization": key if spec.auth == "raw" else f"Bearer {key}"}


def revealed(text: str) -> str:
    """The text itself, of a secret as well."""
    return text.reveal() if isinstance(text, Secret) else text


def json_body(request: object) -> bytes:
    """`request` as JSON; half a character in a text raises `PoisonError` with nothing sent."""
    try:
        return orjson.dumps(request)
    except TypeError as e:
        raise PoisonError(f"the text is not valid Unicode: {e}", "bad-text", sent=False) from e


def base64_json(data: bytes, before: str = "") -> orjson.Fragment:
    """`before` and the bytes in base64, as a text that `json_body` writes as it stands.

    orjson keeps eight bytes for each letter of a text that it has to look at: 54 MB for an image of
    5 MB. `before` has no letter that JSON escapes.
    """
    return orjson.Fragment(b'"%b%b"' % (before.encode(), base64.b64encode(data)))


def json_object(url: str, data: bytes | bytearray) -> dict[str, Any]:
    """The JSON object of an answer with status 200; anything else is a server in trouble."""
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as e:
        begin = shorten(data[:200].decode("utf-8", "replace"), 80)
        raise TransientError(f"{url} answers 200 with what is not JSON: {begin!r}") from e
    if not isinstance(content, dict):
        raise TransientError(f"{url} answers 200 with {type(content).__name__}, not an object")
    return content


def tokens_used(content: dict[str, Any]) -> int:
    """The tokens that a vendor says it will bill; 0 where it says nothing."""
    usage = content.get("usage")
    if not isinstance(usage, dict):
        return 0
    for name in ("total_tokens", "prompt_tokens", "input_tokens", "token_count"):
        if isinstance(usage.get(name), int):
            return int(usage[name])
    return 0


def fault_of(url: str, status: int, headers: Any, body: bytes | dict[str, object]) -> VecferryError:
    """What an answer other than 200 means for the batch it answers.

    `body` is its bytes, or the object that they hold.
    """
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
    if status not in REFUSING:  # nobody says what it means: what repeats and what passes tells
        return TransientError(text, _wish(headers))
    kind = AbsentError if status in (404, 405) else FatalError
    bare = urlsplit(url).path == "/embeddings"
    hint = ": most servers want /v1 at the end of endpoint" if bare and kind is AbsentError else ""
    return kind(f"{text}: check endpoint and modelName{hint}")


def _wish(headers: Any) -> float | None:
    in_ms = parse_retry_after(headers.get("retry-after-ms"))
    if in_ms is not None:
        return in_ms / 1000
    return parse_retry_after(headers.get("retry-after"), headers.get("date"))


def _poison(text: str, status: int, said: str) -> PoisonError:
    found = _LIMIT.search(said)
    limit = int(next(g for g in found.groups() if g)) if found else None
    named = _TOKENS.search(said)
    return PoisonError(
        text,
        "too-large" if status == 413 else "refused-input",
        limit or None,
        long=named is not None or _LONG.search(said) is not None,
        tokens=int(named.group(1).replace(",", "")) or None if named else None,
    )


def said_in(content: dict[str, Any]) -> str:
    """What an answer of status 200 that holds no vectors says instead: its message, else keys."""
    where = content.get("error", content)
    message = where.get("message") if isinstance(where, dict) else where
    return redact(shorten(message or sorted(content)))


def _said(body: bytes | dict[str, Any]) -> tuple[str, str]:
    """The error code and message of a body, in any of the vendors' shapes."""
    content: object = body
    if isinstance(body, bytes):
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
    return code if isinstance(code, str) else "", redact(shorten(message))
