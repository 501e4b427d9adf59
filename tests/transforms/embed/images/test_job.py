"""Images in a job: two models for one row; check, preview, estimate and query of images."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from tests.pipelines.support import Bench, counts_add_up, rejects_of
from tests.transforms.embed.endpoints.server import EndpointServer, vector_of
from tests.transforms.embed.images.support import DIMENSION, image_settings, png
from tests.transforms.embed.support import embedder
from vecferry.io.files import LocalConnection
from vecferry.rows import decode_value
from vecferry.transforms.embed import Embed, EmbedSettings


def columns(names: Any, input_type: str) -> dict[str, Any]:
    """An entry of `embeddingColumns`."""
    vector = "image_vector"
    return {"sourceColumnNames": names, "embeddingColumnName": vector, "inputType": input_type}


IMAGE_STEP = {
    "stepType": "embedding-transformer",
    "category": "flatmap",
    "name": "EmbedImage",
    "parameter": {
        "modelProvider": "bailian",
        "modelName": "tongyi-embedding-vision-plus",
        "apiKey": "sk-test",
        "dimension": DIMENSION,
        "imageDatasource": "Pictures",
        "embeddingColumns": columns("pic", "image"),
    },
}


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str], server: EndpointServer) -> Bench:
    """A job of ten rows: texts go to the local model, images to a multimodal one."""
    bench = Bench(tmp_path, capsys)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(5):
        (pictures / f"{i}.png").write_bytes(png(i))
    bench.sources["Pictures"] = {"type": "local", "path": str(pictures)}
    lines = [{"id": f"p{i}", "text": f"about {i}", "pic": f"{i}.png"} for i in range(5)]
    lines += [
        {"id": f"q{i}", "text": f"again {i}", "pic": base64.b64encode(png(i)).decode()}
        for i in range(5)
    ]
    bench.write_lines(lines)
    steps = bench.job["steps"]
    steps[0]["parameter"]["column"] = [{"name": name} for name in ("id", "text", "pic")]
    steps[1] = json.loads(json.dumps(IMAGE_STEP))
    steps[1], steps[2] = steps[2], steps[1]
    bench.step("EmbedImage")["endpoint"] = server.url.removesuffix("/v1")
    # A Milvus Lite collection has one column of vectors.
    bench.step("Writer")["column"][-1]["name"] = "image_vector"
    bench.step("Writer")["column"].append({"name": "vector", "type": "JSON"})
    return bench


@pytest.mark.slow
def test_text_and_image_of_a_row_go_to_two_models(bench: Bench, server: EndpointServer) -> None:
    """Two embedding steps in a row: each row leaves the second with both of its vectors."""
    outcome = bench.call("preview", "--rows", "10", "--json")
    assert outcome.status == 0, outcome.err
    rows = next(stage["rows"] for stage in outcome.json["steps"] if stage["step"] == "EmbedImage")
    vectors = [decode_value([row["vector"], row["image_vector"]]) for row in rows]
    of_texts = embedder(EmbedSettings(**bench.step("Embed")))
    for row, (text_vector, image_vector) in zip(rows, vectors, strict=True):
        assert text_vector == pytest.approx(of_texts.embed_query(row["text"]))
        assert image_vector == pytest.approx(vector_of(png(int(row["id"][1])), DIMENSION))
    assert sorted(server.sent()) == sorted(png(i) for i in range(5))


@pytest.mark.slow
def test_a_run_stores_each_vector_on_the_row_of_its_image(
    bench: Bench, server: EndpointServer
) -> None:
    """Paths and base64 of the same five images: ten rows, five inputs."""
    report = bench.run()
    assert (report["state"], report["rows_written"]) == ("DONE", 10)
    assert counts_add_up(report)
    assert report["embed"]["inputs"] == 10 + 5
    assert sorted(server.sent()) == sorted(png(i) for i in range(5))
    for row in bench.stored(["id", "image_vector"]):
        wanted = vector_of(png(int(row["id"][1])), DIMENSION)
        assert row["image_vector"] == pytest.approx(wanted.tolist())


@pytest.mark.slow
def test_bad_images_are_rejects_of_a_run(bench: Bench) -> None:
    """A path that leads out, one that leads nowhere and a host inside cost a row each."""
    bad = {"out": "../../in/rows.jsonl", "none": "9.png", "inside": "http://127.0.0.1/a.png"}
    lines = (bench.folder / "in" / "rows.jsonl").read_text().splitlines()
    bench.write_lines([*lines, *({"id": n, "text": n, "pic": v} for n, v in bad.items())])
    bench.job["setting"]["errorLimit"] = {"record": 3}
    report = bench.run()
    assert (report["state"], report["rows_written"], report["rows_rejected"]) == ("DONE", 10, 3)
    assert counts_add_up(report)
    assert {line["row"]["id"]: line["reason"] for line in rejects_of(report)} == {
        "out": "image-outside",
        "none": "image-not-found",
        "inside": "image-private-address",
    }


@pytest.mark.slow
def test_trusted_endpoints_hold_for_images_too(bench: Bench, server: EndpointServer) -> None:
    """setting.trustedEndpoints decides about the endpoint, and about each image's URL."""
    host = server.url.removesuffix("/v1")
    bench.job["setting"] |= {"trustedEndpoints": [f"{host}/.*"], "errorLimit": {"record": 1}}
    bench.write_lines([{"id": "a", "text": "a", "pic": "https://example.org/a.png"}])
    report = bench.run()
    assert [line["reason"] for line in rejects_of(report)] == ["image-untrusted"]


def test_an_estimate_counts_images_and_loads_none(bench: Bench, server: EndpointServer) -> None:
    """Five paths and five texts of base64 are ten images, in two requests; nothing is sent."""
    bench.step("EmbedImage")["batchSize"] = 5
    outcome = bench.call("check", "--estimate", "--json")
    assert outcome.status == 0, outcome.err
    found = outcome.json["estimate"]
    assert (found["texts"], found["images"], found["distinct_images"]) == (10, 10, 10)
    assert found["requests"] == 1 + 2
    assert server.number == 0


def test_preview_shows_rows_with_the_vectors_of_images(bench: Bench) -> None:
    """Both steps are shown, and what the writer would get."""
    outcome = bench.call("preview", "--rows", "2", "--json")
    assert outcome.status == 0, outcome.err
    stages = {stage["step"]: stage for stage in outcome.json["steps"]}
    assert set(stages["EmbedImage"]["rows"][0]) == {
        *("id", "text", "pic", "vector", "image_vector")
    }
    assert len(stages["Writer"]["rows"]) == 2


@pytest.mark.slow
def test_a_query_finds_images_by_text_and_by_image(
    bench: Bench, tmp_path: Path, server: EndpointServer
) -> None:
    """The text goes to the model of the images; an image finds itself first."""
    bench.run()
    server.forget()
    column = ["--column", "image_vector"]
    outcome = bench.call("query", "a lighthouse", "-k", "2", "--json", *column)
    assert outcome.status == 0, outcome.err
    assert len(outcome.json["hits"]) == 2
    assert server.sent() == ["a lighthouse"]
    picture = str(tmp_path / "pictures" / "3.png")
    outcome = bench.call("query", "--image", picture, "--json", *column)
    assert outcome.status == 0, outcome.err
    assert {hit["id"] for hit in outcome.json["hits"][:2]} == {"p3", "q3"}


@pytest.mark.slow
def test_a_query_takes_a_text_or_an_image(bench: Bench, tmp_path: Path) -> None:
    """Neither, both, and an image for a step of texts are refused with status 2."""
    picture = str(tmp_path / "pictures" / "3.png")
    assert bench.call("query").status == 2
    assert bench.call("query", "text", "--image", picture).status == 2
    bench.run()
    outcome = bench.call("query", "--image", picture, "--column", "vector")
    assert outcome.status == 2
    assert "embeds no images" in outcome.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"modelProvider": "local", "modelName": None}, "modelProvider local embeds texts only"),
        ({"modelProvider": "openai"}, "modelProvider openai embeds texts only"),
        ({"modelName": "text-embedding-v4"}, "text-embedding-v4 embeds texts only"),
        ({"imageDatasource": "Nowhere"}, "'Nowhere' is not in"),
        ({"imageDatasource": "Vectors"}, "of type 'milvus'; this step takes"),
        ({"imageMaxPixels": 3}, "imageMaxPixels"),
        ({"embeddingColumns": columns("pic", "text")}, "of which there is none"),
        ({"embeddingColumns": columns(["pic", "id"], "image")}, "an image is one column"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_step_that_can_embed_no_images_is_refused_before_the_run(
    bench: Bench, change: dict[str, Any], words: str
) -> None:
    """With status 2, and a way out."""
    bench.step("EmbedImage").update(change)
    outcome = bench.call("check")
    assert outcome.status == 2
    assert words in outcome.err


def test_images_have_no_compatible_mode() -> None:
    """AI Search's OpenAI shape takes texts only; its host is the endpoint for images."""
    with pytest.raises(ValueError, match="no compatible mode"):
        image_settings(
            None,
            modelProvider="aiSearch",
            modelName="ops-m2-encoder",
            endpoint="http://127.0.0.1/compatible-mode/v1",
            dimension=768,
        )


@pytest.mark.slow
def test_images_pass_through_a_pipeline_of_ones_own(server: EndpointServer, tmp_path: Path) -> None:
    """`Embed` takes the data source of paths as `connection`."""
    (tmp_path / "a.png").write_bytes(png(1))
    embed = Embed(
        settings=image_settings(server, imageDatasource="Pictures"),
        connection=LocalConnection(path=str(tmp_path)),
    )
    wanted = vector_of(png(1), DIMENSION).tolist()
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        rows = pipeline | beam.Create([{"pic": "a.png"}, {"pic": "b.png"}])
        embedded = rows | embed
        vectors = embedded.rows | beam.Map(lambda row: row["vector"].tolist())
        reasons = embedded.rejected | beam.Map(lambda reject: reject.reason)
        assert_that(vectors, equal_to([wanted]))
        assert_that(reasons, equal_to(["image-not-found"]), label="rejected")
