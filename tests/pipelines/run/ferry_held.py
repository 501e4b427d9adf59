"""``vecferry`` with a reader and a writer that ask a server of the test in each phase of a run.

``python -m tests.pipelines.run.ferry_held run JOB …``; HOLD_AT is the server's address. The server
answers at once, or holds the request of one phase, so that a test knows where the run is.
"""

from __future__ import annotations

import importlib.abc
import os
import sqlite3
import sys
import urllib.request
from collections.abc import Sequence
from typing import Any

STEPS = "tests.pipelines.run.held"
FOREVER = """
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n
"""


def hold(phase: str) -> None:
    """Tells the server that a phase begins, and waits for its answer."""
    with urllib.request.urlopen(f"{os.environ['HOLD_AT']}/{phase}") as answer:
        if answer.read() == b"stick":  # in a call of C that no signal ends
            sqlite3.connect(":memory:").execute(FOREVER).fetchall()


class _Importing(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> None:
        if name == "click":
            sys.meta_path.remove(self)
            hold("startup")


if __name__ == "__main__":
    from vecferry.pipelines.main import main
    from vecferry.pipelines.registry import Kind, register

    register(Kind("held", "reader", f"{STEPS}:ReadSettings", f"{STEPS}:Reader", f"{STEPS}:Read"))
    register(Kind("held", "writer", f"{STEPS}:WriteSettings", f"{STEPS}:Writer", f"{STEPS}:Write"))
    assert "click" not in sys.modules
    sys.meta_path.insert(0, _Importing())
    main()
