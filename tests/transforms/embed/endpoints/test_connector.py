"""The body of a connector of ml-commons goes out as it is written."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.transforms.embed.endpoints.server import EndpointServer
from tests.transforms.embed.support import embedder, good, rejects, rows_of, run, settings_for
from vecferry.transforms.embed.endpoints.connector import ConnectorEndpoint
from vecferry.transforms.embed.endpoints.request_body import around_input
from vecferry.transforms.embed.settings import EmbedSettings

BODY = '{ "model": "${parameters.model}",\n  "input": ${parameters.input}, "x": {"y": [1.50]} }'


def settings(server: EndpointServer | None, **more: object) -> EmbedSettings:
    """Of a step with the body."""
    given = {"modelProvider": "connector", "dimension": 1024, "requestBody": BODY}
    return settings_for(server, **(given | more))


class Kept:
    """A client that keeps what it is given to send."""

    url = "http://127.0.0.1:1/v1/embeddings"

    def post(self, request: object, read: object, inputs: object) -> None:
        import orjson

        self.sent = orjson.dumps(request)


def test_the_body_goes_out_word_for_word() -> None:
    """Blanks, line breaks and digits are the connector's; only the two places are filled."""
    endpoint = ConnectorEndpoint(settings(None, modelName='a "model" é').endpoint_spec, 1)
    endpoint._client = kept = Kept()  # type: ignore[assignment]
    endpoint.embed(["a", 'b "c" é\n'])
    assert kept.sent.decode() == (
        '{ "model": "a \\"model\\" \\u00e9",\n'
        '  "input": ["a","b \\"c\\" é\\n"], "x": {"y": [1.50]} }'
    )


def test_nothing_is_added_to_the_body() -> None:
    """Neither encoding_format nor dimensions, for a query as for a row."""
    with EndpointServer() as server:
        engine = embedder(settings(server))
        assert len(good(run(engine, rows_of(15)))) == 15
        embedder(settings(server)).embed_query("where to")
        keys = {tuple(seen.request) for seen in server.good}
    assert keys == {("model", "input", "x")}
    assert len(server.good) == 3


def test_a_text_that_is_not_valid_costs_its_row() -> None:
    """Half a character can't be sent; the others are."""
    with EndpointServer() as server:
        rows = [*rows_of(3), {"id": 9, "text": "\ud83d"}]
        out = run(embedder(settings(server)), rows)
    assert [reject.reason for reject in rejects(out)] == ["bad-text"]
    assert len(good(out)) == 3


def test_a_text_may_look_like_a_place() -> None:
    """Texts are put in once, and never read as places themselves."""
    text = "${parameters.input} ${parameters.model} $1"
    with EndpointServer() as server:
        run(embedder(settings(server)), [{"id": 1, "text": text}])
        assert server.good[0].inputs == [text]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"requestBody": None}, "requestBody is missing"),
        ({"requestBody": "{}"}, "0 times"),
        ({"requestBody": "[${parameters.input}]"}, "not an object"),
        ({"requestBody": '{"input": "${parameters.input}"}'}, "no quotes stand around"),
        ({"requestBody": '{"a": ${parameters.input}, "b": ${parameters.input}}'}, "2 times"),
        ({"requestBody": '{"a": ${parameters.input}, "b": "${parameters.c}"}'}, "nothing fills"),
        ({"sendDimension": True}, "sendDimension is on"),
        ({"modelProvider": "openai"}, "requestBody is for modelProvider connector"),
        (
            {"modelProvider": "local", "modelName": None, "dimension": 64},
            "requestBody is for modelProvider connector",
        ),
        ({"body": {"x": 1}}, "body and queryBody are for"),
        ({"endpoint": None}, "endpoint is missing"),
    ],
)
def test_a_body_that_can_not_be_sent_says_why(more: dict[str, object], problem: str) -> None:
    """When the job is checked."""
    with pytest.raises(ValidationError, match=problem):
        settings(None, **more)


def test_a_connector_without_a_key_sends_none() -> None:
    """A server in the same house may want none."""
    with EndpointServer(key=None) as server:
        engine = embedder(settings(server, apiKey=None))
        assert len(good(run(engine, rows_of(2)))) == 2
        assert "authorization" not in server.good[0].headers


def test_vectors_depend_on_the_body() -> None:
    """Another body may make other vectors, so they share no cache."""
    other = BODY.replace("1.50", "2")
    assert settings(None).identity() != settings(None, requestBody=other).identity()
    assert settings(None).identity() == settings(None).identity()


def test_the_places_are_found() -> None:
    """Before and behind the texts."""
    assert around_input('{"input":${parameters.input}}', "m") == (b'{"input":', b"}")
