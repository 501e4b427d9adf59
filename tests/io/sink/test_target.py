"""What all targets share, on a store that keeps its rows in this process."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.shared.contexts import step_context
from vecferry.errors import JobError, TransientError
from vecferry.io.sink import AliasTarget, Record
from vecferry.io.sink.mark import Mark
from vecferry.io.sink.target import make_writer, vector_field
from vecferry.process import end_run
from vecferry.rows import Change, Reject
from vecferry.settings import Maker
from vecferry.steps import StepContext

ONE = Maker(provider="p", model="one", dimension=2)
OTHER = Maker(provider="p", model="other", dimension=2)


@dataclass
class Shelf:
    """What stands in a `Depot` under one name."""

    name: str
    mark: Mark | None = None
    rows: dict[str, Any] = field(default_factory=dict)


class Depot:
    """A server: shelves and aliases by name. `away` is how often it can't be reached."""

    def __init__(self) -> None:
        self.shelves: dict[str, Shelf] = {}
        self.aliases: dict[str, str] = {}
        self.away = 0
        self.asked = list[str]()


class DepotCatalog:
    """One shelf of a depot."""

    where = "the depot"

    def __init__(self, depot: Depot, name: str) -> None:
        self.depot, self.name = depot, name

    def describe(self) -> Shelf | None:
        self.depot.asked.append("describe")
        if self.depot.away:
            self.depot.away -= 1
            raise JobError("the depot can't be reached") from TransientError("nobody there")
        return self.depot.shelves.get(self.name)

    def absent(self) -> str:
        return f"shelf {self.name!r} does not exist"

    def create(self, mark: Mark, replaced: Shelf | None) -> None:
        self.depot.asked.append("create")
        self.depot.shelves[self.name] = Shelf(self.name, mark)

    def remember(self, info: Shelf, mark: Mark) -> None:
        if info.name == "locked":
            raise JobError("it is locked")
        info.mark = mark

    def is_empty(self) -> bool:
        return not self.depot.shelves[self.name].rows

    def count(self) -> int:
        return len(self.depot.shelves[self.name].rows)

    def point_alias(self, alias: str, info: Shelf, instead_of: str | None) -> None:
        self.depot.aliases[alias] = info.name


class DepotStore:
    """Writes into a shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf, self.closed = shelf, False

    def encode(self, change: Change) -> Record:
        return Record("put", change["id"], dict(change), 1)

    def send(self, records: list[Record]) -> None:
        self.shelf.rows.update({str(r.key): r.body for r in records})

    def classify(self, error: Exception) -> Exception:
        return error

    def shown(self, change: Change) -> dict[str, Any]:
        return dict(change)

    def close(self) -> None:
        self.closed = True


class DepotTarget(AliasTarget[DepotCatalog, Shelf, DepotStore]):
    """The shelf that a job writes to. What is wrong with it, a test says."""

    noun = "shelf"
    alias = "front"
    recreates = False
    wrong: tuple[str, ...] = ()
    noted: tuple[str, ...] = ()

    def __init__(self, depot: Depot, name: str, context: StepContext) -> None:
        super().__init__(context)
        self.depot, self.name = depot, name

    @property
    def target_name(self) -> str:
        return self.name

    def catalog(self) -> contextlib.AbstractContextManager[DepotCatalog]:
        return contextlib.nullcontext(DepotCatalog(self.depot, self.name))

    def store(self, catalog: DepotCatalog, info: Shelf) -> DepotStore:
        return DepotStore(info)

    def encoder(self, info: Shelf | None) -> DepotStore:
        return DepotStore(info or Shelf(self.name))

    def sources(self) -> dict[str, str]:
        return {"id": "id", "v": "vector"}

    def mismatches(self, catalog: DepotCatalog, info: Shelf) -> list[str]:
        return [p for p in self.wrong if "fit" in p]

    def obstacles(self, catalog: DepotCatalog, info: Shelf | None) -> list[str]:
        return [p for p in self.wrong if "fit" not in p]

    def notes(self, catalog: DepotCatalog, info: Shelf | None) -> list[str]:
        return list(self.noted)


_runs: list[str] = []


@pytest.fixture(autouse=True)
def _end_runs() -> Iterator[None]:
    yield
    while _runs:
        end_run(_runs.pop())


def target(depot: Depot, name: str = "s", maker: Maker = ONE, **more: Any) -> DepotTarget:
    """A target of a new run, whose vectors `maker` makes."""
    context = step_context("W", "depot", makers={"vector": maker}, **more)
    _runs.append(context.run)
    return DepotTarget(depot, name, context)


def write(writing: DepotTarget, *keys: str) -> list[Any]:
    """What one bundle of rows with these keys gives."""
    operator = writing.operator()
    out = [operator.process(Change({"id": key, "vector": [1, 2]})) for key in keys]
    return [item for some in [*out, operator.finish()] for item, _ in some]


def test_a_missing_target_is_created_with_its_mark_and_written_to() -> None:
    """The hooks are all that a store gives; rows come out once they are kept."""
    depot = Depot()
    new = target(depot)
    assert new.check() == []
    assert depot.shelves == {}, "a check changes nothing"
    with pytest.raises(JobError, match="the depot: shelf 's' does not exist"):
        new.row_count()
    new.prepare()
    assert depot.shelves["s"].mark == Mark({"v": ONE})
    assert len(write(new, "a", "b")) == 2
    assert new.row_count() == 2


def test_every_reason_is_told_at_once_and_with_the_step() -> None:
    """What does not fit, what made the vectors, and what else keeps the job out."""
    depot = Depot()
    target(depot).prepare()
    write(target(depot), "a")
    unfit = target(depot, maker=OTHER)
    unfit.wrong = ("a field does not fit", "the depot is shut")
    for act in (unfit.check, unfit.prepare):
        with pytest.raises(JobError) as e:
            act()
        assert len(e.value.problems) == 3
        assert all(p.startswith("step 'W': ") for p in e.value.problems)
        assert "does not fit" in e.value.problems[0]
        assert "made by one of p" in e.value.problems[1]
        assert "is shut" in e.value.problems[2]


def test_what_another_worker_created_otherwise_is_refused() -> None:
    """Not written to, and not dropped."""
    depot = Depot()
    late = target(depot)
    late.wrong = ("a field does not fit",)
    with pytest.raises(JobError, match="does not fit"):
        late.prepare()
    assert list(depot.shelves) == ["s"]


def test_a_target_that_is_recreated_is_dropped_once_by_prepare() -> None:
    """Its rows and its mark go, whatever model made them."""
    depot = Depot()
    target(depot).prepare()
    write(target(depot), "a")
    anew = target(depot, maker=OTHER)
    anew.recreates = True
    anew.check()
    assert anew.row_count() == 1
    anew.prepare()
    assert anew.row_count() == 0
    assert depot.shelves["s"].mark == Mark({"v": OTHER})


def test_a_sync_that_goes_on_from_a_position_drops_nothing() -> None:
    """Though the first run of the job drops it."""
    depot = Depot()
    target(depot).prepare()
    write(target(depot), "a")
    again = target(depot, resumed=True)
    again.recreates = True
    again.check()
    again.prepare()
    assert again.row_count() == 1


def test_notes_are_given_by_each_call_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """By the check, and by the store of a bundle behind it."""
    told = target(Depot())
    told.noted = ("rows may come twice",)
    assert told.check() == told.check() == ["rows may come twice"]
    told.prepare()
    write(told, "a")
    assert [r.getMessage() for r in caplog.records] == ["step 'W': rows may come twice"]


def test_a_mark_that_is_not_taken_is_a_note(caplog: pytest.LogCaptureFixture) -> None:
    """The job goes on: its rows can be written."""
    depot = Depot()
    depot.shelves["locked"] = Shelf("locked")
    target(depot, "locked").prepare()
    assert "what makes the vectors was not kept: it is locked" in caplog.text
    assert depot.shelves["locked"].mark is None


@pytest.mark.slow
def test_a_server_that_is_away_is_waited_for_by_workers_only() -> None:
    """The launcher tells a person at once."""
    depot = Depot()
    target(depot).prepare()
    depot.away = 1
    with pytest.raises(JobError, match="can't be reached"):
        target(depot).check()
    depot.away = 2
    assert len(write(target(depot), "a")) == 1
    depot.away = 1000
    with pytest.raises(TransientError, match=r"step 'W': gave up after .* nobody there"):
        target(depot, retry_deadline=0.3).operator()


def test_bundles_of_a_step_share_a_store_until_the_run_ends() -> None:
    """It is made once, and closed."""
    depot = Depot()
    first = target(depot)
    first.prepare()
    again = DepotTarget(depot, "s", first.context)
    stores = [t.patiently("store", lambda: None) for t in (first, again) if t.operator()]
    assert isinstance(stores[0], DepotStore)
    assert stores[0] is stores[1]
    end_run(first.context.run)
    assert stores[0].closed


@pytest.mark.parametrize("prepared", [False, True])
def test_the_first_bundle_of_a_pipeline_makes_the_target_ready(prepared: bool) -> None:
    """Unless that was done before the pipeline; then a missing target is an error."""
    depot = Depot()
    context = target(depot).context
    make = functools.partial(make_writer, functools.partial(DepotTarget, depot, "s"), prepared)
    if prepared:
        with pytest.raises(JobError, match="does not exist"):
            make(context)
        return
    make(context)
    make(context)
    assert depot.asked.count("create") == 1


def test_an_alias_moves_to_a_target_that_is_done_and_not_empty() -> None:
    """What the command line named must hold a row; a job that is not done says what it left."""
    depot = Depot()
    new = target(depot, instead_of="old")
    new.prepare()
    assert new.concludes
    assert new.unfinished() == "alias 'front' was not moved to 's'"
    with pytest.raises(JobError, match="shelf 's' holds no row, so alias 'front' was not moved"):
        new.conclude()
    write(new, "a")
    assert new.conclude() == ["alias 'front' names shelf 's' now"]
    assert depot.aliases == {"front": "s"}


def test_a_row_is_shown_as_the_server_would_get_it_before_anything_is_created() -> None:
    """Or as the reject that it would become."""
    depot = Depot()
    assert target(depot).preview({"id": "a"}) == {"id": "a"}
    assert not isinstance(target(depot).preview(Change({"id": "b"})), Reject)
    assert depot.shelves == {}


def test_a_vector_field_is_found_by_its_name_or_its_column() -> None:
    """The first one by default; a wrong name is told with the near one."""
    fields = [Shelf("v"), Shelf("w")]
    sources = {"v": "vector", "w": "width"}
    for name, found in ((None, "v"), ("w", "w"), ("width", "w"), ("vector", "v")):
        assert vector_field("shelf 's'", fields, sources, name).name == found
    with pytest.raises(JobError, match=r"shelf 's' has no vector field 'wv'.* \(it has v, w\)"):
        vector_field("shelf 's'", fields, sources, "wv")
    with pytest.raises(JobError, match="it has none"):
        vector_field("shelf 's'", [], sources, None)
