"""What docs/mysql-cdc.md shows runs against a real server; `tests/test_docs.py` runs the rest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.mysql8 import Mysql8
from tests.services.server import running
from tests.test_docs import blocks_of, missing_lines

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.service
@pytest.mark.slow
def test_the_example_loads_a_table_and_follows_it(tmp_path: Path) -> None:
    """What the page says is printed: twelve rows, then one update and one delete."""
    blocks = list(blocks_of(ROOT / "docs" / "mysql-cdc.md"))
    (shown,) = [block for block in blocks if block.language == "sh"]
    printed = blocks[blocks.index(shown) + 1]
    assert printed.language == "text"
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    server = running(Mysql8)
    given = {
        "MYSQL_PORT": str(server.port),
        "MYSQL_USER": server.source["username"],
        "MYSQL_PASSWORD": server.source["password"],
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", shown.text],
        cwd=tmp_path, env={**os.environ, **given}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    server.execute("DROP DATABASE IF EXISTS hiking")
    assert done.returncode == 0, done.stdout
    assert missing_lines(printed.text, done.stdout) == [], done.stdout
