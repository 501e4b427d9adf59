"""Other HTTP clients behind vecferry's seam, without its rules about answers: what each costs.

None bounds a body or looks for stray answers, so that each is shown at its best. Over TLS they
trust the file that ``SSL_CERT_FILE`` names.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import ssl
import threading
from collections.abc import Callable
from typing import Any

from bench.embed_endpoint import through_engine
from vecferry.transforms.embed.endpoints import client
from vecferry.transforms.embed.endpoints.http import HttpAnswer, HttpTarget

Post = Callable[[bytes], HttpAnswer]


class Other:
    """An `Http` over what posts a body; one of them for each thread, unless it serves all."""

    def __init__(self, target: HttpTarget, make: Callable[[HttpTarget], Post], one: bool) -> None:
        self._make, self._target = make, target
        self._local = threading.local()
        self._post = make(target) if one else None

    def send(self, body: bytes, read: Callable[[HttpAnswer], Any], **_: Any) -> Any:
        """What `read` makes of the answer."""
        if self._post is None and not hasattr(self._local, "post"):
            self._local.post = self._make(self._target)
        return read((self._post or self._local.post)(body))

    def reach(self) -> None:
        """Nothing is tried."""

    settle = close = reach


def _urllib3(target: HttpTarget) -> Post:
    import urllib3

    authorities = {"ca_certs": _authorities()} if target.url.startswith("https") else {}
    pool = urllib3.connection_from_url(target.url, maxsize=target.connections, **authorities)
    headers = {"Accept-Encoding": "gzip", **target.headers}

    def post(body: bytes) -> HttpAnswer:
        answer = pool.urlopen(
            "POST",
            target.url,
            body,
            headers,
            retries=False,
            redirect=False,
            timeout=target.timeout,
        )
        return HttpAnswer(answer.status, answer.headers, answer.data)

    return post


def _pycurl(target: HttpTarget) -> Post:
    import pycurl

    curl = pycurl.Curl()
    curl.setopt(curl.URL, target.url)
    curl.setopt(curl.HTTP_VERSION, curl.CURL_HTTP_VERSION_1_1)
    curl.setopt(curl.HTTPHEADER, [f"{k}: {v}" for k, v in target.headers.items()] + ["Expect:"])
    curl.setopt(curl.ACCEPT_ENCODING, "gzip")
    curl.setopt(curl.NOSIGNAL, 1)
    curl.setopt(curl.POST, 1)
    curl.setopt(curl.TIMEOUT_MS, int(target.timeout * 1000))
    if authorities := _authorities():
        curl.setopt(curl.CAINFO, authorities)

    def post(body: bytes) -> HttpAnswer:
        data, lines = bytearray(), []
        curl.setopt(curl.WRITEFUNCTION, data.extend)
        curl.setopt(curl.HEADERFUNCTION, lines.append)
        curl.setopt(curl.POSTFIELDS, body)
        curl.perform()
        pairs = (line.decode("latin-1").partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        return HttpAnswer(curl.getinfo(curl.RESPONSE_CODE), headers, data)

    return post


def _aiohttp(target: HttpTarget) -> Post:
    import aiohttp

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def opened() -> aiohttp.ClientSession:
        context = ssl.create_default_context(cafile=_authorities())
        connector = aiohttp.TCPConnector(ssl=context, limit=target.connections)
        timeout = aiohttp.ClientTimeout(total=target.timeout)
        return aiohttp.ClientSession(connector=connector, headers=target.headers, timeout=timeout)

    session = asyncio.run_coroutine_threadsafe(opened(), loop).result()

    async def one(body: bytes) -> HttpAnswer:
        async with session.post(target.url, data=body) as answer:
            return HttpAnswer(answer.status, dict(answer.headers), await answer.read())

    return lambda body: asyncio.run_coroutine_threadsafe(one(body), loop).result()


def _reqwest(target: HttpTarget) -> Post:
    from pyreqwest.client import SyncClientBuilder

    builder = SyncClientBuilder().timeout(datetime.timedelta(seconds=target.timeout))
    if _authorities():  # rustls refuses a server's certificate that signs itself
        builder = builder.danger_accept_invalid_certs(True)
    session, headers = builder.build(), dict(target.headers)

    def post(body: bytes) -> HttpAnswer:
        answer = session.post(target.url).headers(headers).body_bytes(body).build().send()
        return HttpAnswer(answer.status, dict(answer.headers), bytes(answer.bytes()))

    return post


def _authorities() -> str | None:
    return os.environ.get("SSL_CERT_FILE")


MAKERS: dict[str, tuple[Callable[[HttpTarget], Post], bool]] = {
    "urllib3": (_urllib3, True),
    "pycurl": (_pycurl, False),
    "aiohttp": (_aiohttp, True),
    "reqwest": (_reqwest, True),
}


def through(name: str) -> Callable[[str, int, int], int]:
    """vecferry's engine, whose requests go through another client."""
    make, one = MAKERS[name]

    def run(url: str, rows: int, in_flight: int) -> int:
        client.open_http = lambda target: Other(target, make, one)  # type: ignore[assignment, return-value]
        return through_engine(url, rows, in_flight)

    return run
