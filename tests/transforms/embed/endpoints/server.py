"""An embedding server for tests: the vendors' protocol, limits and faults, vectors made by hashing.

In a test: ``with EndpointServer() as server:`` and ``server.url``. As a process of its own, for
benches: ``python -m tests.transforms.embed.endpoints.server --port 9700 --latency-ms 100``;
``GET /stats`` tells what it saw. It listens on 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import email.utils
import hashlib
import io
import math
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import PIL.Image

from vecferry.retry import CLOCK

NESTED = 1000
"""So deep the message of a refusal may be nested."""
_TABLE = np.random.default_rng(20).standard_normal(1 << 17).astype("<f4")


def vector_of(content: str | bytes, dimension: int) -> np.ndarray:
    """The vector that the server gives for a text or an image: a function of its content only."""
    data = content.encode() if isinstance(content, str) else b"image" + content
    seed = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    start = seed % ((1 << 17) - dimension)
    vector = _TABLE[start : start + dimension].copy()
    vector[0], vector[1] = (seed >> 17 & 0xFFFF) / 65536, (seed >> 33 & 0xFFFF) / 65536
    return vector


@dataclass
class Seen:
    """A request that the server answered."""

    at: float
    inputs: list[Any]
    status: int
    request: dict[str, Any]
    headers: dict[str, str]


@dataclass
class Quota:
    """`rate` requests a second, `burst` at once; `wish` says how Retry-After is given."""

    rate: float
    burst: float
    wish: str | None = "seconds"  # seconds | exact | date | None
    level: float = field(default=-1.0)
    at: float = 0.0

    def take(self) -> float | None:
        """None where the request may pass, else the seconds until one may."""
        now = CLOCK.now()
        if self.level < 0:
            self.level, self.at = self.burst, now
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level >= 1:
            self.level -= 1
            return None
        return (1 - self.level) / self.rate

    def header(self, seconds: float) -> dict[str, str]:
        """The Retry-After header, in the form that `wish` names."""
        if self.wish == "exact":
            return {"Retry-After": f"{seconds:.3f}"}
        if self.wish == "seconds":
            return {"Retry-After": str(math.ceil(seconds))}
        if self.wish == "date":
            when = time.time() + math.ceil(seconds) + 1
            return {"Retry-After": email.utils.formatdate(when, usegmt=True)}
        return {}


Fault = Callable[[int, list[Any]], str | None]
"""From the number of a request (0 is the first) and its inputs to the fault it meets, or None."""


def first(times: int, kind: str) -> Fault:
    """The first requests fail."""
    return lambda n, _: kind if n < times else None


def every(nth: int, kind: str) -> Fault:
    """Each nth request fails, beginning with the first."""
    return lambda n, _: kind if n % nth == 0 else None


def share(percent: int, kind: str) -> Fault:
    """So many of a hundred requests fail, spread as a hash would."""
    return lambda n, _: kind if (n * 2654435761 % 1000) < 10 * percent else None


class EndpointServer:
    """An OpenAI-compatible server in a thread of its own, bound to a free port of 127.0.0.1."""

    def __init__(
        self,
        *,
        port: int = 0,
        key: str | None = "sk-test",
        auth: str = "bearer",
        dimensions: tuple[int, ...] = (64, 128, 256, 512, 768, 1024, 1536, 2048),
        default_dimension: int = 1024,
        max_inputs: int = 10,
        max_tokens: int = 8192,
        max_images: int = 8,
        max_image_bytes: int = 3 << 20,
        image_formats: tuple[str, ...] = ("JPEG", "PNG", "BMP"),
        max_body: int = 32 << 20,
        latency: float = 0.0,
        base64_allowed: bool = True,
        quota: Quota | None = None,
        fault: Fault | None = None,
        poison: str | None = "POISON",
        record: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.port, self.key, self.auth = port, key, auth
        self.dimensions, self.default_dimension = dimensions, default_dimension
        self.max_inputs, self.max_tokens, self.latency = max_inputs, max_tokens, latency
        self.max_images, self.max_image_bytes = max_images, max_image_bytes
        self.image_formats, self.max_body = image_formats, max_body
        self.base64_allowed, self.quota, self.fault = base64_allowed, quota, fault
        self.poison, self.record, self.tls = poison, record, tls
        self.requests: list[Seen] = []
        self.statuses: Counter[int] = Counter()
        self.inputs_seen = self.under_way = self.most_under_way = self.number = 0
        self.first_at = self.last_at = 0.0
        self.connections = 0
        self.transports: set[Any] = set()
        self.loop = asyncio.new_event_loop()
        self._started = threading.Event()

    @property
    def url(self) -> str:
        """The base URL, as a job's `endpoint`."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"

    @property
    def good(self) -> list[Seen]:
        """The requests that were answered 200."""
        return [seen for seen in self.requests if seen.status == 200]

    def sent(self) -> list[Any]:
        """Every input that was answered, in the order of the answers; images are bytes."""
        return [text for seen in self.good for text in seen.inputs]

    def __enter__(self) -> EndpointServer:
        self._thread = threading.Thread(target=self._run, name="endpoint", daemon=True)
        self._thread.start()
        assert self._started.wait(60)
        return self

    def __exit__(self, *exc: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)

    def go_down(self, seconds: float) -> None:
        """Refuses connections for a while, and breaks those that stand."""
        self.loop.call_soon_threadsafe(self._go_down, seconds)

    def _come_back(self, seconds: float) -> None:
        CLOCK.wait(threading.Event(), seconds)
        self.loop.call_soon_threadsafe(lambda: self.loop.create_task(self._listen()))

    def _go_down(self, seconds: float) -> None:
        self._server.close()
        for transport in list(self.transports):
            transport.abort()
        threading.Thread(target=self._come_back, args=(seconds,), daemon=True).start()

    def _run(self) -> None:
        self.loop.run_until_complete(self._listen())
        self._started.set()
        self.loop.run_forever()
        self._server.close()
        for transport in list(self.transports):
            transport.abort()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def _listen(self) -> None:
        make = lambda: _Connection(self)  # noqa: E731
        self._server = await self.loop.create_server(
            make, "127.0.0.1", self.port, backlog=512, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def stats(self) -> dict[str, Any]:
        """What it saw so far; `seconds` from the first request to the last answer."""
        return {
            "requests": self.number,
            "inputs": self.inputs_seen,
            "seconds": self.last_at - self.first_at,
            "most_under_way": self.most_under_way,
            "statuses": {str(k): v for k, v in self.statuses.items()},
            "connections": self.connections,
        }

    def forget(self) -> None:
        """Begins to count anew."""
        self.requests.clear()
        self.statuses.clear()
        self.inputs_seen = self.most_under_way = self.number = 0
        self.first_at = self.last_at = 0.0

    def answer(
        self, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a POST."""
        number, self.number = self.number, self.number + 1
        self.first_at = self.first_at or CLOCK.now()
        request: dict[str, Any] = {}
        inputs: list[Any] = []
        try:
            if len(body) > self.max_body:
                raise _Refused(413, "RequestTooLarge", f"the body has {len(body)} bytes")
            request = orjson.loads(body)
            inputs = _inputs(request)
            result = self._decide(number, path, headers, request, inputs)
        except _Refused as e:
            content = {"error": {"message": e.message, "code": e.code, "type": e.code}}
            result = e.status, e.headers, orjson.dumps(content)
        self.statuses[result[0]] += 1
        if result[0] == 200:
            self.inputs_seen += len(inputs)
        if self.record:
            self.requests.append(Seen(CLOCK.now(), inputs, result[0], request, headers))
        return result

    def _decide(
        self, number: int, path: str, headers: dict[str, str], request: Any, inputs: list[Any]
    ) -> tuple[int, dict[str, str], bytes]:
        self._check_key(headers)
        kind = kind_of(path)
        if kind is None:
            raise _Refused(404, "not_found", f"there is nothing at {path}")
        if self.quota is not None and (wait := self.quota.take()) is not None:
            message = "Requests rate limit exceeded, please try again later."
            raise _Refused(429, "rate_limit_exceeded", message, self.quota.header(wait))
        fault = self.fault(number, inputs) if self.fault is not None else None
        if fault == "429-now":
            raise _Refused(429, "rate_limit_exceeded", "now or later", {"Retry-After": "0"})
        if fault is not None and fault.isdigit():
            raise _Refused(int(fault), "internal_error", "the server is in trouble")
        if fault == "redirect":
            raise _Refused(307, "moved", "moved", {"Location": "http://127.0.0.1:1/v1/embeddings"})
        if fault == "error-200":
            error = {"error": {"message": "the text is refused", "code": "refused"}}
            return 200, {}, orjson.dumps(error)
        if fault in ("nested-200", "nested-400"):
            deep = b"[" * NESTED + b"]" * NESTED
            return int(fault[-3:]), {}, b'{"error":{"message":%b,"code":%b}}' % (deep, deep)
        if fault == "html":
            return 200, {"Content-Type": "text/html"}, b"<html><h1>502 Bad Gateway</h1></html>"
        self._check_inputs(inputs, images=kind != "openai")
        dimension = self._dimension(request)
        as_base64 = self.base64_allowed and request.get("encoding_format") == "base64"
        vectors = [vector_of(text, dimension) for text in inputs]
        items = _items(vectors, as_base64, fault)
        tokens = sum(tokens_of(text) for text in inputs)
        tokens = {"usage-negative": -tokens, "usage-huge": 1 << 62}.get(fault or "", tokens)
        content = _content(kind, items, tokens)
        extra = {"X-Fault": fault} if fault in ("truncated", "reset") else {}
        return (
            200,
            extra,
            orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY).replace(b'"NaN here"', b"NaN"),
        )

    def _check_key(self, headers: dict[str, str]) -> None:
        if self.key is None:
            return
        given = headers.get("authorization")
        if given != (f"Bearer {self.key}" if self.auth == "bearer" else self.key):
            message = f"Incorrect API key provided: {given}."
            raise _Refused(401, "invalid_api_key", message)

    def _check_inputs(self, inputs: list[Any], *, images: bool) -> None:
        if len(inputs) > self.max_inputs:
            message = f"batch size is invalid, it should not be larger than {self.max_inputs}."
            raise _Refused(400, "InvalidParameter", message)
        if images:
            self._check_images([one for one in inputs if isinstance(one, bytes)])
            inputs = [one for one in inputs if not isinstance(one, bytes)] or ["no text"]
        if not inputs or any(not isinstance(text, str) or not text for text in inputs):
            raise _Refused(400, "InvalidParameter", "input must be non-empty strings")
        if any(tokens_of(text) > self.max_tokens for text in inputs):
            message = f"Range of input length should be [1, {self.max_tokens}]"
            raise _Refused(400, "InvalidParameter", message)
        if self.poison and any(self.poison in text for text in inputs):
            message = "Input data may contain inappropriate content."
            raise _Refused(400, "data_inspection_failed", message)

    def _check_images(self, images: list[bytes]) -> None:
        if len(images) > self.max_images:
            message = f"{len(images)} images in a request, it takes {self.max_images}"
            raise _Refused(400, "InvalidParameter", message)
        for image in images:
            if len(image) > self.max_image_bytes:
                raise _Refused(400, "InvalidParameter", "Input image size is too large")
            try:
                with PIL.Image.open(io.BytesIO(image), formats=self.image_formats) as picture:
                    picture.load()
            except Exception as e:
                message = "The image format is illegal and cannot be opened"
                raise _Refused(400, "InvalidParameter", message) from e

    def _dimension(self, request: dict[str, Any]) -> int:
        chosen = request.get("parameters", {}).get("dimension", self.default_dimension)
        dimension = request.get("dimensions", chosen)
        if dimension not in self.dimensions:
            message = f"dimensions {dimension} is not one of {list(self.dimensions)}"
            raise _Refused(400, "InvalidParameter", message)
        return int(dimension)


def kind_of(path: str) -> str | None:
    """The protocol that is spoken at a path, or None where there is nothing."""
    if path.endswith("/embeddings"):
        return "openai"
    if path == "/api/v1/services/embeddings/multimodal-embedding/multimodal-embedding":
        return "studio"
    parts = path.split("/")
    if parts[:4] == ["", "v3", "openapi", "workspaces"] and len(parts) == 7:
        known = ("text-embedding", "multi-modal-embedding")
        return "search" if parts[5] in known else None
    return None


def _inputs(request: dict[str, Any]) -> list[Any]:
    given = request.get("input") or []
    if isinstance(given, dict):
        given = given.get("contents") or []
    given = [given] if isinstance(given, str) else given
    return [_input(one) for one in given]


def _input(one: Any) -> Any:
    """A text, the bytes of an image, or None for what is neither."""
    if not isinstance(one, dict):
        return one
    if set(one) == {"text"}:
        return one["text"]
    if set(one) != {"image"} or not isinstance(one["image"], str):
        return None
    head, comma, body = one["image"].partition(",")
    if comma and not (head.startswith("data:image/") and head.endswith(";base64")):
        return None
    try:
        return base64.b64decode(body if comma else head, validate=True)
    except ValueError:
        return None


def _content(kind: str, items: list[Any], tokens: int) -> dict[str, Any]:
    if kind == "studio":
        items = [{**item, "type": "text"} for item in items]
        return {"output": {"embeddings": items}, "usage": {"input_tokens": tokens}}
    if kind == "search":
        return {
            "request_id": "r",
            "latency": 1,
            "result": {"embeddings": items},
            "usage": {"token_count": tokens},
        }
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": items, "usage": usage}


def tokens_of(text: str | bytes) -> int:
    """A rough count of tokens, for limits and bills: four letters make one, an image is 100."""
    if isinstance(text, bytes):
        return 100
    return math.ceil(len(text) / 4)


def _items(vectors: list[np.ndarray], as_base64: bool, fault: str | None) -> list[Any]:
    if fault == "wrong-dimension":
        vectors = [v[: len(v) // 2] for v in vectors]
    if fault == "one-short-vector":
        vectors = [vectors[0][:-1], *vectors[1:]]
    if fault == "same":
        vectors = [vector_of("same", len(v)) for v in vectors]
    if fault == "zeros":
        vectors = [0 * v for v in vectors]
    if fault == "big-endian":
        vectors = [v.astype(">f4") for v in vectors]
    items: list[dict[str, Any]] = [
        {
            "object": "embedding",
            "index": i,
            "embedding": base64.b64encode(v.tobytes()).decode() if as_base64 else v,
        }
        for i, v in enumerate(vectors)
    ]
    if fault == "short":
        items.pop(0)
    elif fault == "short-without-index":
        items = [{"embedding": item["embedding"]} for item in items[1:]]
    elif fault == "without-index":
        items = [{"embedding": item["embedding"]} for item in items]
    elif fault == "string-index":
        items = [{**item, "index": str(item["index"])} for item in items]
    elif fault == "reorder":
        items.reverse()
    elif fault == "repeat-index":
        items[-1]["index"] = 0
        items[0]["index"] = 0 if len(items) > 1 else 7
    elif fault == "foreign-index":
        items[-1]["index"] = len(items)
    elif fault == "extra":
        items.append({**items[0], "index": len(items)})
    elif fault == "index-left-out":
        del items[0]["index"]
    elif fault == "index-all-zero":
        items = [{**item, "index": 0} for item in items]
    elif fault == "index-float":
        items = [{**item, "index": float(item["index"])} for item in items]
    elif fault == "booleans":
        items[-1]["embedding"] = [*vectors[-1].tolist()[:-1], True]
    elif fault == "texts":
        items[-1]["embedding"] = [*vectors[-1].tolist()[:-1], "0.5"]
    elif fault == "null-vector":
        items[-1]["embedding"] = None
    elif fault == "nan":
        items[-1]["embedding"] = _with_nan(vectors[-1], as_base64)
    return items


def _with_nan(vector: np.ndarray, as_base64: bool) -> Any:
    if as_base64:
        vector = vector.copy()
        vector[-1] = np.nan
        return base64.b64encode(vector.tobytes()).decode()
    return [*vector.tolist()[:-1], "NaN here"]


class _Refused(Exception):
    def __init__(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        self.status, self.code, self.message = status, code, message
        self.headers = headers or {}


class _Connection(asyncio.Protocol):
    """Just enough HTTP/1.1: a request at a time on a connection that stays open."""

    def __init__(self, server: EndpointServer) -> None:
        self.server = server
        self.buffer = bytearray()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.server.transports.add(transport)
        self.server.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.transports.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        start, *lines = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        length = int(headers.get("content-length", 0))
        if len(self.buffer) < end + 4 + length:
            return
        body = bytes(self.buffer[end + 4 : end + 4 + length])
        del self.buffer[: end + 4 + length]
        method, path, _ = start.split(" ", 2)
        if method == "GET":
            stats = orjson.dumps(self.server.stats())
            if path.endswith("/forget"):
                self.server.forget()
            self._write(200, {}, stats)
            return
        self.server.under_way += 1
        self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
        due = self.server.loop.time() + self.server.latency
        status, extra, content = self.server.answer(path, headers, body)
        if self.server.latency:
            self.server.loop.call_at(due, self._respond, status, extra, content)
        else:
            self._respond(status, extra, content)

    def _respond(self, status: int, extra: dict[str, str], content: bytes) -> None:
        self.server.under_way -= 1
        self.server.last_at = CLOCK.now()
        if self.transport.is_closing():
            return
        fault = extra.pop("X-Fault", None)
        if fault == "reset":
            self.transport.abort()
            return
        self._write(status, extra, content, cut=fault == "truncated")

    def _write(self, status: int, extra: dict[str, str], content: bytes, cut: bool = False) -> None:
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content)), **extra}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        shown = content[: len(content) // 2] if cut else content
        self.transport.write(f"HTTP/1.1 {status} x\r\n{head}\r\n".encode() + shown)
        if cut:
            self.transport.close()


def main() -> None:
    """Serves until it is killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--max-inputs", type=int, default=10)
    parser.add_argument("--key", default="sk-test")
    parser.add_argument("--json-floats", action="store_true")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    parser.add_argument("--quota", type=float, nargs=2, metavar=("RATE", "BURST"))
    parser.add_argument("--retry-after", default="seconds", help="exact, date or none, too")
    options = parser.parse_args()
    quota = None
    if options.quota:
        wish = None if options.retry_after == "none" else options.retry_after
        quota = Quota(*options.quota, wish=wish)
    tls = None
    if options.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*options.tls)
    server = EndpointServer(
        quota=quota,
        tls=tls,
        port=options.port,
        key=options.key,
        latency=options.latency_ms / 1000,
        max_inputs=options.max_inputs,
        base64_allowed=not options.json_floats,
        record=False,
    )
    with server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
