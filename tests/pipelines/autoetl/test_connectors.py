"""A connector of ml-commons, read as what calls the same endpoint in the same way."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pipelines.autoetl.support import BODY, CONNECTOR, INDEX, PIPELINE, changed
from vecferry.errors import JobError, redact
from vecferry.pipelines.autoetl.connectors import KEY, endpoint_of
from vecferry.pipelines.autoetl.ingest import default_pipeline, dimension_of, ingest_of

FILLED = '{"model": "${parameters.model}", "input": ${parameters.input}}'


def read(**values: Any) -> Any:
    """What a connector with other values calls."""
    return endpoint_of(changed(CONNECTOR, **values), "connector.json")


def test_the_tutorials_connector_is_spelt_out() -> None:
    """Address, model, key and body; the key stays the placeholder that it is."""
    found = read()
    assert found.endpoint == "https://models.example/compatible-mode/v1"
    assert found.model == "text-embedding-v4"
    assert found.api_key == "${NOTES_KEY}"
    assert found.headers == {}
    assert found.request_body == BODY


@pytest.mark.parametrize(
    ("body", "parameters", "model", "written"),
    [
        ('{"model": "m-1", "input": ${parameters.input}}', {}, "m-1", FILLED),
        (
            '{"model": "${parameters.name}", "input": ${parameters.input}}',
            {"name": "m-2"},
            "m-2",
            FILLED,
        ),
        ('{"model": "${parameters.m:-m-3}", "input": ${parameters.input}}', {}, "m-3", FILLED),
        (
            '{"input": ${parameters.input}, "dimensions": ${parameters.size}}',
            {"size": 256, "model": "m-4"},
            "m-4",
            '{"input": ${parameters.input}, "dimensions": 256}',
        ),
        (
            '{"model": "${parameters.a}-${parameters.b}", "input": ${parameters.input}}',
            {"a": "x", "b": "y"},
            "x-y",
            FILLED,
        ),
    ],
)
def test_parameters_are_filled_and_the_model_may_be_set(
    body: str, parameters: dict[str, Any], model: str, written: str
) -> None:
    """The place of the model is one place, whatever the connector calls it; all else is put in."""
    found = read(action_request_body=body, parameters={**parameters, "endpoint": "h"})
    assert (found.model, found.request_body) == (model, written)


@pytest.mark.parametrize(
    ("headers", "credential", "key", "others"),
    [
        ({"Authorization": "Bearer ${credential.k}"}, {"k": "${A}"}, "${A}", {}),
        ({"authorization": "Bearer ${credential.k}"}, {"k": "${env:A}"}, "${A}", {}),
        ({"Authorization": "Bearer ${credential.k}"}, {}, KEY, {}),
        ({"Authorization": "${credential.k}"}, {"k": "${A}"}, None, {"Authorization": "${A}"}),
        ({"api-key": "${credential.k}"}, {"k": "${A}"}, None, {"api-key": "${A}"}),
        ({"api-key": "${credential.k}"}, {}, None, {"api-key": KEY}),
        ({"X-Model": "${parameters.model}"}, {}, None, {"X-Model": "text-embedding-v4"}),
        ({}, {}, None, {}),
    ],
)
def test_a_key_goes_where_the_connector_sends_it(
    headers: dict[str, str], credential: dict[str, str], key: str | None, others: dict[str, str]
) -> None:
    """A key that nobody tells is asked for by name; a connector without one needs none."""
    found = read(action_headers=headers, credential=credential)
    assert (found.api_key, dict(found.headers)) == (key, others)


def test_the_query_of_an_address_stays() -> None:
    """Behind the endpoint, where the step takes it."""
    found = read(action_url="https://h/openai/embeddings?api-version=2024-06-01")
    assert found.endpoint == "https://h/openai?api-version=2024-06-01"


def test_a_key_that_is_written_out_is_a_secret() -> None:
    """Nothing that is shown afterwards holds it."""
    assert read(credential={"api_key": "sk-written-out-1"}).api_key == "sk-written-out-1"
    assert "sk-written-out-1" not in redact("the key is sk-written-out-1")
    assert "sk-written-out-1" not in repr(read(credential={"api_key": "sk-written-out-1"}))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"protocol": "aws_sigv4"}, "protocol is 'aws_sigv4': only http"),
        ({"actions": []}, "no action of the type predict"),
        ({"action_action_type": "batch_predict"}, "no action of the type predict"),
        ({"action_method": "GET"}, "its method is GET"),
        ({"action_url": "https://h/v1/chat"}, "'https://h/v1/chat' does not end with /embeddings"),
        (
            {"action_url": "https://h/${credential.api_key}/embeddings"},
            "its url holds a credential",
        ),
        ({"action_url": "https://${parameters.host}/embeddings"}, "add 'host' to them"),
        ({"action_request_body": None}, "it has no request_body"),
        (
            {"action_request_body": '{"x": "${parameters.y}", "input": ${parameters.input}}'},
            "request_body names ${parameters.y}",
        ),
        (
            {"action_request_body": '{"x": "${credential.api_key}"}'},
            "request_body holds a credential",
        ),
        (
            {"action_post_process_function": "connector.post_process.cohere.embedding"},
            "only connector.post_process.openai.embedding",
        ),
        (
            {"action_pre_process_function": "return 1"},
            "only connector.pre_process.openai.embedding",
        ),
        ({"parameters": ["x"]}, "parameters is not an object"),
    ],
)
def test_a_connector_that_can_not_be_called_alike_says_why(
    values: dict[str, Any], problem: str
) -> None:
    """What vecferry would not do as the server does is refused, and never guessed."""
    with pytest.raises(JobError) as failure:
        read(**values)
    assert problem in str(failure.value)
    assert str(failure.value).startswith("connector.json: ")


def test_a_pipeline_tells_its_model_and_its_fields() -> None:
    """Several processors of one model are one map."""
    assert dict(ingest_of(PIPELINE, "p").field_map) == {"my_text": "my_vector"}
    other = {"text_embedding": {"model_id": "<id>", "batch_size": 9, "field_map": {"a": "b"}}}
    both = changed(PIPELINE, processors=[*PIPELINE["processors"], other])
    assert dict(ingest_of(both, "p").field_map) == {"my_text": "my_vector", "a": "b"}


@pytest.mark.parametrize(
    ("processors", "problem"),
    [
        ([], "it has no processor text_embedding"),
        ([{"set": {"field": "a"}}], "its processor 'set' is not done here: embed: server"),
        ([{"text_embedding": {"model_id": "m", "if": "x", "field_map": {"a": "b"}}}], "has 'if'"),
        ([{"text_embedding": {"model_id": "m"}}], "has no field_map"),
        (
            [{"text_embedding": {"model_id": "m", "field_map": {"a": {"b": "c"}}}}],
            "goes into objects at 'a'",
        ),
        (
            [{"text_embedding": {"model_id": "m", "field_map": {"a.b": "c"}}}],
            "goes into objects at 'a.b'",
        ),
        (
            [{"text_embedding": {"model_id": n, "field_map": {n: "v"}}} for n in "mn"],
            "by several models (m, n)",
        ),
    ],
)
def test_a_pipeline_that_does_more_says_so(processors: list[Any], problem: str) -> None:
    """What the server would do, and vecferry would not, is left to the server in words."""
    with pytest.raises(JobError) as failure:
        ingest_of({"processors": processors}, "pipeline.json")
    assert problem in str(failure.value)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"index": {"default_pipeline": "p"}}, "p"),
        ({"index.default_pipeline": "p"}, "p"),
        ({"default_pipeline": "p"}, "p"),
        ({"index": {"default_pipeline": "_none"}}, None),
        ({}, None),
    ],
)
def test_an_index_names_its_pipeline(settings: dict[str, Any], name: str | None) -> None:
    """In any of the three ways that the server takes."""
    assert default_pipeline({"settings": settings}) == name


def test_an_index_tells_the_dimension_of_a_field() -> None:
    """None of a field without one, or that is not there."""
    found = [dimension_of(INDEX, name) for name in ("my_vector", "my_text", "x")]
    assert found == [1024, None, None]
