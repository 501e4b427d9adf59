"""What every store must show of `parentKey`: a document is there whole, whatever happened to it.

A store gives a `ParentPlace`. Documents are split, embedded by a stand-in that refuses texts with
POISON as a service would, and written by the store's own operator.
"""

from __future__ import annotations

import contextlib
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.effort import spread
from vecferry.errors import JobError
from vecferry.instead import MODES, Mode, OnReject
from vecferry.process import end_run
from vecferry.rows import DELETE, INSERT, UPDATE, Change, Reject, Substitute
from vecferry.steps import StepContext, WriteOptions
from vecferry.transforms.text_split import TextSplitSettings
from vecferry.transforms.text_split.splitter import Splitter

DIMENSION = 8
POISON = "POISON"
KEY = ("chunk_id",)
FIELDS = {"id": "chunk_id", "path": "path", "chunk_index": "chunk_index", "text": "chunk"}
"""Field -> column, of all fields but `vector`."""
MAPPING = [
    {"sourceColName": column, "dstColName": field}
    for field, column in {**FIELDS, "vector": "vector"}.items()
]
Rows = dict[Any, tuple[dict[str, Any], tuple[float, ...] | None]]
"""What a target holds: by key, the scalars and the vector."""


class Break(Exception):
    """Stands for a worker that dies."""


class ParentPlace(ABC):
    """A store, as the contract sees it.

    The fields are those of `FIELDS` and `vector`, compared by cosine; the writer has `MAPPING`.
    """

    keeps_versions = False
    holds_null = True
    """Whether a row may be there without its vector."""
    refuses_alone = False
    """Whether the server refuses single rows of a request."""
    step_type = ""

    def __init__(self) -> None:
        self._runs: list[str] = []

    def target(self, name: str, *, mode: Mode = "keep", **settings: object) -> Any:
        """A target of a new run, prepared; `name` tells targets apart."""
        on_reject = OnReject(mode=mode, plain=True, key=KEY)
        context = StepContext(
            step="Writer",
            step_type=self.step_type,
            write=WriteOptions(on_reject=on_reject, vectors=("vector",)),
        )
        self._runs.append(context.run)
        target = self.opened(name, context, {"parentKey": ["path"], **settings})
        target.prepare()
        return target

    @abstractmethod
    def opened(self, name: str, context: StepContext, settings: dict[str, Any]) -> Any:
        """A target with these further settings."""

    def close(self) -> None:
        """Ends what the runs hold."""
        for run in self._runs:
            end_run(run)


def vector(text: str) -> np.ndarray:
    """A vector of its own for each text."""
    seed = list(text.encode())
    return np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)


def embedded(change: Change, on_reject: OnReject) -> Change | None:
    """A row with its vector; what goes on in place of a text that is refused, if anything does."""
    if change.kind == DELETE:
        return change
    if POISON in change["chunk"]:
        return on_reject.of(change, ("vector",))
    return change.with_columns({"vector": vector(change["chunk"])})


def held(target: Any) -> Rows:
    """All that a target holds."""
    out: Rows = {}
    for row in target.scan():
        (found,) = row.vectors.values()
        vector = None if found is None else tuple(np.round(found, 4).tolist())
        key = row.key[0] if isinstance(row.key, tuple) else row.key
        out[key] = (dict(row.values), vector)
    return out


@dataclass
class Counted:
    """The calls of a store, of which one may break: before it is carried out, or behind that."""

    store: Any
    breaks: int | None = None
    late: bool = False
    sends: int = 0
    trims: int = 0

    def __post_init__(self) -> None:
        send, trim = self.store.send, self.store.trim
        self.store.send = lambda records: self._call(send, "sends", records)
        self.store.trim = lambda trims: self._call(trim, "trims", trims)

    def _call(self, call: Any, what: str, given: Sequence[Any]) -> Any:
        at = self.sends + self.trims
        setattr(self, what, getattr(self, what) + 1)
        breaks = self.breaks == at
        if breaks and not self.late:
            raise Break
        done = call(given)
        if breaks:
            raise Break
        return done


class Bench:
    """Writes rounds of changes into one target of a place."""

    def __init__(self, place: ParentPlace, mode: Mode, name: str = "a", **settings: object) -> None:
        self.place, self.mode = place, mode
        self.on_reject = OnReject(mode=mode, plain=True, key=KEY)
        self.target = place.target(name, mode=mode, **settings)
        self.calls = Counted(self.target.patiently("store", self.target._store))
        context = StepContext(step="Split", step_type="text-splitting", whole_documents=True)
        given = {"sourceColumnName": "text", "chunkSize": 24}
        self.splitter = Splitter(TextSplitSettings.model_validate(given), None, context)

    def rows(self, changes: Sequence[Change], chance: random.Random | None = None) -> list[Change]:
        """What reaches the writer; plain rows may come in any order within a document."""
        out: list[Change] = []
        for change in changes:
            split = [item for item, _ in self.splitter.process(change)]
            assert not any(isinstance(item, Reject) for item in split)
            if chance is not None and change.version is None:
                chance.shuffle(split)
            out += [row for item in split if (row := embedded(item, self.on_reject)) is not None]
        return out

    def write(self, rows: Sequence[Change]) -> tuple[list[Change], list[Reject], dict[str, int]]:
        """One bundle: what was written or deleted, the rejects, and what was counted."""
        operator = self.target.operator()
        try:
            emitted = [item for row in rows for item in operator.process(row)]
            emitted += operator.finish()
        finally:
            operator.close()
        items = [item for item, _ in emitted]
        return (
            [i for i in items if isinstance(i, Change)],
            [i for i in items if isinstance(i, Reject)],
            operator.counts.values,
        )


def edits(chance: random.Random, texts: dict[str, str], count: int) -> Iterator[tuple[str, str]]:
    """Random edits, as the path and its new text; no text stands for a document that is gone."""
    for _ in range(count):
        path = f"d{chance.randrange(12)}.md"
        text = texts.get(path, "")
        words = [f"{path} says {chance.randrange(99)} here." for _ in range(chance.randrange(1, 7))]
        kind = chance.choice(("grow", "shrink", "new", "delete", "empty", "move", "poison", "turn"))
        if kind == "move" and text:
            other = f"d{chance.randrange(12)}.md"
            texts[path], texts[other] = "", text
            yield path, ""
            yield other, text
            continue
        cut = {
            "grow": text + " ".join(["", *words]),
            "shrink": text[: len(text) // 2],
            "new": " ".join(words),
            "poison": f"{text} {' '.join(words[:1])} {POISON} it is now. And more.",
            "turn": " ".join(text.split()[::-1]),
        }.get(kind, "" if kind == "delete" else " ")
        texts[path] = cut
        yield path, cut


class Model:
    """What a target ought to hold, document by document."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.documents = bench, dict[str, list[Change]]()

    def apply(self, change: Change) -> None:
        """Takes in a change, as the mode says of a document that has a rejected chunk."""
        path, mode = change["path"], self.bench.mode
        split = [] if change.kind == DELETE else self.bench.splitter.process(change)
        rows = [item for item, _ in split if isinstance(item, Change) and item.kind != DELETE]
        poisoned = any(POISON in row["chunk"] for row in rows)
        if poisoned and mode == "keep":
            return
        if not rows or (poisoned and (mode == "delete" or not self.bench.place.holds_null)):
            self.documents.pop(path, None)
            return
        self.documents[path] = [
            row.with_columns({"vector": None if POISON in row["chunk"] else vector(row["chunk"])})
            for row in rows
        ]

    def rows(self) -> list[Change]:
        """All chunks, as a fresh load would bring them."""
        return [Change(dict(row)) for rows in self.documents.values() for row in rows]


def page(path: str, parts: int, version: int | None = None, bad: int | None = None) -> Change:
    """A document of so many chunks, of which one may be refused."""
    words = [f"Part {i} of {path} {version or 0:03}." for i in range(parts)]
    if bad is not None:
        words[bad] = f"{POISON} {bad} of {path}."
    kind = INSERT if version is None else UPDATE
    return Change(
        {"path": path, "text": "\n\n".join(words)}, kind=kind, version=version, origin=f"{path}:0"
    )


def gone(path: str, version: int | None = None) -> Change:
    """The delete of a document."""
    return Change({"path": path}, kind=DELETE, version=version, origin=f"{path}:0")


class ParentContract:
    """The tests. A subclass gives the fixture `place`."""

    @pytest.mark.parametrize(
        ("seed", "mode", "breaks"),
        spread([(s, MODES[s % 3], s % 4 != 3) for s in range(60)], 6),
    )
    def test_after_random_edits_the_target_is_what_a_fresh_load_gives(
        self, seed: int, mode: Mode, breaks: bool, place: ParentPlace
    ) -> None:
        """Chunk by chunk and vector by vector, though writes break off and rounds are repeated."""
        chance = random.Random(seed)
        bench, texts, version = Bench(place, mode, batchSize=chance.choice((3, 7, 100))), {}, 0
        model = Model(bench)
        versioned = place.keeps_versions and chance.random() < 0.7
        for _ in range(6):
            changes = []
            for path, text in edits(chance, texts, 10):
                version += 1
                stamp = {"version": version if versioned else None, "origin": f"{path}:{version}"}
                if text:
                    kind = UPDATE if versioned or chance.random() < 0.5 else INSERT
                    changes.append(Change({"path": path, "text": text}, kind=kind, **stamp))
                else:
                    changes.append(Change({"path": path}, kind=DELETE, **stamp))
            rows = bench.rows(changes)
            calls = bench.calls
            if breaks:
                calls.breaks = calls.sends + calls.trims + chance.randrange(4)
                calls.late = chance.random() < 0.5
                with contextlib.suppress(Break):
                    bench.write(rows)
                calls.breaks = None
            written, rejects, counts = bench.write(rows)
            stale = counts.get("rows-stale", 0)
            added = counts.get("rows-added", 0)
            assert len(written) + stale + len(rejects) == len(rows) + added
            for change in changes:
                model.apply(change)
        fresh = Bench(place, "keep", "b")
        fresh.write(model.rows())
        assert held(bench.target) == held(fresh.target)

    def test_a_changed_document_replaces_its_chunks_and_no_others(self, place: ParentPlace) -> None:
        """Those that it no longer has are gone, in the bundle that wrote them or in a later one."""
        bench = Bench(place, "keep")
        bench.write(bench.rows([page("a", 5), page("a b", 2), page("b", 4), page("b", 3)]))
        assert sorted(held(bench.target)) == [
            *(f"a b#{i}" for i in range(2)), *(f"a#{i}" for i in range(5)),
            *(f"b#{i}" for i in range(3)),
        ]  # fmt: skip
        bench.write(bench.rows([page("a", 2), gone("b")]))
        assert sorted(held(bench.target)) == ["a b#0", "a b#1", "a#0", "a#1"]

    def test_a_batch_of_documents_costs_one_request_that_deletes(self, place: ParentPlace) -> None:
        """However many documents are in the batch, and however many of them lost chunks."""
        bench = Bench(place, "keep", batchSize=50)
        bench.write(bench.rows([page(f"d{i}", 3) for i in range(100)]))
        assert (bench.calls.trims, len(held(bench.target))) == (2, 300)
        bench.write(bench.rows([page(f"d{i}", 1 + i % 3) for i in range(50)]))
        assert (bench.calls.trims, len(held(bench.target))) == (3, 99 + 150)

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("where", ["before", "in the writer"])
    def test_a_document_with_a_rejected_chunk_is_never_half_there(
        self, mode: Mode, where: str, place: ParentPlace
    ) -> None:
        """It stays as it was, or goes; its other chunks are rejected, and the numbers add up."""
        bench = Bench(place, mode)
        bench.write(bench.rows([page("a", 4), page("b", 2)]))
        before = held(bench.target)
        if where == "before":
            rows = bench.rows([page("a", 3, bad=1), page("c", 1)])
        else:
            rows = bench.rows([page("a", 3), page("c", 1)])
            rows[1] = rows[1].with_columns({"vector": np.full(DIMENSION, np.nan, np.float32)})
        written, rejects, counts = bench.write(rows)
        after = held(bench.target)
        of_a = sorted(key for key in after if key.startswith("a#"))
        assert {k: v for k, v in after.items() if k.startswith("b#")} == {
            k: v for k, v in before.items() if k.startswith("b#")
        }
        assert "c#0" in after
        added = counts.get("rows-added", 0)
        assert len(written) + len(rejects) == len(rows) + added
        if mode == "keep":
            assert [after[k] for k in of_a] == [before[f"a#{i}"] for i in range(4)]
        elif mode == "withoutVector" and place.holds_null:
            assert [after[k][1] is None for k in of_a] == [False, True, False]
            return
        else:
            assert of_a == []
        reasons = [reject.reason for reject in rejects]
        assert reasons.count("incomplete-document") == 2
        assert all(reject.message for reject in rejects)

    def test_a_missing_chunk_stays_unnoticed_by_other_documents(self, place: ParentPlace) -> None:
        """Their rows may come in between."""
        bench = Bench(place, "keep")
        rows = bench.rows([page("a", 3), page("b", 3)])
        mixed = [rows[0], rows[3], rows[4], rows[1], rows[5]]  # the last chunk of a is missing
        written, rejects, _ = bench.write(mixed)
        assert sorted(held(bench.target)) == ["b#0", "b#1", "b#2"]
        assert (len(written), [r.key is not None for r in rejects]) == (3, [True, True])

    def test_an_older_document_that_comes_late_changes_nothing(self, place: ParentPlace) -> None:
        """Neither chunks that the newer one has, nor chunks that it no longer has."""
        if not place.keeps_versions:
            pytest.skip("not for this store: it keeps no versions")
        bench = Bench(place, "keep")
        bench.write(bench.rows([page("a", 2, 7)]))
        before = held(bench.target)
        _, rejects, counts = bench.write(bench.rows([page("a", 5, 3)]))
        assert (held(bench.target), rejects, counts["rows-stale"]) == (before, [], 5)
        bench.write(bench.rows([gone("a", 5)]))
        assert held(bench.target) == before
        bench.write(bench.rows([gone("a", 9)]))
        bench.write(bench.rows([page("a", 3, 8)]))
        assert held(bench.target) == {}

    def test_a_document_larger_than_a_request_is_written_whole(self, place: ParentPlace) -> None:
        """In several requests, and is trimmed once."""
        bench = Bench(place, "keep", batchSize=4)
        bench.write(bench.rows([page("a", 11)]))
        assert (len(held(bench.target)), bench.calls.sends, bench.calls.trims) == (11, 3, 1)
        bench.write(bench.rows([page("a", 9)]))
        assert len(held(bench.target)) == 9

    def test_a_replay_of_all_chunks_writes_the_document(self, place: ParentPlace) -> None:
        """What was rejected with a chunk at fault comes again with it."""
        bench = Bench(place, "keep")
        rows = bench.rows([page("a", 3)])
        _, rejects, _ = bench.write(rows[:2])
        again = [r.row for r in rejects if r.row is not None]
        assert len(again) == 2
        assert bench.write([*again, rows[2]])[1] == []
        assert len(held(bench.target)) == 3

    @pytest.mark.parametrize("lacking", ["path", "chunk_index"])
    def test_a_target_that_can_not_find_chunks_is_refused(
        self, lacking: str, place: ParentPlace
    ) -> None:
        """Before anything runs, with what to do."""
        mapping = [m for m in MAPPING if m["sourceColName"] != lacking]
        with pytest.raises((JobError, ValueError)) as caught:
            place.target("a", columnMapping=mapping)
        assert lacking in str(caught.value)
        assert "list it in column" in str(caught.value)

    def test_a_row_that_is_not_a_chunk_is_rejected(self, place: ParentPlace) -> None:
        """Alone, and with what it lacks."""
        bench = Bench(place, "keep")
        rows = bench.rows([page("a", 1)])
        lame = [
            rows[0].without_columns(["chunk_count"]),
            rows[0].with_columns({"chunk_index": 1}),
            rows[0].with_columns({"path": None}),
            rows[0].without_columns(["path"]),
        ]
        written, rejects, _ = bench.write([*lame, *rows])
        assert [r.reason for r in rejects] == [
            "no-chunk", "no-chunk", "null-value", "missing-column",
        ]  # fmt: skip
        assert len(written) == 1
        assert not any(isinstance(row, Substitute) for row in written)
