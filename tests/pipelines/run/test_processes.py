"""What a launcher sends to a worker that is about to be gone."""

from __future__ import annotations

import subprocess
import sys
import threading
from multiprocessing import Pipe

from tests.services.server import eventually
from vecferry.pipelines.run.processes import _Worker


def test_a_block_that_is_under_way_to_a_worker_that_is_gone_is_let_go() -> None:
    """Whoever listens closes the pipe meanwhile; it waits until nobody sends."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        here, there = Pipe()
        worker = _Worker("worker 1 of 1", 0, process, here)
        raised: list[BaseException] = []

        def send() -> None:
            try:
                worker.send("rows", bytes(4 << 20))
            except BaseException as e:
                raised.append(e)

        sending = threading.Thread(target=send, daemon=True)
        sending.start()
        eventually(lambda: there.poll(0))
        closing = threading.Thread(target=worker.close, daemon=True)
        closing.start()
        there.close()
        sending.join(60)
        closing.join(60)
        assert (sending.is_alive(), closing.is_alive(), raised) == (False, False, [])
        worker.send("rows", b"")
