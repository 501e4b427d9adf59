"""Servers that answer with an error and a text, each by the protocol of its own driver."""

from __future__ import annotations

import json
import socketserver
import struct
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from xml.sax.saxutils import escape


class Echo:
    """A server whose every error has `text`; a subclass says how.

    `stage` is where it begins to refuse: at the `login`, or at the first `call`.
    """

    stages: ClassVar[tuple[str, ...]] = ("call",)
    text = ""
    stage = "call"
    port: int

    def start(self) -> None:
        """Listens on loopback, on any port."""
        raise NotImplementedError

    def stop(self) -> None:
        """Listens no more."""
        raise NotImplementedError

    @contextmanager
    def running(self) -> Generator[None]:
        """The server, as long as the block goes on."""
        self.start()
        try:
            yield
        finally:
            self.stop()


class HttpEcho(Echo):
    """Answers as JSON, or as the XML of S3 and MaxCompute."""

    def __init__(self, status: int = 401, *, xml: bool = False) -> None:
        self.status, self.xml = status, xml

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def body(self) -> bytes:
        """The error."""
        if self.xml:
            text = escape(self.text)
            return (
                "<?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied</Code>"
                f"<Message>{text}</Message><AWSAccessKeyId>{text}</AWSAccessKeyId>"
                f"<RequestId>{text}</RequestId><HostId>{text}</HostId></Error>"
            ).encode()
        reason = {"type": "x", "reason": self.text, "message": self.text, "code": "c"}
        return json.dumps({"error": reason, "status": self.status}).encode()

    def start(self) -> None:
        """As elsewhere."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                return

            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                body = owner.body()
                self.send_response(owner.status)
                self.send_header("content-type", f"application/{'xml' if owner.xml else 'json'}")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _answer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """As elsewhere."""
        self._server.shutdown()
        self._server.server_close()


class TcpEcho(Echo):
    """Speaks with each client in a thread, as `talk` says."""

    stages = ("login", "call")

    def start(self) -> None:
        """As elsewhere."""
        owner = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                try:
                    owner.talk(self.rfile, self.wfile)
                except (OSError, struct.error):  # the client has had enough
                    return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """As elsewhere."""
        self._server.shutdown()
        self._server.server_close()

    def talk(self, rfile: Any, wfile: Any) -> None:
        """Speaks with one client."""
        raise NotImplementedError


class PostgresEcho(TcpEcho):
    """PostgreSQL: an ErrorResponse whose message, detail, hint and context have the text."""

    def talk(self, rfile: Any, wfile: Any) -> None:
        """As elsewhere."""
        while True:
            (size, code) = struct.unpack("!ii", rfile.read(8))
            rfile.read(size - 8)
            if code not in (80877103, 80877104):
                break
            wfile.write(b"N")  # neither TLS nor GSS
        wfile.write(b"R" + struct.pack("!ii", 8, 3))  # a password, as it is
        self._message(rfile)
        if self.stage == "login":
            # libpq gives only the words of a refused login, by which the reader knows it.
            wfile.write(self._error(b"28P01", "password authentication failed for user "))
            return
        ready = b"Z" + struct.pack("!i", 5) + b"I"
        greeting = b"R" + struct.pack("!ii", 8, 0)
        for name, value in (("server_version", "16.4"), ("client_encoding", "UTF8"),
                            ("standard_conforming_strings", "on")):  # fmt: skip
            data = f"{name}\0{value}\0".encode()
            greeting += b"S" + struct.pack("!i", 4 + len(data)) + data
        wfile.write(greeting + b"K" + struct.pack("!iii", 12, 1, 2) + ready)
        failed = False
        while (kind := self._message(rfile)) not in (b"X", b""):
            if kind == b"Q":
                wfile.write(self._error(b"42501") + ready)
            elif kind == b"S":
                wfile.write(ready)
                failed = False
            elif not failed:
                wfile.write(self._error(b"42501"))
                failed = True

    @staticmethod
    def _message(rfile: Any) -> bytes:
        kind: bytes = rfile.read(1)
        if kind:
            (size,) = struct.unpack("!i", rfile.read(4))
            rfile.read(size - 4)
        return kind

    def _error(self, state: bytes, before: str = "") -> bytes:
        text = (before + self.text).encode()
        fields = [(b"S", b"ERROR"), (b"V", b"ERROR"), (b"C", state)]
        fields += [(name, text) for name in (b"M", b"D", b"H", b"W", b"t", b"c", b"n")]
        data = b"".join(name + value + b"\0" for name, value in fields) + b"\0"
        return b"E" + struct.pack("!i", 4 + len(data)) + data


class MysqlEcho(TcpEcho):
    """MySQL: an ERR packet."""

    def talk(self, rfile: Any, wfile: Any) -> None:
        """As elsewhere."""
        capabilities = 0x0008_A20D  # of protocol 4.1, with a plugin for the login, without TLS
        greeting = b"\x0a8.0.36\0" + struct.pack("<I", 7) + b"saltsalt\0"
        greeting += struct.pack("<HBHH", capabilities & 0xFFFF, 33, 2, capabilities >> 16)
        greeting += b"\x15" + b"\0" * 10 + b"moresaltmore\0mysql_native_password\0"
        self._send(wfile, 0, greeting)
        number, _ = self._packet(rfile)
        if self.stage == "login":
            self._send(wfile, number + 1, self._error(1045, b"28000"))
            return
        self._send(wfile, number + 1, b"\0\0\0\2\0\0\0")
        while True:
            number, data = self._packet(rfile)
            if not data or data[:1] == b"\1":
                return
            told = data[1:4].upper() == b"SET"
            answer = b"\0\0\0\2\0\0\0" if told else self._error(1142, b"42000")
            self._send(wfile, number + 1, answer)

    @staticmethod
    def _packet(rfile: Any) -> tuple[int, bytes]:
        head = rfile.read(4)
        if len(head) < 4:
            return 0, b""
        return head[3], rfile.read(int.from_bytes(head[:3], "little"))

    @staticmethod
    def _send(wfile: Any, number: int, data: bytes) -> None:
        wfile.write(len(data).to_bytes(3, "little") + bytes([number]) + data)

    def _error(self, code: int, state: bytes) -> bytes:
        return b"\xff" + struct.pack("<H", code) + b"#" + state + self.text.encode()


class RedisEcho(TcpEcho):
    """Redis: an error in one line."""

    def talk(self, rfile: Any, wfile: Any) -> None:
        """As elsewhere."""
        while line := rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                words.append(rfile.read(int(rfile.readline()[1:])))
                rfile.readline()
            welcome = self.stage == "call" and words[0].upper() in (b"AUTH", b"CLIENT", b"SELECT")
            kind = "WRONGPASS" if words[0].upper() == b"AUTH" else "NOPERM"
            text = " ".join(self.text.split())
            wfile.write(b"+OK\r\n" if welcome else f"-{kind} {text}\r\n".encode())


class MilvusEcho(Echo):
    """Milvus: the details of a gRPC status, or the reason in an answer of its own."""

    stages = ("login", "call", "details")

    def start(self) -> None:
        """As elsewhere."""
        import grpc

        owner = self

        class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
            def service(self, call: Any) -> Any:
                name = call.method.rpartition("/")[2]

                def answer(_: bytes, context: Any) -> bytes:
                    if name == "Connect" and owner.stage != "login":
                        return owner.answer(name, failed=False)
                    if owner.stage == "call":
                        return owner.answer(name)
                    code = grpc.StatusCode
                    login = owner.stage == "login"
                    context.abort(
                        code.UNAUTHENTICATED if login else code.INVALID_ARGUMENT, owner.text
                    )
                    raise AssertionError("abort raises")

                return grpc.unary_unary_rpc_method_handler(answer)

        self._server = grpc.server(ThreadPoolExecutor(4), handlers=[Handler()])
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def answer(self, name: str, *, failed: bool = True) -> bytes:
        """What a method gives, with the status of a failure."""
        from google.protobuf import message_factory
        from pymilvus.grpc_gen import milvus_pb2

        service = milvus_pb2.DESCRIPTOR.services_by_name["MilvusService"]
        made = message_factory.GetMessageClass(service.methods_by_name[name].output_type)()
        status = made.status if "status" in made.DESCRIPTOR.fields_by_name else made
        if failed:
            status.code, status.error_code, status.reason = 1100, 1, self.text
            status.detail = self.text
        return bytes(made.SerializeToString())

    def stop(self) -> None:
        """As elsewhere."""
        self._server.stop(None).wait()
