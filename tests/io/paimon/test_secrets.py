"""A secret of a catalog is in nothing that a sync shows, keeps or hands to workers."""

from __future__ import annotations

import logging
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from tests.io.paimon.support import WHY

pytest.importorskip("pypaimon", reason=WHY)

from apache_beam.internal.cloudpickle import cloudpickle

from tests.contracts import sync_memory
from tests.contracts.sync_memory import held
from tests.pipelines.support import Bench
from tests.services.paimon import PaimonServer, RestCatalog, Table
from tests.services.server import running
from vecferry.pipelines import registry
from vecferry.pipelines.job.resolve import ResolvedJob, read_and_resolve
from vecferry.pipelines.run.graph import RunPlan, build, require_no_secret
from vecferry.pipelines.run.logic import JobLogic

pytestmark = [pytest.mark.service, pytest.mark.slow]

TOKEN = "tok-5f2d-nobody-may-see-this-8810"
KEY = "oss-secret-77ab-nobody-may-see-this"
COLUMNS = {"id": "STRING NOT NULL", "text": "STRING"}


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[RestCatalog]:
    """A REST catalog with the table `shop.t`, a row of which is too long for its model."""
    server = running(PaimonServer)
    catalog = server.rest(tmp_path / "warehouse", TOKEN)
    table(catalog).create().upsert(["a", "one"], ["b", ""], ["c", "three"])
    yield catalog
    catalog.close()


def table(catalog: RestCatalog) -> Table:
    server = running(PaimonServer)
    return Table(server, catalog.options, "shop.t", COLUMNS, ["id"], options={"bucket": "1"})


@pytest.fixture
def bench(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    catalog: RestCatalog,
    monkeypatch: pytest.MonkeyPatch,
) -> Bench:
    """A sync of the table into memory, whose secrets come from the environment."""
    for kind in sync_memory.KINDS:
        registry.register(kind)
    monkeypatch.setenv("LAKE_TOKEN", TOKEN)
    monkeypatch.setenv("LAKE_KEY", KEY)
    bench = Bench(tmp_path, capsys)
    options = {**catalog.options, "token": "${LAKE_TOKEN}", "fs.oss.accessKeySecret": "${LAKE_KEY}"}
    bench.sources["Lake"] = {"type": "paimon", "options": options}
    name = uuid.uuid4().hex
    embedded = {"sourceColumnNames": ["text"], "embeddingColumnName": "vector"}
    reader = {"datasource": "Lake", "database": "shop", "table": "t", "column": ["id", "text"]}
    embed = {"modelProvider": "local", "dimension": 64, "embeddingColumns": embedded}
    writer = {"name": name, "column": ["id", "text", "vector"]}
    steps = [("paimon", "reader", "Read", reader), ("embedding-transformer", "map", "Embed", embed)]
    bench.job = {
        "type": "job",
        "version": "2.0",
        "name": name,
        "steps": [
            {"stepType": kind, "category": category, "name": step, "parameter": parameter}
            for kind, category, step, parameter in [*steps, ("held", "writer", "Write", writer)]
        ],
        "setting": {"errorLimit": {}, "positions": str(tmp_path / "state"), "onReject": "delete"},
    }
    return bench


def shown(*parts: str | bytes) -> list[str]:
    """The secrets that are in any of these."""
    whole = b"\n".join(p.encode() if isinstance(p, str) else p for p in parts)
    return [secret for secret in (TOKEN, KEY) if secret.encode() in whole]


def files(folder: Path) -> list[bytes]:
    """What the files of a folder hold, but those of the tables and of the test itself."""
    return [
        path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "warehouse" not in path.parts
    ]


def test_a_sync_shows_and_keeps_no_secret_of_its_catalog(
    bench: Bench, catalog: RestCatalog, caplog: pytest.LogCaptureFixture
) -> None:
    """In no log, report, reject or position; nor if the token has become wrong, or the table is
    denied or away."""
    caplog.set_level(logging.DEBUG)
    first = bench.call("run", "--json")
    assert (first.json["state"], first.json["rows_rejected"]) == ("DONE", 1), first.err
    assert held(bench.job["name"]).there().keys() == {"a", "c"}
    table(catalog).upsert(["a", "another"])
    more = [bench.call("run", "--json"), bench.call("check", "--connect"), bench.call("status")]
    assert more[0].json["rows_written"] == 1
    bench.sources["Lake"]["options"]["token"] = f"wrong-{TOKEN}"
    more += [bench.call("run", "--json"), bench.call("check", "--connect")]
    assert "refuses the login" in more[-1].err
    bench.sources["Lake"]["options"]["token"] = "${LAKE_TOKEN}"
    catalog.deny("shop.t")
    more += [bench.call("run", "--json")]
    assert "denies access" in more[-1].err + more[-1].out
    bench.save()  # with the placeholders
    ours = {bench.folder / "sources.json", bench.folder / "job.json"}
    kept = files(bench.folder)
    assert any(b"too" in one or b"empty" in one for one in kept), "the reject is among them"
    assert shown(*kept, *(o.out + o.err for o in (first, *more)), caplog.text) == []
    assert shown(*(path.read_bytes() for path in ours)) == []


def resolved(bench: Bench) -> ResolvedJob:
    path = bench.save()
    return read_and_resolve(path, data_sources=str(bench.folder / "sources.json"))


def test_what_is_handed_to_workers_holds_no_secret(bench: Bench) -> None:
    """Neither the splits, which the catalog's own objects are part of, nor the pickled graph."""
    job = resolved(bench)
    assert set(job.secrets()) >= {TOKEN, KEY}
    logic = JobLogic(job, "a-run")
    source: Any = logic.change_source
    plans = [source.plan(), source.plan(source.span(None))]
    splits = [split for plan in plans for split in plan.splits]
    assert splits
    assert shown(pickle.dumps(splits)) == []
    pipeline = beam.Pipeline("FnApiRunner")
    by_workers = job.with_references("a-run")
    build(pipeline, by_workers, RunPlan(run="a-run", rejects="rejects", splits=lambda: splits))
    require_no_secret(pipeline, job)
    assert shown(cloudpickle.dumps(by_workers.steps)) == []
    assert shown(repr(job), str(job.reader), job.reader.connection.model_dump_json()) == []
