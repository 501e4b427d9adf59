"""What the tests of embedding share: settings for the test server, and running rows through."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.shared.contexts import step_context
from tests.transforms.embed.endpoints.server import EndpointServer, vector_of
from vecferry.rows import Change, Reject, as_change
from vecferry.steps import StepContext
from vecferry.transforms.embed import EmbedSettings
from vecferry.transforms.embed.engine import Embedder

DIMENSION = 64


def settings_for(server: EndpointServer | None, **more: Any) -> EmbedSettings:
    """The settings of a step that embeds column `text` into `vector` with the test server."""
    given: dict[str, Any] = {
        "modelProvider": "openai",
        "modelName": "text-embedding-v4",
        "apiKey": "sk-test",
        "endpoint": server.url if server else "http://127.0.0.1:1/v1",
        "dimension": DIMENSION,
        "embeddingColumns": {"sourceColumnNames": ["text"], "embeddingColumnName": "vector"},
    }
    return EmbedSettings(**(given | more))


def context(**more: Any) -> StepContext:
    """The context of a step in a run of its own."""
    return step_context(**({"step": "embedding", "step_type": "embedding-transformer"} | more))


def embedder(settings: EmbedSettings, **more: Any) -> Embedder:
    """An engine for one bundle."""
    return Embedder(settings, None, context(**more))


def run(engine: Embedder, rows: Iterable[Any]) -> list[Change | Reject]:
    """Everything that comes out for `rows`, in the order in which it comes."""
    out = [item for row in rows for item, _ in engine.process(as_change(row))]
    out += [item for item, _ in engine.finish()]
    engine.close()
    return out


def good(out: Iterable[Change | Reject]) -> list[Change]:
    """The rows among what came out."""
    return [item for item in out if isinstance(item, Change)]


def rejects(out: Iterable[Change | Reject]) -> list[Reject]:
    """The rejects among what came out."""
    return [item for item in out if isinstance(item, Reject)]


def on_its_own_row(change: Change, dimension: int = DIMENSION) -> bool:
    """Whether the vector of a row is that of its text."""
    return bool((change["vector"] == vector_of(change["text"], dimension)).all())


def rows_of(count: int, distinct: int | None = None) -> list[dict[str, Any]]:
    """Rows with ids and texts; `distinct` texts among them."""
    return [{"id": i, "text": f"text {i % (distinct or count)}"} for i in range(count)]
