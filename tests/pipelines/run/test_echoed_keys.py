"""A key that servers echo is in nothing that a run prints, reports or keeps."""

from __future__ import annotations

import base64
import json
import threading
import urllib.parse
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.effort import some
from tests.pipelines.support import Bench

KEY = "sk9fQ2x7Lm3ZtwPq8vN0yR4cD5eF6gH1"
SPELLINGS: list[Callable[[str], str]] = [
    str,
    lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    lambda key: urllib.parse.quote(key[:4]) + "".join(f"%{ord(c):02X}" for c in key[4:]),
    lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
    lambda key: f"{key[:11]}\n {key[11:]}",
    lambda key: key[:25],
]


class Echo:
    """A server that answers each request with an error of a status, and a text around the key."""

    def __init__(self) -> None:
        self.status, self.text = 400, ""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                return

            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                reason = {"type": "x", "reason": owner.text, "message": owner.text, "code": "c"}
                body = json.dumps({"error": reason, "status": owner.status}).encode()
                self.send_response(owner.status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_HEAD = _answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def echo() -> Generator[Echo]:
    """One server for all tests of this module."""
    echo = Echo()
    yield echo
    echo.server.shutdown()
    echo.server.server_close()


def shown(bench: Bench, *arguments: str) -> str:
    """Everything that a run leaves for people to read."""
    outcome = bench.call("run", *arguments, "--report", str(bench.folder / "report.json"))
    texts = [outcome.out, outcome.err]
    texts += [path.read_text() for path in sorted((bench.folder / "rejects").rglob("*.jsonl"))]
    report = bench.folder / "report.json"
    return "\n".join([*texts, report.read_text() if report.exists() else ""])


def leaks(text: str) -> list[str]:
    """The runs of 8 characters of the key, and of its base64 forms, that a text shows."""
    forms = [KEY, *(base64.b64encode(f"{u}:{KEY}".encode()).decode()[6:] for u in ("", "u", "us"))]
    return [f[i : i + 8] for f in forms for i in range(len(f) - 7) if f[i : i + 8] in text]


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 401])
@pytest.mark.parametrize("offset", some([150, 390, *(n for n in range(0, 460, 13))], 1))
def test_an_endpoint_may_echo_its_key_at_any_offset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], echo: Echo, status: int, offset: int
) -> None:
    """In stdout, stderr, report and rejects."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines([{"id": "1", "text": f"about {KEY} here"}, {"id": "2", "text": "b"}])
    bench.job["setting"]["errorLimit"] = {"record": "9"}
    bench.step("Embed").update(
        modelProvider="openai",
        modelName="m",
        endpoint=f"{echo.url}/v1",
        apiKey=KEY,
        retryDeadline=1,
    )
    echo.status = status
    for spelling in SPELLINGS:
        echo.text = f"{'x ' * (offset // 2)}{spelling(KEY)} {'y ' * 200}"
        for more in (["--no-preflight"], ["--no-preflight", "--json"]):
            assert leaks(shown(bench, *more)) == []


@pytest.mark.slow
@pytest.mark.parametrize("offset", some([150, 390, *(n for n in range(0, 460, 13))], 1))
@pytest.mark.parametrize("kind", ["elasticsearch", "opensearch"])
def test_a_store_may_echo_its_password_at_any_offset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], echo: Echo, kind: str, offset: int
) -> None:
    """With `check --connect` and with `run`."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines([{"id": "1", "text": "a"}])
    bench.sources["Vectors"] = {
        "type": kind, "endpoint": echo.url, "username": "user", "password": KEY
    }  # fmt: skip
    bench.job["steps"][-1].update(
        stepType=kind,
        parameter={
            "datasource": "Vectors", "index": "texts",
            "column": [
                {"name": "id", "type": "keyword", "primaryKey": True},
                {"name": "text", "type": "text"},
            ],
        },
    )  # fmt: skip
    echo.status = 401
    for spelling in SPELLINGS:
        echo.text = f"{'x ' * (offset // 2)}{spelling(KEY)} {'y ' * 200}"
        assert leaks(shown(bench)) == []
        outcome = bench.call("check", "--connect")
        assert outcome.status == 2
        assert "***" in outcome.err or offset > 380
        assert leaks(outcome.err) == []
