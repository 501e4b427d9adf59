"""A sync keeps its vectors beside its positions, unless it names a cache or can't."""

from __future__ import annotations

import json
import random
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.contracts import sync_memory
from tests.contracts.sync import Scripted, Writer, write_job
from vecferry.pipelines import registry
from vecferry.pipelines.job.resolve import ResolvedJob, read_and_resolve
from vecferry.pipelines.job.vectors import with_vectors_kept

OTHER = {"uri": "sqlite:///other.db"}
EMBED = 1


def _job(folder: Path, endpoint: str, **setting: Any) -> Path:
    """A job's file that names no vector cache, with `setting` on top."""
    script, chance = Scripted(folder / "table"), random.Random(1)
    Writer(script, chance).write(40, truncations=0)
    writer = {
        "stepType": "held",
        "category": "writer",
        "name": "Write",
        "parameter": {"name": uuid.uuid4().hex, "column": ["id", "text", "vector"]},
    }
    path = write_job(folder, script, writer, endpoint, chance)
    job = json.loads(path.read_text())
    del job["setting"]["vectorCache"]
    job["setting"].update(setting)
    path.write_text(json.dumps(job))
    return path


def _resolved(folder: Path, **setting: Any) -> ResolvedJob:
    path = _job(folder, "http://127.0.0.1:9/v1", **setting)
    for kind in (*Scripted(folder / "table").kinds(), *sync_memory.KINDS):
        registry.register(kind)
    return read_and_resolve(str(path))


@pytest.mark.parametrize(
    ("setting", "here", "uri", "told"),
    [
        ({"positions": "kept/here"}, True, "sqlite:///kept/here/vectors.db", None),
        ({"positions": "kept/here", "vectorCache": OTHER}, True, OTHER["uri"], None),
        ({"positions": "kept/here"}, False, None, "its workers are elsewhere"),
        ({"positions": "kept/here", "vectorCache": OTHER}, False, OTHER["uri"], None),
        ({"positions": "redis://127.0.0.1:9/0"}, True, None, "its positions are elsewhere"),
    ],
    ids=["beside", "named", "workers elsewhere", "named and elsewhere", "positions elsewhere"],
)
def test_where_the_vectors_of_a_sync_are(
    tmp_path: Path,
    setting: dict[str, Any],
    here: bool,
    uri: str | None,
    told: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Job and step agree; a warning says why there is none."""
    kept = with_vectors_kept(_resolved(tmp_path, **setting), here=here)
    caches = [kept.job.setting.vector_cache, kept.steps[EMBED].settings.vector_cache]
    assert [cache and cache.uri for cache in caches] == [uri, uri]
    warnings = [r.getMessage() for r in caplog.records]
    assert len(warnings) == (told is not None)
    assert all(told in text and "redis://host:6379/0" in text for text in warnings if told)


def test_a_model_in_this_process_needs_no_cache(tmp_path: Path) -> None:
    """It costs nothing, and less than a look."""
    resolved = _resolved(tmp_path)
    path = tmp_path / "job.json"
    job = json.loads(path.read_text())
    job["steps"][EMBED]["parameter"] = {
        "modelProvider": "local",
        "embeddingColumns": job["steps"][EMBED]["parameter"]["embeddingColumns"],
    }
    path.write_text(json.dumps(job))
    resolved = read_and_resolve(str(path))
    assert with_vectors_kept(resolved, here=True) is resolved
