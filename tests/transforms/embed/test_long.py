"""Long texts: rejected alone, cut, or embedded in pieces; counted, never silently."""

from __future__ import annotations

import json

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pipelines.support import Bench, rows
from tests.transforms.embed.endpoints.server import EndpointServer, vector_of
from tests.transforms.embed.support import (
    DIMENSION,
    embedder,
    good,
    rejects,
    rows_of,
    run,
    settings_for,
)
from vecferry.transforms.embed.caller import HARMLESS
from vecferry.transforms.embed.long import estimate_tokens, is_long, mean_vector, pieces_of

LONG = "A sentence of some words. " * 2000  # 13,000 tokens, of which 8,192 are allowed


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("abcd", 1), ("abcde", 2), ("渡船", 2)])
def test_tokens_are_estimated(text, tokens):
    """Four ASCII letters make one, a Chinese character is one."""
    assert estimate_tokens(text) == tokens


@pytest.mark.slow
@given(st.text(min_size=1, max_size=400), st.integers(1, 40))
def test_pieces_are_the_text_and_fit(text, limit):
    """Joined they are the text again but for blank pieces; each is within the limit."""
    pieces = pieces_of(text, limit)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(len(piece) == 1 or not is_long(piece, limit) for piece in pieces)
    assert all(pieces)


def test_pieces_end_with_sentences():
    """A cut falls between sentences where one ends in the last half of a piece."""
    pieces = pieces_of(LONG, 100)
    assert all(piece.endswith(". ") for piece in pieces[:-1])


def _run(over_limit, text=LONG):
    with EndpointServer() as server:
        engine = embedder(settings_for(server, overLimit=over_limit))
        out = run(engine, [*rows_of(9), {"id": 9, "text": text}, *rows_of(30)[10:]])
        return out, engine.counts.values, server


def test_a_text_that_is_too_long_is_rejected_without_its_neighbours_being_asked_twice():
    """It goes by itself: one request more, and the server's own words."""
    out, _, server = _run("reject")
    (reject,) = rejects(out)
    assert "[1, 8192]" in reject.message
    assert len(good(out)) == 29
    assert server.number == 3 + 1


def test_a_text_that_only_seems_too_long_is_embedded():
    """The estimate decides nothing but what goes alone: the server knows better."""
    with EndpointServer(max_tokens=20_000) as server:
        (row,) = run(embedder(settings_for(server)), [{"text": LONG}])
    assert (row["vector"] == vector_of(LONG, DIMENSION)).all()


def test_truncate_embeds_the_beginning_and_counts():
    """The row keeps its whole text; the vector is that of the beginning."""
    out, counts, server = _run("truncate")
    assert len(good(out)) == 30
    assert counts["texts-truncated"] == 1
    (sent,) = [text for text in server.sent() if len(text) > 100]
    assert LONG.startswith(sent)
    assert 0.8 * 8192 < estimate_tokens(sent) <= 8192
    (row,) = [row for row in good(out) if row["id"] == 9]
    assert row["text"] == LONG
    assert (row["vector"] == vector_of(sent, DIMENSION)).all()


def test_split_gives_the_mean_of_the_pieces_by_their_lengths():
    """All of the text counts; the number of such rows is told."""
    out, counts, _ = _run("split")
    assert len(good(out)) == 30
    assert counts["texts-split"] == 1
    pieces = pieces_of(LONG, 8192)
    expected = np.average(
        [vector_of(piece, DIMENSION) for piece in pieces], axis=0, weights=[*map(len, pieces)]
    )
    (row,) = [row for row in good(out) if row["id"] == 9]
    assert np.allclose(row["vector"], expected, atol=1e-6)


def test_a_piece_that_is_refused_rejects_its_row_once():
    """One reject, whatever becomes of the other pieces."""
    out, _, _ = _run("split", text=LONG + "POISON " + LONG)
    assert len(rejects(out)) == 1
    assert len(good(out)) == 29


def test_the_mean_of_unit_vectors_is_a_unit_vector():
    """So that an inner product stays a cosine."""
    unit = [np.array(v, np.float32) for v in ([1, 0], [0, 1])]
    assert np.isclose(np.linalg.norm(mean_vector(unit, [1, 1])), 1)
    assert np.allclose(mean_vector([2 * v for v in unit], [1, 3]), [0.5, 1.5])


def test_requests_are_packed_by_size_too():
    """A batch of long texts is closed before the body is larger than servers take."""
    with EndpointServer(max_inputs=2048, max_tokens=10**9) as server:
        settings = settings_for(server, modelName="of mine", batchSize=2048)
        rows = [{"text": f"{i} " + "x" * 200_000} for i in range(25)]
        run(embedder(settings), rows)
        assert all(sum(map(len, seen.inputs)) <= 2 << 20 for seen in server.requests)
        assert server.number <= 4


@pytest.mark.usefixtures("virtual_time")
def test_tokens_per_minute_are_paced_from_the_first_request():
    """Four requests of 1,000 tokens at 120,000 a minute take a second and a half."""
    with EndpointServer() as server:
        settings = settings_for(server, tokensPerMinute=120_000, batchSize=1)
        run(embedder(settings), [{"text": f"{i:04}" + "x" * 3996} for i in range(4)])
        assert 1.4 < server.requests[-1].at - server.requests[0].at < 3


def _bench(tmp_path, capsys, server, how, short):
    bench = Bench(tmp_path, capsys)
    bench.write_lines([{"id": "long", "text": LONG}, *rows(short)])
    bench.step("Writer")["column"][1]["maxLength"] = 65535
    bench.job["setting"]["errorLimit"] = {}
    bench.step("Embed").update(
        modelProvider="openai", modelName="text-embedding-v4", endpoint=server.url,
        apiKey="sk-test", overLimit=how,
    )  # fmt: skip
    return bench


@pytest.mark.slow
@pytest.mark.parametrize(("how", "requests"), [("reject", 4), ("truncate", 3), ("split", 4)])
def test_an_estimate_counts_long_texts_as_they_are_sent(tmp_path, capsys, how, requests):
    """Alone, cut or in pieces: as many requests as the run then makes."""
    with EndpointServer() as server:
        bench = _bench(tmp_path, capsys, server, how, short=29)
        estimate = bench.call("check", "--estimate", "--json").json["estimate"]
        assert (server.number, estimate["distinct_texts"]) == (0, 30)
        assert estimate["requests"] == requests
        bench.run()
        assert server.number == requests


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "told"),
    [("truncate", "1 texts cut to what the model takes"), ("split", "1 texts embedded in pieces")],
)
def test_a_run_tells_of_texts_that_were_cut_or_split(tmp_path, capsys, how, told):
    """In its summary and its report: such a vector is not that of the whole text."""
    with EndpointServer() as server:
        bench = _bench(tmp_path, capsys, server, how, short=1)
        outcome = bench.call("run", "--report", str(tmp_path / "report.json"))
    assert outcome.status == 0, outcome.err
    assert told in outcome.out
    embed = json.loads((tmp_path / "report.json").read_text())["embed"]
    assert embed["texts_truncated"] + embed["texts_split"] == 1


UNKNOWN = {"modelName": "a model nobody knows"}


@pytest.mark.parametrize("over", ["truncate", "split"])
def test_the_limit_of_an_unknown_model_can_be_said(over):
    """`maxTokens` makes texts short enough from the first one on."""
    with EndpointServer(max_tokens=50) as server:
        settings = settings_for(server, maxTokens=50, overLimit=over, **UNKNOWN)
        out = run(embedder(settings), [{"id": 1, "text": "word " * 200}])
        assert len(good(out)) == 1
        assert server.statuses[400] == 0


def _says(status, words):
    content = orjson.dumps({"error": {"message": words, "code": "bad"}})
    return lambda longest: (status, {}, content)


REFUSALS = {
    "OpenAI": _says(400, "This model's maximum context length is 100 tokens, you requested 200"),
    "Model Studio": _says(400, "Range of input length should be [1, 100]"),
    "TEI": _says(413, "`inputs` must have less than 100 tokens. Given: 200"),
    "a gateway": _says(422, "the text exceeds the limit of 100 tokens"),
    "Ollama": _says(400, "the input length exceeds the context length"),
    "Chinese": _says(400, "文本长度超过最大限制"),
    "no words": _says(400, ""),
    "other words": _says(422, "Unprocessable"),
    "413 without words": _says(413, ""),
    "500": _says(500, "internal error"),
}  # fmt: skip


class _Limited(EndpointServer):
    """Takes texts of 100 tokens, four letters each, and refuses others as `refusal` says."""

    def __init__(self, refusal, **more):
        super().__init__(**more)
        self.refusal = refusal

    def _check_inputs(self, inputs, *, images):
        super()._check_inputs(inputs, images=images)
        longest = max(map(len, inputs))
        if longest > 400:
            raise _Refused(longest)

    def _decide(self, *given):
        try:
            return super()._decide(*given)
        except _Refused as e:
            return self.refusal(e.args[0])


class _Refused(Exception):
    pass


def _texts(count, long_ones):
    """Texts of 5 to 60 tokens, among them some of 110 to 800 tokens."""
    rows = [{"id": i, "text": f"{i} " + "word " * (4 + i % 40)} for i in range(count)]
    for n, at in enumerate(range(3, count, count // long_ones)):
        rows[at]["text"] = f"{at} " + "A sentence of some words. " * (18 + 17 * (n % 7))
    return rows


@pytest.mark.slow
@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("over", ["truncate", "split", "reject"])
@pytest.mark.parametrize("words", REFUSALS)
def test_the_limit_of_an_unknown_model_is_learned(over, words):
    """By the number that a refusal names, or by what is refused and what passes."""
    rows = _texts(600, 30)
    long_ids = {row["id"] for row in rows if len(row["text"]) > 400}
    with _Limited(REFUSALS[words]) as server:
        settings = settings_for(server, overLimit=over, **UNKNOWN)
        engine = embedder(settings, concurrent=1)
        out = run(engine, rows)
        refused = len(server.requests) - len(server.good)
        sent = [text for text in server.sent() if text != HARMLESS]
    kept = {row["id"]: row for row in good(out)}
    if over == "reject":
        assert set(kept) == {row["id"] for row in rows} - long_ids
    else:
        assert len(kept) == 600
        assert refused <= (60 if words == "500" else 30)
        counted = engine.counts.values["texts-truncated" if over == "truncate" else "texts-split"]
        assert counted == len(long_ids)
    for row in rows:
        if row["id"] not in long_ids:
            assert (kept[row["id"]]["vector"] == vector_of(row["text"], DIMENSION)).all()
    assert len(sent) == len(set(sent))
    if over == "truncate":
        begun = [text for text in sent if text.startswith(f"{min(long_ids)} ")]
        assert any(rows[min(long_ids)]["text"].startswith(text) for text in begun)


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("over", ["truncate", "split"])
def test_what_a_text_says_is_not_cut_away(over):
    """A long text that is refused for a word in it stays refused, wherever the word stands."""
    rows = _texts(100, 10)
    for row in rows:
        if len(row["text"]) > 400:
            row["text"] = f"{row['text'][:1200]} POISON {row['text'][1200:]}"
    poisoned = {row["id"] for row in rows if "POISON" in row["text"]}
    with EndpointServer() as server:
        out = run(embedder(settings_for(server, overLimit=over, **UNKNOWN), concurrent=1), rows)
    assert {reject.row["id"] for reject in rejects(out)} == poisoned
    assert len(good(out)) == 100 - len(poisoned)
