"""`WriteToMilvus` inside Beam: windows, both outputs, and creation without a launcher."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from tests.io.milvus.support import Lite, rows, vector
from vecferry.io.milvus import WriteToMilvus
from vecferry.process import end_run
from vecferry.steps import StepContext


@pytest.fixture
def lite(tmp_path):
    lite = Lite(tmp_path)
    yield lite
    lite.close()


class _WithWindow(beam.DoFn):
    def process(self, row, timestamp=beam.DoFn.TimestampParam, window=beam.DoFn.WindowParam):
        yield row["id"], float(timestamp), float(window.start)


def context(lite):
    made = StepContext(step="Write", step_type="milvus", retry_deadline=300)
    lite._runs.append(made.run)
    return made


@pytest.mark.slow
def test_a_pipeline_creates_the_collection_and_fills_it(lite):
    """Without a launcher the first bundle creates what is missing; bad rows leave apart."""
    data = [*rows(200), {"id": 999, "text": "x", "vector": vector(1, 3)}]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        result = (
            pipeline
            | beam.Create(data)
            | WriteToMilvus(
                settings=lite.settings(batchSize=16),
                connection=lite.connection(),
                context=context(lite),
            )
        )
        ids = result.written | beam.Map(lambda row: row["id"])
        assert_that(ids, equal_to(list(range(200))), "written")
        reasons = result.rejected | beam.Map(lambda r: (r.step, r.reason, r.row["id"]))
        assert_that(reasons, equal_to([("Write", "wrong-dimension", 999)]), "rejected")
    assert lite.target(prepared=False).row_count() == 200


@pytest.mark.slow
def test_rows_that_come_out_late_keep_their_timestamp_and_window(lite):
    """In FixedWindows each row leaves with its own timestamp in its own window."""
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        result = (
            pipeline
            | beam.Create(rows(53))
            | beam.Map(lambda row: TimestampedValue(row, row["id"]))
            | beam.WindowInto(FixedWindows(10))
            | WriteToMilvus(
                settings=lite.settings(batchSize=7),
                connection=lite.connection(),
                context=context(lite),
            )
        )
        seen = result.written | beam.ParDo(_WithWindow())
        assert_that(seen, equal_to([(i, i, i // 10 * 10) for i in range(53)]))


@pytest.mark.slow
def test_counters_reach_the_runner(lite):
    """Rows and requests are counted where a runner can tell them."""
    pipeline = beam.Pipeline(runner="FnApiRunner")
    made = context(lite)
    lite.target()
    (
        pipeline
        | beam.Create(rows(100), reshuffle=False)
        | WriteToMilvus(
            settings=lite.settings(batchSize=10),
            connection=lite.connection(),
            context=made,
            prepared=True,
        )
    )
    result = pipeline.run()
    found = {m.key.metric.name: m.committed for m in result.metrics().query()["counters"]}
    assert (found["rows-written"], found["write-requests"]) == (100, 10)


def test_recreate_is_refused_outside_a_job(lite):
    """Bundles are repeated; a collection must not be dropped by one."""
    with pytest.raises(ValueError, match="drop the collection again with each bundle"):
        WriteToMilvus(
            settings=lite.settings(schemaCreateMode="recreate"), connection=lite.connection()
        )


@pytest.mark.slow
def test_two_pipelines_in_one_process_write_to_one_file(lite):
    """One after the other, each with its own run, also when the first has been forgotten."""
    for first in (0, 50):
        made = context(lite)
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            _ = (
                pipeline
                | beam.Create(rows(50, first))
                | WriteToMilvus(
                    settings=lite.settings(), connection=lite.connection(), context=made
                )
            )
        end_run(made.run)
    assert lite.target(prepared=False).row_count() == 100
