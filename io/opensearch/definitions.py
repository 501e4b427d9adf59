"""What a cluster holds beside its documents: pipelines, and models and connectors of ml-commons."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from vecferry.errors import JobError
from vecferry.io.opensearch.client import OpenSearchClient
from vecferry.io.opensearch.settings import OpenSearchConnection, OpenSearchSettings
from vecferry.io.search.client import StatusError, ask
from vecferry.retry import Backoff

ML = "/_plugins/_ml"
TRUSTED = "plugins.ml_commons.trusted_connector_endpoints_regex"
TASK_SECONDS = 120.0
"""How long a model may take to be registered or deployed."""
CALL_MILLISECONDS = 15_000

Body = dict[str, Any]


class Definitions:
    """The definitions of one cluster; a person waits, so calls are short and not repeated.

    Every method raises JobError if the cluster can't be asked, or refuses.
    """

    def __init__(self, connection: OpenSearchConnection) -> None:
        settings = OpenSearchSettings(index="definitions", timeout=CALL_MILLISECONDS)
        self._client = OpenSearchClient(connection, settings)
        self.where = self._client.where

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()

    def pipeline(self, name: str) -> Body | None:
        """An ingest pipeline; None if there is none of this name."""
        answer = self._found(f"/_ingest/pipeline/{quote(name, safe='')}", f"pipeline {name!r}")
        return None if answer is None else dict(answer[name])

    def put_pipeline(self, name: str, body: Mapping[str, Any]) -> None:
        """Makes an ingest pipeline, or replaces it."""
        self._call("PUT", f"/_ingest/pipeline/{quote(name, safe='')}", body, f"pipeline {name!r}")

    def index(self, name: str) -> Body | None:
        """Settings, mappings and aliases of an index; None if there is none of this name."""
        answer = self._found(f"/{quote(name, safe='')}", f"index {name!r}")
        return None if not answer else dict(next(iter(answer.values())))

    def create_index(self, name: str, body: Mapping[str, Any]) -> None:
        """Makes an index."""
        self._call("PUT", f"/{quote(name, safe='')}", body, f"index {name!r}")

    def model(self, model_id: str) -> Body | None:
        """A model of ml-commons; None if there is none of this id."""
        return self._found(f"{ML}/models/{quote(model_id, safe='')}", f"model {model_id!r}")

    def connector(self, connector_id: str) -> Body | None:
        """A connector of ml-commons, without its credentials; None if there is none of this id."""
        path = f"{ML}/connectors/{quote(connector_id, safe='')}"
        return self._found(path, f"connector {connector_id!r}")

    def trusted(self) -> list[str] | None:
        """The endpoints that somebody let connectors call; None where the cluster has no such list.

        The defaults of the plugin are not among them.
        """
        what = f"setting {TRUSTED}"
        answer = self._call("GET", "/_cluster/settings?flat_settings=true", None, what)
        for kind in ("transient", "persistent"):
            found = (answer.get(kind) or {}).get(TRUSTED)
            if found is not None:
                return [str(one) for one in (found if isinstance(found, list) else [found])]
        return None

    def put_settings(self, body: Mapping[str, Any]) -> None:
        """Sets settings of the cluster."""
        self._call("PUT", "/_cluster/settings", body, "setting the cluster up")

    def ids_named(self, kind: str, name: str) -> list[str]:
        """The ids of what ml-commons has of a kind (``connectors``, …) under a name."""
        query = {
            "bool": {
                "filter": [{"term": {"name.keyword": name}}],
                "must_not": [{"exists": {"field": "chunk_number"}}],
            }
        }
        body = {"query": query, "size": 10, "_source": ["name"]}
        answer = self._found(f"{ML}/{kind}/_search", f"{kind} named {name!r}", body)
        hits = ((answer or {}).get("hits") or {}).get("hits") or []
        return sorted(str(hit["_id"]) for hit in hits)

    def create(self, path: str, body: Mapping[str, Any], key: str) -> str:
        """Makes something of ml-commons by ``POST``; gives the id under `key` of the answer."""
        what = f"{path} {body.get('name', '')!r}"
        answer = self._call("POST", f"{ML}/{path}", body, what)
        if key not in answer and "task_id" in answer:
            answer = self._task(str(answer["task_id"]), what)
        return str(answer[key])

    def deploy(self, model_id: str) -> None:
        """Deploys a model, and waits until that is done."""
        what = f"deploying model {model_id!r}"
        answer = self._call("POST", f"{ML}/models/{model_id}/_deploy", None, what)
        if "task_id" in answer:
            self._task(str(answer["task_id"]), what)
        # The task ends before the model says so, and a second setup would deploy it again.
        path = f"{ML}/models/{quote(model_id, safe='')}"
        self._ended(path, "model_state", ("DEPLOYED", "PARTIALLY_DEPLOYED"), what)

    def predict(self, model_id: str, body: Mapping[str, Any]) -> Body:
        """What a model answers."""
        path = f"{ML}/models/{model_id}/_predict"
        return self._call("POST", path, body, f"asking model {model_id!r}")

    def _task(self, task_id: str, what: str) -> Body:
        """The end of a task of ml-commons."""
        return self._ended(f"{ML}/tasks/{task_id}", "state", ("COMPLETED",), what)

    def _ended(self, path: str, key: str, good: Sequence[str], what: str) -> Body:
        """What stands at a path, once its state is a good one."""
        backoff = Backoff(deadline=TASK_SECONDS, base=0.05, cap=2.0)
        while True:
            answer = self._call("GET", path, None, what)
            state = str(answer.get(key))
            if state in good:
                return answer
            if state.endswith("FAILED") or state in ("CANCELLED", "COMPLETED_WITH_ERROR"):
                raise JobError(
                    f"{self.where}: {what}: it has {state}: {answer.get('error')}: see the "
                    "server's log"
                )
            wait = backoff.next_wait()
            if wait is None:
                raise JobError(
                    f"{self.where}: {what}: it is {state} after {TASK_SECONDS:g} s: run the "
                    "command again later"
                )
            time.sleep(wait)

    def _found(self, path: str, what: str, body: Body | None = None) -> Body | None:
        try:
            return self._call("GET", path, body, what)
        except JobError as e:
            if isinstance(e.__cause__, StatusError) and e.__cause__.status == 404:
                return None
            raise

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None, what: str) -> Body:
        call: Callable[[], Any] = functools.partial(self._client.request, method, path, body)
        return dict(ask(self._client, call, what))
