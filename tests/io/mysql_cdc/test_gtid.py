"""Sets of transactions and places: what they hold, how they are written, how they are ordered."""

from __future__ import annotations

import random

import pytest

from vecferry.errors import JobError
from vecferry.io.mysql_cdc.gtid import GtidSet, MariaGtids, MysqlGtids
from vecferry.io.mysql_cdc.place import Place
from vecferry.io.mysql_cdc.server import gtids_of

A, B = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("", ""),
        (f"{A}:1", f"{A}:1"),
        (f"{A}:1-5:7", f"{A}:1-5:7"),
        (f"{A}:7:1-5:6", f"{A}:1-7"),
        (f"{A.upper()}:1-3,\n {B}:2", f"{A}:1-3,{B}:2"),
        (f"{B}:2,{A}:1", f"{A}:1,{B}:2"),
        (f"{A}:1-5:tag:1-3:9,{A}:8", f"{A}:1-5:8:tag:1-3:9"),
        (f"{A}:b:2:a:1", f"{A}:a:1:b:2"),
    ],
)
def test_a_set_of_mysql_is_written_as_the_server_writes_it(given: str, shown: str) -> None:
    """Ranges that touch are joined, sources and tags are in order."""
    found = GtidSet.parse(given, maria=False)
    assert str(found) == shown
    assert GtidSet.parse(shown, maria=False) == found
    assert bool(found) == bool(shown)


@pytest.mark.parametrize(
    ("owned", "found"),
    [
        ("", ""),
        (f"{A}:12#8", f"{A}:12"),
        (f"{A}:12#8:13#21", f"{A}:12:13"),
        (f"{A}:7#9{B}:5#8", f"{A}:7,{B}:5"),  # as a server writes it: nothing stands between
        (f"{A}:7#1234{B.upper()}:5#8:6#12", f"{A}:7,{B.upper()}:5:6"),
        (f"{A}:tag:7#9{A}:5#8", f"{A}:tag:7,{A}:5"),
        (f"{A}:u_1:7#9:8#4{B}:b:5#8", f"{A}:u_1:7:8,{B}:b:5"),
    ],
)
def test_transactions_that_threads_own_are_read_as_a_set(owned: str, found: str) -> None:
    """With those of several sources, which stand there at once on a replica, and with tags."""
    assert gtids_of(owned) == found


@pytest.mark.parametrize("text", ["x", f"{A}", f"{A}:0", f"{A}:5-3", f"{A}:1-", f"{A}:-1", "0-1-2"])
def test_what_is_no_set_of_mysql_is_told(text: str) -> None:
    """The message says how a set is written."""
    with pytest.raises(JobError, match="is not a GTID set: write uuid:1-5:7"):
        GtidSet.parse(text, maria=False)


def test_the_encoded_form_is_the_documented_one() -> None:
    """A number of sources; for each its 16 bytes, and ranges that end one behind the last."""
    raw = MysqlGtids.parsed(f"{A}:1-5:7").encode()
    numbers = [int.from_bytes(raw[i : i + 8], "little") for i in (0, 24, 32, 40, 48, 56)]
    assert numbers == [1, 2, 1, 6, 7, 8]
    assert raw[8:24].hex() == A.replace("-", "")


@pytest.mark.parametrize("text", ["", f"{A}:1-5:7,{B}:9", f"{A}:1-5:tag:1-3,{B}:u_1:4"])
def test_what_is_encoded_is_read_again(text: str) -> None:
    """With tags as well, which have a form of their own."""
    found = MysqlGtids.parsed(text)
    assert MysqlGtids.decoded(found.encode()) == found
    assert found.tagged == ("tag" in text)
    if found.tagged:
        assert found.encode()[:8] == bytes([1, 3, 0, 0, 0, 0, 0, 1])


@pytest.mark.parametrize("cut", [1, 8, 20])
def test_a_set_that_ends_early_is_no_set(cut: int) -> None:
    """Nothing is made of half a set."""
    raw = MysqlGtids.parsed(f"{A}:1-5").encode()
    with pytest.raises(ValueError, match="GTID"):
        MysqlGtids.decoded(raw[:-cut])


def test_a_set_holds_what_was_added() -> None:
    """In any order, compared with a plain set of numbers."""
    chance = random.Random(3)
    numbers = [chance.randrange(1, 200) for _ in range(150)]
    found, plain = MysqlGtids(), set()
    for number in numbers:
        found.add(f"{A}:{number}")
        plain.add(number)
        assert found == MysqlGtids.parsed(f"{A}:" + ":".join(map(str, plain)))
    assert all(found.contains(f"{A}:{n}") == (n in plain) for n in range(1, 210))
    assert not found.contains(f"{B}:{numbers[0]}")
    assert not found.contains(f"{A}:tag:{numbers[0]}")


def test_sets_are_compared_and_joined() -> None:
    """A part, a whole, and both together; a copy goes its own way."""
    small, large = MysqlGtids.parsed(f"{A}:2-3"), MysqlGtids.parsed(f"{A}:1-5,{B}:1")
    assert small.issubset(large)
    assert not large.issubset(small)
    assert not MysqlGtids.parsed(f"{A}:5-6").issubset(large)
    assert not small.issubset(MariaGtids.parsed("0-1-5"))
    assert str(small.union(MysqlGtids.parsed(f"{A}:4,{B}:1"))) == f"{A}:2-4,{B}:1"
    other = small.copy()
    other.add(f"{A}:9")
    assert str(small) == f"{A}:2-3"


def test_a_set_of_mariadb_holds_all_up_to_its_last() -> None:
    """For each domain; another server may have written the earlier ones."""
    found = GtidSet.parse("0-1-5,2-1-7", maria=True)
    assert isinstance(found, MariaGtids)
    assert found.contains("0-9-5")
    assert not found.contains("0-1-6")
    assert not found.contains("1-1-1")
    found.add("0-2-6")
    found.add("0-1-3")
    assert str(found) == "0-2-6,2-1-7"
    assert MariaGtids.parsed("0-1-6").issubset(found)
    assert not found.issubset(MariaGtids.parsed("0-2-6"))
    assert str(found.union(MariaGtids.parsed("5-1-1,0-3-9"))) == "0-3-9,2-1-7,5-1-1"
    with pytest.raises(JobError, match="domain-server-number"):
        found.add(f"{A}:1")


def test_places_are_in_the_order_of_the_log() -> None:
    """By the file's number, also where it gets another digit, then by the offset."""
    places = [
        Place("log.000009", 5),
        Place("log.000010", 4),
        Place("log.999999", 1 << 40),
        Place("log.1000000", 4),
    ]
    assert sorted([places[2], places[0], places[3], places[1]]) == places
    assert places[0] < places[1] <= places[1] < Place("log.000010", 5)
    assert str(places[0]) == "log.000009:5"
    with pytest.raises(TypeError, match="places only"):
        _ = places[0] < ("log.000009", 6)
