"""A folder compared with its target, chunk by chunk, and repaired."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.contracts.folder import Papers, Tables, chunk_writer, write_papers
from tests.contracts.sync import DIMENSION, differences
from tests.contracts.sync_memory import held
from tests.contracts.sync_stores import PostgresPlace
from tests.io.files.desk import Desk
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.pipelines import cli

pytestmark = pytest.mark.slow


@pytest.fixture
def endpoint() -> Iterator[EndpointServer]:
    """Without latency."""
    with EndpointServer() as server:
        yield server


@pytest.mark.parametrize("versions", [True, False])
@pytest.mark.parametrize("kind", [Papers, Tables])
def test_each_fault_of_a_chunk_is_found_and_mended(
    kind: type[Papers], versions: bool, endpoint: EndpointServer, tmp_path: Path
) -> None:
    """Missing, different, of another vector, too much, and of a document that is not there."""
    papers = kind(tmp_path, random.Random(1), 0)
    for number in range(8):
        parts = [f"Paragraph {number}{part} of many and long." for part in range(4)]
        papers._write(f"d{number}.{papers.kind}", parts)
    desk = Desk(tmp_path, endpoint, papers, versions=versions)
    desk.run()
    assert desk.verify().same
    target = held(desk.name)
    rows, stamps = target.rows, target.versions
    name = f"d{{}}.{papers.kind}#{{}}".format
    rows.pop(name(0, 2))
    there = target.there()
    rows[name(1, 1)] = {**there[name(1, 1)], "chunk": "somebody's own"}
    rows[name(2, 0)] = {**there[name(2, 0)], "vector": np.ones(64, np.float32)}
    for key, of in ((name(3, 9), name(3, 3)), ("gone#0", name(4, 0))):
        path = of.rpartition("#")[0] if key.startswith("d") else "gone"
        given = {"chunk_id": key, "path": path, "chunk_index": 9}
        rows[key] = {**there[of], **given}
        if of in stamps:
            stamps[key] = stamps[of]
    papers._write(f"d5.{papers.kind}", ["Paragraph late of many and long."])
    (papers.folder / f"d6.{papers.kind}").unlink()
    found = desk.verify()
    faults = {kind: count for kind, count in found.found.items() if count}
    assert faults == {"missing": 1, "different": 1, "wrongVector": 1, "ghost": 2}
    assert (found.target, found.moving) == (33, 8)
    assert "12 rows written" in desk.repair()
    assert desk.wrong() == []
    assert desk.verify().same
    papers.edit(6)
    desk.run()
    assert desk.wrong() == []
    assert len(held(desk.name).there()) == len(papers.expected())


@pytest.mark.parametrize("mode", ["keep", "delete"])
def test_a_document_of_which_a_chunk_is_refused_is_no_fault(
    mode: str, endpoint: EndpointServer, tmp_path: Path
) -> None:
    """With `keep` it may be there in any state, with `delete` it is not there."""
    papers = Tables(tmp_path, random.Random(1), 5)
    path = papers.paths()[0]
    desk = Desk(tmp_path, endpoint, papers, errorLimit={}, onReject=mode)
    desk.run()
    papers._write(path, ["Paragraph one of many and fine.", ""])
    desk.run()
    there = [row for row in held(desk.name).there().values() if row["path"] == path]
    assert bool(there) == (mode == "keep")
    found = desk.verify()
    assert found.same, found.to_json()
    assert found.refused > 0
    for row in there:
        held(desk.name).rows.pop(row["chunk_id"])
    assert desk.verify().same


def test_a_repair_brings_back_a_target_that_lost_its_chunks(
    endpoint: EndpointServer, tmp_path: Path
) -> None:
    """All of them, at no cost for vectors that the cache has."""
    papers = Papers(tmp_path, random.Random(1), 30)
    desk = Desk(tmp_path, endpoint, papers)
    desk.run()
    paid = len(endpoint.good)
    target = held(desk.name)
    for key in sorted(target.there())[::2]:
        target.rows.pop(key)
    assert desk.verify().found["missing"] == len(sorted(papers.expected())[::2])
    desk.repair()
    assert desk.wrong() == []
    assert len(endpoint.good) == paid


@pytest.mark.service
def test_chunks_in_postgresql_are_compared_and_mended(
    endpoint: EndpointServer, tmp_path: Path
) -> None:
    """By the commands, which say what they found and did."""
    papers = Papers(tmp_path, random.Random(1), 12)
    store = PostgresPlace(DIMENSION)
    job, sources = write_papers(
        tmp_path, papers, chunk_writer(store), endpoint.url, {"Store": store.source()}
    )

    def call(*words: str) -> int:
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, str(job), "-d", str(sources)])
        return int(ended.value.code or 0)

    try:
        assert call("run", "--rejects", str(tmp_path / "rejects")) == 0
        assert call("verify") == 0
        table = store.name
        store.server.execute(f"DELETE FROM {table} WHERE chunk_index = 1")
        store.server.execute(f"UPDATE {table} SET text = 'own' WHERE chunk_index = 2")
        ghost = f"SELECT 'gone#0', text, vector, version, 'gone', 0 FROM {table} LIMIT 1"
        fields = "id, text, vector, version, path, chunk_index"
        store.server.execute(f"INSERT INTO {table} ({fields}) {ghost}")
        assert differences(papers.expected(), store.found()) != []
        assert call("verify") == 1
        assert call("verify", "--repair") == 0
        assert differences(papers.expected(), store.found()) == []
        assert call("verify") == 0
    finally:
        store.close()
