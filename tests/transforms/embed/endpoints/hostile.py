"""A server of embeddings that answers as nobody should: over TCP and TLS, request by request.

A case is a function of the good answer to a request, and of that to the request before it on the
same connection. It gives
what is done, in turn: bytes are sent, and a number is waited for in seconds. A word of `ENDS` ends
the connection; `Endless` sends bytes for as long as they are taken.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import gzip
import itertools
import re
import ssl
import threading
import zlib
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from tests.transforms.embed.endpoints.server import vector_of

DIMENSION = 64
LATE = 0.02
ENDS = ("close", "reset")
BLOCK = 64 << 10


@dataclass(frozen=True)
class Endless:
    """Bytes that are sent again and again, with a pause between."""

    piece: bytes
    pause: float = 0.0
    most: int = 1 << 40


@dataclass(frozen=True)
class Good:
    """A good answer, in parts."""

    body: bytes

    def head(self, *lines: str, status: str = "200 OK", length: object = None) -> bytes:
        """A head with these lines; its length is that of the body unless another is given."""
        size = len(self.body) if length is None else length
        rows = [f"HTTP/1.1 {status}", "Content-Type: application/json", *lines]
        if length != "":
            rows.append(f"Content-Length: {size}")
        return ("\r\n".join(rows) + "\r\n\r\n").encode("latin-1")

    def whole(self, *lines: str, status: str = "200 OK", length: object = None) -> bytes:
        """Head and body."""
        return self.head(*lines, status=status, length=length) + self.body

    def bare(self, *lines: str) -> bytes:
        """A head that does not tell a length, and the body."""
        return self.head(*lines, length="") + self.body

    def chunked(self, size: int = 100, last: bytes = b"0\r\n\r\n") -> bytes:
        """The answer in chunks."""
        parts = (self.body[i : i + size] for i in range(0, len(self.body), size))
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        return self.head("Transfer-Encoding: chunked", length="") + chunks + last

    def packed(self, data: bytes, coding: str = "gzip") -> bytes:
        """An answer with this body, packed in some way."""
        return Good(data).whole(f"Content-Encoding: {coding}")


Case = Callable[[Good, Good], list[Any]]


def answer_to(request: bytes) -> Good:
    """The good answer to the body of a request."""
    texts = orjson.loads(request)["input"]
    items = [
        {"index": i, "embedding": base64.b64encode(vector_of(text, DIMENSION).tobytes()).decode()}
        for i, text in enumerate(texts)
    ]
    return Good(orjson.dumps({"data": items, "model": "m", "usage": {"total_tokens": len(texts)}}))


@functools.cache
def bomb(size: int = 1 << 30) -> bytes:
    """A thousandth of `size` in bytes, which unzip to `size` blanks."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    block = b" " * (1 << 20)
    parts = [packer.compress(block) for _ in range(size >> 20)]
    return b"".join([*parts, packer.flush()])


def _second_answers() -> dict[str, Case]:
    """An answer that nobody asked for, at once, late, the same or another."""
    cases: dict[str, Case] = {
        "twice in one piece": lambda g, _: [g.whole() * 2],
        "three times in one piece": lambda g, _: [g.whole() * 3],
        "twice in two pieces": lambda g, _: [g.whole(), g.whole()],
        "twice, the second one with another head": lambda g, _: [g.whole(), g.whole("Date: x")],
        "twice, the second one in chunks": lambda g, _: [g.whole(), g.chunked()],
        "twice, the second one unmarked": lambda g, _: [g.whole(), g.bare()],
        "twice, the second one cut": lambda g, _: [g.whole(), g.whole()[:-50]],
        "twice, then the end": lambda g, _: [g.whole() * 2, "close"],
        "twice, and says it will close": lambda g, _: [g.whole("Connection: close") * 2],
        "twice in chunks": lambda g, _: [g.chunked() * 2],
        "twice as gzip": lambda g, _: [g.packed(gzip.compress(g.body, mtime=0)) * 2],
        "the answer before, then this one": lambda g, b: [b.whole(), g.whole()],
        "the answer before, this one late": lambda g, b: [b.whole(), LATE, g.whole()],
        "the answer before alone": lambda _, b: [b.whole()],
        "the answer before, otherwise packed": lambda _, b: [b.chunked()],
        "this one, then the one before": lambda g, b: [g.whole(), b.whole()],
        "a head more": lambda g, _: [g.whole() + g.head()],
        "a body more": lambda g, _: [g.whole() + g.body],
        "a line break more": lambda g, _: [g.whole() + b"\r\n"],
        "a byte more": lambda g, _: [g.whole() + b"x"],
        "a chunk more": lambda g, _: [g.chunked() + b"5\r\nhello\r\n"],
        "an error more": lambda g, _: [g.whole(), g.whole(status="503 x")],
        "an error before": lambda g, _: [g.whole(status="503 x"), g.whole()],
        "a refusal before, this one late": lambda g, _: [g.whole(status="429 x"), LATE, g.whole()],
        "a refused input before": lambda g, _: [g.whole(status="400 x"), g.whole()],
        "no JSON before, this one late": lambda g, _: [Good(b"<p>").whole(), LATE, g.whole()],
        "no vectors before, this one late": lambda g, _: [Good(b"{}").whole(), LATE, g.whole()],
    }
    for ms in (1, 5, 20, 50, 100):
        cases[f"twice, {ms} ms late"] = lambda g, _, ms=ms: [g.whole(), ms / 1000, g.whole()]  # type: ignore[misc]
    return cases


def _lengths() -> dict[str, Case]:
    """A length that is not that of the body."""
    given = {
        "one more": lambda n: n + 1,
        "one less": lambda n: n - 1,
        "half": lambda n: n // 2,
        "none": lambda _: 0,
        "a million more": lambda n: n + 1_000_000,
        "200 MB": lambda _: 200 << 20,
        "a terabyte": lambda _: 1 << 40,
        "twenty digits": lambda _: 10**20,
        "negative": lambda _: -1,
        "with a plus": lambda n: f"+{n}",
        "with an underscore": lambda n: f"{n // 10}_{n % 10}",
        "in hex": lambda n: hex(n),
        "a word": lambda _: "long",
        "in other digits": lambda _: "\xb2\xb3",
        "empty": lambda _: " ",
        "twice in a line": lambda n: f"{n}, {n}",
        "two in a line": lambda n: f"{n}, {n + 1}",
        "of 5,000 digits": lambda _: "9" * 5000,
    }
    cases: dict[str, Case] = {
        f"the length is {name}": lambda g, _, of=of: [g.whole(length=of(len(g.body)))]  # type: ignore[misc]
        for name, of in given.items()
    }
    cases["two lengths"] = lambda g, _: [g.whole("Content-Length: 1")]
    cases["the length twice"] = lambda g, _: [g.whole(f"Content-Length: {len(g.body)}")]
    cases["length and chunks"] = lambda g, _: [g.whole("Transfer-Encoding: chunked")]
    cases["half, then nothing"] = lambda g, _: [g.whole()[:-100]]
    cases["half, then the end"] = lambda g, _: [g.whole()[:-100], "close"]
    cases["half, then a reset"] = lambda g, _: [g.whole()[:-100], "reset"]
    return cases


def _chunks() -> dict[str, Case]:
    """Chunks as they should not be."""
    coded = lambda g, rest: g.head("Transfer-Encoding: chunked", length="") + rest  # noqa: E731
    return {
        "a chunk's size is a word": lambda g, _: [coded(g, b"long\r\n" + g.body)],
        "a chunk's size is negative": lambda g, _: [coded(g, b"-5\r\n" + g.body)],
        "a chunk's size is huge": lambda g, _: [coded(g, b"FFFFFFFFFFFFFFF\r\n" + g.body)],
        "a chunk's size is empty": lambda g, _: [coded(g, b"\r\n" + g.body + b"\r\n0\r\n\r\n")],
        "a chunk's size never ends": lambda g, _: [coded(g, b""), Endless(b"0" * BLOCK)],
        "a chunk's remark never ends": lambda g, _: [coded(g, b"5;x="), Endless(b"y" * BLOCK)],
        "chunks never end": lambda g, _: [
            coded(g, b""),
            Endless(b"400\r\n" + b" " * 1024 + b"\r\n"),
        ],
        "chunks of a byte never end": lambda g, _: [coded(g, b""), Endless(b"1\r\n \r\n" * 8192)],
        "chunks drip": lambda g, _: [coded(g, b""), Endless(b"1\r\n \r\n", 0.01)],
        "the last chunk is missing": lambda g, _: [g.chunked(last=b"")],
        "the last chunk is missing at the end": lambda g, _: [g.chunked(last=b""), "close"],
        "trailers never end": lambda g, _: [g.chunked(last=b"0\r\n"), Endless(b"a: b\r\n" * 8192)],
        "a trailer": lambda g, _: [g.chunked(last=b"0\r\nContent-Length: 1\r\n\r\n")],
        "chunks of gzip in name": lambda g, _: [g.bare("Transfer-Encoding: gzip, chunked")],
        "chunks of chunks": lambda g, _: [g.bare("Transfer-Encoding: chunked, chunked")],
        "identity is the coding": lambda g, _: [g.bare("Transfer-Encoding: identity"), "close"],
        "chunks without line breaks": lambda g, _: [coded(g, b"%x\r\n" % len(g.body) + g.body)],
    }


def _heads() -> dict[str, Case]:
    """What begins otherwise than an answer does."""
    begins = {
        "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
        "zeros": b"\0" * 1000,
        "an alert of TLS": b"\x15\x03\x03\x00\x02\x02\x28",
        "the body": b"",
        "ICY": b"ICY 200 OK\r\n\r\n",
        "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
        "no status": b"HTTP/1.1\r\n\r\n",
        "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
        "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
        "a negative status": b"HTTP/1.1 -200 OK\r\n\r\n",
        "a status that is a word": b"HTTP/1.1 OK OK\r\n\r\n",
        "blank lines": b"\r\n\r\n\r\n",
        "a line without a colon": b"HTTP/1.1 200 OK\r\nhello\r\nContent-Length: 3\r\n\r\n",
        "a line that begins with a blank": b"HTTP/1.1 200 OK\r\n x: y\r\n\r\n",
        "a NUL": b"HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 3\r\n\r\n",
        "a bare CR": b"HTTP/1.1 200 OK\r\nX: a\rContent-Length: 3\r\n\r\n",
        "a blank before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\n",
        "200 headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    }
    cases: dict[str, Case] = {
        f"it begins with {name}": lambda g, _, begin=begin: [begin + g.body]  # type: ignore[misc]
        for name, begin in begins.items()
    }
    for name, piece in {
        "status": b"x" * BLOCK,
        "header": b"x" * BLOCK,
        "head": b"X: y\r\n" * 8192,
    }.items():
        begin = {"status": b"HTTP/1.1 200 ", "header": b"HTTP/1.1 200 x\r\nX: "}
        first = begin.get(name, b"HTTP/1.1 200 x\r\n")
        cases[f"the {name} never ends"] = lambda g, _, f=first, p=piece: [f, Endless(p)]  # type: ignore[misc]
        cases[f"the {name} drips"] = lambda g, _, f=first, p=piece: [f, Endless(p[:6], 0.01)]  # type: ignore[misc]
    for status in ("100 Continue", "102 x", "103 Early Hints", "199 x"):
        early = f"HTTP/1.1 {status}\r\n\r\n".encode()
        cases[f"{status}, then the answer"] = lambda g, _, e=early: [e + g.whole()]  # type: ignore[misc]
        cases[f"{status} without end"] = lambda g, _, e=early: [Endless(e * 1000)]  # type: ignore[misc]
    for status in ("101 x", "204 x", "205 x", "304 x"):
        cases[f"{status} with a body"] = lambda g, _, s=status: [g.whole(status=s)]  # type: ignore[misc]
    return cases


def _bodies() -> dict[str, Case]:
    """What is packed, endless or nothing."""
    zipped = lambda g: gzip.compress(g.body, mtime=0)  # noqa: E731
    return {
        "a bomb": lambda g, _: [g.packed(bomb())],
        "a bomb within a bomb": lambda g, _: [g.packed(gzip.compress(bomb()), "gzip, gzip")],
        "a bomb that is called deflate": lambda g, _: [g.packed(bomb(), "deflate")],
        "a bomb with status 500": lambda g, _: [
            Good(bomb()).whole("Content-Encoding: gzip", status="500 x")
        ],
        "gzip that is none": lambda g, _: [g.packed(g.body)],
        "gzip cut short": lambda g, _: [g.packed(zipped(g)[:-30])],
        "gzip with garbage behind": lambda g, _: [g.packed(zipped(g) + b"garbage")],
        "gzip in two parts": lambda g, _: [
            g.packed(gzip.compress(g.body[:50]) + gzip.compress(g.body[50:]))
        ],
        "gzip of nothing": lambda g, _: [g.packed(gzip.compress(b""))],
        "deflate that is none": lambda g, _: [g.packed(b"\x9c" + g.body, "deflate")],
        "brotli": lambda g, _: [g.packed(b"\x0b\x02\x80", "br")],
        "zstd": lambda g, _: [g.packed(b"\x28\xb5\x2f\xfd", "zstd")],
        "an unknown packing": lambda g, _: [g.packed(g.body, "snappy")],
        "a body without end": lambda g, _: [g.head(length=""), Endless(b" " * BLOCK)],
        "a body that drips": lambda g, _: [g.head(), Endless(b" ", 0.01)],
        "the last byte is late": lambda g, _: [g.whole()[:-1], LATE, g.whole()[-1:]],
        "a body until the end": lambda g, _: [g.bare(), "close"],
        "half a body until the end": lambda g, _: [g.bare()[:-50], "close"],
        "no body": lambda _, __: [Good(b"").whole()],
        "nothing": lambda _, __: [],
        "the end at once": lambda _, __: ["close"],
        "a reset at once": lambda _, __: ["reset"],
        "the end in the head": lambda g, _: [g.whole()[:20], "close"],
        "the end behind the answer": lambda g, _: [g.whole(), "close"],
        "a reset behind the answer": lambda g, _: [g.whole(), 0.001, "reset"],
        "an end that is announced and does not come": lambda g, _: [g.whole("Connection: close")],
        "JSON that nests": lambda _, __: [Good(b"[" * 100_000).whole()],
        "a list": lambda _, __: [Good(b"[]").whole()],
        "a null": lambda _, __: [Good(b"null").whole()],
        "other vectors too many": lambda g, _: [Good(g.body.replace(b"]", b",{}]")).whole()],
        "farewell": lambda g, _: [g.whole(), LATE, b"HTTP/1.1 408 x\r\n\r\n", "close"],
    }


CASES: dict[str, Case] = {
    **_second_answers(),
    **_lengths(),
    **_chunks(),
    **_heads(),
    **_bodies(),
}


class HostileServer:
    """Answers a request that is listed in `bad` as the case has it, and others well."""

    def __init__(self, case: Case, bad: Container[int], tls: ssl.SSLContext | None) -> None:
        self.case, self.bad, self.tls = case, bad, tls
        self.numbers = itertools.count()
        self.loop = asyncio.new_event_loop()
        self.transports: set[Any] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.started = threading.Event()
        self.thread = threading.Thread(target=self._run, name="hostile", daemon=True)

    def __enter__(self) -> HostileServer:
        self.thread.start()
        assert self.started.wait(60)
        return self

    def __exit__(self, *exc: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def _run(self) -> None:
        self.loop.run_until_complete(self._listen())
        self.started.set()
        self.loop.run_forever()
        self.server.close()
        for task in self.tasks:
            task.cancel()
        for transport in list(self.transports):
            transport.abort()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def _listen(self) -> None:
        self.server = await self.loop.create_server(
            lambda: _Talk(self), "127.0.0.1", 0, ssl=self.tls
        )
        scheme = "https" if self.tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/v1"

    def actions(self, good: Good, before: Good) -> Iterator[Any]:
        """What is done about the next request."""
        if next(self.numbers) in self.bad:
            return iter(self.case(good, before))
        return iter([good.whole()])


class _Talk(asyncio.Protocol):
    """A connection, whose requests are answered in turn, each when it has come."""

    def __init__(self, server: HostileServer) -> None:
        self.server, self.buffer = server, bytearray()
        self.before: Good | None = None
        self.takes = asyncio.Event()
        self.takes.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.server.transports.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.takes.set()
        self.server.transports.discard(self.transport)

    def pause_writing(self) -> None:
        self.takes.clear()

    def resume_writing(self) -> None:
        self.takes.set()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while found := re.search(rb"(?i)content-length: (\d+)[^\0]*?\r\n\r\n", self.buffer):
            end = found.end() + int(found[1])
            if len(self.buffer) < end:
                return
            request = bytes(self.buffer[found.end() : end])
            del self.buffer[:end]
            good = answer_to(request)
            actions = self.server.actions(good, self.before or good)
            self.before = good
            task = self.server.loop.create_task(self._do(actions))
            self.server.tasks.add(task)
            task.add_done_callback(self.server.tasks.discard)

    async def _do(self, actions: Iterator[Any]) -> None:
        for action in actions:
            if self.transport.is_closing():
                return
            if isinstance(action, bytes):
                self.transport.write(action)
            elif isinstance(action, Endless):
                await self._endless(action)
            elif action == "close":
                self.transport.close()
            elif action == "reset":
                self.transport.abort()
            else:
                await asyncio.sleep(action)

    async def _endless(self, what: Endless) -> None:
        while not self.transport.is_closing():
            self.transport.write(what.piece)
            await asyncio.sleep(what.pause)
            await self.takes.wait()
