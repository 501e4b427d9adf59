"""What is asked of the server of the target, and made there.

The class stands in `vecferry.io.opensearch.definitions`, and is loaded by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from vecferry.pipelines.autoetl.bodies import Document
from vecferry.pipelines.job.datasources import DataSources
from vecferry.pipelines.registry import load

_DEFINITIONS = "vecferry.io.opensearch.definitions:Definitions"


class Definitions(Protocol):
    """What the server of the target holds; see `vecferry.io.opensearch.definitions`."""

    where: str

    def pipeline(self, name: str) -> Document | None:
        """An ingest pipeline."""

    def index(self, name: str) -> Document | None:
        """An index."""

    def model(self, model_id: str) -> Document | None:
        """A model."""

    def connector(self, connector_id: str) -> Document | None:
        """A connector, without its credentials."""

    def trusted(self) -> list[str] | None:
        """The endpoints that connectors may call."""

    def close(self) -> None:
        """Ends the connections."""


class Makes(Definitions, Protocol):
    """A server whose definitions are made; see `vecferry.io.opensearch.definitions`."""

    def put_pipeline(self, name: str, body: Mapping[str, Any]) -> None:
        """Makes an ingest pipeline, or replaces it."""

    def create_index(self, name: str, body: Mapping[str, Any]) -> None:
        """Makes an index."""

    def put_settings(self, body: Mapping[str, Any]) -> None:
        """Sets settings of the cluster."""

    def ids_named(self, kind: str, name: str) -> list[str]:
        """The ids of what there is of a kind under a name."""

    def create(self, path: str, body: Mapping[str, Any], key: str) -> str:
        """Makes something; gives its id."""

    def deploy(self, model_id: str) -> None:
        """Deploys a model."""

    def predict(self, model_id: str, body: Mapping[str, Any]) -> Document:
        """What a model answers."""


def opened_definitions(sources: DataSources, name: str) -> Makes:
    """The definitions of the server that a data source names; to be closed."""
    connection, _ = sources.get(name, ("opensearch",), "mapping.target")
    opened: Makes = load(_DEFINITIONS)(connection)
    return opened
