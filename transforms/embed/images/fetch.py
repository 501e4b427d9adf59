"""Images from http(s) URLs: where a URL may lead, and what becomes of a server that fails.

A URL comes from a row, so it is not trusted. Its address is looked up once, each answer is checked,
and the connection goes to an address that was checked. A redirect is another URL, and is checked
the same way. TLS is verified against the URL's host name.

Apart from `load` because it knows URLs only, and none of the other places of images.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from vecferry.errors import TerminalError, TransientError, redact, shorten
from vecferry.retry import CLOCK, Clock, parse_retry_after
from vecferry.transforms.embed.endpoints.proxies import proxy_for
from vecferry.transforms.embed.images.address import CheckedAdapter, TimedAdapter
from vecferry.transforms.embed.images.content import shown_url

MOST_REDIRECTS = 3
CONNECT_SECONDS = 10.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 421, 425, 429})
_BUSY = frozenset({429, 502, 503, 504})
_GONE = frozenset({404, 410})
_PARTS = re.compile(r"(https?://)([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_ODD = re.compile(r"[@%\\\s]")
"""What no host has in its name, and a client may take for the end of one."""

Hold = Callable[[int], AbstractContextManager[None]]


class BrokenImageError(TransientError):
    """What comes from a host that answers is broken; where it gives others, this one is at fault.

    A host that is busy (429, 502, 503, 504, a timeout) raises a plain TransientError instead.
    """


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: else requests reads the whole body of a redirect, however large, and unzips it."""


class Fetcher:
    """Gets images by URL; for many threads.

    `patterns` are regular expressions, one of which must match a URL as a whole. A proxy of the
    environment is used only where private addresses are allowed: behind it, nobody could check.
    `advice` ends the message about an image of more than `most_bytes`.
    """

    def __init__(
        self,
        *,
        patterns: Sequence[str] | None,
        allow_private: bool,
        timeout: float,
        most_bytes: int,
        advice: str,
        connections: int,
        clock: Clock = CLOCK,
    ) -> None:
        self._now = clock.now
        self._patterns = None if patterns is None else [re.compile(p) for p in patterns]
        self._timeout, self._most_bytes, self._advice = timeout, most_bytes, advice
        self._session = session = _Session()
        adapter = TimedAdapter if allow_private else CheckedAdapter
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter(pool_connections=64, pool_maxsize=connections))
        session.trust_env = False
        self._asks_proxies = allow_private
        authorities = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
        session.verify = authorities or True
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.headers.update({"User-Agent": "vecferry", "Accept": "image/*,*/*;q=0.5"})
        session.headers["Accept-Encoding"] = "identity"
        self._lock = threading.Lock()
        self._answered: dict[str, float] = {}
        self._down: dict[str, float] = {}

    def get(self, url: str, hold: Hold) -> bytes:
        """The body of a URL; `hold` is told how many bytes it may have, before they are read.

        Raises TerminalError where the URL is at fault, TransientError where its server may be.
        """
        first = url
        deadline = self._now() + self._timeout
        for _ in range(MOST_REDIRECTS + 1):
            self._require_trusted(url)
            try:
                with self._ask(url) as response:
                    if response.status_code not in _REDIRECTS:
                        body = self._body(url, response, deadline, hold)
                        with self._lock:
                            self._answered[_host(first)] = self._now()
                        return body
                    target = response.headers.get("Location")
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as e:
                raise _fault(url, e) from e
            url = _redirected(url, target)
        raise TerminalError(
            f"{shown_url(first)} redirects more than {MOST_REDIRECTS} times", "image-refused"
        )

    def answered(self, url: str) -> float:
        """When the host of a URL last gave an image, by the monotonic clock; 0 for never."""
        return self._answered.get(_host(url), 0.0)

    def is_down(self, url: str) -> bool:
        """Whether the host of a URL was given up less than a minute ago, and silent since."""
        since = self._down.get(_host(url), 0.0)
        return since > max(self.answered(url), self._now() - 60)

    def give_up(self, url: str) -> None:
        """Notes that the host of a URL does not answer."""
        with self._lock:
            self._down[_host(url)] = self._now()

    def close(self) -> None:
        """Closes idle connections."""
        self._session.close()

    def _require_trusted(self, url: str) -> None:
        parts = _PARTS.fullmatch(url)
        if parts is None:
            text = f"a redirect to {shown_url(url)} is not followed: it is not an http(s) URL"
            raise TerminalError(text, "image-refused")
        if self._patterns is None:
            return
        scheme, host, rest = parts.groups()
        if rest[:1] in ("?", "#"):  # here the host ends, which a pattern looks for a / to tell
            url = f"{scheme}{host}/{rest}"
        if _ODD.search(host) or not any(p.fullmatch(url) for p in self._patterns):
            raise TerminalError(
                f"{shown_url(url)} matches none of setting.trustedEndpoints: add a pattern for it",
                "image-untrusted",
            )

    def _ask(self, url: str) -> requests.Response:
        seconds = (min(CONNECT_SECONDS, self._timeout), self._timeout)
        try:
            parts = urlsplit(url)
            if " " in (parts.hostname or ""):  # which urllib3 before 2.8 looks up
                raise ValueError("a host has no spaces")
            proxy = proxy_for(urllib3.util.parse_url(url)) if self._asks_proxies else None
            proxies = {} if proxy is None else {parts.scheme: proxy.url}
            return self._session.get(
                url, stream=True, allow_redirects=False, timeout=seconds, proxies=proxies
            )
        except (ValueError, urllib3.exceptions.LocationValueError) as e:  # InvalidURL is one, too
            text = f"{shown_url(url)} is not a URL that can be fetched: {type(e).__name__}"
            raise TerminalError(text, "bad-image") from e

    def _body(self, url: str, response: requests.Response, deadline: float, hold: Hold) -> bytes:
        status, headers = response.status_code, response.headers
        if status != 200:
            raise _refusal(url, status, headers)
        encoding = headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("", "identity"):
            text = f"{shown_url(url)} is sent as {shorten(encoding, 20)}, which nobody asked for"
            raise TerminalError(text, "image-refused")
        length = headers.get("Content-Length", "")
        expected = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
        with hold(min(expected or self._most_bytes, self._most_bytes)):
            body = bytearray()
            if expected is None or expected <= self._most_bytes:
                # Not more than has come: what drips must not outlast the deadline.
                while piece := response.raw.read1(1 << 16, decode_content=False):
                    body += piece
                    if self._now() > deadline:
                        seconds = f"{self._timeout:g} s"
                        raise TransientError(f"{shown_url(url)}: not read within {seconds}")
                    if len(body) > self._most_bytes:
                        break
        if max(len(body), expected or 0) > self._most_bytes:
            size = f"{expected:,}" if expected else f"more than {self._most_bytes:,}"
            raise TerminalError(
                f"{shown_url(url)} has {size} bytes, and {self._most_bytes:,} are read at most"
                f"{self._advice}",
                "image-too-large",
            )
        if expected is not None and len(body) != expected:
            raise BrokenImageError(f"{shown_url(url)}: {len(body)} of {expected} bytes came")
        return bytes(body)


def _redirected(url: str, target: str | None) -> str:
    try:
        if target:
            return urljoin(url, target)
    except ValueError:
        pass
    raise TerminalError(f"{shown_url(url)} redirects to nowhere", "image-refused")


def _host(url: str) -> str:
    parts = _PARTS.match(url)
    return parts[2].rpartition("@")[2].lower() if parts else ""


def _refusal(url: str, status: int, headers: Mapping[str, str]) -> Exception:
    text = f"{shown_url(url)} answers {status}"
    if status >= 500 or status in _PASSING:
        kind = TransientError if status in _BUSY else BrokenImageError
        return kind(text, parse_retry_after(headers.get("Retry-After"), headers.get("Date")))
    return TerminalError(text, "image-not-found" if status in _GONE else "image-refused")


def _fault(url: str, e: BaseException) -> Exception:
    """What a failed call means; its own text would show the URL with its signature."""
    root = e
    while (inner := root.__cause__ or root.__context__) is not None:
        root = inner
    told = root.strerror if isinstance(root, OSError) else None
    text = told or str(root) or type(root).__name__
    shown = f"{shown_url(url)}: {redact(shorten(text, 120))}"
    if "CERTIFICATE_VERIFY_FAILED" in str(e):
        return TerminalError(f"{shown}: its certificate is not trusted", "image-refused")
    return TransientError(shown)
