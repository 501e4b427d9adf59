"""Secrets that are left to workers: what is pickled, and where it is filled."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.support import Bench
from vecferry.errors import JobError
from vecferry.io.postgresql import PostgresConnection
from vecferry.pipelines.job.placeholders import fill
from vecferry.secrets import left_to_workers, names_of
from vecferry.settings import secrets_in


def connection(password: str, **values: str) -> Any:
    """A connection whose password was written as `password`."""
    raw = {"host": "h", "database": "d", "username": "u", "password": password}
    return PostgresConnection.model_validate(fill(raw, values)[0])


def test_what_is_submitted_holds_the_name_in_place_of_the_secret() -> None:
    """Only within, so that a local job is as it was."""
    one = connection("${SHOP_PW}", SHOP_PW="very-secret-1")
    assert b"very-secret-1" in pickle.dumps(one)
    with left_to_workers():
        pickled = pickle.dumps(one)
    assert b"very-secret-1" not in pickled
    assert b"${SHOP_PW}" in pickled
    assert names_of(secrets_in(one)) == ["SHOP_PW"]


def test_a_worker_fills_in_what_its_own_environment_has(tmp_path: Path) -> None:
    """Another value than the launcher's, where it has another."""
    with left_to_workers():
        (tmp_path / "p").write_bytes(pickle.dumps(connection("${SHOP_PW}", SHOP_PW="here-22")))
    code = (
        f"import pickle; print(pickle.load(open({str(tmp_path / 'p')!r}, 'rb')).password.reveal())"
    )

    def worker(**more: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k != "SHOP_PW"}
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, **more},
            capture_output=True,
            text=True,
            check=False,
        )

    assert worker(SHOP_PW="there-33").stdout.strip() == "there-33"
    assert "this worker's environment has no SHOP_PW" in worker().stderr


def test_a_secret_that_is_written_out_can_not_be_left_to_workers() -> None:
    """In words, and without the secret."""
    one = connection("written-out-44")
    with left_to_workers(), pytest.raises(JobError, match=r"write \$\{NAME\}") as raised:
        pickle.dumps(one)
    assert "written-out-44" not in str(raised.value)


def test_a_job_with_a_secret_written_out_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything runs, with exit status 2."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines(['{"id": "1", "text": "a"}'])
    bench.step("Embed").update(
        modelProvider="openai", modelName="m", endpoint="http://127.0.0.1:9/v1", apiKey="sk-out-55"
    )
    outcome = bench.call("run", "--secrets", "worker", "--no-preflight")
    assert outcome.status == 2
    assert "--secrets worker" in outcome.err
    assert "sk-out-55" not in outcome.err
