"""Images through the engine: each vector on its own row, each image sent once, nothing lost."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.transforms.embed.endpoints.server import EndpointServer, first, vector_of
from tests.transforms.embed.images.support import DIMENSION, ImageServer, image_settings, png
from tests.transforms.embed.support import context, embedder, good, rejects, run
from tests.virtual_time import VirtualClock
from vecferry.io.files import LocalConnection
from vecferry.process import end_run
from vecferry.rows import Change
from vecferry.transforms.embed import engine as embed_engine
from vecferry.transforms.embed.engine import Embedder
from vecferry.transforms.embed.shared import Shared

BOTH = [
    {"sourceColumnNames": ["title"], "embeddingColumnName": "text_vector"},
    {"sourceColumnNames": ["pic"], "embeddingColumnName": "vector", "inputType": "image"},
]


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    """A multimodal endpoint."""
    with EndpointServer(max_inputs=20) as endpoint:
        yield endpoint


def images_of(count: int, distinct: int | None = None) -> list[dict[str, Any]]:
    """Rows with ids and images; `distinct` images among them."""
    return [{"id": i, "pic": png(i % (distinct or count))} for i in range(count)]


def on_their_rows(changes: list[Change]) -> bool:
    """Whether each row has the vector of its own image."""
    return all((c["vector"] == vector_of(c["pic"], DIMENSION)).all() for c in changes)


def test_each_vector_comes_to_the_row_of_its_image(server: EndpointServer) -> None:
    """100 images in requests of 8, which is what the model takes, with 16 under way."""
    out = good(run(embedder(image_settings(server)), images_of(100)))
    assert len(out) == 100
    assert on_their_rows(out)
    assert len(server.good) == 13
    assert max(len(seen.inputs) for seen in server.good) == 8


def test_identical_images_are_sent_once_whatever_form_they_have(
    server: EndpointServer, tmp_path: Path
) -> None:
    """As bytes, base64, data: URI, URL and path: one content, one input."""
    (tmp_path / "a.png").write_bytes(png(1))
    text = base64.b64encode(png(1)).decode()
    with ImageServer({"/a": png(1), "/b": png(1)}) as host:
        forms = [png(1), text, f"data:image/png;base64,{text}", host.url("/a"), host.url("/b")]
        settings = image_settings(server, allowPrivateAddresses=True, imageDatasource="Files")
        connection = LocalConnection(path=str(tmp_path))
        engine = Embedder(settings, connection, context())
        out = run(engine, [{"pic": form} for form in [*forms, "a.png", "./a.png"] * 3])
    assert len(good(out)) == 21
    assert all((c["vector"] == vector_of(png(1), DIMENSION)).all() for c in good(out))
    assert server.sent() == [png(1)]
    assert engine.counts.values["cache-hits"] == 20
    assert host.seen == {"/a": 1, "/b": 1}


def test_another_bundle_of_the_run_finds_the_vectors(server: EndpointServer) -> None:
    """The cache of the process outlives a bundle."""
    settings, told = image_settings(server), context()
    for _ in range(3):
        out = good(run(Embedder(settings, None, told), images_of(20)))
        assert on_their_rows(out)
    assert server.inputs_seen == 20


@pytest.mark.slow
def test_two_bundles_at_once_send_an_image_once(server: EndpointServer) -> None:
    """What one is sending, the other waits for."""
    server.latency = 0.1
    settings, told = image_settings(server), context()
    results: list[list[Change]] = []

    def work() -> None:
        results.append(good(run(Embedder(settings, None, told), images_of(40))))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(out) for out in results] == [40, 40, 40]
    assert all(map(on_their_rows, results))
    assert server.inputs_seen == 40


def test_a_run_with_the_vector_cache_sends_and_decodes_nothing_again(
    server: EndpointServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vectors of a former run are found by content, before an image is looked into."""
    cache = {"uri": f"sqlite:///{tmp_path}/cache.db"}
    settings = image_settings(server, vectorCache=cache)
    engine = embedder(settings)
    run(engine, images_of(30))
    end_run(engine._context.run)
    server.forget()

    def never(*args: object) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("vecferry.transforms.embed.images.load.prepare", never)
    out = good(run(embedder(settings), images_of(30)))
    assert len(out) == 30
    assert on_their_rows(out)
    assert server.number == 0


def test_another_bound_of_pixels_is_another_vector(server: EndpointServer, tmp_path: Path) -> None:
    """A vector of a scaled image is not that of the whole one."""
    cache = {"uri": f"sqlite:///{tmp_path}/cache.db"}
    for bound in (None, 1024, 1024):
        more = {} if bound is None else {"imageMaxPixels": bound}
        engine = embedder(image_settings(server, vectorCache=cache, **more))
        assert len(good(run(engine, images_of(5)))) == 5
        end_run(engine._context.run)  # until then, a vector may be on its way to the cache
    assert server.inputs_seen == 10


def test_bad_images_are_rejected_with_reasons_and_the_rest_is_embedded(
    server: EndpointServer,
) -> None:
    """Every row leaves, as a row or as a reject."""
    bad = {
        "cut": png(1)[:-400],
        "text": b"no image",
        "gif": b"GIF89a",
        "large": png(2, 1100, 1100),
        "path": "a.png",
        "number": 3,
        "null": None,
    }
    rows = [{"id": name, "pic": value} for name, value in bad.items()]
    out = run(embedder(image_settings(server)), [*images_of(20), *rows])
    assert on_their_rows(good(out))
    assert len(good(out)) == 20
    assert {r.row["id"]: r.reason for r in rejects(out) if r.row} == {
        "cut": "bad-image",
        "text": "bad-image",
        "gif": "image-format",
        "large": "image-too-large",
        "path": "bad-image",
        "number": "bad-image",
        "null": "empty-image",
    }


def test_a_row_without_an_image_passes_where_the_job_lets_it(server: EndpointServer) -> None:
    """With skipEmptyValue its vector is null."""
    settings = image_settings(server, skipEmptyValue=True)
    (out,) = run(embedder(settings), [{"pic": b""}])
    assert isinstance(out, Change)
    assert out["vector"] is None


def test_an_image_that_the_server_refuses_costs_only_its_row(server: EndpointServer) -> None:
    """It is found by halving, within 2 * ceil(log2 8) requests more."""
    server.max_image_bytes = 20_000
    rows = [*images_of(7), {"id": "large", "pic": png(50, 100, 100)}]
    out = run(embedder(image_settings(server)), rows)
    assert len(good(out)) == 7
    assert on_their_rows(good(out))
    (reject,) = rejects(out)
    assert reject.reason == "refused-input"
    assert "too large" in reject.message
    assert server.number <= 1 + 6


@pytest.mark.slow
def test_requests_keep_to_the_size_of_a_body(server: EndpointServer) -> None:
    """Images of 1.2 MB go three at a time where a body is held to 6 MiB."""
    server.max_body = 6 << 20
    rows = [{"id": i, "pic": png(i, 640, 640)} for i in range(9)]
    out = good(run(embedder(image_settings(server)), rows))
    assert on_their_rows(out)
    assert server.statuses == {200: 3}


def test_text_and_image_of_a_row_may_go_to_one_model(server: EndpointServer) -> None:
    """A multimodal model embeds both, in requests of one kind each."""
    rows = [{"title": f"title {i}", "pic": png(i)} for i in range(40)]
    settings = image_settings(server, embeddingColumns=BOTH)
    out = good(run(embedder(settings), rows))
    assert len(out) == 40
    assert on_their_rows(out)
    assert all((c["text_vector"] == vector_of(c["title"], DIMENSION)).all() for c in out)
    assert all(len({type(one) for one in seen.inputs}) == 1 for seen in server.good)


@pytest.mark.slow
def test_changes_of_images_leave_in_their_order(server: EndpointServer) -> None:
    """A delete, which needs no vector, overtakes nothing; nor does an image that came at once."""
    with ImageServer({"/slow": png(99)}) as host:
        host.latency = 0.3
        changes = [Change({"id": "first", "pic": host.url("/slow")}, kind="+U", version=1)]
        changes += [Change({"id": i, "pic": png(i)}, version=i) for i in range(2, 30)]
        changes.append(Change({"id": "gone"}, kind="-D", version=31))
        settings = image_settings(server, allowPrivateAddresses=True)
        out = good(run(embedder(settings), changes))
    assert [c["id"] for c in out] == ["first", *range(2, 30), "gone"]


@pytest.mark.slow
@pytest.mark.alone
def test_loading_keeps_the_endpoint_full(server: EndpointServer) -> None:
    """Images that take 250 ms each come side by side, and requests go out full meanwhile."""
    routes = {f"/{i}": png(i) for i in range(160)}
    with ImageServer(routes) as host:
        host.latency = 0.25
        settings = image_settings(server, allowPrivateAddresses=True)
        rows = [{"pic": host.url(f"/{i}")} for i in range(160)]
        began = time.monotonic()
        out = good(run(embedder(settings), rows))
        seconds = time.monotonic() - began
    assert len(out) == 160
    assert len(server.good) == 20
    assert seconds < 160 * 0.25 / 2


@pytest.mark.slow
def test_what_is_held_stays_bounded_however_slow_the_endpoint(
    server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """18 MB of images pass through an engine that may hold 4 MB."""
    monkeypatch.setattr(embed_engine, "MOST_HELD", 4 << 20)
    server.latency = 0.02
    engine = embedder(image_settings(server))
    one = len(png(0, 320, 320))
    held: list[int] = []
    out = []
    for i in range(60):
        out += engine.process(Change({"id": i, "pic": png(i, 320, 320)}))
        held.append(engine._held + engine._outbox.held)
    out += engine.finish()
    engine.close()
    assert len(good(item for item, _ in out)) == 60
    assert max(held) <= (4 << 20) + one
    assert (engine._held, engine._outbox.held) == (0, 0)


@pytest.mark.slow
def test_images_that_are_being_read_count_to_what_is_held(
    server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """18 MB of images at addresses pass through an engine that may hold 4 MB."""
    monkeypatch.setattr(embed_engine, "MOST_HELD", 4 << 20)
    one = len(png(0, 320, 320))
    held: list[int] = []
    with ImageServer({f"/{i}": png(i, 320, 320) for i in range(60)}) as host:
        host.latency = 0.02
        engine = embedder(image_settings(server, allowPrivateAddresses=True))
        assert engine._images is not None
        out = []
        for i in range(60):
            out += engine.process(Change({"id": i, "pic": host.url(f"/{i}")}))
            held.append(engine._outbox.held + len(engine._images._loading) * one)
        out += engine.finish()
        engine.close()
    assert len(good(item for item, _ in out)) == 60
    assert max(held[20:]) <= (4 << 20) + one


@pytest.mark.slow
def test_a_quota_of_tokens_counts_images(
    server: EndpointServer, virtual_time: VirtualClock
) -> None:
    """An image has about a token for each square of 28 pixels: 100 of 56 x 56 take 400."""
    settings = image_settings(server, tokensPerMinute=6000)
    rows = [{"pic": png(i, 56, 56)} for i in range(100)]
    began = virtual_time.now()
    assert len(good(run(embedder(settings), rows))) == 100
    assert 2 < virtual_time.now() - began < 8


@pytest.mark.slow
def test_an_endpoint_in_trouble_costs_no_image(server: EndpointServer) -> None:
    """Three answers of 503, then all goes well."""
    server.fault = first(3, "503")
    out = good(run(embedder(image_settings(server)), images_of(20)))
    assert len(out) == 20
    assert on_their_rows(out)


def test_a_query_may_be_a_text_or_an_image(server: EndpointServer) -> None:
    """Both lie in one space; a broken image is told in words."""
    engine = embedder(image_settings(server))
    assert (engine.embed_query("a ferry") == vector_of("a ferry", DIMENSION)).all()
    assert (engine.embed_query(png(1)) == vector_of(png(1), DIMENSION)).all()
    with pytest.raises(Exception, match="not an image of a known format"):
        engine.embed_query(b"hello")


@pytest.mark.parametrize(
    ("model", "at_once", "form"),
    [
        ("tongyi-embedding-vision-plus", 8, "data:image/png;base64,"),
        ("tongyi-embedding-vision-flash", 8, "data:image/png;base64,"),
        ("multimodal-embedding-v1", 8, "data:image/png;base64,"),
        ("qwen2.5-vl-embedding", 1, "data:image/png;base64,"),
        ("a-model-to-come", 10, "data:image/png;base64,"),
        ("ops-m2-encoder", 10, "iVBORw0KGgo"),
        ("ops-m2-encoder-large", 10, "iVBORw0KGgo"),
        ("ops-gme-qwen2-vl-2b-instruct", 10, "iVBORw0KGgo"),
    ],
)
def test_each_multimodal_model_is_sent_images_as_its_vendor_says(
    server: EndpointServer, model: str, at_once: int, form: str
) -> None:
    """So many in a request, each as an entry of its own, and as that API writes it."""
    server.max_images, server.default_dimension = at_once, 1024
    server.dimensions = (*server.dimensions, 1152)
    provider = "aiSearch" if model.startswith("ops") else "bailian"
    given = {"modelProvider": provider, "modelName": model}
    settings = image_settings(server, **given, dimension=_own_dimension(model))
    if not settings.endpoint_spec.asks_dimension:
        server.default_dimension = settings.dimension
    out = good(run(embedder(settings), images_of(20)))
    assert len(out) == 20
    assert all((c["vector"] == vector_of(c["pic"], settings.dimension)).all() for c in out)
    assert max(len(seen.inputs) for seen in server.good) == at_once
    request = server.good[0].request["input"]
    entries = request["contents"] if provider == "bailian" else request
    assert all(set(entry) == {"image"} for entry in entries)
    assert entries[0]["image"].startswith(form)


def _own_dimension(model: str) -> int:
    from vecferry.transforms.embed.endpoints.models import MODELS

    return MODELS[model].dimensions[0] if model in MODELS else 1024


def test_a_fault_of_the_program_in_a_loader_ends_the_bundle(
    server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is raised on the bundle's thread, which would else wait for ever."""

    def broken(self: Shared, key: bytes) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(Shared, "image_vector", broken)
    with pytest.raises(RuntimeError, match="a fault"):
        run(embedder(image_settings(server)), images_of(3))
