"""The command line with the writer of `tests.io.sink.memory`, as a process of its own."""

from __future__ import annotations

from tests.io.sink import memory
from vecferry.pipelines.cli import main

if __name__ == "__main__":
    memory.step()  # which makes the kind known
    main()
