"""Image URLs and hosts that mean harm: odd hosts, answers that drip, redirects without end."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.transforms.embed.endpoints.server import EndpointServer
from tests.transforms.embed.images.support import ImageServer, image_settings, png
from tests.transforms.embed.support import context, run
from vecferry.errors import TransientError
from vecferry.io.files import LocalConnection
from vecferry.rows import Reject
from vecferry.transforms.embed.engine import Embedder
from vecferry.transforms.embed.images import address as embed_image_address
from vecferry.transforms.embed.images import load as embed_image_load
from vecferry.transforms.embed.images.fetch import Fetcher
from vecferry.transforms.embed.images.prepare import Gate


def fate(server: EndpointServer, url: str, **more: Any) -> Any:
    """What becomes of one row: its `Change`, or its `Reject`."""
    settings = image_settings(server, allowPrivateAddresses=True, **more)
    (out,) = run(Embedder(settings, None, context()), [{"pic": url}])
    return out


@pytest.mark.parametrize("end", ["\\", "?", "#", "%20", "\t", "@"])
def test_a_pattern_is_not_met_by_what_stands_behind_the_host(
    server: EndpointServer, host: ImageServer, end: str
) -> None:
    """Clients end a host where a pattern of `[^/]*` does not: such URLs are not asked for."""
    url = f"http://127.0.0.1:{host.port}{end}.trusted.test/a.png"
    trusted = [r"http://[^/]*\.trusted\.test/.*"]
    assert fate(server, url, trustedEndpoints=trusted).reason == "image-untrusted"
    assert not host.seen


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [True, False], ids=["any-address", "public-address"])
@pytest.mark.parametrize("drops", [b"x", b"X-More: 1\r\n"], ids=["body", "head"])
def test_an_answer_that_drips_is_left_in_time(
    monkeypatch: pytest.MonkeyPatch, adapter: bool, drops: bytes
) -> None:
    """timeoutSeconds is for the whole image, not for each byte of it."""
    monkeypatch.setattr(embed_image_address, "is_public", lambda address: True)
    fetcher = Fetcher(
        patterns=None,
        allow_private=adapter,
        timeout=0.3,
        most_bytes=1 << 20,
        advice="",
        connections=1,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    whole = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n")
        try:
            connection.sendall(b"\r\n" if drops == b"x" else b"")
            for _ in range(5000):
                connection.sendall(drops)
                time.sleep(0.02)
            whole.set()
        except OSError:
            connection.close()

    threading.Thread(target=drip, daemon=True).start()
    with pytest.raises(TransientError, match=r"within|timed out"):
        fetcher.get(f"http://127.0.0.1:{port}/", lambda amount: contextlib.nullcontext())
    assert not whole.is_set()
    listener.close()


def test_the_body_of_a_redirect_is_not_read(server: EndpointServer, host: ImageServer) -> None:
    """It has no use, and may have no end."""
    listener = socket.create_server(("127.0.0.1", 0))
    target = host.url("/a.png").encode()
    sent = 0

    def redirect() -> None:
        nonlocal sent
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: " + target + b"\r\n\r\n")
        with contextlib.suppress(OSError):
            while sent < 64 << 20:
                sent += connection.send(b"x" * 65536)
        connection.close()

    thread = threading.Thread(target=redirect, daemon=True)
    thread.start()
    out = fate(server, f"http://127.0.0.1:{listener.getsockname()[1]}/r")
    assert not isinstance(out, Reject), out
    thread.join(60)
    assert sent < 16 << 20
    listener.close()


@pytest.mark.slow
def test_what_was_read_counts_until_it_is_made_ready(
    server: EndpointServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading is faster than decoding: large files must not gather in between."""
    for i in range(20):
        (tmp_path / f"{i}.png").write_bytes(png(i, 300, 200))
    size = max(file.stat().st_size for file in tmp_path.iterdir())
    monkeypatch.setattr(embed_image_load, "_reading", Gate(2 * size))
    prepare, lock, alive, most = embed_image_load.prepare, threading.Lock(), 0, 0

    def slow(key: bytes, content: bytes, rules: Any) -> Any:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        time.sleep(0.02)
        with lock:
            alive -= 1
        return prepare(key, content, rules)

    monkeypatch.setattr(embed_image_load, "prepare", slow)
    settings = image_settings(server, imageDatasource="Files", imageMaxPixels=2000)
    engine = Embedder(settings, LocalConnection(path=str(tmp_path)), context())
    out = run(engine, [{"pic": f"{i}.png"} for i in range(20)])
    assert not [item for item in out if isinstance(item, Reject)]
    assert most == 2


@pytest.mark.usefixtures("virtual_time")
def test_a_body_that_comes_short_again_and_again_takes_room_once(
    server: EndpointServer, host: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try lets go of what the one before held, else an image would wait for itself."""
    monkeypatch.setattr(embed_image_load, "_reading", Gate(100_000))
    body, left = png(1), [3]

    def short() -> Any:
        left[0] -= 1
        return (200, {"Content-Length": "60000"}, body) if left[0] >= 0 else (200, {}, body)

    host.routes["/short.png"] = short
    assert not isinstance(fate(server, host.url("/short.png")), Reject)
