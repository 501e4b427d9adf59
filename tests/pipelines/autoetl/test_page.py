"""What docs/autoetl.md shows of a server runs against one; `tests/test_docs.py` runs the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipelines.autoetl.support import without_trusted
from tests.services.opensearch import OpenSearchMlServer
from tests.test_docs import Block, blocks_of, missing_lines
from tests.transforms.embed.endpoints.server import EndpointServer

ROOT = Path(__file__).resolve().parents[3]
BLOCKS = list(blocks_of(ROOT / "docs" / "autoetl.md"))
MODEL = "https://dashscope.aliyuncs.com/compatible-mode"


def write(folder: Path, model: str) -> None:
    """The files of the page, in which a server of tests stands for the vendor's."""
    for block in BLOCKS:
        if block.mark == "file":
            text = block.text.replace(MODEL, model).replace("https://$", "http://$")
            text = text.replace(MODEL.removeprefix("https://"), model.removeprefix("http://"))
            (folder / block.value).write_text(text, encoding="utf-8")


def run(block: Block, folder: Path, **variables: str) -> str:
    """What the commands of a block print."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=folder, env={**os.environ, "PATH": path, **variables}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{block.where}:\n{done.stdout}"
    return done.stdout


@pytest.mark.service
@pytest.mark.slow
@pytest.mark.heavy(server=OpenSearchMlServer)
def test_the_commands_that_need_a_server_run(tmp_path: Path) -> None:
    """Setup prints what the page says, finds all a second time, and the job is that of files."""
    shown = [block for block in BLOCKS if block.language == "sh"]
    (printed,) = [b for b in BLOCKS if b.language == "" and b.text.startswith("trusted")]
    assert len(shown) == 2
    with EndpointServer(key="sk-of-the-page") as endpoint, without_trusted() as server:
        model = endpoint.url.removesuffix("/v1")
        write(tmp_path, model)
        given = {"SEARCH": server.url, "DASHSCOPE_API_KEY": "sk-of-the-page"}
        first = run(shown[0], tmp_path, **given)
        second = run(shown[0], tmp_path, **given)
        job = run(shown[1], tmp_path, **given)
    expected = printed.text.replace(MODEL, model)
    assert missing_lines(expected, first) == []
    assert missing_lines(expected.replace(": made", ": as it was"), second) == []
    assert '"apiKey": "${CONNECTOR_API_KEY}"' in job
    assert f'"endpoint": "{model}/v1"' in job
    assert f'"^{model}.*$"' in job
    assert "sk-of-the-page" not in first + second + job
