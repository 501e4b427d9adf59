"""Prism 2.77: Beam's portable local runner, a program written in Go that a job starts itself."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.services.install import go_program, package

VERSION = "v2.77.0"


def prism() -> Path:
    """The program; building it takes some minutes the first time."""
    module = f"github.com/apache/beam/sdks/v2/go/cmd/prism@{VERSION}"
    return package(f"prism-{VERSION}", lambda f: go_program(f, module)) / "prism"


def indoors(*ports: int) -> list[str]:
    """What to put before a command that starts Prism, which listens on every interface."""
    return [sys.executable, "-m", "tests.services.indoors", ",".join(map(str, ports))]
