"""Nothing is passed off as kept that is not on disk: rejects and vectors on a disk that is full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.run.test_interrupts import JOB, SECONDS, held_at
from tests.pipelines.support import counts_add_up, environment
from vecferry.errors import JobError
from vecferry.pipelines.run import rejects as rejects_module
from vecferry.pipelines.run.rejects import WriteRejectsFn, require_folder
from vecferry.process import end_run, run_state
from vecferry.rows import Reject

ROOM = 64 << 10
"""The bytes of the small disk."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB; only root may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as e:
        pytest.skip(f"a small file system can't be mounted here: {e}")
    if made.returncode:
        pytest.skip(f"a small file system can't be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def run(folder: Path, rejects: Path, *, most_bytes: int = 0, **more: str) -> dict[str, Any]:
    """The report of a run of 5,000 rows, of which each tenth is refused with a kilobyte.

    `most_bytes` is how large the process may make a file.
    """
    (folder / "job.json").write_text(json.dumps(JOB))
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most_bytes}, -1))" if most_bytes else ""
    program = (
        f"import resource, runpy, sys\n{limit}\n"
        f"sys.argv[1:] = ['run', 'job.json', '--json', '--rejects', {str(rejects)!r}]\n"
        "runpy.run_module('tests.pipelines.run.ferry_held', run_name='__main__')"
    )
    with held_at("none") as holds:
        ended = subprocess.run(
            [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True,
            timeout=SECONDS, check=False,
            env=environment(HOLD_AT=holds.url, HELD_ROWS="5000", HELD_REFUSED="10", **more),
        )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


def require_sound(report: dict[str, Any], room: int) -> None:
    """The run has failed, and each row is where its report says."""
    assert "--rejects" in report["error"]
    assert "make room" in report["error"]
    assert report["rows_unkept"] >= 1
    assert f"{report['rows_unkept']} refused rows are in neither" in report["error"]
    assert 0 < report["rows_read"] < 5000, "the readers stop"
    assert counts_add_up(report)
    assert report["rows_written"] > 0, "what was read is finished"
    kept = []
    for part in Path(report["rejects"]).glob("part-*.jsonl"):
        for line in part.read_text().splitlines():
            with suppress(ValueError):  # the last one, of which the disk took a part
                kept.append(json.loads(line)["origin"])
    assert len(set(kept)) == report["rows_rejected"] > 0
    assert len(kept) * 1000 < room


@pytest.mark.slow
def test_rejects_on_a_full_disk_end_the_run_and_lose_nothing_in_silence(
    tmp_path: Path, small_disk: Path
) -> None:
    """Reading stops, what was read is finished, and what is not on disk is not called rejected."""
    report = run(tmp_path, small_disk / "rejects")
    require_sound(report, ROOM)
    assert report["state"] == "FAILED"


@pytest.mark.slow
def test_rejects_in_a_file_that_may_not_grow_end_the_run(tmp_path: Path) -> None:
    """As a quota does, or `ulimit -f`; needs no rights to try."""
    report = run(tmp_path, tmp_path / "rejects", most_bytes=ROOM // 4)
    require_sound(report, ROOM // 4)
    assert report["state"] == "FAILED"


def test_rejects_that_an_object_store_refuses_are_counted_as_unkept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever its client raises: a bundle's rejects are written as one object, or not at all."""

    def refuses(*_: object, **__: object) -> None:
        raise RuntimeError("403 Forbidden")

    monkeypatch.setattr(rejects_module.fsspec, "open", refuses)
    state = run_state("refused")
    try:
        fn = WriteRejectsFn("s3://bucket/rejects/x", "refused")
        fn.start_bundle()
        for n in range(3):
            state.reject("Read", "bad")
            fn.process(
                Reject(step="Read", step_type="file", reason="bad", message="", origin=f"{n}")
            )
        fn.finish_bundle()
        assert state.rejects() == {}
        assert state.counts() == {"rows-unkept": 3}
        assert (state.stopped_by, state.stop.is_set()) == ("rejects", True)
        assert "403 Forbidden" in state.failure
    finally:
        end_run("refused")


def test_a_folder_of_rejects_on_an_object_store_is_tried_and_left_as_it_was() -> None:
    """A refusal is told before anything runs."""
    from fsspec.implementations.memory import MemoryFileSystem

    require_folder("memory://bucket/rejects/run")
    assert MemoryFileSystem().find("/bucket") == []
    with pytest.raises(JobError, match=r"--rejects: nosuch://b/r can't be written to"):
        require_folder("nosuch://b/r")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["disk", "quota"])
def test_a_vector_cache_on_a_full_disk_costs_no_row_and_is_told_once(
    tmp_path: Path, request: pytest.FixtureRequest, how: str
) -> None:
    """The run goes on without the cache; what was kept before stays readable."""
    folder = request.getfixturevalue("small_disk") if how == "disk" else tmp_path
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({ROOM}, -1))" if how == "quota" else ""
    program = f"""
import resource, logging
import numpy as np
{limit}
logging.basicConfig(level=logging.WARNING)
from vecferry.transforms.embed.cache.settings import cache_settings
from vecferry.transforms.embed.cache.store import VectorStore
store = VectorStore(cache_settings("sqlite:///{folder}/cache.db"))
vectors = [(f"key {{n:027}}".encode()[:32], np.full(64, n + 1, np.float32)) for n in range(5000)]
for at in range(0, 5000, 10):
    store.put_later(vectors[at : at + 10])
for at in range(0, 5000, 10):
    for key, vector in store.get_many([key for key, _ in vectors[at : at + 10]], 64).items():
        assert (dict(vectors)[key] == vector).all()
store.close()
print("went on")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False,
        env={**os.environ}, timeout=SECONDS,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, "went on\n"), ended.stderr
    warnings = [line for line in ended.stderr.splitlines() if "vector cache" in line]
    assert 1 <= len(warnings) <= 2, ended.stderr  # of writing, and of the end
    assert "this run" in warnings[0]
