"""Runs a server that listens on every interface where it can be reached from this machine alone.

    python loopback.py PORT:INNER COMMAND…

listens on 127.0.0.1:PORT, runs COMMAND in a network namespace that has nothing but a loopback
interface, and carries each connection to port INNER in there. SIGTERM ends the command's whole
process group by SIGINT, then by SIGKILL. If this process is killed, the command gets SIGINT. Needs
root, or user namespaces.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
PR_SET_PDEATHSIG = 1
STOP_SECONDS = 10.0


def enter_namespace() -> None:
    """Moves this process into a new network namespace and switches its loopback interface on."""
    flags = CLONE_NEWNET | (CLONE_NEWUSER if os.geteuid() else 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "no network namespace can be made here")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def end_with_parent() -> None:
    """Lets this process get SIGINT once its parent is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copies bytes one way until their end."""
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def serve(listener: socket.socket, inner: int, command: list[str]) -> int:
    """Carries connections for as long as the command runs; gives its exit status."""
    child = subprocess.Popen(command, start_new_session=True, preexec_fn=end_with_parent)
    stopping = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", inner)
        except OSError:
            writer.close()
            return
        await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await asyncio.start_server(connected, sock=listener)
    while child.poll() is None and not stopping.is_set():
        await asyncio.sleep(0.1)
    for sig in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, sig)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    return child.wait()


def main() -> int:
    """Listens first: a socket stays in the namespace that it was made in."""
    port, _, inner = sys.argv[1].partition(":")
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(port)))
    listener.listen(128)
    enter_namespace()
    return asyncio.run(serve(listener, int(inner), sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
