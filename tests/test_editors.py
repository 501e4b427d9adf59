"""An editor completes the examples: real language servers, with the schemas that the files name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.code import ROOT
from tests.services.install import Unavailable
from tests.services.language_servers import Editor, editor, installed

EXAMPLES = ROOT / "examples"
pytestmark = [pytest.mark.service, pytest.mark.slow]


def opened(language: str) -> Iterator[Editor]:
    """An editor of the checkout; a test is skipped where its server can't be had."""
    try:
        installed()
    except Unavailable as e:
        pytest.skip(f"the language servers can't be had here: {e}")
    with editor(language, ROOT) as one:
        yield one


@pytest.fixture(scope="module")
def json_editor() -> Iterator[Editor]:
    """An editor of JSON."""
    yield from opened("json")


@pytest.fixture(scope="module")
def yaml_editor() -> Iterator[Editor]:
    """An editor of YAML."""
    yield from opened("yaml")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_every_job_names_its_schema(path: Path) -> None:
    """And the file is there."""
    assert (path.parent / json.loads(path.read_text())["$schema"]).exists()


def test_a_job_is_completed(json_editor: Editor) -> None:
    """Keys of the step's own type with their words, the steps that there are, and the choices."""
    path = EXAMPLES / "csv-to-milvus.json"
    text = path.read_text().replace('"collection": "trails",', '"collection": "trails", "": 1,')
    json_editor.open(path, text)
    keys = json_editor.completions(path, text, '"trails", "')
    assert keys["batchSize"].startswith("rows in a request")
    assert "ownsTarget" in keys
    assert "actionType" not in keys
    assert {"milvus", "hologres"} <= json_editor.completions(path, text, '"stepType": "').keys()
    assert {"upsert", "insert"} == json_editor.completions(path, text, '"writeMode": "').keys()
    assert "FloatVector" in json_editor.completions(path, text, '"name": "vector", "type": "')
    assert "the model must give it" in json_editor.hover(path, text, '"dim')


def test_data_sources_are_completed(yaml_editor: Editor) -> None:
    """Types, and the keys of the type that is named."""
    path = EXAMPLES / "datasources.yaml"
    text = path.read_text() + "Mine:\n  type: milvus\n  \nOther:\n  type: \n"
    assert yaml.safe_load(path.read_text())
    yaml_editor.open(path, text)
    keys = yaml_editor.completions(path, text, "type: milvus\n  ")
    assert {"endpoint", "token", "caCert"} <= keys.keys()
    assert "warehouse" not in keys
    assert "a database that exists" in keys["database"]
    assert {"milvus", "paimon"} <= yaml_editor.completions(path, text, "Other:\n  type: ").keys()


def test_a_job_in_yaml_is_completed(yaml_editor: Editor) -> None:
    """By the line that docs/job-file.md shows."""
    path = EXAMPLES / "job.yaml"
    text = (
        "# yaml-language-server: $schema=../docs/schema/job.json\n"
        "steps:\n"
        "  - stepType: file\n    category: reader\n    parameter:\n      \n"
    )
    yaml_editor.open(path, text)
    keys = yaml_editor.completions(path, text, "parameter:\n      ")
    assert {"fileFormat", "object"} <= keys.keys()
