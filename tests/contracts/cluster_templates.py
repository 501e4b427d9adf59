"""A template on a cluster: what it writes there is what it writes here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.contracts.cluster import CLIENT_SECONDS, HERE, Runner, process
from tests.services.beam_java import QUICK
from tests.services.cluster import ROOT, worker_environment
from tests.services.elasticsearch import ElasticsearchServer
from tests.services.server import running

ROWS = 100


class SmallElasticsearch(ElasticsearchServer):
    """One that has room beside a cluster."""

    name = "elasticsearch-small"
    heap = "400m"

    def environment(self) -> Mapping[str, str]:
        """It has a hundred documents to take."""
        return {**super().environment(), "ES_JAVA_OPTS": " ".join(QUICK)}


SECRET = {"ELASTICSEARCH_PASSWORD": SmallElasticsearch.password}


class Templates:
    """Claims of a cluster; there is a fixture `runner`."""

    def test_a_template_comes_to_the_same_as_here(self, runner: Runner, tmp_path: Path) -> None:
        """Same documents, same vectors, where the password is in each worker's environment."""
        (tmp_path / "in").mkdir()
        for number in range(4):
            lines = [json.dumps(row(i)) for i in range(number, ROWS, 4)]
            (tmp_path / "in" / f"{number}.jsonl").write_text("\n".join(lines) + "\n")
        there = runner.plus(*process(**SECRET), "--secrets=worker", "--shared-files")
        places = {f"{place.name}-{tmp_path.name}".lower(): place for place in (there, HERE)}
        runs = {name: start(name, place, tmp_path) for name, place in places.items()}
        for name, run in runs.items():
            out, err = run.communicate(timeout=CLIENT_SECONDS)
            assert run.returncode == 0, err
            report = json.loads(out)
            assert (report["rows_read"], report["rows_written"]) == (ROWS, ROWS), name
        (rows, vectors), (same_rows, same_vectors) = map(stored, runs)
        assert rows == same_rows == [row(i) for i in range(ROWS)]
        assert np.allclose(vectors, same_vectors, atol=1e-5)


def row(i: int) -> dict[str, Any]:
    """A row that is embedded by its title and what it is about."""
    return {"id": f"r{i:03}", "title": f"walk {i}", "about": f"along shore {i * 7}", "km": i}


def start(index: str, place: Runner, folder: Path) -> subprocess.Popen[str]:
    """Starts the template in a process of its own."""
    given = {
        "folder": folder / "in",
        "input": "*.jsonl",
        "keyColumn": "id",
        "textColumns": "title,about",
        "otherColumns": "km",
        "index": index,
        "elasticsearchUrl": running(SmallElasticsearch).url,
        "username": SmallElasticsearch.user,
        "concurrent": 4,
        "errorLimit": 0,
    }
    options = [word for name, value in given.items() for word in ("-p", f"{name}={value}")]
    run = ["-m", "vecferry.pipelines.cli.app", "run", "template:files-to-elasticsearch", "--json"]
    where = ["--rejects", str(folder / "rejects"), "--runner", place.name, *place.options]
    return subprocess.Popen(
        [sys.executable, *run, *options, *where],
        cwd=ROOT,
        env={**os.environ, **worker_environment(), **SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stored(index: str) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The documents of an index by their keys, and their vectors."""
    server = running(SmallElasticsearch)
    server.request("POST", f"/{index}/_refresh")
    found = server.request("GET", f"/{index}/_search", {"size": 2 * ROWS})["hits"]["hits"]
    documents = sorted((one["_source"] for one in found), key=lambda one: str(one["id"]))
    vectors = np.array([one.pop("vector") for one in documents])
    return documents, vectors
