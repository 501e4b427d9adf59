"""Stores on real servers: what is found, what is read, and what is asked for."""

from __future__ import annotations

import pickle
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.files import Place, items_of
from tests.io.files.stores.support import (
    FOLDER,
    STORES,
    gcs_place,
    hdfs_place,
    hdfs_source,
    place_in,
    s3_place,
)
from tests.services.hdfs import Hdfs
from tests.services.server import running
from tests.services.versitygw import Versitygw
from vecferry.errors import FatalError, JobError
from vecferry.io.files import HdfsConnection
from vecferry.io.files.stores import gcs as files_store_gcs
from vecferry.io.files.stores import s3 as files_store_s3
from vecferry.io.files.stores.base import FileStore, NoFile
from vecferry.io.files.stores.remote import LEAST_AHEAD, MOST_AHEAD, ResumingFile

STRANGE = ["a b.jsonl", "ü%20+#&;=中文.jsonl", "a[1].jsonl", "q'\"$@!~.jsonl"]


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each store."""
    with place_in(request.param, tmp_path) as found:
        yield found


def store_of(place: Place) -> FileStore:
    """Its store."""
    return place.connection.open_files()


def found(place: Place, pattern: str) -> list[str]:
    """The paths that a pattern finds."""
    store = store_of(place)
    return [f.path for f in store.find(store.relative(pattern))]


def test_patterns_find_the_same_in_each_store(place: Place) -> None:
    """Hidden names only where they are spelt, folders by their name, neighbours never."""
    at = place.folder()
    for name in (
        "b.jsonl", "a.jsonl", "in/c.jsonl", "in/deep/d.jsonl", "in/deep/notes.txt", "in2/e.jsonl",
        "inn.jsonl", "_SUCCESS", ".hidden.jsonl", "_tmp/f.jsonl", "in/_tmp/g.jsonl",
    ):  # fmt: skip
        place.put(f"{at}/{name}", b"{}\n")
    for pattern, names in {
        "a.jsonl": ["a.jsonl"],
        "./in/../a.jsonl": ["a.jsonl"],
        "?.jsonl": ["a.jsonl", "b.jsonl"],
        "in": ["in/c.jsonl"],
        "in/": ["in/c.jsonl"],
        "in*": ["inn.jsonl"],
        "in*/*": ["in/c.jsonl", "in2/e.jsonl"],
        "in?/*.jsonl": ["in2/e.jsonl"],
        "i*/*/?.jsonl": ["in/deep/d.jsonl"],
        "*/c.jsonl": ["in/c.jsonl"],
        "in/**": ["in/c.jsonl", "in/deep/d.jsonl", "in/deep/notes.txt"],
        "**/d*.jsonl": ["in/deep/d.jsonl"],
        "in/**/deep/*": ["in/deep/d.jsonl", "in/deep/notes.txt"],
        "_SUCC*": ["_SUCCESS"],
        ".*.jsonl": [".hidden.jsonl"],
        "_tmp/*": ["_tmp/f.jsonl"],
        "*/_tmp/*": ["in/_tmp/g.jsonl"],
    }.items():
        assert found(place, f"{at}/{pattern}") == [f"{at}/{name}" for name in names], pattern
    # What lies in the folder that was named comes before all that lies elsewhere.
    place.put(f"{at}aa.jsonl", b"{}\n")
    with pytest.raises(JobError, match=rf"no file matches '{at}/aa\.jsonl' in .*'{at}/a\.jsonl'"):
        found(place, f"{at}/aa.jsonl")


def test_names_of_any_characters_are_found_and_read(place: Place) -> None:
    """Blanks, quotes, percent and plus signs, hashes, brackets, other scripts."""
    at = place.folder()
    for name in STRANGE:
        place.put(f"{at}/{name}", name.encode())
    assert found(place, f"{at}/*") == sorted(f"{at}/{name}" for name in STRANGE)
    for name in STRANGE:
        assert found(place, f"{at}/{name}") == [f"{at}/{name}"]
        with store_of(place).open(f"{at}/{name}") as file:
            assert file.read() == name.encode()


def test_a_file_is_read_in_any_order(place: Place) -> None:
    """Reads and seeks give the bytes that are there, also at the ends of the file."""
    path, draw = f"{place.folder()}/big", random.Random(7)
    data = draw.randbytes(3 << 20)
    place.put(path, data)
    with store_of(place).open(path) as file:
        assert file.read() == data
        assert file.read(1) == b""
        for _ in range(60):
            at, size = draw.randrange(len(data)), draw.choice([1, 1000, 300_000, 2 << 20])
            assert file.seek(at) == at
            assert file.read(size) == data[at : at + size]
            assert file.tell() == min(at + size, len(data))
        file.seek(-10, 2)
        assert file.read(100) == data[-10:]


def test_what_is_not_there_is_no_file(place: Place) -> None:
    """Nor is a folder."""
    at, store = place.folder(), store_of(place)
    place.put(f"{at}/in/a", b"x")
    assert store.info(f"{at}/in/a").size == 1
    with pytest.raises(FileNotFoundError):
        store.info(f"{at}/in/b")
    with pytest.raises(FileNotFoundError):
        store.info(f"{at}/other/b")


@pytest.mark.service
def test_a_folder_beside_the_job_s_may_be_closed_to_its_user(
    request: pytest.FixtureRequest,
) -> None:
    """What is looked for to help with a name does not stand for what is wrong with it."""
    place = hdfs_place()
    at = place.folder()
    place.put(f"{at}/closed/a.jsonl", b"{}")
    server = running(Hdfs)
    server.call("PUT", f"{FOLDER}/{at}/closed", op="SETPERMISSION", permission="700")
    request.addfinalizer(  # else no later test could list what lies beside its own files
        lambda: server.call("PUT", f"{FOLDER}/{at}/closed", op="SETPERMISSION", permission="755")
    )
    own = HdfsConnection.model_validate(hdfs_source(path=f"{FOLDER}/{at}"))
    store = own.open_files()
    with pytest.raises(
        NoFile, match=r"no file matches 'in/\*' .*; what there is may not be listed"
    ):
        store.find("in/*")
    with pytest.raises(FatalError, match="user 'alice' may not read it"):
        store.find("*/a.jsonl")


@pytest.mark.parametrize("pattern", ["../secret", "a/../../secret", "..", "../../*"])
def test_nothing_outside_the_folder_is_reached(place: Place, pattern: str) -> None:
    """However it is written."""
    with pytest.raises(JobError, match="leads out of the data source's folder"):
        found(place, pattern)


@pytest.mark.parametrize("same_size", [True, False], ids=["same size", "longer"])
def test_a_file_that_is_written_anew_while_it_is_read_fails_the_job(
    place: Place, same_size: bool
) -> None:
    """Rows of two versions are never taken for one file without a word."""
    path = f"{place.folder()}/a.jsonl"
    lines = [b'{"n":"%d","t":"%s"}\n' % (i, b"x" * 1000) for i in range(3000)]
    place.put(path, b"".join(lines))
    source = place.reader(path, fileFormat="jsonl")
    rows = source.read(source.plan().splits[0])
    assert next(rows)["n"] == "0"
    place.put(path, b"".join(lines).replace(b"x", b"y") + (b"" if same_size else b"{}\n"))
    with pytest.raises(FatalError, match=r"a\.jsonl changed since it was listed"):
        list(rows)


def test_a_connection_can_be_pickled(place: Place) -> None:
    """Its secrets go with it, as a worker needs them, and show in no text."""
    path = f"{place.folder()}/a"
    place.put(path, b"x")
    copy = pickle.loads(pickle.dumps(place.connection))
    assert copy.open_files().open(path).read() == b"x"
    assert "secret" not in repr(copy).replace("access_key_secret", "")


def test_threads_share_one_client(place: Place) -> None:
    """Eight of them read, each from a store of its own, and get what is there."""
    path, data, got = f"{place.folder()}/a", random.Random(1).randbytes(700_000), list[bytes]()
    place.put(path, data)

    def read() -> None:
        got.append(store_of(place).open(path).read())

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [data] * 8
    clients = {id(getattr(store_of(place), "_client", None)) for _ in range(3)}
    assert len(clients) == 1


def test_urls_and_slashes_name_what_is_inside(place: Place) -> None:
    """A job's full address is taken where it is the data source's own."""
    if place.step_type == "file":
        return_to = store_of(place).relative("oss://any/a.jsonl")
        assert return_to == "a.jsonl"
        return
    store = store_of(place)
    top = store.name.removesuffix(f"/{FOLDER}")
    assert store.relative(f"{top}/{FOLDER}/a/b.jsonl") == "a/b.jsonl"
    assert store.relative(f"/{FOLDER}/a.jsonl", rooted=True) == "a.jsonl"
    scheme = top.partition("://")[0]
    with pytest.raises(JobError, match="names another place than the data source"):
        store.relative(f"{scheme}://other-place/{FOLDER}/a")
    with pytest.raises(JobError, match="names another place than the data source"):
        store.relative(f"ftp://{top.partition('://')[2]}/a")
    with pytest.raises(JobError, match="leads out"):
        store.relative(f"{top}/other/a")


@pytest.mark.service
@pytest.mark.parametrize("make", [s3_place, gcs_place], ids=["s3", "gcs"])
def test_long_listings_come_in_pages(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of seven give the same as one."""
    place = make()
    at = place.folder()
    names = [f"{at}/{i:02}/{j}.jsonl" for i in range(15) for j in range(2)]
    for name in names:
        place.put(name, b"{}\n")
    monkeypatch.setattr(files_store_s3, "PAGE_SIZE", 7)
    monkeypatch.setattr(files_store_gcs, "PAGE_SIZE", 7)
    assert found(place, f"{at}/**") == names
    assert found(place, f"{at}/*/1.jsonl") == names[1::2]


@pytest.mark.service
def test_more_files_than_a_page_holds_are_found() -> None:
    """2,300 of them, and only those that a pattern begins with are listed."""
    place, server = s3_place(), running(Versitygw)
    at = place.folder()
    folder = server.data / Versitygw.bucket / FOLDER / at
    folder.mkdir(parents=True)
    for i in range(2300):
        (folder / f"{i:04}.jsonl").write_bytes(b"{}\n")
    assert len(found(place, f"{at}/*.jsonl")) == 2300
    assert len(items_of(place.reader(f"{at}/22*.jsonl", fileFormat="jsonl"))) == 100
    source = place.reader(f"{at}/*", fileFormat="jsonl")
    assert source.plan().size.bytes == 6900


@pytest.mark.service
@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_a_key_that_marks_a_folder_is_no_file(kind: str) -> None:
    """Consoles make such keys, which end in a slash; the folder is there, and may be empty."""
    place = s3_place() if kind == "s3" else gcs_place()
    at = place.folder()
    place.put(f"{at}/", b"")
    with pytest.raises(JobError, match="no file matches"):
        found(place, at)
    place.put(f"{at}/sub/", b"")
    place.put(f"{at}/a", b"x")
    assert found(place, f"{at}/**") == found(place, at) == [f"{at}/a"]


class TestRanges:
    """`ResumingFile`: what it asks for."""

    @staticmethod
    def asked(size: int) -> tuple[ResumingFile, list[tuple[int, int]]]:
        """A file of zeros, and the list of ranges that will have been asked for."""
        ranges: list[tuple[int, int]] = []

        def fetch(start: int, end: int) -> bytes:
            ranges.append((start, end))
            return bytes(end - start)

        return ResumingFile(fetch, size), ranges

    def test_reading_on_asks_for_more_each_time_and_never_twice(self) -> None:
        """A request for 100 MB brings 8 MiB at most, so that memory is bounded."""
        file, ranges = self.asked(100 << 20)
        while file.read(128 << 10):
            pass
        assert [end for _, end in ranges[:-1]] == [start for start, _ in ranges[1:]]
        sizes = [end - start for start, end in ranges]
        assert sizes[0] == LEAST_AHEAD
        assert sizes[:6] == [LEAST_AHEAD << i for i in range(6)] == [*sizes[:5], MOST_AHEAD]
        assert max(sizes) == MOST_AHEAD
        assert len(ranges) < 20

    def test_a_jump_asks_for_little(self) -> None:
        """Footers and headers don't bring the file."""
        file, ranges = self.asked(100 << 20)
        for at in (90 << 20, 10, 50 << 20):
            file.seek(at)
            file.read(8)
        assert [end - start for start, end in ranges] == [LEAST_AHEAD] * 3

    def test_a_large_read_is_cut_into_requests(self) -> None:
        """Each can be repeated alone."""
        file, ranges = self.asked(40 << 20)
        assert len(file.read()) == 40 << 20
        assert max(end - start for start, end in ranges) == MOST_AHEAD

    def test_what_it_holds_is_not_asked_for_again(self) -> None:
        """Small steps back and forth cost nothing."""
        file, ranges = self.asked(1 << 20)
        for at in (0, 100_000, 5, 200_000):
            file.seek(at)
            file.read(1000)
        assert len(ranges) == 1

    def test_a_closed_file_gives_nothing(self) -> None:
        """It says so."""
        file, _ = self.asked(10)
        file.close()
        with pytest.raises(ValueError, match="closed"):
            file.read()


@pytest.mark.service
def test_a_bucket_is_listed_once_for_check_plan_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page of a listing is asked for once, however many come."""
    monkeypatch.setattr(files_store_s3, "PAGE_SIZE", 2)
    place = s3_place("s3")
    at = place.folder()
    for i in range(5):
        place.put(f"{at}/{i}.jsonl", b"{}\n")
    source = place.reader(f"{at}/*", fileFormat="jsonl")
    asked: list[str] = []
    events = source._store._client.meta.events
    events.register("before-send.s3.ListObjectsV2", lambda request, **_: asked.append(request.url))
    source.check()
    plan = source.plan()
    assert (len(plan.splits), plan.size.bytes) == (5, 15)
    assert source.plan() == plan
    assert len([url for url in asked if "delimiter" in url]) == 3
