"""The program ``vecferry``: the command line, and what ends it before it listens and after."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import Any

INTERRUPTED = 130


def main() -> None:
    """Runs the command line and exits.

    Its imports take a moment, in which a signal would show where one of them was. So Ctrl-C and
    SIGTERM end the process at once, with status 130, until the command line listens. Once a command
    has its status, and has told it, a signal only ends the process earlier.
    """
    status = INTERRUPTED

    def leave(*_: Any) -> None:
        os._exit(status)

    def told(outcome: int) -> None:
        nonlocal status
        status = outcome

    for one in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(one) is not signal.SIG_IGN:  # what is to go on in the background
            signal.signal(one, leave)
    from vecferry.pipelines.cli import app
    from vecferry.threads import LOOK

    outcome = app.run_line(told=told)
    if any(thread.name == LOOK for thread in threading.enumerate()):
        # Such a thread may be in a client's own code, and would break the end of the interpreter.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(outcome)
    sys.exit(outcome)


if __name__ == "__main__":
    main()
