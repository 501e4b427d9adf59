"""``vecferry cache``: what it shows, what it removes, and how it refuses."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.support import Bench, rows
from tests.services.redis_server import RedisServer
from tests.services.server import running
from tests.transforms.embed.cache.support import (
    MIB,
    Place,
    RedisPlace,
    SqlitePlace,
    key_of,
    pairs,
    store_at,
)


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A folder with a job."""
    return Bench(tmp_path, capsys)


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.service)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A cache of 2,000 vectors, a hundred of them last used 40 days ago."""
    redis_place = RedisPlace(running(RedisServer)) if request.param == "redis" else None
    place: Place = redis_place or SqlitePlace(tmp_path)
    store = store_at(place.uri)
    for at in range(0, 2000, 200):
        store.put_many(pairs(at, at + 200))
    store.close()
    place.backdate([key_of(i) for i in range(100)], days=40)
    yield place
    if redis_place is not None:
        redis_place.client.close()


@pytest.mark.slow
def test_stats_tell_entries_bytes_and_the_oldest_use(bench: Bench, place: Place) -> None:
    """In words and as JSON; asking does not count as a use."""
    day = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=40)
    for _ in range(2):
        found = bench.line("cache", "stats", place.uri, "--json").json
        assert found == {
            "uri": place.uri,
            "entries": 2000,
            "bytes": pytest.approx(2000 * 1024, rel=0.7),
            "oldest": f"{day}",
            "errors": [],
            "warnings": [],
        }
    shown = bench.line("cache", "stats", place.uri)
    assert shown.status == 0
    size = f"{found['bytes']:,}"
    assert shown.out == (
        f"{place.uri}: 2,000 vectors in {size} bytes, the oldest last used on {day}\n"
    )


@pytest.mark.slow
def test_prune_keeps_to_a_number_of_bytes_and_tells_how_many_went(
    bench: Bench, place: Place
) -> None:
    """What was used least lately goes first; where all fits nothing does."""
    today = str(datetime.datetime.now(datetime.UTC).date())
    nothing = bench.line("cache", "prune", place.uri, "--json").json
    assert (nothing["removed"], nothing["entries"]) == (0, 2000)
    some = bench.line("cache", "prune", place.uri, f"--max-bytes={nothing['bytes'] - 1}", "--json")
    assert 100 < some.json["removed"] < 800
    assert some.json["entries"] == 2000 - some.json["removed"]
    assert some.json["bytes"] < nothing["bytes"]
    assert some.json["oldest"] == today
    everything = bench.line("cache", "prune", place.uri, "--max-bytes", "0")
    assert f"{some.json['entries']:,} removed; 0 vectors in " in everything.out
    assert bench.line("cache", "stats", place.uri, "--json").json["oldest"] is None


@pytest.mark.slow
def test_a_job_names_its_cache_and_its_size(bench: Bench, place: Place) -> None:
    """Placeholders and --set work as in other commands; no data source is needed."""
    bench.job["setting"]["vectorCache"] = {"uri": "${where}", "maxBytes": 1 << 30}
    path = bench.save()
    (bench.folder / "sources.json").unlink()
    given = (path, "-p", f"where={place.uri}", "--json")
    assert bench.line("cache", "stats", *given).json["entries"] == 2000
    assert bench.line("cache", "prune", *given).json["removed"] == 0
    small = ("--set", f"setting.vectorCache.maxBytes={MIB}")
    assert bench.line("cache", "prune", *given, *small).json["bytes"] <= MIB


def test_asking_for_a_file_that_is_not_there_makes_none(bench: Bench) -> None:
    """Neither the file nor its folder; exit status 2."""
    for command in ("stats", "prune"):
        outcome = bench.line("cache", command, f"sqlite:///{bench.folder}/new/cache.db")
        assert outcome.status == 2
        assert "this file does not exist" in outcome.err
    assert not (bench.folder / "new").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "the file is empty"), (b"no database" * 99, "is damaged: file is not a database")],
)
def test_a_file_that_is_no_cache_is_left_as_it_is(bench: Bench, content: bytes, says: str) -> None:
    """Only a run sets damaged files aside."""
    path = bench.folder / "cache.db"
    path.write_bytes(content)
    outcome = bench.line("cache", "stats", f"sqlite:///{path}")
    assert outcome.status == 2
    assert says in outcome.err
    assert path.read_bytes() == content
    assert not list(bench.folder.glob("cache.db?*"))


def test_what_names_no_cache_is_an_error_with_the_way_out(bench: Bench) -> None:
    """A job without one, no job, no URI of a cache, nobody at home, a wrong number."""
    path = bench.save()
    for arguments, says in (
        (["stats", path], "has no setting.vectorCache"),
        (["stats", str(bench.folder / "none.json")], "this job file does not exist"),
        (["stats", "http://127.0.0.1/cache"], "write sqlite:///"),
        (["prune", "redis://:hunter22@127.0.0.1:1/0"], "refused"),
        (["prune", path, "--max-bytes", "4GiB"], "'4GiB' is not a valid integer"),
        (["prune", path, "--max-bytes", "-1"], "not in the range"),
        (["prune"], "Missing argument"),
    ):
        outcome = bench.line("cache", *arguments)
        assert outcome.status == 2
        assert says in outcome.err
        assert "hunter" not in outcome.err


@pytest.mark.slow
def test_check_tells_which_cache_a_job_uses_and_makes_none(bench: Bench) -> None:
    """Also with --connect, and in JSON."""
    bench.write_lines(rows(2))
    uri = f"sqlite:///{bench.folder}/cache.db"
    bench.job["setting"]["vectorCache"] = {"uri": uri}
    assert f"vector cache: {uri}" in bench.call("check").out
    assert bench.call("check", "--json").json["vectorCache"] == uri
    connected = bench.call("check", "--connect")
    assert connected.status == 0, connected.err
    assert not (bench.folder / "cache.db").exists()


def test_a_wrong_cache_in_a_job_is_told_with_all_else_and_without_its_password(
    bench: Bench,
) -> None:
    """The path into the job, the rule, the way out; exit status 2."""
    bench.job["setting"]["vectorCache"] = {"uri": "reddis://:hunter22@h/0"}
    outcome = bench.call("check")
    assert outcome.status == 2
    assert "job.setting.vectorCache: vectorCache uri 'reddis://***@h/0'" in outcome.err
    assert "hunter" not in outcome.err
    bench.job["setting"]["vectorCache"] = {"uri": "sqlite:///x.db", "maxByte": 5}
    warned = bench.call("check").err
    assert warned.count("maxByte is not known") == 1
