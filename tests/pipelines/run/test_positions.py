"""Where a job's positions are: `setting.positions`, and the data source that reaches it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contracts import sync_memory
from tests.contracts.sync import Scripted, write_job
from vecferry.errors import JobError
from vecferry.pipelines import registry
from vecferry.pipelines.job.datasources import DataSources
from vecferry.pipelines.job.positions import resolve_place
from vecferry.pipelines.job.resolve import read_and_resolve
from vecferry.pipelines.run.positions import positions_at, positions_of
from vecferry.positions.folder import FolderPlace
from vecferry.positions.holder import Holder
from vecferry.positions.store import Positions

KEYS = {"accessKeyId": "an-access-key", "accessKeySecret": "a-secret-key"}
SOURCES: dict[str, Any] = {
    "Elsewhere": {"type": "oss", "endpoint": "oss-cn-x.aliyuncs.com", "bucket": "other", **KEYS},
    "Unset": {"type": "oss", "endpoint": "${UNSET}", "bucket": "b", **KEYS},
    "Oss": {
        "type": "oss", "endpoint": "oss-cn-x.aliyuncs.com", "bucket": "b", "path": "lake", **KEYS
    },
    "S3": {"type": "s3", "endpoint": "http://h:9000", "bucket": "b", **KEYS},
    "Hdfs": {"type": "hdfs", "endpoint": "http://nn:9870", "defaultFS": "hdfs://ha"},
}  # fmt: skip


def sources(*names: str) -> DataSources:
    """Some of the data sources."""
    return DataSources({name: SOURCES[name] for name in names}, {}, "datasources.yaml")


@pytest.mark.parametrize(
    ("where", "names", "shown"),
    [
        ("state/x", (), "state/x"),
        ("oss://b/state/x", ("Elsewhere", "Unset", "Oss"), "oss://b/state/x"),
        ("s3://b/state/x", ("Oss", "S3"), "s3://b/state/x"),
        ("s3a://public/x", ("S3",), "s3://public/x"),
        ("gs://b/x", (), "gs://b/x"),
        ("hdfs://ha/state", ("Hdfs",), "hdfs://ha/state"),
        ("hdfs://nn:8020/state", ("Hdfs",), "hdfs://ha/state"),
        ("hdfs:///state", ("Hdfs",), "hdfs://ha/state"),
        ("redis://h:1/0/x", (), "redis://h:1/0/x"),
        ("redis://u:a-secret-key@h:1/0", (), "redis://***@h:1/0/job"),
    ],
)
def test_a_data_source_with_that_bucket_reaches_the_place(
    where: str, names: tuple[str, ...], shown: str
) -> None:
    """At the very folder, whatever folder the data source has; nothing is connected to."""
    place = resolve_place(where, sources(*names), "job.setting.positions")
    found = positions_at(place, "job")
    assert found.where == shown
    assert found.job == "job"


@pytest.mark.parametrize(
    ("where", "names", "words"),
    [
        ("oss://b/x", ("Elsewhere", "S3"), "by no data source of type 'oss' in datasources.yaml"),
        ("oss://b/x", ("Unset",), "UNSET"),
        ("hdfs://other/x", ("Hdfs",), "add one for other"),
        ("ftp://h/x", (), "is not one that can be used"),
    ],
)
def test_a_place_that_nothing_reaches_is_refused(
    where: str, names: tuple[str, ...], words: str
) -> None:
    """Before anything runs, with what to add."""
    with pytest.raises(JobError, match=r"job\.setting\.positions") as refused:
        resolve_place(where, sources(*names), "job.setting.positions")
    assert words in str(refused.value)


def test_who_looks_at_redis_without_a_job_says_which_positions() -> None:
    """The name stands in the URI, or is the job's."""
    place = resolve_place("redis://h/0", sources(), "positions")
    with pytest.raises(JobError, match="which ones"):
        positions_at(place, "")


def test_a_job_keeps_its_positions_where_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else below the current folder, under the job's name."""
    monkeypatch.chdir(tmp_path)
    script = Scripted(tmp_path / "table")
    for kind in (*script.kinds(), *sync_memory.KINDS):
        registry.register(kind)
    parameter = {"name": "held", "column": ["id", "text", "vector"]}
    writer = {"stepType": "held", "category": "writer", "name": "Write", "parameter": parameter}
    path = write_job(tmp_path, script, writer, "http://127.0.0.1:9", random.Random(1))
    job = json.loads(path.read_text())
    job["name"] = "a/job"
    for where, folder in ((None, "positions/a_job"), ("state", "state")):
        job["setting"]["positions"] = where
        path.write_text(json.dumps(job))
        with positions_of(read_and_resolve(str(path))).take(Holder(run="r")):
            assert (tmp_path / folder / "entry-0000000001").is_file()


def test_a_second_run_is_refused_before_beam_is_imported(tmp_path: Path) -> None:
    """Importing it takes seconds; here it can't be imported at all."""
    key = {"type": "pk", "column": ["id"]}
    reader = {"datasource": "From", "table": ["t"], "column": ["id"]}
    columns = [{"name": "id", "type": "keyword"}]
    writer = {"datasource": "To", "index": "i", "primaryKeyInfo": key, "column": columns}
    steps = [
        {"stepType": "mysql-cdc", "category": "reader", "name": "Read", "parameter": reader},
        {"stepType": "elasticsearch", "category": "writer", "name": "Write", "parameter": writer},
    ]
    setting = {"positions": str(tmp_path / "positions")}
    job = {"type": "job", "version": "2.0", "name": "kept", "steps": steps, "setting": setting}
    user = {"username": "u", "password": "p", "database": "d"}
    data_sources = {
        "From": {"type": "mysql", "host": "127.0.0.1", "port": 9, **user},
        "To": {"type": "elasticsearch", "endpoint": "http://127.0.0.1:9"},
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    (tmp_path / "sources.json").write_text(json.dumps(data_sources))
    code = "import sys; sys.modules['apache_beam'] = None\n"
    code += "from vecferry.pipelines.main import main; main()"
    positions = Positions(FolderPlace(tmp_path / "positions"), "kept")
    with positions.take(Holder(run="the-first")):
        done = subprocess.run(
            [sys.executable, "-c", code, "run", "job.json", "-d", "sources.json"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2, done.stderr
    assert "run the-first (process" in done.stderr
