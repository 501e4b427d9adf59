"""A MaxCompute server for tests: the REST and Tunnel protocols as pyodps speaks them.

In a test: ``with OdpsServer() as server:``, ``server.add(Table(…))`` and ``server.connection()``.
As a process of its own, for benches and pages: ``python -m tests.odps_server --rows 1000000``
prints its endpoint and serves until its standard input ends; ``python -m tests.odps_server vecferry
preview job.json`` runs a command that finds ODPS_ENDPOINT, ODPS_PROJECT, ODPS_ID and ODPS_KEY set.
It listens on 127.0.0.1 only.

What it speaks was learned from pyodps 0.13 and the vendor's pages, not from a real project: see
docs/odps.md.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import itertools
import json
import os
import re
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pyarrow as pa
from odps.tunnel.checksum import Checksum
from odps.tunnel.io.types import odps_type_to_arrow_type
from odps.types import validate_data_type

CHUNK = 1 << 18
_SELECT = re.compile(
    r"SELECT (?P<what>.*?)\s+FROM\s+`(?P<project>\w+)`\.`(?P<table>\w+)`(?P<rest>.*)", re.S | re.I
)


def arrow_type(kind: str, *, of_instance: bool = False) -> pa.DataType:
    """How a column is sent; the instance tunnel sends a TIMESTAMP as a struct."""
    if kind == "json":
        return pa.string()
    found = odps_type_to_arrow_type(validate_data_type(kind))
    if of_instance and pa.types.is_timestamp(found) and found.unit == "ns":
        return pa.struct([("sec", pa.int64()), ("nano", pa.int32())])
    return found


class Rows:
    """The rows of a table or partition, held in memory."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __len__(self) -> int:
        return self.table.num_rows

    def read(
        self, start: int, count: int, columns: list[str], step: int
    ) -> Iterator[pa.RecordBatch]:
        """Record batches of at most `step` rows."""
        part = self.table.select(columns).slice(start, count).combine_chunks()
        yield from part.to_batches(max_chunksize=step)


class Endless:
    """As many rows as one likes, all of one batch that is sent over and over."""

    def __init__(self, batch: pa.RecordBatch, rows: int) -> None:
        self.batch, self.rows = batch, rows

    def __len__(self) -> int:
        return self.rows

    def read(
        self, start: int, count: int, columns: list[str], step: int
    ) -> Iterator[pa.RecordBatch]:
        """The batch as often as it takes; `step` is its own size."""
        chosen = self.batch.select(columns)
        while count > 0:
            yield chosen.slice(0, min(count, chosen.num_rows))
            count -= chosen.num_rows


@dataclass
class Table:
    """A table; `columns` and `keys` are name to type, `rows` spec (``pt=1``) to a list of dicts."""

    name: str
    columns: dict[str, str]
    rows: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    kind: str = "MANAGED_TABLE"
    primary_key: list[str] | None = None
    modified: int = 1_700_000_000

    def __post_init__(self) -> None:
        self.rows = {spec: self.held(rows) for spec, rows in self.rows.items()}

    def held(self, rows: Any) -> Any:
        """Rows given as dicts, as they are kept."""
        if not isinstance(rows, list):
            return rows
        fields = [pa.field(n, arrow_type(k)) for n, k in self.columns.items()]
        return Rows(pa.Table.from_pylist(rows, schema=pa.schema(fields)))

    def all_rows(self) -> pa.Table:
        """All partitions, with their keys as columns."""
        parts = []
        for spec, rows in self.rows.items():
            part = rows.table
            for pair in filter(None, spec.split(",")):
                key, value = pair.split("=")
                kind = arrow_type(self.keys[key])
                filled = pa.array([value] * len(rows), pa.string()).cast(kind)
                part = part.append_column(pa.field(key, kind), filled)
            parts.append(part)
        return pa.concat_tables(parts)

    def schema(self, *names: str) -> dict[str, Any]:
        """The table's columns as JSON, only those in `names` where some are given."""

        def columns(of: dict[str, str]) -> list[dict[str, str]]:
            return [{"name": n, "type": k} for n, k in of.items() if not names or n in names]

        return {"columns": columns(self.columns), "partitionKeys": columns(self.keys)}


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


@dataclass
class Instance:
    """A query: its result or its error, and how often its state is still 'running'."""

    result: Rows | None = None
    columns: dict[str, str] = field(default_factory=dict)
    error: str = ""
    looks: int = 1
    query: str = ""
    stopped: bool = False


@dataclass
class Fault:
    """`what` happens to the next `times` requests of a `kind`, after `skip` of them."""

    kind: str
    what: str
    times: float = 1
    skip: int = 0


class OdpsServer:
    """The server and what it has seen.

    `seen` holds (kind, path, parameters) of each request; kinds are project, tables, table,
    partitions, partition, session, attach, data, query, state, result. `rows_sent` counts the rows
    that went out whole.
    """

    def __init__(
        self, *, project: str = "shop", access_id: str = "id-of-the-test",
        access_key: str = "key-of-the-test", token: str | None = None, batch_rows: int = 1000,
    ) -> None:  # fmt: skip
        self.project, self.access_id, self.access_key, self.token = (
            project, access_id, access_key, token,
        )  # fmt: skip
        self.batch_rows, self.chunk = batch_rows, CHUNK
        self.tables: dict[str, Table] = {}
        self.quotas: set[str] = {"exclusive"}
        self.sessions: dict[str, Session] = {}
        self.instances: dict[str, Instance] = {}
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.rows_sent = 0
        self.denied: set[str] = set()
        self.session_requests: int | None = None
        self.query_looks = 1
        self.lock = threading.Lock()
        self.on_request: Callable[[str], None] = lambda kind: None

    def __enter__(self) -> OdpsServer:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.owner = self  # type: ignore[attr-defined]
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def endpoint(self) -> str:
        """What a data source names as `endpoint`."""
        return f"http://127.0.0.1:{self.port}/api"

    def connection(self, **changes: Any) -> dict[str, Any]:
        """A data source for this server."""
        return {
            "type": "odps", "endpoint": self.endpoint, "project": self.project,
            "accessId": self.access_id, "accessKey": self.access_key, **changes,
        }  # fmt: skip

    def add(self, table: Table) -> Table:
        """Adds a table."""
        self.tables[table.name] = table
        return table

    def replace(self, name: str, spec: str, rows: list[dict[str, Any]]) -> None:
        """Writes a partition anew, as an INSERT OVERWRITE does."""
        table = self.tables[name]
        table.rows[spec] = table.held(rows)
        table.modified += 1

    def fail(self, kind: str, what: str, *, times: float = 1, skip: int = 0) -> None:
        """From now on 500, 503, 429, reset, close, cut, short, lost (session) or quota (refused).

        ``reset`` and ``close`` break the connection in the middle of the body, ``cut`` ends the
        body within a chunk, ``short`` ends it well-formed after half of the rows.
        """
        self.faults.append(Fault(kind, what, times, skip))

    def fault(self, kind: str) -> str:
        """The fault for a request of a kind, or an empty text."""
        with self.lock:
            for fault in self.faults:
                if fault.kind == kind:
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    if fault.times > 0:
                        fault.times -= 1
                        return fault.what
        return ""

    def count(self, kind: str) -> int:
        """How many requests of a kind came."""
        with self.lock:
            return sum(k == kind for k, _, _ in self.seen)

    def lose_sessions(self) -> None:
        """Forgets all download sessions, as after 24 hours."""
        with self.lock:
            for session in self.sessions.values():
                session.alive = False


class _Handler(BaseHTTPRequestHandler):
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
        instance = _executed(self.server_state, text)
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


def _executed(server: OdpsServer, query: str) -> Instance:
    """Runs a query of the form SELECT columns FROM table WHERE condition, by SQLite."""
    explained = query.strip().upper().startswith("EXPLAIN")
    found = _SELECT.search(query)
    if found is None or found["project"] != server.project:
        return Instance(error="ODPS-0130161:[1,1] Parse exception - invalid query", query=query)
    table = server.tables.get(found["table"])
    if table is None:
        return Instance(error="ODPS-0130131:[1,1] Table not found", query=query)
    whole = table.all_rows()
    names = [n.strip("`") for n in re.findall(r"`\w+`(?=\s*(?:,|$))", found["what"])]
    kinds = {**table.columns, **table.keys}
    columns = {n: "string" if kinds[n] == "json" else kinds[n] for n in names}
    try:
        chosen = _row_numbers(whole, found["rest"])
    except sqlite3.Error as e:
        return Instance(error=f"ODPS-0130071:[1,1] Semantic analysis exception - {e}", query=query)
    result = whole.select(names).take(pa.array([] if explained else chosen, pa.int64()))
    sent = pa.table([_as_sent(result.column(n), columns[n]) for n in names], names=names)
    return Instance(result=Rows(sent), columns=columns, query=query)


def _as_sent(column: pa.ChunkedArray, kind: str) -> pa.Array:
    wanted, array = arrow_type(kind, of_instance=True), column.combine_chunks()
    if not pa.types.is_struct(wanted) or pa.types.is_struct(array.type):
        return array
    ticks = array.cast(pa.int64()).to_pylist()
    split = [None if t is None else {"sec": t // 10**9, "nano": t % 10**9} for t in ticks]
    return pa.array(split, wanted)


def _row_numbers(table: pa.Table, rest: str) -> list[int]:
    plain = (int, float, str, bool, type(None))
    db = sqlite3.connect(":memory:")
    names = ", ".join(f'"{n}"' for n in table.column_names)
    db.execute(f'CREATE TABLE t ("_row", {names})')
    marks = ", ".join("?" * (table.num_columns + 1))
    rows = (
        (n, *(v if isinstance(v, plain) else str(v) for v in row.values()))
        for n, row in enumerate(table.to_pylist())
    )
    db.executemany(f"INSERT INTO t VALUES ({marks})", rows)
    where = rest.strip().rstrip(";").replace(" AS DATE)", " AS TEXT)")
    return [n for (n,) in db.execute(f'SELECT "_row" FROM t {where} ORDER BY "_row"')]


def wide_batch(rows: int = 4096) -> pa.RecordBatch:
    """A batch for benches: an id, a text of about 100 characters, a number and a time."""
    return pa.RecordBatch.from_pydict(
        {
            "id": pa.array(range(rows), pa.int64()),
            "text": [
                f"row {i} tells at some length of thing {i * 7919} " + "x" * 60 for i in range(rows)
            ],
            "price": pa.array([i / 7 for i in range(rows)], pa.float64()),
            "seen": pa.array([1_700_000_000_000 + i for i in range(rows)], pa.timestamp("ms")),
        }
    )


WIDE = {"id": "bigint", "text": "string", "price": "double", "seen": "datetime"}


def main() -> None:
    """Serves tables `wide`, of so many rows, and `reviews`, each in partitions of `ds`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    reviews = [
        {"id": 1, "text": "a fine bicycle", "stars": 5},
        {"id": 2, "text": "the saddle hurts", "stars": 2},
    ]
    columns, keys = {"id": "bigint", "text": "string", "stars": "int"}, {"ds": "string"}
    with OdpsServer() as server:
        server.add(Table("wide", WIDE, {"ds=1": Endless(wide_batch(), arguments.rows)}, keys))
        server.add(Table("reviews", columns, {"ds=20240101": reviews}, keys))
        if arguments.command:
            places = {
                "ODPS_ENDPOINT": server.endpoint, "ODPS_PROJECT": server.project,
                "ODPS_ID": server.access_id, "ODPS_KEY": server.access_key,
            }  # fmt: skip
            done = subprocess.run(arguments.command, env={**os.environ, **places}, check=False)
            raise SystemExit(done.returncode)
        print(server.endpoint, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
