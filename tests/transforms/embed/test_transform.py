"""`Embed` inside Beam: windows, the rejected output, and the graph it makes."""

from __future__ import annotations

import threading

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from tests.transforms.embed.endpoints.server import EndpointServer, vector_of
from tests.transforms.embed.support import DIMENSION, settings_for
from vecferry.transforms.embed import Embed


class _WithWindow(beam.DoFn):
    def process(self, row, timestamp=beam.DoFn.TimestampParam, window=beam.DoFn.WindowParam):
        right = bool((row["vector"] == vector_of(row["text"], DIMENSION)).all())
        yield row["id"], float(timestamp), float(window.start), right


@pytest.mark.slow
def test_rows_that_come_out_late_keep_their_timestamp_and_window(server):
    """In FixedWindows each row leaves with its own timestamp in its own window."""
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        embedded = (
            pipeline
            | beam.Create([{"id": i, "text": f"text {i}"} for i in range(53)])
            | beam.Map(lambda row: TimestampedValue(row, row["id"]))
            | beam.WindowInto(FixedWindows(10))
            | Embed(settings=settings_for(server))
        )
        seen = embedded.rows | beam.ParDo(_WithWindow())
        assert_that(seen, equal_to([(i, i, i // 10 * 10, True) for i in range(53)]))


@pytest.mark.slow
def test_rejects_go_to_their_own_output(server):
    """A row without text leaves by `rejected`, the others by `rows`."""
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        embedded = (
            pipeline
            | beam.Create([{"text": "a"}, {"text": ""}, {"text": "b"}])
            | Embed(settings=settings_for(server))
        )
        assert_that(embedded.rows | beam.Map(lambda r: r["text"]), equal_to(["a", "b"]), "rows")
        reasons = embedded.rejected | beam.Map(lambda r: (r.step, r.reason))
        assert_that(reasons, equal_to([("Embed", "empty-text")]), "rejected")


def test_counters_reach_the_runner(server):
    """Requests and inputs are counted where a runner can tell them."""
    pipeline = beam.Pipeline(runner="FnApiRunner")
    rows = pipeline | beam.Create([{"text": f"counted {i}"} for i in range(25)], reshuffle=False)
    rows | Embed(settings=settings_for(server))
    result = pipeline.run()
    found = {m.key.metric.name: m.committed for m in result.metrics().query()["counters"]}
    assert found["embed-inputs"] == 25
    assert found["embed-requests"] == 3


def test_it_is_one_stage_without_state_or_shuffle(server):
    """The transform adds one ParDo and nothing else."""
    pipeline = beam.Pipeline(runner="FnApiRunner")
    pipeline | beam.Create([{"text": "a"}]) | Embed(settings=settings_for(server))
    proto = pipeline.to_runner_api()
    inside = [
        t.unique_name
        for t in proto.components.transforms.values()
        if t.unique_name.startswith("Embed/") and not t.subtransforms
    ]
    assert inside == ["Embed/Embed/ParDo(StampedOperatorFn)"]


@pytest.mark.slow
def test_a_run_that_fails_leaves_no_thread_behind():
    """Else a long-lived program would gather them, and they would go on asking."""
    before = {t for t in threading.enumerate() if t.name == "vecferry-embed"}
    with EndpointServer(key="another") as server:
        pipeline = beam.Pipeline(runner="FnApiRunner")
        rows = pipeline | beam.Create([{"text": f"failing {i}"} for i in range(200)])
        rows | Embed(settings=settings_for(server))
        with pytest.raises(Exception, match="401"):
            pipeline.run()
    left = [t for t in threading.enumerate() if t.name == "vecferry-embed" and t not in before]
    for thread in left:
        thread.join(10)
    assert not any(thread.is_alive() for thread in left)
