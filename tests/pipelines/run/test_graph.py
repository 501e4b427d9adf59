"""The graph of a job: one line, one fused stage after the splits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import fn_runner, translations
from apache_beam.transforms import environments

from tests.pipelines.support import Bench, rows
from vecferry.errors import JobError
from vecferry.pipelines.job.resolve import ResolvedJob, read_and_resolve
from vecferry.pipelines.run.graph import RunPlan, build, require_no_secret
from vecferry.process import end_run

FORBIDDEN = ("GroupIntoBatches", "BatchElements", "Flatten")


@pytest.fixture
def resolved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> ResolvedJob:
    """A job of all kinds of steps."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines(list(rows(3)))
    path = bench.save()
    return read_and_resolve(path, data_sources=str(tmp_path / "sources.json"))


def _pipeline(resolved: ResolvedJob) -> beam.Pipeline:
    pipeline = beam.Pipeline("FnApiRunner")
    build(pipeline, resolved, RunPlan(run="r", rejects="rejects"))
    return pipeline


def _fused_stages(pipeline: beam.Pipeline) -> list[Any]:
    proto = pipeline.to_runner_api(
        default_environment=environments.EmbeddedPythonEnvironment.default()
    )
    runner = fn_runner.FnApiRunner()
    _, stages = runner.create_stages(proto)
    return list(stages)


def _transform_names(stage: Any) -> list[str]:
    return [t.unique_name for t in stage.transforms]


@pytest.mark.slow
def test_from_the_splits_to_the_sink_a_job_is_one_stage(resolved: ResolvedJob) -> None:
    """Reading, extracting, embedding, writing and all writing of rejects are fused."""
    stages = _fused_stages(_pipeline(resolved))
    working = [s for s in stages if any("Read splits" in n for n in _transform_names(s))]
    assert len(working) == 1
    names = _transform_names(working[0])
    for part in ("Transform Extract", "Transform Embed", "Write Writer"):
        assert any(n.startswith(part) for n in names)
    rejects = [n for n in names if "write rejects" in n]
    assert len(rejects) == 4
    assert stages.index(working[0]) == len(stages) - 1


@pytest.mark.slow
def test_a_single_stream_needs_no_shuffle(resolved: ResolvedJob) -> None:
    """As in a sync on this machine: each round costs less."""
    pipeline = beam.Pipeline("FnApiRunner")
    build(pipeline, resolved, RunPlan(run="r", rejects="rejects", spread=False))
    transforms = pipeline.to_runner_api().components.transforms.values()
    assert [t for t in transforms if "Read splits" in t.unique_name]
    assert not [t for t in transforms if t.spec.urn == "beam:transform:group_by_key:v1"]
    assert not [t for t in transforms if "Spread splits" in t.unique_name]


@pytest.mark.slow
def test_the_only_shuffle_stands_after_the_splits(resolved: ResolvedJob) -> None:
    """No Flatten, no state, no side input, no batching by the runner."""
    proto = _pipeline(resolved).to_runner_api()
    transforms = proto.components.transforms.values()
    shuffles = [t.unique_name for t in transforms if t.spec.urn == "beam:transform:group_by_key:v1"]
    assert len(shuffles) == 1
    assert "Spread splits" in shuffles[0]
    urns = {t.spec.urn for t in transforms}
    assert "beam:transform:flatten:v1" not in urns
    assert not [t.unique_name for t in transforms for name in FORBIDDEN if name in t.unique_name]
    for t in transforms:
        if t.spec.urn == translations.common_urns.primitives.PAR_DO.urn:
            payload = translations.proto_utils.parse_Bytes(
                t.spec.payload, translations.beam_runner_api_pb2.ParDoPayload
            )
            assert not payload.side_inputs
            assert not payload.state_specs
            assert not payload.timer_family_specs


def test_labels_are_stable_verb_phrases(resolved: ResolvedJob) -> None:
    """They name metrics and saved state, so that a change of one is seen here."""
    top = [p.full_label for p in _pipeline(resolved)._root_transform().parts]
    assert top == [
        "Read Reader",
        "Read Reader: write rejects",
        "Transform Extract",
        "Transform Extract: write rejects",
        "Transform Embed",
        "Transform Embed: write rejects",
        "Write Writer",
        "Write Writer: write rejects",
    ]


@pytest.mark.slow
def test_what_is_submitted_shows_no_secret(resolved: ResolvedJob) -> None:
    """Neither display data nor labels hold a key; settings print as ***."""
    settings = resolved.transformers[1].settings.model_copy(update={})
    secret = type(settings).model_validate(
        {
            "modelProvider": "openai", "modelName": "m", "endpoint": "http://127.0.0.1:9/v1",
            "apiKey": "sk-very-secret",
            "embeddingColumns": {"sourceColumnNames": ["text"], "embeddingColumnName": "v"},
        }
    )  # fmt: skip
    assert "sk-very-secret" not in repr(secret) + str(secret) + secret.model_dump_json()
    proto = _pipeline(resolved).to_runner_api()
    shown = [t.display_data for t in proto.components.transforms.values()]
    assert "sk-very-secret" not in str(shown)


KEY = "sk-of-the-launcher"


@pytest.fixture
def guarded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[ResolvedJob]:
    """A job whose endpoint and target have secrets, filled in from outside."""
    monkeypatch.setenv("FERRY_KEY", KEY)
    bench = Bench(tmp_path, capsys)
    bench.step("Embed").update(
        modelProvider="openai", modelName="m", endpoint="http://127.0.0.1:9/v1",
        apiKey="${FERRY_KEY}",
    )  # fmt: skip
    bench.sources["Vectors"] = {
        "type": "milvus", "endpoint": "http://127.0.0.1:1", "token": "a ${FERRY_KEY}"
    }  # fmt: skip
    yield read_and_resolve(bench.save(), data_sources=str(tmp_path / "sources.json"))
    end_run("r")


@pytest.mark.slow
def test_a_graph_for_workers_that_fill_secrets_holds_none(guarded: ResolvedJob) -> None:
    """Neither of an endpoint nor of a target; a graph of the job as it is holds both."""
    require_no_secret(_pipeline(guarded.with_references("r")), guarded)
    with pytest.raises(JobError, match=r"Transform Embed.* holds a secret"):
        require_no_secret(_pipeline(guarded), guarded)


def test_a_replay_for_workers_that_fill_secrets_holds_none(
    guarded: ResolvedJob, tmp_path: Path
) -> None:
    """The step that refused rows is part of its graph."""
    folder = tmp_path / "rejects"
    folder.mkdir()
    line = b'{"step": "Reader", "reason": "r", "origin": "o", "raw": "{}"}\n'
    (folder / "part-a.jsonl").write_bytes(line)
    pipeline = beam.Pipeline("FnApiRunner")
    plan = RunPlan(run="r", rejects="rejects", replay=str(folder))
    build(pipeline, guarded.with_references("r"), plan)
    require_no_secret(pipeline, guarded)
    assert "Replay refused by Reader" in [p.full_label for p in pipeline._root_transform().parts]
