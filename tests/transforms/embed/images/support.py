"""What the tests of images share: pictures, a server that gives them, and settings for a step."""

from __future__ import annotations

import io
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.transforms.embed import EmbedSettings

DIMENSION = 64
MODEL = "tongyi-embedding-vision-plus"


def pixels(seed: int, width: int = 48, height: int = 32) -> PIL.Image.Image:
    """A picture of noise, another one for each seed."""
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(noise)


def file_of(picture: PIL.Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A picture as a file."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def png(seed: int, width: int = 48, height: int = 32) -> bytes:
    """A PNG of noise; it has about 3 bytes a pixel."""
    return file_of(pixels(seed, width, height), compress_level=0)  # noise can't be compressed


def opened(data: bytes) -> PIL.Image.Image:
    """A file as a picture."""
    return PIL.Image.open(io.BytesIO(data))


def image_settings(server: EndpointServer | None, **more: Any) -> EmbedSettings:
    """The settings of a step that embeds the image in column `pic` into `vector`."""
    given: dict[str, Any] = {
        "modelProvider": "bailian",
        "modelName": MODEL,
        "apiKey": "sk-test",
        "endpoint": server.url.removesuffix("/v1") if server else "http://127.0.0.1:1",
        "dimension": DIMENSION,
        "embeddingColumns": {
            "sourceColumnNames": ["pic"],
            "embeddingColumnName": "vector",
            "inputType": "image",
        },
    }
    return EmbedSettings(**(given | more))


Answer = tuple[int, dict[str, str], bytes]


class ImageServer:
    """Gives what `routes` hold for a path: bytes, (status, headers, body), or a function of those.

    `latency` is in seconds; `seen` counts requests by path. With `certificate`, a file with
    certificate and key, it speaks TLS.
    """

    def __init__(self, routes: dict[str, Any] | None = None, certificate: Path | None = None):
        self.routes: dict[str, bytes | Answer | Callable[[], Answer]] = routes or {}
        self.latency = 0.0
        self.seen: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self._certificate = certificate

    def __enter__(self) -> ImageServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *args: None  # type: ignore[method-assign]
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """The URL of a path, by any name that leads here."""
        scheme = "https" if self._certificate else "http"
        return f"{scheme}://{host}:{self.port}{path}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answers one request."""
        path = handler.path.partition("?")[0]
        self.seen[path] += 1
        self.headers.append({k.lower(): v for k, v in handler.headers.items()})
        time.sleep(self.latency)
        route = self.routes.get(path, (404, {}, b"nothing here"))
        answer = route() if callable(route) else route
        status, headers, body = (200, {}, answer) if isinstance(answer, bytes) else answer
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        if headers.get("Content-Length", str(len(body))) != str(len(body)):
            handler.close_connection = True
