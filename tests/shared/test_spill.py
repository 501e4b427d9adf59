"""Rows on disk that meet by their keys."""

from __future__ import annotations

import random
import tempfile
import tracemalloc
from pathlib import Path

import pytest

from vecferry.errors import JobError
from vecferry.spill import Findings, Spill, digest_of

KEYS = ["a", 1, "1", None, ("a", None), ("a", "s"), ("a,s", None), "", "\ud83d", -(2**63), "漢"]


def test_keys_of_every_kind_are_told_from_each_other():
    """A number is not its text, and a part of a key is not the whole."""
    assert len({digest_of(key) for key in KEYS}) == len(KEYS)


def test_both_sides_of_a_key_meet_whatever_the_order_in_which_they_come():
    """What a side says twice stays in its order."""
    chance = random.Random(3)
    said = [(key, side, n) for n, key in enumerate(KEYS) for side in "lr" if (n + ord(side)) % 3]
    said += [("a", "l", 90), ("a", "l", 91)]
    expected = {}
    chance.shuffle(said)
    with Spill() as spill:
        for key, side, n in said:
            (spill.left if side == "l" else spill.right)(key, b"%d" % n)
            expected.setdefault(digest_of(key), ([], []))[side == "r"].append(b"%d" % n)
        met = {m.digest: (m.left, m.right) for m in spill.meet()}
    assert met == expected


def test_what_was_found_of_a_key_is_asked_for_by_the_key():
    """And by what was found."""
    findings = Findings()
    for n, key in enumerate(KEYS):
        findings.add(digest_of(key), "even" if n % 2 == 0 else "odd", repr(key))
    assert findings.kind_of(digest_of("1")) == "even"
    assert findings.kind_of(digest_of("nobody")) is None
    assert set(findings.keys("odd")) == {repr(key) for key in KEYS[1::2]}
    findings.close()


def test_nothing_is_left_on_disk(tmp_path, monkeypatch):
    """Neither where the work is done, nor where it breaks."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spill = Spill()
    spill.left("a")
    assert list(tmp_path.iterdir())
    with pytest.raises(ZeroDivisionError), spill:
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_can_not_be_written_is_told(tmp_path, monkeypatch):
    """With the folder, and how to name another."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Spill() as spill:
        spill.left("a")
        spill._db.close()
        with pytest.raises(JobError, match="TMPDIR"):
            list(spill.meet())
    monkeypatch.setattr(tempfile, "tempdir", str(Path(tmp_path) / "nowhere"))
    with pytest.raises(JobError, match="TMPDIR"):
        Spill()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows():
    """Of Python, for 13 MB of rows; SQLite has its own bound."""
    n = 60_000
    tracemalloc.start()
    with Spill() as spill:
        for i in range(n):
            spill.left(i, b"x" * 100)
            spill.right(n - i, b"y" * 100)
        assert sum(bool(m.left and m.right) for m in spill.meet()) == n - 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
