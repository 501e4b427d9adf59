"""A vector cache in a SQLite file that is damaged, foreign, locked or barred; and URIs."""

from __future__ import annotations

import logging
import pickle
import sqlite3
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.effort import LONG
from tests.transforms.embed.cache.support import (
    MIB,
    SqlitePlace,
    flipped,
    key_of,
    pairs,
    store_at,
)
from tests.transforms.embed.endpoints.server import EndpointServer
from tests.transforms.embed.support import context, good, rows_of, run, settings_for
from vecferry.errors import JobError, redact
from vecferry.transforms.embed.cache import sqlite as embed_store_sqlite
from vecferry.transforms.embed.cache.settings import (
    VectorCacheSettings,
    cache_settings,
    shown_uri,
    sqlite_path,
)
from vecferry.transforms.embed.cache.store import open_backend
from vecferry.transforms.embed.engine import Embedder


@pytest.fixture
def place(tmp_path: Path) -> SqlitePlace:
    """A file that isn't there yet."""
    return SqlitePlace(tmp_path)


def _aside(place: SqlitePlace) -> list[Path]:
    return sorted(place.path.parent.glob("*.damaged-*"))


@pytest.mark.parametrize(
    "content", [b"this is no database" * 100, b"SQLite format 3\0" + b"x" * 5000]
)
def test_a_damaged_file_is_set_aside_with_a_warning(
    place: SqlitePlace, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    """The run goes on with a new file; the old one stays for whoever wants to look."""
    place.path.write_bytes(content)
    store = store_at(place.uri)
    store.check()  # no reason not to run
    assert place.path.read_bytes() == content
    store.put_many(pairs(0, 1))
    assert (store.get_many([key_of(0)], 256)[key_of(0)] == 0).all()
    store.close()
    assert "is damaged" in caplog.text
    assert [p.read_bytes() for p in _aside(place)] == [content]


def test_a_file_that_is_no_cache_by_content_nor_by_name_is_left_alone(tmp_path: Path) -> None:
    """It may be the source of the very job whose uri names it."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"id": 1}')
    store = store_at(f"sqlite:///{path}")
    with pytest.raises(JobError, match="is not a SQLite file, so it is left alone"):
        store.check()
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]
    assert path.read_bytes() == b'{"id": 1}'


@pytest.mark.slow
def test_a_file_damaged_while_it_is_in_use_costs_requests_not_rows(
    place: SqlitePlace, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on without it, and the next one with a new file."""
    with EndpointServer() as server:
        one_run = context()
        settings = settings_for(server, vectorCache={"uri": place.uri}, cacheBytes=0)
        engine = Embedder(settings, None, one_run)
        run(engine, rows_of(3000))
        writer = engine._shared.store._writer  # type: ignore[union-attr]
        with writer._changed:
            assert writer._changed.wait_for(lambda: not writer._bytes, 60)
        with sqlite3.connect(place.path) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
        with place.path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (place.path.stat().st_size - 8192))
        out = run(Embedder(settings, None, one_run), rows_of(3000))
        assert len(good(out)) == 3000
        engine._shared.close()
        assert len(_aside(place)) == 1
        warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert ["set aside" in r.getMessage() for r in warnings] == [True, False]
        assert "goes on without it" in warnings[1].getMessage()
        server.forget()
        for _ in range(2):
            last = Embedder(settings, None, context())
            assert len(good(run(last, rows_of(30)))) == 30
            last._shared.close()
        assert server.number == 3


def test_a_file_that_another_process_made_anew_is_not_set_aside(place: SqlitePlace) -> None:
    """Whoever finds the damage second leaves the new file where it is."""
    one = store_at(place.uri)
    one.put_many(pairs(0, 2000))
    with sqlite3.connect(place.path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    with place.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (place.path.stat().st_size - 8192))
    place.path.rename(place.path.with_name("set-aside-by-another"))
    for suffix in ("-wal", "-shm"):
        Path(f"{place.path}{suffix}").unlink(missing_ok=True)
    other = store_at(place.uri)
    other.put_many(pairs(0, 10))
    one.get_many([key_of(i) for i in range(2000)], 256)
    assert _aside(place) == []
    assert len(other.get_many([key_of(i) for i in range(10)], 256)) == 10
    one.close()
    other.close()


def test_somebody_elses_database_is_refused_and_left_alone(
    place: SqlitePlace, caplog: pytest.LogCaptureFixture
) -> None:
    """No table is added to it; a run that isn't checked before goes on without a cache."""
    with sqlite3.connect(place.path) as db:
        db.execute("CREATE TABLE customers (id INTEGER)")
    db.close()
    before = place.path.read_bytes()
    store = store_at(place.uri)
    with pytest.raises(JobError, match="database of something else"):
        store.check()
    store.put_many(pairs(0, 1))
    assert store.get_many([key_of(0)], 256) == {}
    store.close()
    assert place.path.read_bytes() == before
    assert len(caplog.records) == 1


def test_what_cannot_be_a_file_is_told_before_the_run(tmp_path: Path) -> None:
    """A folder, and a place under a file."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(JobError, match="not a file that can be read and written"):
        store_at(f"sqlite:///{tmp_path}").check()
    with pytest.raises(JobError, match="not a folder that can be written to"):
        store_at(f"sqlite:///{tmp_path}/file/cache.db").check()


def test_checking_makes_nothing_and_using_makes_the_folder(tmp_path: Path) -> None:
    """A check changes nothing; names with special characters are names."""
    path = tmp_path / "new folder" / "50%?#@.db"
    store = store_at(f"sqlite:///{path}")
    store.check()
    store.close()
    assert list(tmp_path.iterdir()) == []
    store = store_at(f"sqlite:///{path}")
    store.put_many(pairs(0, 1))
    assert path.exists()
    store.check()
    store.close()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_file_that_somebody_locks_is_left_out_with_a_warning(
    place: SqlitePlace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run doesn't wait for ever."""
    monkeypatch.setattr(embed_store_sqlite, "BUSY_SECONDS", 0.1)
    store = store_at(place.uri)
    store.put_many(pairs(0, 1))
    holder = sqlite3.connect(place.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    store.put_many(pairs(1, 2))
    assert store.get_many([key_of(0)], 256) == {}
    holder.execute("ROLLBACK")
    holder.close()
    store.close()
    assert "database is locked" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.slow
def test_a_pruned_file_gives_its_room_back(place: SqlitePlace) -> None:
    """The file itself becomes smaller, also where all of it goes."""
    store = store_at(place.uri)
    for at in range(0, 3000, 100):
        store.put_many(pairs(at, at + 100))
    store.close()
    backend = open_backend(place.uri, create=False)
    assert backend.prune(MIB) > 1500
    backend.close()
    assert place.path.stat().st_size <= MIB
    backend = open_backend(place.uri, create=False)
    backend.prune(0)
    assert (backend.stats().entries, backend.stats().oldest) == (0, None)
    backend.close()


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("cache.db", "is not one that can be used"),
        ("sqlite://h/x", "names no file"),
        ("sqlite:///", "names no file"),
        ("redis://", "names no host"),
        ("redis://h/x", "not the number of a database"),
        ("redis://h:port/0", "not a number from 1 to 65535"),
        ("redis://h:99999/0", "not a number from 1 to 65535"),
        ("redis://h/0?decode_responses=true", "option that is not known"),
        ("rediss://h/0?ssl_cert_reqs=none", "option that is not known"),
        ("reddis://:hunter22@h/0", "is not one that can be used"),
        ("redis://:hunter/22@h/0", "has one of / ? # in its password"),
        ("redis://:hunter?22@h/0", "has one of / ? # in its password"),
        ("redis://:hunter#22@h/0", "has one of / ? # in its password"),
        ("redis://:hunter22@h@i/x", "not the number of a database"),
        ("redis://h/0?password=hunter22", "option that is not known"),
    ],
)
def test_a_uri_that_is_none_says_how_to_write_one_and_shows_no_password(
    uri: str, says: str
) -> None:
    """In a job and on the command line alike."""
    for attempt in (cache_settings, lambda uri: VectorCacheSettings(uri=uri)):
        with pytest.raises((JobError, ValidationError), match="write sqlite:///") as caught:
            attempt(uri)
        assert says in str(caught.value)
        assert "hunter" not in str(caught.value)


def test_a_file_that_cannot_be_written_to_is_read_all_the_same(
    place: SqlitePlace, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the day of use should be noted: what an older run left is found."""
    store = store_at(place.uri)
    store.put_many(pairs(0, 10))
    store.close()
    with sqlite3.connect(place.path) as db:
        db.execute("UPDATE vectors SET used = 1")
    db.close()
    store = store_at(place.uri)
    store.get_many([], 256)
    store._open._db.execute("PRAGMA query_only = ON")  # type: ignore[union-attr]
    assert len(store.get_many([key_of(i) for i in range(10)], 256)) == 10
    store.put_many(pairs(10, 11))
    assert "only reads" in caplog.text
    assert len(store.get_many([key_of(i) for i in range(11)], 256)) == 10


def test_a_uri_with_a_password_hides_it_wherever_it_is_shown() -> None:
    """Printed, as JSON, in a log line of somebody else; and is whole where it is needed."""
    settings = cache_settings("redis://me:s3cr%40t@h:6379/1?x".removesuffix("?x"))
    assert shown_uri(settings.uri) == "redis://***@h:6379/1"
    texts = (repr(settings), str(settings), settings.model_dump_json(), f"{settings.uri}")
    assert not [t for t in texts if "s3cr" in t]
    assert redact("auth s3cr@t or s3cr%40t") == "auth *** or ***"
    for again in (pickle.loads(pickle.dumps(settings)), VectorCacheSettings(uri=settings.uri)):
        assert again == settings
        assert again.uri.reveal() == "redis://me:s3cr%40t@h:6379/1"


def test_paths_are_relative_or_absolute() -> None:
    """Three slashes and four."""
    assert str(sqlite_path("sqlite:///a/b.db")) == "a/b.db"
    assert str(sqlite_path("sqlite:////a/b.db")) == "/a/b.db"


def test_a_size_is_a_number_of_bytes_of_one_mib_at_least() -> None:
    """As a number or a text, 4 GiB where nothing is said."""
    assert cache_settings("sqlite:///x").max_bytes == 4 << 30
    assert VectorCacheSettings(uri="sqlite:///x", maxBytes="2000000").max_bytes == 2_000_000
    with pytest.raises(ValidationError, match="greater than or equal to 1048576"):
        VectorCacheSettings(uri="sqlite:///x", maxBytes=1000)


@pytest.mark.slow
def test_one_flipped_bit_in_the_file_is_never_a_wrong_vector(tmp_path: Path) -> None:
    """Wherever it is, be it in a key, a page's head or a vector: right, a miss, or set aside."""
    path = tmp_path / "cache.db"
    kept = store_at(f"sqlite:///{path}")
    kept.put_many(pairs(0, 6, dimension=16))
    kept.close()
    whole = path.read_bytes()
    filled = [at for at, byte in enumerate(whole) if byte]
    keys = [key_of(i) for i in range(6)]
    for n, at in enumerate(filled[:: 3 if LONG else 12]):
        spoilt = tmp_path / f"{n}.db"
        spoilt.write_bytes(flipped(whole, at, n % 8))
        store = store_at(f"sqlite:///{spoilt}")
        for key, found in store.get_many(keys, 16).items():
            assert (found == keys.index(key)).all(), at
        store.close()
