"""Writing to a server, Milvus 2.3.5 and Milvus Lite: from several processes, and one that dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from pymilvus import MilvusClient
from pymilvus.client.types import LoadState
from pymilvus.exceptions import MilvusException

from tests.io.milvus.support import Lite, rows, vector, write
from tests.services.milvus import MilvusServer
from tests.services.server import eventually, free_port, running
from vecferry.io.milvus import MilvusConnection
from vecferry.io.milvus.target import MilvusTarget
from vecferry.rows import Change, Reject
from vecferry.steps import StepContext

pytestmark = [pytest.mark.service, pytest.mark.slow]

PATIENCE_MS = 120_000
"""For each answer of a server that may just have been killed, and started again."""


class LiteServer:
    """`milvus-lite server` on a free port of this machine, in a process group of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        endpoint = f"http://127.0.0.1:{self.port}"
        self.connection = MilvusConnection(endpoint=endpoint, connect_timeout_ms=PATIENCE_MS)

    def start(self):
        command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(self.folder)]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        with open(self.folder.parent / "server.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        eventually(self.answers)

    def answers(self):
        assert self.process.poll() is None, (self.folder.parent / "server.log").read_text()
        with contextlib.suppress(MilvusException):
            client = MilvusClient(self.connection.endpoint, timeout=10)
            client.list_collections()
            client.close()
            return True
        return False

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class RealServer:
    """The server of the whole session; its collections are dropped after each test."""

    def __init__(self):
        self._server = running(MilvusServer)
        self.connection = MilvusConnection(
            endpoint=self._server.uri, connect_timeout_ms=PATIENCE_MS
        )
        self._loaded = []

    def kill(self):
        client = MilvusClient(self._server.uri)
        # What another test left without an index can never be loaded.
        self._loaded = [n for n in client.list_collections() if self._is_loaded(client, n)]
        client.close()
        self._server.kill()

    def start(self):
        self._server.start()
        client = MilvusClient(self._server.uri)
        for name in self._loaded:
            eventually(lambda name=name: self._loads(client, name))
        client.close()

    @staticmethod
    def _is_loaded(client, name):
        return client.get_load_state(name)["state"] == LoadState.Loaded

    @staticmethod
    def _loads(client, name):
        """A server that has just come back may not know yet that a collection has an index."""
        try:
            client.load_collection(name)
        except MilvusException as e:
            if "index not found" not in str(e):
                raise
            return False
        return True

    def clear(self):
        client = MilvusClient(self._server.uri)
        for name in client.list_collections():
            client.drop_collection(name)
        client.close()


@pytest.fixture(params=["lite", "milvus"])
def server(tmp_path, request):
    if request.param == "milvus":
        real = RealServer()
        yield real
        real.clear()
        return
    server = LiteServer(tmp_path / "data")
    server.start()
    yield server
    server.kill()


def target_on(server, tmp_path, **more):
    context = StepContext(step="Writer", step_type="milvus", retry_deadline=300)
    target = MilvusTarget(Lite(tmp_path).settings(**more), server.connection, context)
    target.check()
    target.prepare()
    return target


def test_a_log_of_changes_on_a_server_loses_nothing(server, tmp_path):
    """Rows, updates and deletes end as the last change of each key says."""
    target = target_on(server, tmp_path, batchSize=50)
    log = [*rows(2000), *rows(500), *(Change({"id": i}, kind="-D") for i in range(100))]
    written, rejects = write(target, log)
    assert (len(written), rejects) == (2600, [])
    assert target.row_count() == 1900
    assert target.search(vector(1500), 1)[0]["id"] == 1500


@pytest.mark.in_turn("server")
def test_a_server_killed_in_the_middle_costs_no_row(server, tmp_path):
    """It comes back with what it had acknowledged; the rest is sent again, nothing rejected."""
    target = target_on(server, tmp_path, batchSize=100)
    operator = target.operator()
    out = []
    for i, row in enumerate(rows(5000)):
        out += operator.process(Change(row))
        if i == 2500:
            server.kill()
            server.start()
    out += operator.finish()
    assert len(out) == 5000
    assert not any(isinstance(item, Reject) for item, _ in out)
    assert target.row_count() == 5000


def test_two_processes_write_to_one_server(server, tmp_path):
    """What a file refuses, a server takes."""
    target = target_on(server, tmp_path)
    program = f"""
from pathlib import Path
from tests.io.milvus.support import Lite, rows, write
from vecferry.io.milvus import MilvusConnection
from vecferry.io.milvus.target import MilvusTarget
from vecferry.steps import StepContext
target = MilvusTarget(Lite(Path("/nowhere")).settings(),
    MilvusConnection(endpoint={server.connection.endpoint!r}),
    StepContext(step="Writer", step_type="milvus"))
print(len(write(target, rows(300, 1000))[0]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.strip() == "300"
    write(target, rows(200))
    assert target.row_count() == 500
