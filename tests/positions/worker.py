"""What tests run in processes of their own, to kill, stop and wake them.

``python -m tests.positions.worker MODE PLACE …``; each line that is printed is printed at once.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from tests.positions.places import opened, positions
from vecferry import durable
from vecferry.positions import folder, lease
from vecferry.positions.holder import Holder
from vecferry.positions.lease import Lease, LeaseLost
from vecferry.positions.position import Position
from vecferry.positions.store import Positions

STATUS_LOST = 3


def say(*words: object) -> None:
    """Prints a line, which the reader has even if this process is killed next."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def at(n: int) -> Position:
    """The position after so many rounds."""
    return Position(epoch=1, identity="t", phase="changes", at=n)


def last(positions: Positions) -> int:
    """After how many rounds the stored position is."""
    stored = positions.load()
    return stored.position.at if stored and stored.position else 0


CLIENTS = {
    "folder": "os",
    "redis": "redis",
    "s3": "boto3",
    "oss": "boto3",
    "gcs": "google.cloud.storage",
    "hdfs": "requests",
}
"""What a place of each kind imports, once for all processes that are forked."""


def race(name: str, processes: str, count: str) -> None:
    """Creates the same names in several processes at once; tells who got each."""
    importlib.import_module(CLIENTS[json.loads(name)["kind"]])
    begin = multiprocessing.get_context("fork").Barrier(int(processes))

    def run(process: int) -> None:
        with opened(name) as place:
            place.names()  # connected
            begin.wait(300)
            for i in range(int(count)):
                if place.create(f"name-{i}", f"{process} {i}".encode()):
                    say("made", i, process)

    children = [
        multiprocessing.get_context("fork").Process(target=run, args=(i,))
        for i in range(int(processes))
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0


def keep_storing(name: str, interval: str = "0") -> None:
    """Stores one position after another until it is killed, or has lost the lease."""
    with positions(name, store=0) as store:
        held = store.take(Holder(run=f"run-{os.getpid()}"))
        n = held.stored.position.at if held.stored.position else 0
        say("taken", n)
        try:
            while True:
                n += 1
                if held.store(at(n)):
                    say("stored", n)
                time.sleep(float(interval))
        except LeaseLost as e:
            say("lost", e)
            sys.exit(STATUS_LOST)


def hold(name: str) -> None:
    """Holds the lease, with the place's own pace, until a line comes or it has lost the lease."""
    with positions(name) as store:
        held = store.take(Holder(run=f"run-{os.getpid()}"))
        say("taken")
        done = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.readline(), done.set()), daemon=True).start()
        while not done.wait(0.05):
            if held.lost.is_set():
                say("lost")
                sys.exit(STATUS_LOST)
        held.release()


def fork(work: Any) -> int:
    """Runs `work` in a child; gives its exit status, or minus the signal that killed it."""
    child = os.fork()
    if not child:
        status = 99
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


STORING = {
    function.__code__
    for function in (
        durable.create_file,
        durable.sync_folder,
        folder.FolderPlace.create,
        folder.FolderPlace.remove,
        lease.create,
        Lease.store,
        Lease.flush,
        Lease._create,
        Positions.take,
    )
}
"""The code that changes a folder; what only looks, looks at each of twenty names."""


def killed_at(line: int, work: Any) -> None:
    """Does `work`, and is killed before the given line of the code that stores."""
    left = line

    def count(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code not in STORING:
            return None
        if event == "line":
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return count

    sys.settrace(count)
    work()
    sys.settrace(None)


def at_each_line(name: str, step: str = "1") -> None:
    """Takes the lease and stores, killed before each line of code in turn; checks after each."""
    line = 1 - int(step)
    reported = 0
    while True:
        line += int(step)
        read, write = os.pipe()

        def run(line: int = line, write: int = write) -> None:
            held: list[Lease] = []

            def work() -> None:
                with positions(name, store=0) as store:
                    held.append(store.take(Holder(run=f"run-{line}")))
                    n = last(store) + 1
                    held[0].store(at(n))
                    os.write(write, b"%d" % n)

            killed_at(line, work)

        status = fork(run)
        os.close(write)
        told = os.read(read, 100)
        os.close(read)
        reported = max(reported, int(told or 0))
        with positions(name) as store:
            found = last(store)
        assert reported <= found <= reported + 1, (line, reported, found)
        reported = found

        def again(n: int = reported + 1) -> None:
            with positions(name, store=0) as store, store.take(Holder(run="after")) as held:
                assert held.store(at(n)), "storing is blocked"

        assert fork(again) == 0, f"after a kill before line {line}"
        reported += 1
        if status == 0:
            say("lines", line, "stored", reported)
            return
        assert status == -signal.SIGKILL, (line, status)


if __name__ == "__main__":
    mode, *arguments = sys.argv[1:]
    {"race": race, "store": keep_storing, "hold": hold, "lines": at_each_line}[mode](*arguments)
