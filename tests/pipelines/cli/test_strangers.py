"""What a newcomer runs into: services that are away, and jobs that are almost right."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.support import Bench, rows, step
from vecferry.io.search import client


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A job that is right."""
    made = Bench(tmp_path, capsys)
    made.write_lines(list(rows(3)))
    return made


def follows(bench: Bench, port: int) -> None:
    """Lets the job follow a table of a MySQL."""
    bench.sources["Shop"] = {
        "type": "mysql", "host": "127.0.0.1", "port": port, "username": "u", "password": "p",
        "database": "shop",
    }  # fmt: skip
    bench.job["steps"][:2] = [
        step(
            "mysql-cdc", "reader", "Reader", datasource="Shop", table="texts", column=["id", "text"]
        )
    ]
    bench.job["setting"].pop("speed")


@pytest.mark.slow
def test_a_database_that_is_away_is_told_at_once(bench: Bench) -> None:
    """Nobody asks for its keys after that, which a sync would wait for."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        follows(bench, taken.getsockname()[1])
        bench.job["setting"]["positions"] = str(bench.folder / "positions")
        began = time.monotonic()
        outcome = bench.call("check", "--connect")
        took = time.monotonic() - began
    assert outcome.status == 2
    assert "step 'Reader': MySQL at 127.0.0.1:" in outcome.err
    assert "does not answer" in outcome.err
    assert took < 120  # ten minutes, if it were asked for its keys


def test_a_sync_without_positions_is_told_by_check(bench: Bench) -> None:
    """A run would refuse it."""
    follows(bench, 9)
    outcome = bench.call("check")
    assert outcome.status == 0
    assert "warning: run refuses the job" in outcome.err
    assert "setting.positions is missing: 'Reader' follows its source" in outcome.err
    bench.job["setting"]["positions"] = str(bench.folder / "positions")
    assert bench.call("check").err == ""


@pytest.mark.parametrize("asked", [False, True])
def test_columns_that_nobody_asked_for_are_not_warned_of(bench: Bench, asked: bool) -> None:
    """A step that splits texts gives places as well; a column that a job names is another thing."""
    split: dict[str, Any] = {"sourceColumnName": "text", "parentColumns": ["id"], "chunkSize": 100}
    if asked:
        split["chunkColumnName"] = "part"
        bench.step("Extract")["column"].append(
            {"name": "more", "fromColumn": "line", "jsonPath": "$.more", "type": "STRING"}
        )
    chunk = split.get("chunkColumnName", "chunk")
    bench.job["steps"].insert(2, step("text-splitting", "flatmap", "Split", **split))
    bench.step("Embed")["embeddingColumns"]["sourceColumnNames"] = [chunk]
    bench.step("Writer")["columnMapping"] = [
        {"sourceColName": source, "dstColName": name}
        for source, name in {"chunk_id": "id", chunk: "text", "vector": "vector"}.items()
    ]
    outcome = bench.call("check")
    assert outcome.status == 0, outcome.err
    assert ("warning" in outcome.err) == asked
    assert ("steps[1] 'Extract' gives 'more', which no other step takes" in outcome.err) == asked


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "steps.Emb.parameter.x=1"), "did you mean 'Embed'"),
        (("--set", "setting.nosuch.deep=3"), "does not have 'nosuch'"),
        (("--set", "steps.Reader.parameter.datasource=Filez"), "did you mean 'Files'"),
        (("--set", "steps.Reader.parameter.object=nothing*", "--connect"), "there are rows.jsonl"),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest(
    bench: Bench, arguments: tuple[str, ...], words: str
) -> None:
    """Of steps, settings, data sources and files."""
    outcome = bench.call("check", *arguments)
    assert outcome.status == 2
    assert words in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("store", ["elasticsearch", "opensearch"])
def test_a_search_store_that_says_nothing_is_not_waited_for_as_long_as_a_write(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    """A write has ten minutes, a question half a minute; here even less."""
    monkeypatch.setattr(client, "ASK_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        bench.sources["Target"] = {
            "type": store, "endpoint": f"http://127.0.0.1:{silent.getsockname()[1]}"
        }  # fmt: skip
        bench.job["steps"][-1] = step(store, "writer", "Writer", datasource="Target", index="texts")
        outcome = bench.call("check", "--connect")
    assert outcome.status == 2
    assert "step 'Writer'" in outcome.err
    assert "can't be reached" in outcome.err
