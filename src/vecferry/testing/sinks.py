"""What every writer must show, stated once: `SinkContract`, a class of tests, and a small adapter.

A module of tests makes a subclass of `SinkContract` whose fixture `place` gives a `SinkPlace`.
"""

from __future__ import annotations

import random
import threading
import tracemalloc
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from vecferry.errors import JobError
from vecferry.rows import DELETE, UPDATE, Change, Reject, Row
from vecferry.steps import Operator, StepContext, Target

DIMENSION = 8
MOST_TEXT = 200
"""Characters, and bytes, that a text may have in the targets of these tests."""
LARGE_ROWS, LARGE_BYTES = 200, 1 << 20
MOST_HELD = 96 << 20
"""Bytes that the rows inside a writer may take: five requests of at most 16 MiB, and a little."""


def vector(n: int) -> np.ndarray:
    """A vector of its own for each number, never of length 0."""
    return np.random.default_rng(n).normal(size=DIMENSION).astype(np.float32)


def rows(n: int, first: int = 0) -> list[dict[str, Any]]:
    """Rows with `id`, `text`, a whole number and a vector."""
    return [
        {"id": f"k{i:06}", "text": f"text {i}", "number": i, "vector": vector(i)}
        for i in range(first, first + n)
    ]


def write(
    target: Target, changes: Iterable[Change | Row], operator: Operator | None = None
) -> tuple[list[Change], list[Reject]]:
    """The rows that were written, and the rejects, of one bundle.

    The bundle goes through `operator`, or through a new one of `target`.
    """
    operator = operator or target.operator()
    emitted = []
    for change in changes:
        emitted += operator.process(change if isinstance(change, Change) else Change(change))
    emitted += operator.finish()
    items = [item for item, _ in emitted]
    return [i for i in items if isinstance(i, Change)], [i for i in items if isinstance(i, Reject)]


class SinkPlace(ABC):
    """A store, as the contract sees it. Its targets have the columns of `rows`.

    `id` is the key, a text of at most 64 characters. `number` is a whole number of 64 bits. `text`
    holds `MOST_TEXT` characters. `vector` has `DIMENSION` numbers and is compared by cosine.
    """

    step_type = ""
    dies = False
    """Whether `kill` and `start` mean anything: a server in a process of its own."""
    keeps_versions = False
    """Whether the store knows an older change that comes in a later request."""
    searches = True
    """Whether a target can be searched."""

    def context(self) -> StepContext:
        """The context of a new run."""
        return StepContext(step="Writer", step_type=self.step_type, retry_deadline=300)

    @abstractmethod
    def target(self, **settings: object) -> Target:
        """A prepared target. The target is empty at the first call in a test.

        The contract passes `batchSize`, the most rows of a request, and `without_index()`.
        """

    @abstractmethod
    def count(self, target: Target) -> int:
        """How many rows the target holds, all acknowledged rows among them."""

    @abstractmethod
    def read(self, target: Target) -> dict[str, dict[str, Any]]:
        """All rows by `id`; vectors may be missing."""

    def bad_rows(self) -> list[tuple[dict[str, Any], str]]:
        """What to change in a row so that the row can't be written, and the reason of its reject.

        Leave out what the store takes.
        """
        return [
            ({"text": "x" * (MOST_TEXT + 1)}, "too-long"),
            ({"number": "many"}, "wrong-type"),
            ({"id": None}, "null-key"),
            ({"vector": vector(0)[:-1]}, "wrong-dimension"),
            ({"vector": np.full(DIMENSION, np.nan, dtype=np.float32)}, "not-finite"),
            ({"vector": np.zeros(DIMENSION, dtype=np.float32)}, "zero-vector"),
            ({"text": "half a pair \ud83d"}, "invalid-text"),
        ]

    def locked_out(self) -> tuple[Target, str] | None:
        """A target with a wrong password, and that password; None if the store has no login."""
        return None

    def without_index(self) -> dict[str, Any]:
        """Settings for many rows, if an index of vectors would take most of the time."""
        return {}

    def kill(self) -> None:
        """Kills the server as a crash would."""
        raise NotImplementedError

    def start(self) -> None:
        """Starts the server again with the data that it had."""
        raise NotImplementedError


class SinkContract:
    """The tests. A subclass gives the fixture `place`."""

    def test_a_bundle_that_is_written_twice_leaves_one_copy_of_each_row(
        self, place: SinkPlace
    ) -> None:
        """Repeating a bundle, as runners do, changes nothing."""
        target = place.target()
        for _ in range(2):
            written, rejects = write(target, rows(500))
            assert (len(written), rejects) == (500, [])
        assert place.count(target) == 500

    def test_updates_replace_and_deletes_remove(self, place: SinkPlace) -> None:
        """A log ends as its last changes have it. To delete what is not there is allowed."""
        target = place.target(batchSize=2)
        operator = target.operator()
        log: list[Change | Row] = [
            *rows(4),
            Change({**rows(1, 1)[0], "text": "second"}, kind=UPDATE),
            Change({"id": "k000002"}, kind=DELETE),
            Change({"id": "never"}, kind=DELETE),
            Change({"id": "k000003"}, kind=DELETE),
            Change({**rows(1, 3)[0], "text": "again"}),
        ]
        written, rejects = write(target, log, operator)
        assert (len(written), rejects) == (len(log), [])
        found = {k: r["text"] for k, r in place.read(target).items()}
        assert found == {"k000000": "text 0", "k000001": "second", "k000003": "again"}
        assert operator.counts.values["rows-deleted"] == 3

    def test_an_upsert_a_delete_and_a_stale_upsert_leave_nothing(self, place: SinkPlace) -> None:
        """In one request, and in several where the store knows versions; the stale one counts."""
        (row,) = rows(1)
        log = [
            Change(row, version=1),
            Change({"id": row["id"]}, kind=DELETE, version=3),
            Change(row, kind=UPDATE, version=2),
        ]
        for size in (100, 1) if place.keeps_versions else (100,):
            target = place.target(batchSize=size)
            operator = target.operator()
            written, rejects = write(target, log, operator)
            counts = operator.counts.values
            assert rejects == []
            assert len(written) + counts.get("rows-stale", 0) == 3
            assert place.read(target) == {}

    def test_bad_rows_among_a_thousand_cost_only_themselves(self, place: SinkPlace) -> None:
        """The others are written; each bad row has its own reason, and says what is wrong."""
        target = place.target(batchSize=128)
        data = rows(1000)
        changes = place.bad_rows()
        for i, (change, _) in enumerate(changes):
            data[i * 140 + 7] |= change
        written, rejects = write(target, data)
        assert len(rejects) == len(changes)
        assert len(written) == place.count(target) == 1000 - len(changes)
        assert sorted(r.reason for r in rejects) == sorted(reason for _, reason in changes)
        assert all(r.message and r.row is not None for r in rejects)

    def test_ten_thousand_changes_on_a_hundred_keys_end_in_order(self, place: SinkPlace) -> None:
        """Whatever was in flight together, each key ends as its last change says."""
        chance = random.Random(5)
        target = place.target(batchSize=64)
        last: dict[str, Any] = {}
        log: list[Change | Row] = []
        for n in range(10_000):
            row = {**rows(1, chance.randrange(100))[0], "number": n}
            gone = chance.random() < 0.2
            last[row["id"]] = None if gone else n
            log.append(Change({"id": row["id"]}, kind=DELETE) if gone else Change(row))
        written, rejects = write(target, log)
        assert (len(written), rejects) == (10_000, [])
        found = {k: r["number"] for k, r in place.read(target).items()}
        assert found == {k: n for k, n in last.items() if n is not None}

    def test_two_bundles_at_once_on_the_same_keys_lose_nothing(self, place: SinkPlace) -> None:
        """Neither waits for ever for the other, nor is a row refused."""
        target = place.target(batchSize=50)
        outcomes: list[tuple[list[Change], list[Reject]]] = []

        def bundle(order: int) -> None:
            outcomes.append(write(target, rows(1000)[::order]))

        threads = [threading.Thread(target=bundle, args=(order,)) for order in (1, -1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [(len(w), r) for w, r in outcomes] == [(1000, []), (1000, [])]
        assert place.count(target) == 1000

    def test_text_in_all_scripts_comes_back_as_it_went_in(self, place: SinkPlace) -> None:
        """Unicode, emoji, quotes, backslashes, separators: in the text and in the key."""
        texts = [
            "déjà vu", "漢字かな", "👩‍👩‍👧‍👦🏳️‍🌈", "نص عربي",
            "a\n\t\\\"'`$;--", "", " ", "\U0010ffff", "e\u0301 ≠ é", "\u202eright to left",
            "{1,NULL}", "\\N", "%s %b {0}", "\u2028\ufeff",
        ]  # fmt: skip
        chance = random.Random(3)
        storm = [0x1F300, 0x600, 0x4E00, 0x0, 0xAC00]
        for start in storm * 10:
            texts.append("".join(chr(start + chance.randrange(32, 500)) for _ in range(40)))
        target = place.target()
        data = [
            {"id": f"{t[:8]}|{i}", "text": t, "number": i, "vector": vector(i)}
            for i, t in enumerate(texts)
        ]
        assert write(target, data)[1] == []
        assert {k: r["text"] for k, r in place.read(target).items()} == {
            row["id"]: row["text"] for row in data
        }

    def test_a_search_gives_the_nearest_row_first(self, place: SinkPlace) -> None:
        """What was written answers a query, without its vector."""
        if not place.searches:
            pytest.skip("not for this store: it answers no search")
        target = place.target()
        write(target, rows(50))
        best = target.search(vector(7), 3)
        assert (best[0]["id"], best[0]["text"]) == ("k000007", "text 7")
        assert best[0]["score"] == pytest.approx(1.0, abs=1e-4)
        assert best[0]["score"] > best[1]["score"] >= best[2]["score"]
        assert "vector" not in best[0]

    def test_a_wrong_password_is_told_before_the_run_and_never_shown(
        self, place: SinkPlace
    ) -> None:
        """The launcher's check refuses the job."""
        locked_out = place.locked_out()
        if locked_out is None:
            pytest.skip("not for this store: it has no login here")
        target, password = locked_out
        with pytest.raises(JobError) as caught:
            target.check()
        assert "login" in str(caught.value)
        assert password not in str(caught.value) + repr(vars(target))

    def test_rows_that_wait_are_bounded_by_all_their_bytes(self, place: SinkPlace) -> None:
        """Also by those of columns that the target does not take, such as an image."""
        operator = place.target().operator()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            emitted = 0
            for row in rows(LARGE_ROWS):
                image = bytes(LARGE_BYTES)
                emitted += len(operator.process(Change({**row, "image": image})))
                del image
            emitted += len(operator.finish())
            held = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        assert emitted == LARGE_ROWS
        assert held < MOST_HELD < LARGE_ROWS * LARGE_BYTES

    @pytest.mark.slow
    def test_a_server_killed_in_the_middle_costs_no_row(self, place: SinkPlace) -> None:
        """It comes back with what it had acknowledged; the rest is sent again, none rejected."""
        if not place.dies:
            pytest.skip("not for this store: it lives in our own process")
        target = place.target(batchSize=500, **place.without_index())
        operator = target.operator()
        emitted = []
        for i, row in enumerate(rows(50_000)):
            emitted += operator.process(Change(row))
            if i == 20_300:  # with some rows buffered, and some requests under way
                place.kill()
                place.start()
        emitted += operator.finish()
        assert len(emitted) == 50_000
        assert not any(isinstance(item, Reject) for item, _ in emitted)
        assert place.count(target) == 50_000
