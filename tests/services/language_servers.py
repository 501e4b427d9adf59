"""The language servers behind editors' help with YAML and JSON, and a client of one question."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.services.install import npm_packages, package, tool

YAML = "yaml-language-server@1.19.2"
JSON = "vscode-json-languageserver@1.3.4"
PROGRAMS = {"yaml": "yaml-language-server", "json": "vscode-json-languageserver"}


def installed() -> Path:
    """The folder with both servers."""
    return package("language-servers-1", lambda folder: npm_packages(folder, YAML, JSON))


class Editor:
    """An editor with one server behind it, which speaks over pipes."""

    def __init__(self, server: subprocess.Popen[bytes], language: str) -> None:
        self._server, self._language, self._asked = server, language, 0

    def open(self, path: Path, text: str) -> None:
        """Opens a document, as if `path` held this text."""
        about = {"uri": path.as_uri(), "languageId": self._language, "version": 1, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": about})

    def completions(self, path: Path, text: str, before: str) -> dict[str, str]:
        """What is offered behind the first `before` in a document: label -> documentation."""
        found = self.ask("textDocument/completion", _place(path, text, before))
        items = found["items"] if isinstance(found, dict) else found or []
        return {item["label"].strip('"'): _text(item.get("documentation")) for item in items}

    def hover(self, path: Path, text: str, before: str) -> str:
        """What is shown of the word behind the first `before` in a document."""
        found = self.ask("textDocument/hover", _place(path, text, before))
        contents = found["contents"] if found else ""
        return " ".join(map(_text, contents if isinstance(contents, list) else [contents]))

    def ask(self, method: str, parameters: dict[str, Any]) -> Any:
        """The answer to a request; what the server asks meanwhile is answered with nothing."""
        self._asked += 1
        self._send({"id": self._asked, "method": method, "params": parameters})
        while True:
            message = self._receive()
            if "method" in message:
                if "id" in message:
                    self._send({"id": message["id"], "result": _answer(message)})
            elif message.get("id") == self._asked:
                assert "error" not in message, message
                return message["result"]

    def tell(self, method: str, parameters: dict[str, Any]) -> None:
        """A notification."""
        self._send({"method": method, "params": parameters})

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._server.stdin is not None
        self._server.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._server.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._server.stdout is not None
        length = 0
        for line in iter(self._server.stdout.readline, b"\r\n"):
            assert line, "the server has ended"
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        message: dict[str, Any] = json.loads(self._server.stdout.read(length))
        return message


@contextmanager
def editor(language: str, root: Path) -> Iterator[Editor]:
    """An editor that has the folder `root` open, with the server of ``yaml`` or ``json``."""
    program = installed() / "node_modules" / ".bin" / PROGRAMS[language]
    command = [tool("node", "install Node.js 20 or newer"), str(program.resolve()), "--stdio"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as server:
        one = Editor(server, language)
        try:
            documents = {"completion": {}, "hover": {"contentFormat": ["plaintext"]}}
            one.ask(
                "initialize",
                {
                    "processId": None,
                    "rootUri": root.as_uri(),
                    "capabilities": {"textDocument": documents},
                    "initializationOptions": {"handledSchemaProtocols": ["file"]},
                },
            )
            one.tell("initialized", {})
            yield one
        finally:
            server.kill()


def _answer(message: dict[str, Any]) -> Any:
    """What an editor without settings of its own answers to a server."""
    items = message.get("params", {}).get("items") if isinstance(message.get("params"), dict) else 0
    return [None] * len(items) if items else None


def _place(path: Path, text: str, before: str) -> dict[str, Any]:
    lines = text[: text.index(before) + len(before)].split("\n")
    position = {"line": len(lines) - 1, "character": len(lines[-1])}
    return {"textDocument": {"uri": path.as_uri()}, "position": position}


def _text(part: Any) -> str:
    return part["value"] if isinstance(part, dict) else part or ""
