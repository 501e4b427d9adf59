"""An index of our making is loaded without refreshes and replicas, which are then set back."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from typing import Any

import pytest

from tests.io.search.support import Store, rows
from vecferry.errors import JobError
from vecferry.io.search.catalog import IndexInfo, SearchIndex
from vecferry.io.search.client import StatusError
from vecferry.io.sink.mark import Mark
from vecferry.testing.sinks import write

pytestmark = [pytest.mark.service, pytest.mark.in_turn("kind")]

REFRESH, REPLICAS = "index.refresh_interval", "index.number_of_replicas"
SPARED = ("-1", "0")


def loading(store: Store, *, prepared: bool = True, resumed: bool = False, **more: Any) -> Any:
    """A target whose load the launcher ends."""
    target = store.target(prepared=False, **more)
    write = dataclasses.replace(target.context.write, load_ends=True, resumed=resumed)
    target.context = dataclasses.replace(target.context, write=write)
    if prepared:
        target.prepare()
    return target


def found(store: Store, target: Any) -> tuple[str | None, str | None]:
    """How often the index is refreshed, and its replicas, as its settings say."""
    name = target.settings.index
    answer = store.server.request("GET", f"/{name}?flat_settings=true")[name]
    settings = answer["settings"]
    assert ("deferred" in answer["mappings"]["_meta"]["vecferry"]) == (
        target.unfinished() is not None
    )
    return settings.get(REFRESH), settings.get(REPLICAS)


def ended(target: Any, *, whole: bool = True) -> list[str]:
    """What the end of a load tells."""
    return list(target.end_load(lambda words: None, whole=whole))


@pytest.mark.parametrize(
    ("settings", "after"),
    [
        ({}, (None, None)),
        ({"refresh_interval": "5s", "number_of_replicas": 2}, ("5s", "2")),
        ({"index": {"refresh_interval": "-1", "number_of_replicas": 0}}, ("-1", "0")),
        ({"auto_expand_replicas": "0-1", "refresh_interval": "30s"}, ("30s", "0")),
    ],
)
def test_what_was_set_is_set_back(
    store: Store, settings: dict[str, Any], after: tuple[str | None, str | None]
) -> None:
    """As the job, a template or the server says it; replicas that the server chooses stay."""
    usual = found(store, store.target())
    target = loading(store, settings=settings)
    refresh, replicas = found(store, target)
    assert refresh == "-1"
    assert replicas == "0" or "auto_expand_replicas" in settings
    written, _ = write(target, rows(10))
    assert (len(written), ended(target)) == (10, [])
    refresh, replicas = found(store, target)
    assert refresh == after[0]
    assert replicas == (after[1] or usual[1])
    assert target.row_count() == 10


@pytest.mark.parametrize("more", [{"indexWhen": "before"}, {"resumed": True}])
def test_an_index_that_is_to_be_read_meanwhile_is_left_alone(
    store: Store, more: dict[str, Any]
) -> None:
    """As a job says, and where a sync has a position."""
    target = loading(store, **more)
    assert found(store, target)[0] is None
    assert target.unfinished() is None


def test_a_run_that_breaks_off_sets_back_at_once(store: Store) -> None:
    """Its rows are then found."""
    target = loading(store)
    write(target, rows(3))
    assert "PUT /" in str(target.unfinished())
    ended(target, whole=False)
    assert (found(store, target)[0], target.unfinished()) == (None, None)


def test_the_next_run_sets_back_what_a_killed_one_left(store: Store) -> None:
    """Unless somebody has chosen something else meanwhile."""
    first = loading(store, settings={"refresh_interval": "7s", "number_of_replicas": 1})
    name = first.settings.index
    store.server.request("PUT", f"/{name}/_settings", {REPLICAS: 3})
    second = loading(store, index=name)
    assert found(store, second) == ("-1", "3")
    ended(second)
    assert found(store, second) == ("7s", "3")
    assert ended(first) == []


class Guarded(SearchIndex):
    """An index whose mapping and settings this user may not change."""

    def remember(self, info: IndexInfo, mark: Mark) -> None:
        """Refused, as a server does without the privilege ``manage``."""
        raise JobError("not for this user") from StatusError(403, "security_exception", "no")


def test_a_user_who_may_not_set_the_index_up_loads_it_as_it_is(store: Store) -> None:
    """That is told, and neither load nor end fails."""
    target = loading(store, prepared=False)
    index = Guarded(target.client(), target.dialect, target.settings)
    target.catalog = lambda: nullcontext(index)
    target.prepare()
    assert len(write(target, rows(3))[0]) == 3
    assert (target.unfinished(), ended(target)) == (None, [])
    name = target.settings.index
    settings = store.server.request("GET", f"/{name}?flat_settings=true")[name]["settings"]
    assert REFRESH not in settings
