"""Secrets that are left to workers: what is pickled, and where it is filled."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.support import Bench
from vecferry.errors import JobError
from vecferry.io.postgresql import PostgresConnection
from vecferry.pipelines.job.placeholders import fill
from vecferry.process import end_run
from vecferry.secrets import Written, names_of, referenced, secrets_in, texts_in
from vecferry.settings import Settings

RUN = "secrets"


class _Loose(Settings):
    """Settings that know headers and statements."""

    headers: dict[str, str] | None = None
    where: str | None = None
    pre_sql: list[str] | None = None
    endpoint: str | None = None


@dataclass(frozen=True)
class Part:
    """What a source reads alone."""

    query: str
    range: tuple[int, int]


def connection(password: str, **values: str) -> tuple[Any, Written]:
    """A connection whose password was written as `password`, and what was written for what."""
    raw = {"host": "h", "database": "d", "username": "u", "password": password}
    written: dict[str, str] = {}
    filled, _ = fill(raw, values, written=written)
    return PostgresConnection.model_validate(filled), Written(written)


def submitted(password: str, **values: str) -> bytes:
    """The connection as it is submitted for workers that fill secrets by themselves."""
    return pickle.dumps(referenced(*connection(password, **values), RUN))


def test_what_is_submitted_holds_the_name_in_place_of_the_secret() -> None:
    """The settings themselves stay as they are, so that a local job is as it was."""
    one, written = connection("${SHOP_PW}", SHOP_PW="very-secret-1")
    pickled = pickle.dumps(referenced(one, written, RUN))
    assert b"very-secret-1" not in pickled
    assert b"${SHOP_PW}" in pickled
    assert b"very-secret-1" in pickle.dumps(one)
    assert names_of(texts_in(one), secrets_in(one), written) == ["SHOP_PW"]


def test_a_worker_that_hands_a_secret_on_hands_on_its_name() -> None:
    """What was unpickled is pickled as it came."""
    again = pickle.dumps(pickle.loads(submitted("${SHOP_PW}", SHOP_PW="very-secret-2")))
    assert b"very-secret-2" not in again
    assert b"${SHOP_PW}" in again


def test_the_launcher_fills_a_secret_as_long_as_its_run_lasts() -> None:
    """Workers that are threads of its process need no environment of their own."""
    pickled = submitted("${SHOP_PW_3}", SHOP_PW_3="very-secret-3")
    assert pickle.loads(pickled).password.reveal() == "very-secret-3"
    end_run(RUN)
    with pytest.raises(JobError, match="environment has no SHOP_PW_3"):
        pickle.loads(pickled)


def test_secrets_inside_lists_are_named_as_well() -> None:
    """Whatever settings hold, down to the last one."""
    one, written = connection("${SHOP_PW}", SHOP_PW="very-secret-4")
    pickled = pickle.dumps(referenced([(one,), "plain"], written, RUN))
    assert b"very-secret-4" not in pickled


@pytest.mark.slow
def test_a_worker_fills_in_what_its_own_environment_has(tmp_path: Path) -> None:
    """Another value than the launcher's, where it has another."""
    (tmp_path / "p").write_bytes(submitted("${SHOP_PW}", SHOP_PW="here-22"))
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


@pytest.mark.parametrize(
    ("place", "parameter"),
    [
        ("a header", {"headers": {"X-Api-Key": "Bearer ${OPEN_TEXT}"}}),
        ("a condition", {"where": "token = '${OPEN_TEXT}'"}),
        ("statements", {"preSql": ["set x to '${OPEN_TEXT}'", "select 1"]}),
        ("a key that is misspelt", {"pasword": "${OPEN_TEXT}"}),
        ("an object under such a key", {"conection": [{"pw": ["${OPEN_TEXT}"]}]}),
        ("a part of an address", {"endpoint": "http://h/${OPEN_TEXT}/v1"}),
    ],
)
def test_every_text_that_was_filled_in_is_pickled_as_it_was_written(
    place: str, parameter: dict[str, Any]
) -> None:
    """A text may hold a secret, though its field is none; the process that reads it fills it."""
    written: dict[str, str] = {}
    filled, _ = fill(parameter, {"OPEN_TEXT": "very-secret-66"}, written=written)
    settings = _Loose.model_validate(filled)
    pickled = pickle.dumps(referenced(settings, Written(written), RUN))
    assert b"very-secret-66" not in pickled, place
    assert b"${OPEN_TEXT}" in pickled
    again = pickle.loads(pickled)
    assert again == settings
    assert b"very-secret-66" not in pickle.dumps(again)
    assert names_of(texts_in(settings), [], Written(written)) == ["OPEN_TEXT"]


def test_what_a_source_makes_of_a_condition_is_referenced_too() -> None:
    """A split of a table holds the condition of its reader among words of its own."""
    condition = "token = 'very-secret-77'"
    part = Part(query=f"SELECT 1 WHERE (\n{condition}\n) AND id > 5", range=(1, 2))
    pickled = pickle.dumps(referenced([part], Written({condition: "token = '${TOKEN_7}'"}), RUN))
    assert b"very-secret-77" not in pickled
    assert pickle.loads(pickled) == [part]


@pytest.mark.parametrize(
    ("written", "closed", "there"),
    [
        ("${DAY}", [], b"2026-01-01"),
        ("${HOME_OF_IT}/${DAY}", [], b"${HOME_OF_IT}/2026-01-01"),
        ("${API_TOKEN}", [], b"${API_TOKEN}"),
        ("${DAY}", ["2026-01-01"], b"${DAY}"),
    ],
)
def test_values_of_the_command_line_are_open_unless_a_secret_is_made_of_them(
    written: str, closed: list[str], there: bytes
) -> None:
    """A worker need not know what the command line said of days and folders."""
    given = {"DAY": "2026-01-01", "API_TOKEN": "in-a-token"}
    texts: dict[str, str] = {}
    filled, _ = fill([written], {"HOME_OF_IT": "/srv", **given}, written=texts)
    as_written = Written(texts, given).closed(closed)
    assert there in pickle.dumps(referenced(filled, as_written, RUN))


def test_a_secret_that_is_written_out_can_not_be_left_to_workers() -> None:
    """In words, and without the secret."""
    with pytest.raises(JobError, match=r"write \$\{NAME\}") as raised:
        submitted("written-out-44")
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
