"""Finding files: patterns, and a data source's folder that nothing leaves."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from vecferry.errors import JobError
from vecferry.io.files.settings import FilesSettings, LocalConnection
from vecferry.io.files.source import FileSource
from vecferry.io.files.stores.base import FileInfo, FileStore, Listed
from vecferry.io.files.stores.local import LocalStore
from vecferry.settings import Settings
from vecferry.steps import StepContext


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data source's folder with files, and a secret beside it."""
    base = tmp_path / "data[1]*"
    for name in (
        "b.jsonl",
        "a.jsonl",
        "a[0].jsonl",
        "in/c.jsonl",
        "in/deep/d.jsonl",
        "in/deep/notes.txt",
        "_SUCCESS",
        ".hidden.jsonl",
        "_tmp/e.jsonl",
    ):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text("{}\n")
    (tmp_path / "secret.jsonl").write_text("{}\n")
    return base


def store(folder: Path) -> FileStore:
    """The store of a folder."""
    return LocalConnection(path=str(folder)).open_files()


def found(folder: Path, pattern: str) -> list[str]:
    """The paths that a pattern finds."""
    files = store(folder)
    return [f.path for f in files.find(files.relative(pattern))]


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("a.jsonl", ["a.jsonl"]),
        ("a[0].jsonl", ["a[0].jsonl"]),
        ("./in/../a.jsonl", ["a.jsonl"]),
        ("*.jsonl", ["a.jsonl", "a[0].jsonl", "b.jsonl"]),
        ("?.jsonl", ["a.jsonl", "b.jsonl"]),
        ("in/*", ["in/c.jsonl"]),
        ("in", ["in/c.jsonl"]),
        ("i*/*/?.jsonl", ["in/deep/d.jsonl"]),
        ("**/*.txt", ["in/deep/notes.txt"]),
        ("in/**", ["in/c.jsonl", "in/deep/d.jsonl", "in/deep/notes.txt"]),
        ("in/**/d.jsonl", ["in/deep/d.jsonl"]),
        ("**/?.jsonl", ["a.jsonl", "b.jsonl", "in/c.jsonl", "in/deep/d.jsonl"]),
        ("_SUCC*", ["_SUCCESS"]),
        (".*.jsonl", [".hidden.jsonl"]),
        ("_tmp/*", ["_tmp/e.jsonl"]),
    ],
)
def test_patterns(folder: Path, pattern: str, paths: list[str]) -> None:
    """`*` and `?` within a name, `**` over folders; hidden names only where they are spelt."""
    assert found(folder, pattern) == paths


def test_an_absolute_path_may_name_what_is_inside(folder: Path) -> None:
    """It comes as the relative one."""
    assert found(folder, str(folder / "in" / "c.jsonl")) == ["in/c.jsonl"]


def test_a_slash_is_the_folder_itself_for_hdfs_only(folder: Path) -> None:
    """HDFS paths are all absolute; a local folder stands in for the file system."""
    files = store(folder)
    assert files.relative("/in/c.jsonl", rooted=True) == "in/c.jsonl"
    assert files.relative("/../../x", rooted=True) == "x"
    with pytest.raises(JobError, match="leads out of the data source's folder"):
        files.relative("/in/c.jsonl")


@pytest.mark.parametrize("pattern", ["../secret.jsonl", "in/../../*.jsonl", "/etc/passwd", ".."])
def test_a_path_that_leads_out_is_refused(folder: Path, pattern: str) -> None:
    """Whether it is written with dots or in full."""
    with pytest.raises(JobError, match="leads out of the data source's folder"):
        found(folder, pattern)


@pytest.mark.parametrize("pattern", ["link.jsonl", "li*.jsonl", "up/secret.jsonl", "up/*"])
def test_a_link_that_leads_out_is_refused(folder: Path, pattern: str) -> None:
    """Named or matched, a file or a folder."""
    (folder / "link.jsonl").symlink_to(folder.parent / "secret.jsonl")
    (folder / "up").symlink_to(folder.parent)
    with pytest.raises(JobError, match="leads out of the data source's folder"):
        found(folder, pattern)


def test_a_link_that_is_turned_outwards_later_is_not_opened(folder: Path) -> None:
    """The place is looked at again when the file is opened."""
    link = folder / "link.jsonl"
    link.symlink_to(folder / "a.jsonl")
    assert found(folder, "link.jsonl") == ["link.jsonl"]
    link.unlink()
    link.symlink_to(folder.parent / "secret.jsonl")
    with pytest.raises(JobError, match="leads out"):
        store(folder).open("link.jsonl")


def test_links_inside_are_followed(folder: Path) -> None:
    """Size and version are those of the file, not of the link."""
    (folder / "link.jsonl").symlink_to("in/c.jsonl")
    (folder / "sub").symlink_to("in")
    (file,) = store(folder).find("link.jsonl")
    assert (file.size, file.version) == (3, store(folder).info("in/c.jsonl").version)
    assert found(folder, "l*.jsonl") == ["link.jsonl"]
    assert found(folder, "sub/*.jsonl") == ["sub/c.jsonl"]


@contextmanager
def nobody() -> Iterator[None]:
    """As a user whom permissions bind, where the tests run as root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("pattern", ["in/**", "in/*/*.jsonl", "in/locked", "in/locked/x.jsonl"])
def test_a_folder_that_may_not_be_read_fails_the_job(pattern: str) -> None:
    """Its files would otherwise be missing without a word; patterns that pass it by are read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "in" / "locked").mkdir(parents=True)
        for path in ("a.jsonl", "locked/x.jsonl"):
            (folder / "in" / path).write_text("{}\n")
        (folder / "in" / "locked").chmod(0)
        try:
            files, source = store(folder), reader(folder, pattern)
            with nobody():
                assert [f.path for f in files.find("in/*.jsonl")] == ["in/a.jsonl"]
                with pytest.raises(JobError, match="no file matches"):
                    files.find("in/x*/*")
                with pytest.raises(JobError, match=r"in/locked.* may not be read by this user"):
                    source.check()
        finally:
            (folder / "in" / "locked").chmod(0o755)


def test_a_pipe_that_is_named_is_refused(folder: Path) -> None:
    """Opening it would wait for ever; a pattern passes it over."""
    os.mkfifo(folder / "pipe.jsonl")
    with pytest.raises(JobError, match=r"'pipe\.jsonl' .* is a pipe or a device: name a file"):
        found(folder, "pipe.jsonl")
    with pytest.raises(JobError, match="no file matches"):
        found(folder, "p*")


def test_a_name_that_is_no_text_is_refused_where_it_is_meant(folder: Path) -> None:
    """No origin and no reject can be written of it."""
    (folder / os.fsdecode(b"bad\xff.txt")).write_text("x")
    assert found(folder, "*.jsonl") == ["a.jsonl", "a[0].jsonl", "b.jsonl"]
    with pytest.raises(JobError, match="has a name that is not UTF-8: rename the file"):
        found(folder, "*.txt")


@pytest.mark.parametrize("pattern", ["a.jsonl/x", "a.jsonl/*"])
def test_a_file_is_no_folder(folder: Path, pattern: str) -> None:
    """What would lie in it is not there."""
    with pytest.raises(JobError, match="no file matches"):
        found(folder, pattern)
    with pytest.raises(JobError, match="holds a zero byte"):
        found(folder, f"{pattern}\0")


def test_a_broken_link_is_named(folder: Path) -> None:
    """A match that is not a file is not passed over."""
    (folder / "x.jsonl").symlink_to("gone")
    with pytest.raises(JobError, match=r"'x\.jsonl' .* is a link to a file that is gone"):
        found(folder, "x*")


def test_no_match_names_pattern_folder_and_a_near_file(folder: Path) -> None:
    """A typo is easily mended."""
    with pytest.raises(JobError, match=r"no file matches 'in/cc\.jsonl' in .*'in/c\.jsonl'\?"):
        found(folder, "in/cc.jsonl")
    with pytest.raises(JobError, match=r"no file matches 'zzz\*' .*; there are "):
        found(folder, "zzz*")


def test_an_empty_or_absent_folder_says_so(tmp_path: Path) -> None:
    """Both are faults of the data source or of what fills it."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(JobError, match="the folder is empty"):
        found(tmp_path / "empty", "*")
    with pytest.raises(JobError, match="does not exist or is not a folder"):
        found(tmp_path / "absent", "*")


def test_an_empty_name_in_a_key_matches_no_pattern() -> None:
    """A bucket may hold /b.jsonl and in//b.jsonl beside in/b.jsonl."""

    class Bucket(FileStore):
        def _require_root(self) -> None:
            pass

        def _list(self, folder: str, head: str, deep: bool) -> Iterator[Listed]:
            if folder in ("", "in"):
                yield "", None
            if folder == "":
                yield "in", None
            yield "b.jsonl", FileInfo(f"{folder}/b.jsonl".lstrip("/"), 1, "1")

        def _some_paths(self) -> list[str]:
            return []

    found = Bucket("bucket", "/").find
    assert [f.path for f in found("*/*.jsonl")] == ["in/b.jsonl"]
    with pytest.raises(JobError, match="no file matches"):
        found("in/*/*.jsonl")


class _Counted(LocalConnection):
    """A folder that counts how often it is listed."""

    def open_files(self, retry_seconds: float | None = None) -> FileStore:
        """The folder's own store."""
        return _CountedStore(self.path)


class _CountedStore(LocalStore):
    listed: ClassVar[list[str]] = []

    def _list(self, folder: str, head: str, deep: bool) -> Iterator[Listed]:
        self.listed.append(folder)
        return super()._list(folder, head, deep)


def test_a_source_lists_once_for_its_check_its_size_and_its_splits(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing of a million objects takes a thousand calls, and files may come between two."""
    monkeypatch.setattr(_CountedStore, "listed", [])
    settings = FilesSettings.model_validate({"object": "in/*.jsonl", "fileFormat": "jsonl"})
    source = FileSource(
        settings, _Counted(path=str(folder)), StepContext(step="Reader", step_type="file")
    )
    source.check()
    (folder / "in/later.jsonl").write_text("{}\n")
    plan = source.plan()
    assert [s.path for s in plan.splits] == ["in/c.jsonl"]
    assert plan.size.bytes == 3
    assert source.plan() == plan
    assert _CountedStore.listed == ["in"]


def test_another_kind_of_data_source_is_refused() -> None:
    """A vector store holds no files."""
    with pytest.raises(JobError, match="'Settings' holds no files"):
        FileSource(
            FilesSettings.model_validate({"path": "a", "fileFormat": "jsonl"}),
            Settings(),
            StepContext(step="Reader", step_type="file"),
        )


def reader(folder: Path, *patterns: str) -> FileSource:
    """A reader of these patterns."""
    settings = FilesSettings.model_validate({"object": list(patterns), "fileFormat": "jsonl"})
    context = StepContext(step="Reader", step_type="file")
    return FileSource(settings, LocalConnection(path=str(folder)), context)


def test_all_patterns_without_a_match_are_reported_at_once(folder: Path) -> None:
    """And a file that two patterns match is read once."""

    with pytest.raises(JobError) as raised:
        reader(folder, "x1", "a.jsonl", "x2").check()
    assert len(raised.value.problems) == 2
    assert all(p.startswith("step 'Reader': ") for p in raised.value.problems)
    assert [s.path for s in reader(folder, "a.*", "*.jsonl").plan().splits] == [
        "a.jsonl",
        "a[0].jsonl",
        "b.jsonl",
    ]
    assert reader(folder, "a.jsonl").check() is None  # type: ignore[func-returns-value]
