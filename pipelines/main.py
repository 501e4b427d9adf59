"""The program ``vecferry``: the command line, and a quiet end while its modules are imported."""

from __future__ import annotations

import os
import signal
from typing import Any

INTERRUPTED = 130


def main() -> None:
    """Runs the command line and exits; Ctrl-C ends it at once with status 130 until it has begun.

    Its imports take a moment, in which an interrupt would show where one of them was.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # what a shell starts in the background is to go on
        signal.signal(signal.SIGINT, _leave)
    from vecferry.pipelines.cli import app

    signal.signal(signal.SIGINT, before)
    app.main()


def _leave(*_: Any) -> None:
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
