"""The tutorial's bodies and its call, written anew, and a folder in which commands run."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.support import Bench, Outcome
from tests.services.opensearch import OpenSearchMlServer
from tests.services.server import running

FIELDS = "notes.my_text(db.notes.t2),notes.id(db.notes.id)"
KEYS = "notes.id=db.notes.id"
BODY = '{ "model": "${parameters.model}", "input": ${parameters.input} }'
CONNECTOR: dict[str, Any] = {
    "name": "an embedding connector",
    "description": "calls a model",
    "version": 1,
    "protocol": "http",
    "parameters": {"model": "text-embedding-v4", "endpoint": "models.example/compatible-mode"},
    "credential": {"api_key": "${NOTES_KEY}"},
    "actions": [
        {
            "action_type": "predict",
            "method": "POST",
            "headers": {
                "Authorization": "Bearer ${credential.api_key}",
                "content-type": "application/json",
            },
            "url": "https://${parameters.endpoint}/v1/embeddings",
            "request_body": BODY,
            "pre_process_function": "connector.pre_process.openai.embedding",
            "post_process_function": "connector.post_process.openai.embedding",
        }
    ],
}
PIPELINE: dict[str, Any] = {
    "description": "embeds texts",
    "processors": [{"text_embedding": {"model_id": "<id>", "field_map": {"my_text": "my_vector"}}}],
}
INDEX: dict[str, Any] = {
    "settings": {"index": {"knn": True, "default_pipeline": "notes_pipeline"}},
    "mappings": {
        "properties": {
            "id": {"type": "integer"},
            "my_text": {"type": "text"},
            "my_vector": {
                "type": "knn_vector",
                "dimension": 1024,
                "method": {"engine": "faiss", "name": "hnsw"},
            },
        }
    },
}
TRUSTED = {
    "persistent": {
        "plugins.ml_commons.trusted_connector_endpoints_regex": [r"^http://127\.0\.0\.1:.*$"]
    }
}


@contextmanager
def without_trusted() -> Iterator[OpenSearchMlServer]:
    """The server with ml-commons, whose list of trusted endpoints is absent before and after."""
    server = running(OpenSearchMlServer)
    key = "plugins.ml_commons.trusted_connector_endpoints_regex"
    nothing = {"persistent": {key: None}, "transient": {key: None}}
    server.request("PUT", "/_cluster/settings", nothing)
    try:
        yield server
    finally:
        server.request("PUT", "/_cluster/settings", nothing)


def changed(body: dict[str, Any], **values: Any) -> dict[str, Any]:
    """A body with other values; of a connector, ``action_…`` is a value of its action."""
    body = copy.deepcopy(body)
    for name, value in values.items():
        where = body["actions"][0] if name.startswith("action_") else body
        key = name.removeprefix("action_")
        if value is None:
            where.pop(key)
        else:
            where[key] = value
    return body


class Desk(Bench):
    """A folder with the bodies and data sources, and the commands in it."""

    def __init__(
        self,
        folder: Path,
        capture: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        endpoint: str = "http://127.0.0.1:1",
    ) -> None:
        super().__init__(folder, capture)
        monkeypatch.chdir(folder)
        database = {"type": "mysql", "host": "127.0.0.1", "port": 1, "username": "u"}
        self.sources = {
            "Shop": {**database, "database": "db"},
            "search": {"type": "opensearch", "endpoint": endpoint},
        }
        for name, body in (("connector", CONNECTOR), ("pipeline", PIPELINE), ("index", INDEX)):
            self.put(name, body)
        self.put("trusted", TRUSTED)

    def put(self, name: str, body: Any) -> None:
        """Writes a body into the file of its name."""
        (self.folder / f"{name}.json").write_text(json.dumps(body))

    def command(self, name: str, *arguments: str) -> Outcome:
        """Runs a command with the data sources."""
        (self.folder / "sources.json").write_text(json.dumps(self.sources))
        return self.line(*name.split(), *arguments, "-d", "sources.json")

    def by_map(self, *more: str, fields: str = FIELDS, keys: str = KEYS) -> Outcome:
        """Runs ``sync-by-map`` as the tutorial calls it."""
        return self.command(
            "sync-by-map", "search", fields, keys, "", "", "--source", "Shop", *more
        )

    def printed(self, *more: str, **call: str) -> dict[str, Any]:
        """The job that ``sync-by-map`` writes."""
        outcome = self.by_map("--print-job", *more, **call)
        assert outcome.status == 0, outcome.err
        job: dict[str, Any] = outcome.json
        return job


ALL_BODIES = (
    "--connector",
    "connector.json",
    "--pipeline",
    "pipeline.json",
    "--index",
    "index.json",
)
