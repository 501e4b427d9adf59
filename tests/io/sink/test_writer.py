"""The write loop: nothing is lost, nothing overtakes, and a bad row never takes its batch along."""

from __future__ import annotations

import functools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.effort import tries
from tests.io.sink.failing import MemoryStore
from vecferry.errors import FatalError, TerminalError, TransientError
from vecferry.instead import KEEP, OnReject
from vecferry.io.sink import BlockWriter, SinkWriter
from vecferry.io.sink import delivery as sink_delivery
from vecferry.io.sink import writer as sink_writer
from vecferry.io.sink.store import STALE, WRITTEN, TooLargeError, WriteLimits, rejected, retry
from vecferry.retry import Backoff
from vecferry.rows import DELETE, Change, Reject, substitute
from vecferry.steps import StepContext, WriteOptions


@pytest.fixture(scope="module", autouse=True)
def short_waits():
    """Waits a hundredth of what it would, so that retries cost a test nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sink_delivery, "Backoff", functools.partial(Backoff, base=0.002))
        yield


WRITERS = {"row by row": SinkWriter, "in blocks": BlockWriter}


@pytest.fixture(scope="module", params=list(WRITERS))
def kind_of_writer(request):
    """Each test of a writer is run with both."""
    return request.param


@pytest.fixture(scope="module")
def writer(kind_of_writer):
    """Makes a writer for a store."""

    def make(store, *, deadline=5.0, rows=10, size=1 << 20, in_flight=2, on_reject=KEEP):
        context = StepContext(
            step="Writer",
            step_type="memory",
            retry_deadline=deadline,
            write=WriteOptions(on_reject=on_reject, vectors=("vector", "other")),
        )
        limits = WriteLimits(rows=rows, bytes=size, in_flight=in_flight)
        return WRITERS[kind_of_writer](store, limits, context)

    return make


def run(operator, changes):
    out = []
    for i, change in enumerate(changes):
        out += operator.process(change if isinstance(change, Change) else Change(change), i)
    return out + operator.finish()


def numbers(n, **more):
    return [{"k": i, "v": i, **more} for i in range(n)]


def test_each_row_comes_out_once_with_its_own_stamp(writer):
    """All rows are written, and each leaves as it came in, with the stamp it brought."""
    store = MemoryStore()
    changes = [Change(row) for row in numbers(37)]
    out = run(writer(store), changes)
    assert sorted((stamp, row["k"]) for row, stamp in out) == [(i, i) for i in range(37)]
    assert all(row is changes[stamp] for row, stamp in out)
    assert sorted(store.requests) == [7, 10, 10, 10]


def test_no_row_comes_out_before_it_is_acknowledged(writer):
    """While the store has not answered, nothing is emitted; afterwards everything is."""
    gate = threading.Event()
    operator = writer(MemoryStore(gate=gate), rows=5, in_flight=2)
    early = [e for row in numbers(9) for e in operator.process(Change(row))]
    assert early == []
    gate.set()
    assert len(operator.finish()) == 9


def test_requests_in_flight_are_bounded(writer):
    """Never more requests at once than allowed; the bundle's thread waits instead."""
    store = MemoryStore()
    assert len(run(writer(store, rows=1, in_flight=3), numbers(200))) == 200
    assert store.most_flying <= 3


def test_a_batch_is_cut_by_bytes(writer):
    """A request holds no more than the limit of bytes, unless one row alone is greater."""
    store = MemoryStore()
    run(writer(store, size=100), [*numbers(7, size=30), {"k": "big", "v": 0, "size": 500}])
    assert sorted(store.requests) == [1, 1, 3, 3]


def test_blocks_shrink_as_rows_grow(writer, kind_of_writer):
    """From the rows seen so far follows how many are gathered; no request exceeds the limit."""
    store = MemoryStore()
    small, large = numbers(200, size=1), [{"k": -1 - i, "v": 0, "size": 50} for i in range(300)]
    run(writer(store, rows=100, size=1000, in_flight=1), [*small, *large])
    in_blocks = kind_of_writer == "in blocks"
    assert store.requests[:2] == ([64, 100] if in_blocks else [100, 100])
    assert sum(store.requests) == 500
    assert set(store.requests[-10:-1]) == {20}
    assert set(store.blocks[-10:-1]) == ({20} if in_blocks else set())


def test_rows_without_a_key_are_all_written(writer):
    """Without a key nothing is superseded, however equal rows are."""
    store = MemoryStore()
    out = run(writer(store), [{"v": 1}] * 25)
    assert len(out) == 25
    assert len(store.rows) == 25


def test_the_last_change_of_a_key_in_a_batch_wins_and_all_count_as_written(writer):
    """Superseded rows are not sent, come out with their successor and are counted."""
    store = MemoryStore()
    operator = writer(store)
    out = run(operator, [{"k": 1, "v": "a"}, {"k": 2, "v": "x"}, {"k": 1, "v": "b"}])
    assert store.log == [(1, "b"), (2, "x")]
    assert [row["v"] for row, _ in out] == ["a", "b", "x"]
    assert operator.counts.values["rows-written"] == 3


def test_an_older_version_that_comes_later_is_superseded(writer):
    """Where both have versions, the greater one is sent, whatever the order."""
    store = MemoryStore()
    versions = [(5, "new"), (3, "old"), (4, "older than new")]
    out = run(writer(store), [Change({"k": 1, "v": v}, version=n) for n, v in versions])
    assert store.log == [(1, "new")]
    assert [row["v"] for row, _ in out] == ["old", "older than new", "new"]


def test_when_the_last_change_is_refused_the_one_before_it_is_written(writer):
    """As if they had been sent one after the other."""
    store = MemoryStore(bad=["bad"])
    out = run(writer(store), [{"k": 1, "v": "good"}, {"k": 1, "v": "bad"}, {"k": 2, "v": "x"}])
    assert store.rows == {1: {"k": 1, "v": "good"}, 2: {"k": 2, "v": "x"}}
    assert sorted(type(item).__name__ for item, _ in out) == ["Change", "Change", "Reject"]


def test_deletes_are_written_and_counted_apart(writer):
    """A delete removes the row of its key and counts as deleted."""
    store = MemoryStore()
    operator = writer(store, rows=2)
    changes = [*numbers(4), Change({"k": 2}, kind=DELETE)]
    assert len(run(operator, changes)) == 5
    assert sorted(store.rows) == [0, 1, 3]
    counts = operator.counts.values
    assert (counts["rows-written"], counts["rows-deleted"]) == (4, 1)


def test_a_row_that_does_not_fit_is_rejected_at_once(writer):
    """What can't be encoded never reaches the store; the others are written."""
    store = MemoryStore()
    out = run(writer(store), [{"k": 1, "v": 1}, {"k": 2, "v": "unfit"}])
    (reject,) = [item for item, _ in out if isinstance(item, Reject)]
    assert (reject.reason, reject.step, reject.row) == ("unfit", "Writer", {"k": 2, "v": "unfit"})
    assert list(store.rows) == [1]


def test_seven_bad_rows_of_a_thousand_are_found_in_batches_refused_as_a_whole(writer):
    """A store that only says that a batch is bad costs the bad rows and no other."""
    bad = [0, 1, 500, 511, 512, 900, 999]
    store = MemoryStore(bad=bad)
    operator = writer(store, rows=256)
    out = run(operator, numbers(1000))
    rejects = [item for item, _ in out if isinstance(item, Reject)]
    assert sorted(r.row["k"] for r in rejects) == bad
    assert {r.message for r in rejects} == {"a row is bad, I won't say which"}
    assert len(store.rows) == 993
    assert operator.counts.values["rows-written"] == 993


def test_a_server_that_comes_back_costs_no_row(writer):
    """Failures that pass are retried, and counted."""
    store = MemoryStore(fail_first=3)
    operator = writer(store, in_flight=1)
    out = run(operator, numbers(20))
    assert len(out) == 20
    assert not any(isinstance(item, Reject) for item, _ in out)
    assert operator.counts.values["write-retries"] == 3
    assert operator.counts.values["write-requests"] == 5


def test_a_server_that_stays_away_fails_the_bundle_and_rejects_nothing(writer):
    """Past the deadline the error is raised, and says what was tried."""
    operator = writer(MemoryStore(fail_first=10**9), deadline=0.2)
    with pytest.raises(TransientError, match=r"step 'Writer': gave up writing .* server is away"):
        run(operator, numbers(20))


def test_a_fatal_error_fails_the_bundle_without_another_try(writer):
    """What every row would fail with is not bisected."""
    store = MemoryStore(fail_first=10**9, error=FatalError("wrong password"))
    with pytest.raises(FatalError, match="wrong password"):
        run(writer(store, rows=20, in_flight=1), numbers(20))
    assert store.requests == [20]


def test_an_unknown_error_is_raised_as_it_is(writer):
    """A fault of ours is not taken for a bad row."""
    with pytest.raises(ZeroDivisionError):
        run(writer(MemoryStore(fail_first=1, error=ZeroDivisionError())), numbers(3))


def test_single_rows_are_retried_rejected_or_stale_by_the_server(writer):
    """Per-row outcomes: only the rows that ask for it are sent again."""
    items = {
        1: [retry("busy"), retry("busy", 0.01), WRITTEN],
        2: [rejected("too-old", "no")],
        3: [STALE],
    }
    store = MemoryStore(items=items)
    operator = writer(store)
    out = run(operator, numbers(6))
    assert store.requests == [6, 1, 1]
    assert sorted(row["k"] for row, _ in out if isinstance(row, Change)) == [0, 1, 4, 5]
    assert [r.reason for r, _ in out if isinstance(r, Reject)] == ["too-old"]
    assert operator.counts.values["rows-stale"] == 1


def test_too_large_a_request_is_halved_and_later_ones_stay_small(writer):
    """After the first refusal requests are at most half as large as of what was refused."""
    store = MemoryStore(too_many=30)
    operator = writer(store, rows=100, in_flight=1)
    assert len(run(operator, numbers(500))) == 500
    assert len(store.rows) == 500
    assert max(store.requests[len(store.requests) // 2 :]) <= 30


def test_a_single_row_that_is_too_large_is_rejected(writer):
    """It can't be halved any more."""
    out = run(writer(MemoryStore(too_many=0)), numbers(1))
    assert [r.reason for r, _ in out] == ["too-large"]


def test_a_single_row_refused_for_lack_of_memory_is_sent_again(writer):
    """The row is not at fault where the server is short of memory."""
    store = MemoryStore(fail_first=4, error=TooLargeError("memory", passing=True))
    out = run(writer(store), numbers(2))
    assert sorted(row["k"] for row, _ in out) == [0, 1]


def test_an_operator_can_be_used_for_another_bundle(writer):
    """After `finish` nothing is inside, and work goes on."""
    store = MemoryStore()
    operator = writer(store)
    assert len(run(operator, numbers(3))) == 3
    assert operator.finish() == []
    assert len(run(operator, numbers(5))) == 5


def test_a_closed_writer_gives_up_its_retries(writer):
    """A thread that waits for a server ends with the bundle that it worked for."""
    store = MemoryStore(fail_first=10**9)
    operator = writer(store, rows=1, deadline=None)
    operator.process(Change({"k": 1, "v": 1}))
    operator.close()
    with pytest.raises(RuntimeError, match="closed while it wrote"):
        operator.finish()


CHANGES = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["+I", "+U", "-D"])), min_size=1, max_size=80
)


@pytest.mark.slow
@tries(60, 1000)
@given(CHANGES, st.integers(1, 7), st.integers(1, 4), st.integers(0, 3))
def test_changes_of_a_key_are_applied_in_order(writer, changes, rows, in_flight, failures):
    """However batches are cut and retried, the store ends as if written one by one."""
    expected = {}
    stream = []
    for n, (key, kind) in enumerate(changes):
        row = {"k": key, "v": n}
        stream.append(Change(row, kind=kind))
        if kind == DELETE:
            expected.pop(key, None)
        else:
            expected[key] = row
    store = MemoryStore(fail_first=failures, error=TransientError("away", retry_after=0.0))
    out = run(writer(store, rows=rows, in_flight=in_flight), stream)
    assert store.rows == expected
    assert store.clashes == []
    assert sorted(stamp for _, stamp in out) == list(range(len(changes)))


@pytest.mark.slow
def test_ten_thousand_changes_of_a_hundred_keys_end_right(writer):
    """The last change of each key is what the store holds."""
    store = MemoryStore()
    stream = [{"k": i * 7919 % 100, "v": i} for i in range(10_000)]
    assert len(run(writer(store, rows=64, in_flight=4), stream)) == 10_000
    assert store.rows == {row["k"]: row for row in stream}
    assert store.clashes == []


WITHOUT, GONE = OnReject(mode="withoutVector"), OnReject(mode="delete")


class PickyStore(MemoryStore):
    """Refuses words of columns: at once (``wrong``), or when they are sent (``refused``)."""

    def __init__(self, *, holds_null=True, deletes=True):
        super().__init__()
        self.holds_null, self.deletes = holds_null, deletes

    def encode(self, change):
        if change.kind != DELETE:
            if "wrong" in change.values():
                raise TerminalError("a value is unfit", "unfit")
            if not self.holds_null and None in change.values():
                raise TerminalError("a value is null", "null-value")
        return super().encode(change)

    def encode_block(self, changes):
        wrong = any({"wrong", None} & set(c.values()) for c in changes)
        return None if wrong else super().encode_block(changes)

    def _take(self, records):
        bad = [
            not self.deletes if r.op == "delete" else "refused" in r.body.values() for r in records
        ]
        if any(bad) and len(records) > 1:
            raise TerminalError("a row is bad, I won't say which", "refused")
        if any(bad):
            raise TerminalError("this row is bad", "refused")
        for record in records:
            self._put(record)


def updated(**columns):
    """A row that was good, and its update, in one batch."""
    row = {"k": 1, "v": "old", "vector": "v1", "other": "o1"}
    return [Change(row, version=1), Change({**row, "v": "new", **columns}, version=2)]


REFUSED = {
    # the update, the store, what the job says -> the vectors that are there without their value
    "a vector, at once": ({"vector": "wrong"}, {}, WITHOUT, {"vector": None}),
    "a vector, when sent": ({"vector": "refused"}, {}, WITHOUT, {"vector": None}),
    "two vectors": (
        {"vector": "wrong", "other": "refused"},
        {},
        WITHOUT,
        {"vector": None, "other": None},
    ),
    "a vector, and the store holds no null": (
        {"vector": "refused"},
        {"holds_null": False},
        WITHOUT,
        None,
    ),
    "a value, at once": ({"v": "wrong"}, {}, WITHOUT, None),
    "a value, when sent": ({"v": "refused"}, {}, WITHOUT, None),
    "a vector, to be deleted": ({"vector": "refused"}, {}, GONE, None),
}


@pytest.mark.parametrize(("columns", "kind", "says", "there"), REFUSED.values(), ids=REFUSED)
def test_what_the_job_says_is_sent_in_place_of_a_refused_change(writer, columns, kind, says, there):
    """Never the change before it, which counts as written; and the reject is told once."""
    store = PickyStore(**kind)
    operator = writer(store, on_reject=says)
    out = run(operator, updated(**columns))
    expected = there and {"k": 1, "v": "new", "vector": "v1", "other": "o1", **columns, **there}
    assert store.rows == ({} if there is None else {1: expected})
    assert ("old" in [v for _, v in store.log]) is False
    rejects = [item for item, _ in out if isinstance(item, Reject)]
    assert [(r.row["v"], r.instead) for r in rejects] == [(columns.get("v", "new"), None)]
    counts = operator.counts.values
    done = (counts["rows-written"], counts.get("rows-deleted", 0))
    assert done == ((2, 0) if there else (1, 1))
    assert (counts["rows-added"], counts["rows-replaced"]) == (1, 1)
    assert len(out) == 3  # the old row, the reject, and what stands in place of the new one


@pytest.mark.parametrize("says", [KEEP, WITHOUT], ids=["a change to keep", "a plain row"])
def test_the_row_before_stays_where_nothing_is_sent_in_its_place(writer, says):
    """As if each row had been sent alone."""
    store = PickyStore()
    changes = updated(v="refused")
    if says is WITHOUT:
        changes = [Change(c) for c in changes]
    operator = writer(store, on_reject=says)
    out = run(operator, changes)
    assert store.rows[1]["v"] == "old"
    assert [isinstance(item, Reject) for item, _ in out].count(True) == 1
    assert operator.counts.values["rows-written"] == 1
    assert "rows-added" not in operator.counts.values


def test_a_substitute_that_the_store_refuses_is_replaced_without_a_word(writer):
    """An embedding step has rejected the row already."""
    store = PickyStore(holds_null=False)
    operator = writer(store, on_reject=WITHOUT)
    _, new = updated(vector=None)
    ((item, _),) = run(operator, [substitute(new, new, "+U")])
    assert (item.kind, store.rows) == (DELETE, {})
    counts = operator.counts.values
    assert counts["rows-deleted"] == 1
    assert "rows-added" not in counts


def test_a_row_of_which_not_even_the_key_can_be_deleted_is_rejected_once(writer):
    """Then nothing counts as added."""
    store = PickyStore(deletes=False)
    operator = writer(store, on_reject=GONE)
    ((item, _),) = run(operator, updated(v="refused")[1:])
    assert isinstance(item, Reject)
    assert (item.key, item.row["v"]) == (1, "refused")
    assert not operator.counts.values.keys() & {"rows-added", "rows-deleted", "rows-written"}


@pytest.mark.slow
@given(
    words=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["good", "wrong", "refused", "gone", "null"])),
        max_size=40,
    ),
    rows=st.integers(1, 6),
    says=st.sampled_from([WITHOUT, GONE, KEEP]),
    holds_null=st.booleans(),
)
@tries(few=60, many=2000)
def test_the_books_add_up_and_the_store_ends_as_if_each_change_had_come_alone(
    writer, words, rows, says, holds_null
):
    """Whatever is rejected, wherever the borders of batches lie."""
    changes = [
        Change(
            {"k": key, "v": n, "vector": None if word == "null" else word},
            kind=DELETE if word == "gone" else "+U",
            version=n,
        )
        for n, (key, word) in enumerate(words)
    ]
    alone, together = PickyStore(holds_null=holds_null), PickyStore(holds_null=holds_null)
    run(writer(alone, rows=1, on_reject=says), changes)
    operator = writer(together, rows=rows, on_reject=says)
    out = run(operator, changes)
    assert together.rows == alone.rows
    counts = operator.counts.values
    rejects = sum(isinstance(item, Reject) for item, _ in out)
    done = counts.get("rows-written", 0) + counts.get("rows-deleted", 0)
    assert len(changes) + counts.get("rows-added", 0) == done + rejects
    assert len(out) == done + rejects


def test_the_keys_of_plain_rows_are_counted_where_asked_for(writer):
    """Not of deletes, nor of rows with a version: these replace others as they should."""
    make = writer(MemoryStore())
    plain = [Change({"k": f"k{i % 4}", "v": i}) for i in range(25)]
    run(make, plain)
    assert "rows-keyed" not in make.counts.values
    make._count_keys = True
    versioned = [Change({"k": "v"}, version=1), Change({"k": "k0"}, kind=DELETE)]
    run(make, [*plain, *versioned])
    assert (make.counts.values["rows-keyed"], set(make.counts.take_keys())) == (
        25, {f"k{i}" for i in range(4)}
    )  # fmt: skip


# --- an interrupted run whose store is away ------------------------------------------------------


def give_up(operator):
    """What happens in a run that was interrupted a moment ago."""
    operator._context.state.giving_up.set()


def accounted(operator, out):
    """How many rows are written, rejected and unfinished."""
    rejects = sum(isinstance(item, Reject) for item, _ in out)
    values = operator.counts.values
    return values.get("rows-written", 0), rejects, values.get("rows-unfinished", 0)


@pytest.mark.parametrize("before", [0, 1, 3])
def test_rows_that_a_store_does_not_take_are_unfinished(writer, before):
    """Those that it took before are written; each row is counted once."""
    store = MemoryStore()
    operator = writer(store, deadline=600.0)
    out = []
    for i, row in enumerate(numbers(37)):
        if i == 10 * before + 9:
            store.fail_first = 1 << 30
            give_up(operator)
        out += operator.process(Change(row), i)
    out += operator.finish()
    written, rejects, unfinished = accounted(operator, out)
    assert (written, rejects) == (len(store.rows), 0)
    assert written + unfinished == 37
    assert unfinished >= 37 - 10 * (before + 1)


def test_rows_without_an_answer_are_unfinished(writer, monkeypatch):
    """The bundle ends though the store never answers; later rows are unfinished as well."""
    monkeypatch.setattr(sink_writer, "STILL_SECONDS", 0.05)
    gate = threading.Event()
    operator = writer(MemoryStore(gate=gate), in_flight=1)
    give_up(operator)
    out = run(operator, numbers(37))
    operator.close()
    assert accounted(operator, out) == (0, 0, 37)
    gate.set()


def test_changes_that_one_change_supersedes_are_unfinished_with_it(writer):
    """Each of them was read."""
    operator = writer(MemoryStore(fail_first=1 << 30), deadline=600.0)
    give_up(operator)
    out = run(operator, [{"k": 1, "v": i} for i in range(7)])
    assert accounted(operator, out) == (0, 0, 7)


def test_a_store_that_is_there_takes_all_rows_of_an_interrupted_run(writer):
    """Nothing is given up that can be finished."""
    operator = writer(MemoryStore())
    give_up(operator)
    out = run(operator, numbers(37))
    assert accounted(operator, out) == (37, 0, 0)
