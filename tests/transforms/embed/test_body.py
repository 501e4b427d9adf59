"""Further fields of requests: sent as written, and part of what a vector depends on."""

from __future__ import annotations

import pickle

import pytest
from pydantic import ValidationError

from tests.transforms.embed.endpoints.server import EndpointServer
from tests.transforms.embed.support import embedder, rows_of, run, settings_for
from vecferry.errors import redact
from vecferry.secrets import Written, referenced, secrets_in
from vecferry.transforms.embed.shared import identity_of, kept_key

BODY = {"input_type": "passage", "task": "retrieval.passage", "truncate": "END", "user": "me"}


def test_fields_of_the_body_go_with_each_request_and_others_with_queries():
    """Rows have `body`, texts to search by have `queryBody`, or `body` where there is none."""
    with EndpointServer() as server:
        engine = embedder(settings_for(server, body=BODY, queryBody={"input_type": "query"}))
        engine.embed_query("a text")
        run(engine, rows_of(10))
        embedder(settings_for(server, body=BODY)).embed_query("a text")
        query, rows, as_rows = (seen.request for seen in server.good)
    assert BODY.items() <= rows.items()
    assert (query["input_type"], "task" in query) == ("query", False)
    assert BODY.items() <= as_rows.items()


@pytest.mark.parametrize("body", [{"input_type": "query"}, {"a": [1, {"b": None}]}, {"a": True}])
def test_a_body_is_part_of_what_a_vector_depends_on(body):
    """Another body is another identity; the order of its fields is not.

    A mark does not tell it: a model's vectors for passages and for queries can be compared.
    """
    plain, other = settings_for(None), settings_for(None, body=body)
    assert plain.identity() != other.identity()
    assert plain.makers() == other.makers()
    turned = settings_for(None, body=dict(reversed(list((body | {"z": 1}).items()))))
    assert turned.identity() == settings_for(None, body=body | {"z": 1}).identity()


KEY = "k-5521-hidden"


@pytest.mark.parametrize("field", ["body", "queryBody"])
@pytest.mark.parametrize(
    "body",
    [
        {"api_key": KEY},
        {"auth": {"token": KEY}},
        {"login": [{"user": "me", "password": KEY}]},
        {"clientSecret": [KEY]},
        {"credentials": {"any": 1, "secret": KEY, "text": "x"}},
    ],
    ids=str,
)
def test_a_secret_in_a_body_is_sent_and_shown_nowhere(field, body):
    """Neither in settings nor in an identity; pickled for workers, it is what was written."""
    with EndpointServer() as server:
        settings = settings_for(server, **{field: body})
        engine = embedder(settings)
        engine.embed_query("a text")
        (query,) = (seen.request for seen in server.good)
    assert body.items() <= query.items()
    shown = (repr(settings), settings.model_dump_json(by_alias=True), repr(settings.endpoint_spec))
    assert not any(KEY in text for text in (*shown, repr(settings.identity())))
    assert KEY in secrets_in(settings)
    assert KEY not in redact(f"refused: {KEY}")
    sent = pickle.dumps(
        referenced(settings, Written({KEY: "${KEY}", "sk-test": "${OTHER}"}), "no run")
    )
    assert KEY.encode() not in sent


def test_no_other_text_of_a_body_is_a_secret():
    """A task or a tokenizer is shown as it is, and so are numbers."""
    body = {"task": "search", "tokenizer": "cl100k", "max_tokens": 5, "keys": {"a": "b"}}
    settings = settings_for(None, body=body)
    assert settings.model_dump()["body"] == body
    assert secrets_in(settings) == ["sk-test"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"body": {"model": "x"}},
        {"body": {"input": []}},
        {"queryBody": {"dimensions": 3}},
        {"body": {"encoding_format": "float"}},
        {"body": {"task": "x"}, "modelProvider": "aiSearch", "modelName": "ops-m2", "endpoint": "http://h"},
    ],
    ids=str,
)  # fmt: skip
def test_a_body_that_cannot_be_sent_is_refused(wrong):
    """Before anything runs, with what to leave out."""
    with pytest.raises(ValidationError, match="leave"):
        settings_for(None, **wrong)


def test_a_query_follows_the_address():
    """It is sent as written, and another query is another identity."""
    seen = []
    with EndpointServer() as server:
        answer = server.answer

        def noting(path, headers, body):
            seen.append(path)
            return answer(path.partition("?")[0], headers, body)

        server.answer = noting  # type: ignore[method-assign]
        settings = settings_for(server, query={"api-version": "2024-06-01", "a": "b c&d"})
        run(embedder(settings), rows_of(10))
    assert seen == ["/v1/embeddings?api-version=2024-06-01&a=b+c%26d"]
    assert settings.identity() != settings_for(server).identity()


def test_a_query_may_stand_in_the_address():
    """As a cloud's page shows it; `query` wins where both name a parameter."""
    at = "http://h/deployments/d/embeddings?api-version=1&b=2"
    settings = settings_for(None, endpoint=at, query={"b": "3"})
    assert settings.calls()[0] == "http://h/deployments/d/embeddings?api-version=1&b=3"


def test_texts_to_search_by_may_have_a_query_of_their_own():
    """Vectors of rows do not depend on it; without one, queries go where rows go."""
    seen = []
    with EndpointServer() as server:
        answer = server.answer

        def noting(path, headers, body):
            seen.append(path.partition("?")[2])
            return answer(path.partition("?")[0], headers, body)

        server.answer = noting  # type: ignore[method-assign]
        for more in ({}, {"queryQuery": {"task": "search"}}, {"queryQuery": {}}):
            settings = settings_for(server, query={"task": "store"}, **more)
            engine = embedder(settings)
            engine.embed_query("a text")
            run(engine, rows_of(1))
            assert settings.identity() == settings_for(server, query={"task": "store"}).identity()
    stored = "task=store"
    assert seen == [stored, stored, "task=search", stored, "", stored]


@pytest.mark.parametrize("field", ["query", "queryQuery"])
@pytest.mark.parametrize("name", ["key", "api-key", "token", "subscription_key", "Signature"])
def test_a_query_holds_no_key(name, field):
    """The message names it, and says where keys go."""
    with pytest.raises(ValidationError, match=f"{field} names .*put the key into apiKey"):
        settings_for(None, **{field: {name: "v-5521"}})


def test_headers_go_with_each_request_and_are_shown_nowhere():
    """A gateway that wants its key in a header of its own gets it there."""
    seen = []
    with EndpointServer() as server:
        answer = server.answer

        def noting(path, headers, body):
            seen.append(headers.get("api-key"))
            return answer(path, headers, body)

        server.answer = noting  # type: ignore[method-assign]
        settings = settings_for(server, headers={"api-key": "k-5521-hidden"})
        run(embedder(settings), rows_of(10))
        embedder(settings).embed_query("a text")
    assert seen == ["k-5521-hidden"] * 2
    assert "5521" not in f"{settings!r} {settings.model_dump_json()} {settings.endpoint_spec!r}"
    assert secrets_in(settings)[-1] == "k-5521-hidden"


def test_an_identity_without_headers_stays_what_it_was():
    """Or each vector that a job has in its vector cache would be paid for again."""
    settings = settings_for(None)
    known = ("openai", "http://127.0.0.1:1/v1/embeddings", "text-embedding-v4", 64, True)
    assert settings.identity() == known
    name = kept_key(identity_of(settings), "a text").hex()
    assert name == "d78485c6bd3b8986251e674a315ff4f8210cdd7e"


@pytest.mark.parametrize("name", ["x-task", "X-Model-Version", "x-tokenizer"])
def test_a_header_is_part_of_what_a_vector_depends_on(name):
    """Its value too; the order of headers and the case of their names are not."""

    def identity(**headers):
        return settings_for(None, headers=headers).identity()

    found = [settings_for(None).identity(), identity(**{name: "a"}), identity(**{name: "b"})]
    assert len(set(found)) == len({repr(one) for one in found}) == 3
    assert identity(**{name.upper(): "a", "x-b": "1"}) == identity(**{"X-B": "1", name: "a"})
    assert settings_for(None, headers={name: "v-5521"}).makers() == settings_for(None).makers()
    assert "5521" not in repr(identity(**{name: "v-5521"}))


@pytest.mark.parametrize(
    "name", ["api-key", "Ocp-Apim-Subscription-Key", "X-Auth", "x-secret", "X-Token", "x-password"]
)
def test_a_header_with_the_name_of_a_secret_leaves_the_vectors_that_are_cached(name):
    """It says who asks: a new key makes the same vector."""
    assert settings_for(None, headers={name: "one"}).identity() == settings_for(None).identity()
    both = [settings_for(None, headers={"x-task": "a", name: key}) for key in ("one", "two")]
    assert both[0].identity() == both[1].identity() != settings_for(None).identity()


def test_a_header_that_selects_a_task_shares_no_vector_that_is_cached(tmp_path):
    """Two steps with one vector cache: each asks for its own vectors, and finds them again."""
    cache = {"uri": f"sqlite:///{tmp_path}/vectors.db"}
    with EndpointServer() as server:
        for sent, headers in ((1, {"x-task": "a"}), (2, {"x-task": "b"}), (2, {"X-TASK": "a"})):
            run(embedder(settings_for(server, headers=headers, vectorCache=cache)), rows_of(3))
            assert len(server.good) == sent


def test_texts_to_search_by_may_have_headers_of_their_own():
    """They go over `headers`, whatever the case of a name; vectors of rows don't depend on them."""
    seen = []
    with EndpointServer() as server:
        answer = server.answer

        def noting(path, headers, body):
            seen.append((headers.get("x-task"), headers.get("api-key")))
            return answer(path, headers, body)

        server.answer = noting  # type: ignore[method-assign]
        given = {"X-Task": "store", "api-key": "k-5521-hidden"}
        for more in ({}, {"queryHeaders": {"x-task": "search"}}, {"queryHeaders": {}}):
            settings = settings_for(server, headers=given, **more)
            engine = embedder(settings)
            engine.embed_query("a text")
            run(engine, rows_of(1))
            assert settings.identity() == settings_for(server, headers=given).identity()
    key = "k-5521-hidden"
    store, search = ("store", key), ("search", key)
    assert seen == [store, store, search, store, store, store]


def test_headers_of_queries_are_secrets():
    """As those of rows are."""
    settings = settings_for(None, queryHeaders={"api-key": "k-5521-hidden"})
    assert "5521" not in f"{settings!r} {settings.model_dump_json()} {settings.query_spec!r}"
    assert secrets_in(settings)[-1] == "k-5521-hidden"


@pytest.mark.parametrize("field", ["headers", "queryHeaders"])
@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"a b": "x"}, "not a header"),
        ({"a": "x\r\nb: y"}, "not a header"),
        ({"a": "é"}, "not a header"),
        ({"a": ""}, "not a header"),
        ({"Content-Length": "3"}, "the step itself sets"),
        ({"host": "h"}, "the step itself sets"),
        ({"Authorization": "Basic eA=="}, "apiKey is there"),
    ],
    ids=str,
)
def test_a_header_that_cannot_be_sent_is_refused(field, headers, says):
    """Before anything runs; the value is not shown."""
    with pytest.raises(ValidationError, match=f"{field}.* {says}"):
        settings_for(None, apiKey="sk-1234", **{field: headers})


@pytest.mark.parametrize("field", ["headers", "queryHeaders"])
def test_a_model_in_the_process_has_no_headers(field):
    """It is not a service."""
    more = {"modelName": None, "apiKey": None, "endpoint": None, "dimension": 64}
    with pytest.raises(ValidationError, match=f"{field} are for services"):
        settings_for(None, modelProvider="local", **more, **{field: {"x-task": "a"}})
