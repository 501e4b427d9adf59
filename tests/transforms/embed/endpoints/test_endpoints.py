"""What is read from an answer, and what a refusal means."""

from __future__ import annotations

import base64
import json
import pickle
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.effort import tries
from tests.transforms.embed.endpoints import server as endpoint_server
from tests.transforms.embed.endpoints.server import EndpointServer
from tests.transforms.embed.support import embedder, on_its_own_row, rows_of, run, settings_for
from vecferry.errors import FatalError, TransientError
from vecferry.process import PROCESS
from vecferry.transforms.embed.endpoints.answer import match_vectors
from vecferry.transforms.embed.endpoints.base import (
    AbsentError,
    BadResponseError,
    DimensionError,
    PoisonError,
    ShapeError,
    ThrottledError,
)
from vecferry.transforms.embed.endpoints.choose import open_endpoint
from vecferry.transforms.embed.endpoints.client import fault_of
from vecferry.transforms.embed.endpoints.local import LocalEndpoint, Tokens, _goes_by_words, _load


def _item(index, vector):
    return {"index": index, "embedding": vector}


@given(st.permutations(range(8)), st.booleans())
def test_vectors_are_matched_by_index_whatever_the_order(order, as_text):
    """A number, or one as a string."""
    items = [_item(str(i) if as_text else i, [float(i), 1.0]) for i in order]
    vectors = match_vectors(items, 8, 2, model="m")
    assert [v[0] for v in vectors] == list(range(8))


@pytest.mark.parametrize(
    "items",
    [
        [_item(0, [1.0, 2.0])],
        [_item(1, [1.0, 2.0])] * 2,
        [_item(0, [1.0, 2.0]), _item(2, [1.0, 2.0])],
        [_item(0, [1.0, 2.0]), _item(-1, [1.0, 2.0])],
        [_item(3, [1.0, 2.0]), _item(None, [1.0, 2.0])],
        [_item(0, [1.0, 2.0]), _item(1.5, [1.0, 2.0])],
        [_item(0, [1.0, 2.0]), _item(1, [1.0, True])],
        [_item(0, [1.0, 2.0]), _item(1, [False, 2.0])],
        [_item(0, [1.0, 2.0]), _item(1, [1.0, "2"])],
        [_item(0, [1.0, 2.0]), _item(1, [0.0, 0.0])],
        [_item(0, [1.0, 2.0]), _item(1, [1e7, 1.0])],
        [_item(0, [1.0, 2.0]), _item(1, [1e-7, 0.0])],
        [_item(0, [1.0, 2.0]), _item(1, [3e38, 3e38])],
        [_item(0, [1.0, 2.0]), _item("one", [1.0, 2.0])],
        [_item(0, [1.0, 2.0]), _item(True, [1.0, 2.0])],
        [_item(0, [1.0, 2.0]), "x"],
        [_item(0, [1.0, 2.0]), _item(1, None)],
        [_item(0, [1.0, 2.0]), _item(1, [])],
        [_item(0, [1.0, 2.0]), _item(1, [1.0])],
        [_item(0, [1.0, 2.0]), _item(1, [1.0, None])],
        [_item(0, [1.0, 2.0]), _item(1, ["1", "2"])],
        [_item(0, [1.0, 2.0]), _item(1, [1e300, 1.0])],
        [_item(0, [1.0, 2.0]), _item(1, [[1.0], [2.0]])],
        [_item(0, [1.0, 2.0]), _item(1, "AAA")],
        [_item(0, [1.0, 2.0]), _item(1, "not base64!")],
        [_item(0, [1.0, 2.0]), _item(1, "AACAPwA\nAAEA=")],
        [_item(0, [1.0, 2.0]), {"index": 1}],
    ],
    ids=str,
)
def test_an_answer_that_does_not_fit_is_refused_whole(items):
    """Short, repeated, foreign or odd index; null, odd, short or infinite vectors."""
    with pytest.raises(BadResponseError) as failure:
        match_vectors(items, 2, 2, model="m")
    assert not isinstance(failure.value, DimensionError)


def test_vectors_all_of_another_size_say_which():
    """The size that the model gives is in the error."""
    with pytest.raises(DimensionError, match="dimension 3: set dimension to 2") as failure:
        match_vectors([_item(0, [1.0, 2.0])], 1, 3, model="m")
    assert failure.value.given == 2


@pytest.mark.parametrize(
    "places",
    [
        [None, 1, 2, 3],
        [None] * 4,
        [0] * 4,
        [0.0, 1.0, 2.0, 3.0],
        ["0", "1", "2", "3"],
        [0, 1, None, 3],
        [None, 1.0, "2", 3],
    ],
    ids=str,
)
def test_places_that_have_one_reading_are_taken(places):
    """A 0 left out, as protobuf does; whole numbers in any form; 0 for all, or none for all."""
    items = [_item(place, [float(i), 1.0]) for i, place in enumerate(places)]
    for item in items[::2]:
        if item["index"] is None:
            del item["index"]
    assert [v[0] for v in match_vectors(items, 4, 2, model="m")] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "places", [[None, None, 2, 3], [None, 0, 1, 1], [1, 2, 3, 4], [0, 0, 2, 3]]
)
def test_places_that_have_two_readings_are_not(places):
    """What one of them might put on another row is asked for again."""
    with pytest.raises(ShapeError):
        match_vectors([_item(place, [1.0, 2.0]) for place in places], 4, 2, model="m")


UNIT = np.random.default_rng(7).standard_normal((20, 64))
UNIT /= np.linalg.norm(UNIT, axis=1)[:, None]


@pytest.mark.parametrize(
    "bytes_of",
    [
        lambda v: v.astype(">f4").tobytes(),
        lambda v: v.astype(np.float16).astype(">f4").tobytes(),
        lambda v: v[:32].astype("<f8").tobytes(),
        lambda v: v[:32].astype(">f8").tobytes(),
        lambda v: v[:32].astype(np.float16).astype("<f8").tobytes(),
        lambda v: v[:32].astype("<f4").astype("<f8").tobytes()[::-1],
        lambda v: np.tile(v, 2).astype(">f2").tobytes(),
        lambda v: np.tile(v * 127, 4).astype("<i1").tobytes(),
        lambda v: (v * 2**30).astype("<i4").tobytes(),
        lambda v: (v * 2**30).astype(">i4").tobytes(),
        lambda v: np.zeros(64, "<f4").tobytes(),
    ],
    ids=[
        "float32 >", "float16 in float32 >", "float64", "float64 >", "float16 in float64",
        "float64 backwards", "float16 >", "int8", "int32", "int32 >", "zeros",
    ],
)  # fmt: skip
def test_bytes_of_another_type_or_order_are_not_a_vector(bytes_of):
    """Of the same length each: none of 20 unit vectors is taken."""
    for vector in UNIT:
        text = base64.b64encode(bytes_of(vector)).decode()
        with pytest.raises(BadResponseError):
            match_vectors([_item(0, text)], 1, 64, model="m")


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
def test_vectors_of_usual_lengths_are_taken(scale):
    """From a hundred thousandth to a hundred thousand, as base64 and as numbers; also one-hot."""
    for vector in (*UNIT * scale, np.eye(64)[3], np.tile([0.0, 1.0, 0.0, 0.0], 16)):
        exact = vector.astype("<f4")
        for given_ in (base64.b64encode(exact.tobytes()).decode(), exact.tolist()):
            (taken,) = match_vectors([_item(0, given_)], 1, 64, model="m")
            assert (taken == exact).all()


@given(
    st.lists(
        st.floats(-1000, 1000, width=32).filter(lambda v: v == 0 or abs(v) > 1e-3), min_size=1
    ).filter(any)
)
def test_base64_and_floats_give_the_same_vector(values):
    """Base64 is of little-endian float32."""
    text = base64.b64encode(np.array(values, dtype="<f4").tobytes()).decode()
    (one,) = match_vectors([_item(0, text)], 1, len(values), model="m")
    (two,) = match_vectors([_item(0, values)], 1, len(values), model="m")
    assert one.dtype == two.dtype == np.float32
    assert (one == two).all()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"message": "bad"}}, PoisonError),
        (413, None, PoisonError),
        (422, {"detail": [{"msg": "bad"}]}, PoisonError),
        (400, {"error": {"code": "model_not_found", "message": "x"}}, FatalError),
        (400, {"code": "Arrearage", "message": "pay"}, FatalError),
        (401, None, FatalError),
        (403, {"message": "no"}, FatalError),
        (404, {"error": "nothing here"}, AbsentError),
        (429, {"error": {"code": "insufficient_quota"}}, FatalError),
        (429, {"code": "Throttling.RateQuota"}, ThrottledError),
        (500, None, TransientError),
        (503, b"<html>", TransientError),
        (408, None, TransientError),
        (307, None, FatalError),
    ],
    ids=lambda v: getattr(v, "__name__", str(v)),
)
def test_a_status_means_a_kind_of_fault(status, body, kind):
    """Poison is bisected, trouble retried, a quota waited for, the rest ends the job."""
    data = body if isinstance(body, bytes) else orjson.dumps(body) if body else b""
    fault = fault_of("http://h/embeddings", status, {}, data)
    assert type(fault) is kind
    assert str(status) in str(fault) or status == 307
    again = pickle.loads(pickle.dumps(fault))
    assert (type(again), str(again)) == (kind, str(fault))


def test_a_forgotten_v1_is_guessed_where_nothing_is_served():
    """Most servers of the OpenAI shape have it, and most base URLs are first written without."""
    assert "want /v1 at the end" in str(fault_of("http://h/embeddings", 404, {}, b""))
    for url, status in (("http://h/v1/embeddings", 404), ("http://h/embeddings", 400)):
        assert "/v1 at" not in str(fault_of(url, status, {}, b""))


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        ("batch size is invalid, it should not be larger than 10.", 10),
        ("This model accepts at most 32 inputs per request", 32),
        ("batch size 32 > maximum allowed batch size 5", 5),
        ("Too many inputs. The maximum batch size is 8.", 8),
        ("Invalid 'input': expected an array with maximum length 2048, but got 2049", 2048),
        ("Range of input length should be [1, 8192]", None),
        ("data_inspection_failed", None),
    ],
)
def test_the_limit_that_a_server_names_is_found(message, limit):
    """A number of inputs, but not one of tokens."""
    body = orjson.dumps({"error": {"message": message}})
    assert fault_of("http://h", 400, {}, body).limit == limit


def test_retry_after_is_read_in_seconds_and_milliseconds():
    """The wish of a 429 or 503 stays with the error."""
    assert fault_of("u", 429, {"retry-after": "7"}, b"").retry_after == 7
    assert fault_of("u", 503, {"retry-after": "7"}, b"").retry_after == 7
    assert (
        fault_of("u", 429, {"retry-after-ms": "250", "retry-after": "1"}, b"").retry_after == 0.25
    )


@pytest.mark.parametrize("hours", [-3, 0, 3])
def test_a_date_to_retry_after_is_read_by_the_clock_of_its_server(hours):
    """Else an hour between two clocks would be an hour of waiting, or none."""
    theirs = time.time() + 3600 * hours
    dates = {"date": formatdate(theirs, usegmt=True)}
    dates["retry-after"] = formatdate(theirs + 30, usegmt=True)
    assert 29 <= fault_of("u", 429, dates, b"").retry_after <= 31
    assert fault_of("u", 429, {**dates, "date": "yesterday"}, b"").retry_after is not None


@pytest.mark.slow
def test_the_local_provider_gives_wordllamas_own_vectors():
    """Bit for bit, in each of its dimensions; what it knows nothing of gets zeros."""
    import wordllama

    folder = str(Path(wordllama.__file__).parent)
    model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
    texts = ["a cat sat on the mat", "Fähre über den Fluss", "渡船", "x" * 500, "a"]
    expected = model.embed(texts)
    for dimension in (256, 128, 64):
        settings = settings_for(None, modelProvider="local", modelName=None, dimension=dimension)
        answer = LocalEndpoint(settings.endpoint_spec, 1).embed(texts)
        assert (np.vstack(answer.vectors) == expected[:, :dimension]).all()
        assert answer.tokens > 0


PIECES = [
    *("a", "Fähre", "渡船", "\u2581", "\u2581a", "<s>", "</s>", "<unk>", "<0x0A>", "<"),
    *(" ", "  ", "   ", "\n", "\t", "\u00a0", "\u3000", "", "\x00", "🚢", "e\u0301", "foo.bar"),
    *("x" * 50, "the", "The", "12345", "don't", "ab", "\u0378"),
]


@pytest.mark.slow
@tries(40, 2000)
@given(
    st.lists(
        st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=12).map("".join)
        | st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join),
        max_size=6,
    )
)
def test_the_tokens_of_texts_are_those_of_their_words(texts: list[str]):
    """Whatever stands between them, and whichever words are known."""
    tokenizer, _ = PROCESS.get(("embed", "wordllama"), _load)
    tokens = PROCESS.get(("embed", "wordllama", "tokens"), lambda: Tokens(tokenizer))
    expected = [one.ids for one in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    assert tokens.of(texts) == expected
    assert tokens.of(texts) == expected


@pytest.mark.slow
def test_the_tokenizer_is_asked_for_a_word_once(monkeypatch: pytest.MonkeyPatch):
    """Also for each word of a text; words that are kept do not grow without bound."""
    monkeypatch.setattr("vecferry.transforms.embed.endpoints.local.MOST_WORDS", 50)
    tokenizer, _ = PROCESS.get(("embed", "wordllama"), _load)
    asked: list[str] = []

    class Spy:
        def to_str(self) -> str:
            return tokenizer.to_str()

        def encode_batch_fast(self, texts: list[str], **given: bool) -> Any:
            asked.extend(texts)
            return tokenizer.encode_batch_fast(texts, **given)

    tokens = Tokens(Spy())
    tokens.of(["the cat and the dog", "the dog"])
    tokens.of(["the cat"])
    assert sorted(asked) == ["and", "cat", "dog", "the"]
    asked.clear()
    for n in range(0, 200, 10):
        texts = [f"the {' '.join(map(str, range(n, n + 10)))} {'y' * 60}"]
        assert tokens.of(texts) == [
            o.ids for o in tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ]
        assert len(tokens._known) <= 25
        assert len(tokens._known.before) <= 25 + 12
    assert asked.count("y" * 60) == 20
    title = "\u6e21\u8239\u9f98" * 12
    tokens.of([title])
    assert title not in tokens._known


@pytest.mark.slow
@pytest.mark.parametrize("change", ["a merge across words", "a pre-tokenizer", "no bytes"])
def test_a_tokenizer_that_joins_words_is_asked_for_texts(change: str):
    """Another version of the model may come with one."""
    tokenizer, _ = PROCESS.get(("embed", "wordllama"), _load)
    told = json.loads(tokenizer.to_str())
    assert _goes_by_words(told)
    if change == "a merge across words":
        told["model"]["merges"].append(["a", "\u2581"])
    elif change == "a pre-tokenizer":
        told["pre_tokenizer"] = {"type": "Whitespace"}
    else:
        del told["model"]["vocab"]["<0x0A>"]
    assert not _goes_by_words(told)


def test_the_local_provider_has_one_model():
    """Another name is refused in words, before anything runs."""
    with pytest.raises(ValidationError, match="leave modelName out"):
        settings_for(None, modelProvider="local", modelName="bge-m3", dimension=64)


def test_pai_gets_its_key_raw_and_no_dimension():
    """The Authorization header is the token itself; bge-m3 gives 1024 and is not asked."""
    with EndpointServer(auth="raw") as server:
        settings = settings_for(
            server, modelProvider="paiModelGallery", modelName="bge-m3", dimension=1024
        )
        open_endpoint(settings.endpoint_spec, 1).embed(["x"])
        assert server.requests[0].headers["authorization"] == "sk-test"
        assert server.requests[0].request == {
            "model": "bge-m3",
            "encoding_format": "float",
            "input": ["x"],
        }


HOST = "http://h.pai-eas.aliyuncs.com"


@pytest.mark.parametrize(
    ("endpoint", "url", "other"),
    [
        (HOST, f"{HOST}/v1/embeddings", HOST),
        (f"{HOST}/api/predict/bge", f"{HOST}/api/predict/bge/v1/embeddings", "the endpoint"),
        (f"{HOST}/api/predict/bge/", f"{HOST}/api/predict/bge/v1/embeddings", "the endpoint"),
        (f"{HOST}/api/predict/bge/v1", f"{HOST}/api/predict/bge/v1/embeddings", None),
        (f"{HOST}/bge/v1/embeddings", f"{HOST}/bge/v1/embeddings", None),
        (f"{HOST}/mine/embeddings", f"{HOST}/mine/embeddings", None),
    ],
)
def test_the_endpoint_of_pai_says_where_its_service_is(endpoint, url, other):
    """By its path; only a bare one leaves two addresses."""
    settings = settings_for(
        None, modelProvider="paiModelGallery", modelName="bge-m3", dimension=1024, endpoint=endpoint
    )
    assert settings.endpoint_spec.url == url
    assert settings.endpoint_spec.other_url == (endpoint.rstrip("/") if other else None)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["/api/predict/bge/v1/embeddings", "/api/predict/bge"])
def test_pai_is_found_below_its_address_or_at_it(monkeypatch, place):
    """One request more, refused and unpaid, for each in flight at most; every vector is there."""
    monkeypatch.setattr(
        endpoint_server, "kind_of", lambda path: "openai" if path == place else None
    )
    with EndpointServer(auth="raw") as server:
        engine = embedder(
            settings_for(
                server,
                modelProvider="paiModelGallery",
                modelName="bge-m3",
                dimension=1024,
                endpoint=server.url.replace("/v1", "/api/predict/bge"),
            ),
            concurrent=2,
        )
        out = run(engine, rows_of(100))
        assert all(on_its_own_row(row, 1024) for row in out)
        assert len(server.sent()) == len(set(server.sent())) == 100
        assert server.statuses[404] <= (2 if place.endswith("bge") else 0)
        assert engine.counts.values["embed-requests"] == server.number


def test_pai_that_is_at_neither_address_ends_the_job(monkeypatch):
    """Two requests, then the way out."""
    monkeypatch.setattr(endpoint_server, "kind_of", lambda path: None)
    with EndpointServer(auth="raw") as server:
        settings = settings_for(
            server,
            modelProvider="paiModelGallery",
            modelName="bge-m3",
            dimension=1024,
            endpoint=server.url.removesuffix("/v1"),
        )
        with pytest.raises(FatalError, match=r"answers 404: .*: check endpoint"):
            run(embedder(settings, concurrent=1), rows_of(10))
        assert server.number == 2


def test_connections_stay_open_between_requests():
    """A second request does not connect again."""
    with EndpointServer() as server:
        endpoint = open_endpoint(settings_for(server).endpoint_spec, 2)
        for _ in range(5):
            endpoint.embed(["x"])
        assert server.connections == 1
        endpoint.close()


def test_a_proxy_of_the_environment_is_used(monkeypatch):
    """The request goes to the proxy, whole address included."""
    with EndpointServer() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        settings = settings_for(None, endpoint="http://embeddings.invalid/v1")
        endpoint = open_endpoint(settings.endpoint_spec, 1)
        assert len(endpoint.embed(["x"]).vectors) == 1
        assert proxy.requests[0].headers["host"] == "embeddings.invalid"
        endpoint.reach()


def test_an_index_of_thousands_of_digits_is_a_bad_answer():
    """Python refuses to read such a number, which does not fail the job."""
    with pytest.raises(BadResponseError, match="index"):
        match_vectors([{"index": "9" * 5000, "embedding": [1.0]}], 1, 1, model="m")
