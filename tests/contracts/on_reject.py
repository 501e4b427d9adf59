"""What every store must show of `setting.onReject`: each value, at each step that rejects.

A store gives a `RejectPlace`. Two rows are updated to something that a step rejects. The old row of
`a` was written by a former run, and the old row of `b` comes in the same bundle.
"""

from __future__ import annotations

import functools
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.effort import LONG
from tests.transforms.embed.endpoints.server import EndpointServer, vector_of
from vecferry.beam import MakeSource, ReaderTransform
from vecferry.kinds import Kind
from vecferry.pipelines import registry
from vecferry.pipelines.job.resolve import read_and_resolve
from vecferry.pipelines.launch import run_job
from vecferry.pipelines.run.logic import JobLogic
from vecferry.pipelines.run.options import RunOptions
from vecferry.pipelines.run.report import Report
from vecferry.process import end_run
from vecferry.rows import Change, Reject
from vecferry.settings import StepSettings
from vecferry.steps import Counts, Plan, Size, StepContext

DIMENSION = 64
_HERE = "tests.contracts.on_reject"
KIND = Kind(
    "given-changes",
    "reader",
    settings=f"{_HERE}:GivenSettings",
    logic=f"{_HERE}:GivenChanges",
    transform=f"{_HERE}:ReadGiven",
)


class GivenSettings(StepSettings):
    """The changes themselves: rows with a version, of which some can't be read."""

    changes: list[dict[str, Any]]

    @property
    def needs_datasource(self) -> bool:
        """They stand in the job."""
        return False

    def outputs(self) -> dict[str, int | None]:
        """The columns of the rows."""
        return {"id": None, "doc": None, "given": DIMENSION}


class GivenChanges:
    """A `vecferry.steps.Source` of changes."""

    def __init__(self, settings: GivenSettings, connection: None, context: StepContext) -> None:
        self.settings, self.context = settings, context
        self.counts = Counts()

    def check(self) -> None:
        """They are there."""

    def plan(self) -> Plan:
        """One split, so that their order stays."""
        return Plan(splits=[0], size=self.size())

    def splits(self) -> list[int]:
        """One."""
        return [0]

    def size(self) -> Size:
        """They are counted."""
        return Size(rows=len(self.settings.changes))

    def read(self, split: int) -> Iterator[Change | Reject]:
        """The rows; a reject with its key for what can't be read."""
        for n, row in enumerate(self.settings.changes):
            self.counts.add("rows-read")
            stamp = {"kind": "+U", "version": row["version"], "origin": f"given:{n}"}
            values = {name: row[name] for name in ("id", "doc", "given")}
            if row["unreadable"]:
                yield self.context.reject(
                    "unreadable",
                    "a column can't be read",
                    raw=json.dumps(values),
                    key=[row["id"]],
                    known=Change({"id": row["id"]}, **stamp),
                )
            else:
                yield Change(values, **stamp)

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """The row that could not be read."""
        return Change(json.loads(raw), kind="+U", origin=origin)


@dataclass(kw_only=True, eq=False)
class ReadGiven(ReaderTransform):
    """Reads the changes of a job."""

    settings: GivenSettings

    step_type = "given-changes"

    def reader(self, context: StepContext) -> MakeSource:
        """Makes the source."""
        return functools.partial(GivenChanges, self.settings, None, context)


def change(
    key: str, version: int, text: str, *, unreadable: bool = False, number: str = "1", **more: Any
) -> dict[str, Any]:
    """A row of the reader. `doc` is JSON, unless `more` says otherwise; `given` a vector."""
    doc = json.dumps({"text": text, "number": number})
    given = vector_of(text, DIMENSION).tolist()
    return {
        "id": key,
        "version": version,
        "unreadable": unreadable,
        "doc": doc,
        "given": given,
    } | more


STEPS: dict[str, dict[str, Any]] = {
    "Read": {"text": "new", "unreadable": True},
    "Extract": {"text": "new", "doc": '{"number": "1"}'},
    "Embed": {"text": "new POISON"},
    "Write": {"text": "new", "number": "many"},
    "Write, for its vector": {"text": "new", "given": [0.0] * DIMENSION},
}
"""The step that rejects a row -> what of the row it rejects."""
MODES = (None, "withoutVector", "delete", "keep")
VECTOR_FAILS = ("Embed", "Write, for its vector")


class RejectPlace(ABC):
    """A store, as the contract sees it; a table, index or collection of its own for each test.

    The fields are `id`, `text`, `number`, a whole number, and `vector`, compared by cosine.
    """

    holds_null = True
    """Whether a row may be there without its vector."""
    server_refuses: str | None = None
    """A number that the server itself refuses, though the writer sends it; None without such."""

    def __init__(self) -> None:
        self.name = f"t{uuid.uuid4().hex[:12]}"

    @abstractmethod
    def source(self) -> dict[str, Any]:
        """The data source."""

    @abstractmethod
    def writer(self) -> dict[str, Any]:
        """`stepType` and parameters of the writer, without data source and mapping."""

    @abstractmethod
    def texts(self) -> dict[str, str]:
        """All rows that are there: the text by id."""

    def ready(self) -> None:
        """Makes the server refuse `server_refuses`; called once the target is there."""
        return


class RejectBench:
    """Runs jobs into a place."""

    def __init__(self, place: RejectPlace, folder: Path, endpoint: str) -> None:
        self.place, self.folder, self.endpoint = place, folder, endpoint
        registry.register(KIND)

    def resolved(self, changes: list[dict[str, Any]], mode: str | None, *, given: bool) -> Any:
        """The job; with `given` vectors it has no step that makes them."""
        writer = self.place.writer()
        parameter = writer["parameter"] | {
            "datasource": "Store",
            "columnMapping": [
                {"sourceColName": "given" if given and n == "vector" else n, "dstColName": n}
                for n in ("id", "text", "number", "vector")
            ],
        }
        extract = [
            {"name": name, "fromColumn": "doc", "jsonPath": f"$.{name}", "type": "STRING"}
            for name in ("text", "number")
        ]
        model = {
            "modelProvider": "openai",
            "modelName": "m",
            "endpoint": self.endpoint,
            "apiKey": "sk-test",
            "dimension": DIMENSION,
            "embeddingColumns": {"sourceColumnNames": ["text"], "embeddingColumnName": "vector"},
        }
        steps = [
            ("given-changes", "reader", "Read", {"changes": changes}),
            ("json-extracting", "flatmap", "Extract", {"column": extract}),
            *([] if given else [("embedding-transformer", "flatmap", "Embed", model)]),
            (writer["stepType"], "writer", "Write", parameter),
        ]
        names = ("stepType", "category", "name", "parameter")
        setting = {} if mode is None else {"onReject": mode}
        job = {"steps": [dict(zip(names, s, strict=True)) for s in steps], "setting": setting}
        path, sources = self.folder / "job.json", self.folder / "sources.json"
        path.write_text(json.dumps(job))
        sources.write_text(json.dumps({"Store": self.place.source()}))
        return read_and_resolve(str(path), data_sources=str(sources))

    def run(
        self, changes: list[dict[str, Any]], mode: str | None, *, given: bool, **options: Any
    ) -> Report:
        """The report of a run, whose numbers add up."""
        chosen = RunOptions(rejects=str(self.folder / "rejects"), preflight=False, **options)
        report = run_job(self.resolved(changes, mode, given=given), chosen)
        assert (report.state, report.error, report.lost) == ("DONE", None, 0)
        return report

    def near(self, text: str) -> set[str]:
        """The ids of the rows that have the vector of `text`."""
        logic = JobLogic(self.resolved([], None, given=True), f"near-{uuid.uuid4().hex}")
        try:
            found = logic.target.search(vector_of(text, DIMENSION), 10)
        finally:
            logic.close()
            end_run(logic.run)
        return {str(hit["id"]) for hit in found if hit["score"] > 0.999}


def cases() -> list[Any]:
    """Each value at each step; in a short run one value that the job says at each step."""
    out = []
    for at, step in enumerate((*STEPS, "server")):
        for mode in MODES:
            short = mode == (None, "delete", "keep", "withoutVector")[at % 4]
            marks = [] if short or LONG else [pytest.mark.long]
            out.append(pytest.param(mode, step, marks=marks, id=f"{mode or 'unsaid'}-{step}"))
    return out


class RejectContract:
    """The tests. A subclass gives the fixture `place`."""

    @pytest.fixture
    def bench(self, place: RejectPlace, tmp_path: Path) -> Iterator[RejectBench]:
        """With an endpoint that refuses texts with POISON."""
        with EndpointServer() as server:
            yield RejectBench(place, tmp_path, server.url)

    @pytest.mark.parametrize(("mode", "step"), cases())
    def test_an_update_that_is_rejected_leaves_no_vector_of_the_old_text(
        self, mode: str | None, step: str, place: RejectPlace, bench: RejectBench
    ) -> None:
        """But with `keep`. Whichever step rejects the update, and the numbers add up."""
        bad = STEPS.get(step, {"text": "new", "number": place.server_refuses})
        if bad.get("number", "1") is None:
            pytest.skip("not for this store: the server refuses no row that the writer sends")
        given = step == "Write, for its vector"
        first = [change("a", 1, "old a"), change("c", 1, "old c")]
        assert bench.run(first, mode, given=given).rows_written == 2
        place.ready()
        report = bench.run(
            [
                change("b", 1, "old b"),
                change("b", 2, **bad),
                change("a", 2, **bad),
                change("c", 2, "new c"),
            ],
            mode,
            given=given,
        )
        stays = mode == "keep"
        whole = step in VECTOR_FAILS and mode != "delete" and place.holds_null
        told = {"a": bad["text"], "b": bad["text"]} if whole else {}
        kept = {"a": "old a", "b": "old b"} if stays else told
        assert place.texts() == {"c": "new c", **kept}
        assert bench.near("old a") == ({"a"} if stays else set())
        assert bench.near("old b") == ({"b"} if stays else set())
        assert bench.near("new c") == {"c"}
        assert [(r.step, r.rows) for r in report.rejected_by] == [
            ({"server": "Write"}.get(step, step.partition(",")[0]), 2)
        ]
        counted = (report.rows_read, report.rows_added, report.rows_written, report.rows_deleted)
        assert counted == {True: (4, 0, 2, 0)}.get(stays, (4, 2, 4, 0) if whole else (4, 2, 2, 2))
