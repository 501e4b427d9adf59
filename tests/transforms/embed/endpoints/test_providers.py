"""One contract, kept by every provider against a server that refuses what the vendor refuses."""

from __future__ import annotations

import pytest

from tests.transforms.embed.endpoints.server import EndpointServer, first
from tests.transforms.embed.support import (
    embedder,
    good,
    on_its_own_row,
    rejects,
    rows_of,
    run,
    settings_for,
)
from vecferry.errors import FatalError, JobError

PROVIDERS = {
    "bailian": {"modelName": "text-embedding-v4", "dimension": 1024},
    "bailian multimodal": {"modelName": "tongyi-embedding-vision-plus", "dimension": 1024},
    "dataworksModelService": {"modelName": "mine", "dimension": 1024},
    "paiModelGallery": {"modelName": "bge-m3", "dimension": 1024},
    "aiSearch": {"modelName": "ops-text-embedding-002", "dimension": 1024},
    "aiSearch multimodal": {"modelName": "ops-m2-encoder-large", "dimension": 1024},
    "aiSearch compatible": {"modelName": "ops-text-embedding-002", "dimension": 1024},
    "openai": {"modelName": "text-embedding-3-small", "dimension": 1024},
    "connector": {
        "modelName": "text-embedding-v4",
        "dimension": 1024,
        "requestBody": '{ "model": "${parameters.model}", "input": ${parameters.input} }',
    },
}


@pytest.fixture(params=PROVIDERS)
def provider(request):
    return request.param


@pytest.fixture
def server(provider):
    with EndpointServer(auth="raw" if "pai" in provider else "bearer") as server:
        yield server


def _settings(server, provider, **more):
    endpoint = server.url
    if provider.endswith("compatible"):
        endpoint = endpoint.replace("/v1", "/compatible-mode/v1")
    elif provider.startswith("aiSearch"):
        endpoint = endpoint.removesuffix("/v1")
    name = provider.split()[0]
    return settings_for(
        server, **({"modelProvider": name, "endpoint": endpoint} | PROVIDERS[provider] | more)
    )


def test_every_vector_is_on_its_own_row(server, provider):
    """Full batches, each text once, the tokens that are billed."""
    engine = embedder(_settings(server, provider))
    out = run(engine, rows_of(95, 45))
    assert len(out) == 95
    assert all(on_its_own_row(row, 1024) for row in out)
    assert server.number == 5
    assert engine.counts.values["embed-tokens"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("fault", ["short", "reorder", "string-index", "503", "html", "nan"])
def test_a_fault_that_passes_loses_nothing(server, provider, fault):
    """The answers are checked alike, whatever their shape."""
    server.fault = first(1, fault)
    out = run(embedder(_settings(server, provider)), rows_of(20))
    assert all(on_its_own_row(row, 1024) for row in good(out))
    assert len(good(out)) == 20


def test_a_poison_text_costs_its_row(server, provider):
    """With the server's words."""
    rows = rows_of(10)
    rows[4]["text"] = "POISON"
    out = run(embedder(_settings(server, provider)), rows)
    (reject,) = rejects(out)
    assert "inappropriate content" in reject.message
    assert len(good(out)) == 9


def test_a_wrong_key_ends_the_job(server, provider):
    """401, once."""
    engine = embedder(_settings(server, provider, apiKey="sk-wrong-one"), concurrent=1)
    with pytest.raises(FatalError, match="401"):
        run(engine, rows_of(10))
    assert server.number == 1


def test_a_wrong_dimension_is_found_before_the_run(server, provider):
    """`check` says what the model gives."""
    server.fault = first(2, "wrong-dimension")
    with pytest.raises(JobError, match="set dimension to 512"):
        embedder(_settings(server, provider)).check()


STUDIO = "/api/v1/services/embeddings/multimodal-embedding/multimodal-embedding"
SEARCH = "/v3/openapi/workspaces/mine"


@pytest.mark.parametrize(
    ("provider", "path"),
    [
        ("bailian multimodal", STUDIO),
        ("aiSearch", f"{SEARCH}/text-embedding/ops-text-embedding-002"),
        ("aiSearch multimodal", f"{SEARCH}/multi-modal-embedding/ops-m2-encoder-large"),
    ],
)
def test_native_addresses_are_made_of_host_workspace_and_model(server, provider, path):
    """Whatever path the endpoint has, the vendor's own is used."""
    settings = _settings(server, provider, workspace="mine")
    assert settings.endpoint_spec.url == f"http://127.0.0.1:{server.port}{path}"


def test_a_text_to_search_by_is_called_so_where_the_vendor_asks():
    """AI Search makes other vectors of queries than of documents."""
    with EndpointServer() as server:
        engine = embedder(_settings(server, "aiSearch"))
        run(engine, rows_of(1))
        embedder(_settings(server, "aiSearch")).embed_query("where to")
        kinds = [seen.request["input_type"] for seen in server.good]
    assert kinds == ["document", "query"]
