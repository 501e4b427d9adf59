"""Runs a command that listens on every interface in a network namespace of its own.

    python -m tests.services.indoors PORT,PORT COMMAND…

COMMAND has nothing but a loopback interface. Each PORT of 127.0.0.1 in there is carried to the same
port outside, so that COMMAND can reach the servers of a test. Needs root, or user namespaces.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading

from tests.services.loopback import enter_namespace


def hand_out(listener: socket.socket, port: int, door: socket.socket) -> None:
    """Gives each connection accepted inside to the process outside."""
    while True:
        connection, _ = listener.accept()
        socket.send_fds(door, [port.to_bytes(2, "big")], [connection.fileno()])
        connection.close()


def copy(source: socket.socket, target: socket.socket) -> None:
    """Copies bytes one way until their end."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def carry(inner: socket.socket, port: int) -> None:
    """Connects an accepted connection to the port outside."""
    try:
        outer = socket.create_connection(("127.0.0.1", port))
    except OSError:
        inner.close()
        return
    inner.setblocking(True)
    for pair in ((inner, outer), (outer, inner)):
        threading.Thread(target=copy, args=pair, daemon=True).start()


def stay_outside(door: socket.socket) -> None:
    """Carries connections for as long as the process inside lives."""
    while True:
        told, fds, _, _ = socket.recv_fds(door, 2, 1)
        if not told:
            return
        carry(socket.socket(fileno=fds[0]), int.from_bytes(told, "big"))


def go_inside(ports: list[int], door: socket.socket, command: list[str]) -> int:
    """Runs the command in a new namespace; gives its exit status."""
    enter_namespace()
    for port in ports:
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
        threading.Thread(target=hand_out, args=(listener, port, door), daemon=True).start()
    child = subprocess.Popen(command)
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda number, _: child.send_signal(number))
    return child.wait()


def main() -> None:
    """Forks before there is any thread."""
    ports = [int(port) for port in sys.argv[1].split(",") if port]
    outside, inside = socket.socketpair()
    inner = os.fork()
    if inner == 0:
        outside.close()
        os._exit(go_inside(ports, inside, sys.argv[2:]))
    inside.close()
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda number, _: os.kill(inner, number))
    stay_outside(outside)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))


if __name__ == "__main__":
    main()
