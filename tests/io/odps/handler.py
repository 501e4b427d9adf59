"""What the MaxCompute server of the tests answers to a request."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import socket
import struct
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pyarrow as pa
from odps.tunnel.checksum import Checksum

from tests.io.odps.query import Instance, executed
from tests.io.odps.tables import Table

if TYPE_CHECKING:
    from tests.io.odps.server import OdpsServer


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass
class Session:
    """A download session: the rows as they were when it was made."""

    rows: Any
    columns: dict[str, str]
    schema: dict[str, Any]
    where: str
    alive: bool = True
    asked: int = 0


class Handler(BaseHTTPRequestHandler):
    """One connection; the server's `owner` is the `OdpsServer`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_PUT = do_GET

    def _handle(self) -> None:
        self.server_state: OdpsServer = self.server.owner  # type: ignore[attr-defined]
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else b""
        parts = urlsplit(self.path)
        self.params = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.steps = [unquote(s) for s in parts.path.strip("/").split("/")]
        self.in_tunnel = self.steps[0] != "api"
        if not self.in_tunnel:
            self.steps = self.steps[1:]
        kind = self._kind()
        state = self.server_state
        with state.lock:
            state.seen.append((kind, parts.path, self.params))
        state.on_request(kind)
        try:
            self._authorize(parts)
            self._planned(kind)
            getattr(self, f"_{kind}")()
        except Refused as e:
            self._refuse(e)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _kind(self) -> str:
        has = self.params.__contains__
        if self.in_tunnel:
            return "session" if self.command == "POST" else "data" if has("data") else "attach"
        depth, what = len(self.steps), self.steps[2] if len(self.steps) > 2 else ""
        if has("service"):
            return "service"
        if what == "instances":
            return "query" if self.command == "POST" else "result" if has("result") else "state"
        if what == "tables" and depth > 3:
            part = "partitions" if has("partitions") else "partition" if has("partition") else ""
            return part or "table"
        return (
            "tables" if what == "tables" else "projects" if self.steps == ["projects"] else "other"
        )

    def _planned(self, kind: str) -> None:
        self.fault = self.server_state.fault(kind)
        if self.fault in ("500", "503"):
            code = "InternalServerError" if self.fault == "500" else "ServiceUnavailable"
            raise Refused(int(self.fault), code, "Service internal error, please try again later")
        if self.fault == "429":
            raise Refused(429, "FlowExceeded", "Your flow quota is exceeded")
        if self.fault == "quota" and "quotaName" in self.params:
            raise Refused(400, "InvalidArgument", "The tunnel quota is overdue or has expired")
        if self.fault == "lost":
            raise Refused(404, "NoSuchDownload", "The specified download id does not exist")
        if self.fault == "reset" and kind != "data":
            self._reset()
            raise ConnectionResetError
        quota = self.params.get("quotaName")
        if quota is not None and quota not in self.server_state.quotas:
            raise Refused(400, "InvalidArgument", f"The tunnel quota {quota} does not exist")

    def _authorize(self, parts: Any) -> None:
        state = self.server_state
        given = self.headers.get("Authorization", "")
        identity, _, signature = given.removeprefix("ODPS ").rpartition(":")
        if identity != state.access_id:
            raise Refused(
                404 if not self.in_tunnel else 401,
                "ODPS-0410042",
                f"Invalid signature value - AccessKeyId not found: {identity}",
            )
        signed = {k.lower(): v for k, v in self.headers.items()}
        lines = {k: v for k, v in signed.items() if k.startswith("x-odps-")}
        lines |= {k: signed.get(k, "") for k in ("content-type", "content-md5", "date")}
        texts = [f"{k}:{v}" if k.startswith("x-odps-") else v for k, v in sorted(lines.items())]
        path = unquote(parts.path) if self.in_tunnel else unquote(parts.path)[len("/api") :]
        query = "&".join(f"{k}={v}" if v else k for k, v in sorted(self.params.items()))
        text = "\n".join([self.command, *texts, f"{path}?{query}" if query else path])
        digest = hmac.new(state.access_key.encode(), text.encode(), hashlib.sha1).digest()
        if base64.b64encode(digest).decode() != signature:
            raise Refused(
                401,
                "ODPS-0410042",
                "Invalid signature value - The request signature we calculated does not match",
            )
        if state.token and signed.get("authorization-sts-token") != state.token:
            raise Refused(
                401, "ODPS-0410051", "Invalid credentials - the security token is invalid"
            )
        if len(self.steps) > 1 and self.steps[1] != state.project:
            raise Refused(
                404, "NoSuchProject", f"The specified project name does not exist: {self.steps[1]}"
            )

    # --- answers

    def _refuse(self, error: Refused) -> None:
        if self.in_tunnel:
            body = json.dumps({"Code": error.code, "Message": error.message})
        else:
            body = (
                f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message>"
                "<RequestId>REQ1</RequestId><HostId>here</HostId></Error>"
            )
        self._answer(body, status=error.status)

    def _answer(self, body: str, *, status: int = 200, **headers: str) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("x-odps-request-id", "REQ1")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.wfile.flush()
        self.connection.close()

    def _other(self) -> None:
        raise Refused(404, "NoSuchObject", f"nothing at {self.path}")

    def _service(self) -> None:
        self._answer(f"127.0.0.1:{self.server_state.port}")

    def _projects(self) -> None:
        self._answer(
            f"<Projects><Project><Name>{self.server_state.project}</Name></Project></Projects>"
        )

    def _tables(self) -> None:
        names = "".join(f"<Table><Name>{n}</Name></Table>" for n in self.server_state.tables)
        self._answer(f"<Tables>{names}</Tables>")

    def _found(self) -> Table:
        name = self.steps[3].lower()
        if name not in self.server_state.tables:
            raise Refused(404, "NoSuchTable", f"ODPS-0130131: Table not found - {name}")
        if name in self.server_state.denied:
            raise Refused(
                403, "NoPermission", f"ODPS-0420095: Access Denied - no Describe on {name}"
            )
        return self.server_state.tables[name]

    def _table(self) -> None:
        table = self._found()
        schema: dict[str, Any] = {
            **table.schema(), "lastModifiedTime": table.modified,
            "isVirtualView": table.kind == "VIRTUAL_VIEW",
        }  # fmt: skip
        if "extended" in self.params and table.primary_key:
            schema["Reserved"] = json.dumps(
                {"Transactional": "true", "PrimaryKey": table.primary_key}
            )
        self._answer(
            f"<Table><Name>{table.name}</Name><Type>{table.kind}</Type>"
            f'<Schema format="Json"><![CDATA[{json.dumps(schema)}]]></Schema></Table>'
        )

    def _partitions(self) -> None:
        # Two pages, to see that the marker is followed.
        specs = list(self._found().rows)
        half, marker = (len(specs) + 1) // 2, self.params.get("marker")
        page = specs[half:] if marker else specs[:half]
        entries = "".join(
            "<Partition>"
            + "".join('<Column Name="{}" Value="{}"/>'.format(*p.split("=")) for p in s.split(","))
            + "</Partition>"
            for s in page
        )
        self._answer(
            f"<Partitions><Marker>{'' if marker else 'next'}</Marker>{entries}</Partitions>"
        )

    def _spec(self, table: Table) -> str:
        spec = self.params.get("partition", "").replace("'", "").replace("/", ",")
        if bool(table.keys) != bool(spec):
            raise Refused(
                400,
                "InvalidPartitionSpec",
                "You need to specify a partitionspec along with the specified table",
            )
        if spec not in table.rows:
            raise Refused(404, "NoSuchPartition", "The specified partition does not exist")
        return spec

    def _partition(self) -> None:
        table = self._found()
        self._spec(table)
        schema = json.dumps({"lastModifiedTime": table.modified})
        self._answer(f"<Partition><Schema><![CDATA[{schema}]]></Schema></Partition>")

    # --- the tunnel

    def _session(self) -> None:
        state = self.server_state
        if self.steps[2] == "instances":
            instance = self._instance()
            if instance.result is None or instance.looks > 0:
                raise Refused(400, "InstanceNotTerminate", "The instance does not terminate")
            columns = [{"name": n, "type": k} for n, k in instance.columns.items()]
            session = Session(
                instance.result, instance.columns, {"columns": columns}, self.steps[3]
            )
        else:
            table = self._found()
            if table.kind != "MANAGED_TABLE" or table.primary_key:
                raise Refused(
                    400, "InvalidArgument", f"{table.kind} can't be downloaded by the table tunnel"
                )
            spec = self._spec(table)
            session = Session(
                table.rows[spec], table.columns, table.schema(), f"{table.name}/{spec}"
            )
        name = uuid.uuid4().hex
        with state.lock:
            state.sessions[name] = session
        self._describe(name, session, "initiating" if "asyncmode" in self.params else "normal")

    def _describe(self, name: str, session: Session, status: str) -> None:
        self._answer(
            json.dumps(
                {
                    "DownloadID": name,
                    "Status": status,
                    "RecordCount": len(session.rows),
                    "Schema": session.schema,
                }
            )
        )

    def _known(self) -> Session:
        state, name = self.server_state, self.params["downloadid"]
        session = state.sessions.get(name)
        if session is None:
            raise Refused(404, "NoSuchDownload", "The specified download id does not exist")
        session.asked += 1
        if state.session_requests is not None and session.asked > state.session_requests:
            session.alive = False
        if not session.alive:
            raise Refused(400, "StatusConflict", "The download session is expired")
        return session

    def _attach(self) -> None:
        self._describe(self.params["downloadid"], self._known(), "normal")

    def _data(self) -> None:
        session, state = self._known(), self.server_state
        start, count = map(int, self.params["rowrange"].strip("()").split(","))
        self.asked = count
        if start < 0 or count < 1 or start + count > len(session.rows):
            raise Refused(400, "InvalidRowRange", "The specified row range is not valid")
        asked = self.params.get("columns", "").split(",") if "columns" in self.params else None
        unknown = set(asked or ()) - set(session.columns)
        if unknown:
            raise Refused(
                400, "InvalidColumnSpec", f"The specified columns is not valid: {sorted(unknown)}"
            )
        names = [n for n in session.columns if asked is None or n in asked]
        if self.steps[2] == "tables" and any(session.columns[n] == "json" for n in names):
            raise Refused(400, "InvalidArgument", "json has no Arrow form")
        batches = session.rows.read(start, count, names, state.batch_rows)
        deflate = "deflate" in self.headers.get("Accept-Encoding", "")
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        if deflate:
            self.send_header("Content-Encoding", "deflate")
        self.end_headers()
        if self.fault == "short":
            batches = itertools.islice(batches, max(1, -(-count // state.batch_rows) // 2))
        self._send(batches, zlib.compressobj() if deflate else None)

    def _send(self, batches: Iterator[pa.RecordBatch], packer: Any) -> None:
        def out(data: bytes) -> None:
            data = packer.compress(data) if packer else data
            if data:
                self.wfile.write(b"%x\r\n" % len(data) + data + b"\r\n")

        size = self.server_state.chunk
        out(struct.pack("!I", size))
        held, whole, sent = bytearray(), Checksum(), 0
        for batch in batches:
            held += batch.serialize()
            sent += batch.num_rows
            with self.server_state.lock:
                self.server_state.rows_sent += batch.num_rows
            while len(held) >= size:
                chunk = bytes(held[:size])
                del held[:size]
                whole.update(chunk)
                out(chunk + _crc(chunk))
            if self.fault in ("reset", "close") and sent * 2 >= self.asked:
                self.wfile.write(b"%x\r\n" % (len(held) + 9) + bytes(held))
                self.close_connection = True
                if self.fault == "reset":
                    self._reset()
                return
        last = bytes(held)
        whole.update(last)
        checksum = struct.pack("!I", int(whole.getvalue()))
        out(last[: len(last) // 2] if self.fault == "cut" else last + checksum)
        tail = packer.flush() if packer else b""
        self.wfile.write((b"%x\r\n" % len(tail) + tail + b"\r\n" if tail else b"") + b"0\r\n\r\n")

    # --- SQL

    def _instance(self) -> Instance:
        found = self.server_state.instances.get(self.steps[3])
        if found is None:
            raise Refused(404, "NoSuchObject", "no such instance")
        return found

    def _query(self) -> None:
        text = ElementTree.fromstring(self.body).findtext(".//Query") or ""
        name = f"2024{uuid.uuid4().hex[:16]}"
        instance = executed(self.server_state.project, self.server_state.tables, text)
        instance.looks = self.server_state.query_looks
        self.server_state.instances[name] = instance
        self._answer(
            "",
            status=201,
            Location=f"{self.server_state.endpoint}/projects/{self.steps[1]}/instances/{name}",
        )

    def _state(self) -> None:
        instance = self._instance()
        if self.command == "PUT":
            instance.stopped = True
        if "taskstatus" in self.params:
            status = "Failed" if instance.error else "Success"
            task = f"<Name>AnonymousSQLTask</Name><Status>{status}</Status>"
            tasks = f'<Tasks><Task Type="SQL">{task}</Task></Tasks>'
            self._answer(f"<Instance><Status>Terminated</Status>{tasks}</Instance>")
            return
        instance.looks -= 1
        status = "Running" if instance.looks >= 0 else "Terminated"
        instance.looks = max(instance.looks, 0)
        self._answer(f"<Instance><Status>{status}</Status></Instance>")

    def _result(self) -> None:
        text = self._instance().error or "done"
        self._answer(
            '<Instance><Tasks><Task Type="SQL"><Name>AnonymousSQLTask</Name>'
            f'<Result Format="text"><![CDATA[{text}]]></Result></Task></Tasks></Instance>'
        )


def _crc(data: bytes) -> bytes:
    checksum = Checksum()
    checksum.update(data)
    return struct.pack("!I", int(checksum.getvalue()))
