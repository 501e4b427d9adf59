"""Lists of files: sorted in little memory, kept in blocks, compared by what differs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from vecferry.io.files import manifest
from vecferry.io.files.listing import SortedLines, file_of, key_of, line_of, path_of
from vecferry.io.files.manifest import BLOCK, NEXT, ROOT, Lost, Manifests
from vecferry.io.files.stores.base import FileInfo
from vecferry.positions.folder import FolderPlace


def files(chance: random.Random, count: int) -> dict[str, FileInfo]:
    """Files whose paths have characters that sort before and behind a slash."""
    paths = {
        "/".join(chance.choice("ab") + chance.choice(["", "-", "\n", "é", " "]) for _ in range(n))
        + str(chance.randrange(10**6))
        for n in [chance.randrange(1, 4) for _ in range(count)]
    }
    return {path: one(path, chance.randrange(1000)) for path in paths}


def one(path: str, version: int) -> FileInfo:
    """A file in some state."""
    return FileInfo(path, version % 7, f'"{version}"', mark="" if version % 3 else f"{version}.1")


def lines(found: dict[str, FileInfo]) -> SortedLines:
    """Their lines."""
    listing = SortedLines(run_lines=100)
    for file in found.values():
        listing.add(line_of(file))
    return listing


@pytest.fixture
def place(tmp_path: Path) -> FolderPlace:
    """A place of positions."""
    return FolderPlace(tmp_path / "positions")


def test_lines_are_files_again_and_come_in_the_order_of_paths() -> None:
    """However many runs they were sorted in; of two lines of one path one is left."""
    chance = random.Random(1)
    found = files(chance, 1000)
    listing = lines(found)
    for path in list(found)[:50]:
        listing.add(line_of(found[path]))
        listing.add(line_of(one(path, 5000)))
    given = [file_of(line) for line in listing]
    assert {file.path for file in given} == set(found)
    assert len(given) == len(found)
    assert all(file.state == found[file.path].state for file in given if file.version != '"5000"')
    keys = [key_of(line) for line in listing]
    assert keys == sorted(keys)
    assert [path_of(key.decode()) for key in keys] == [file.path for file in given]


@pytest.mark.parametrize("seed", range(8))
def test_two_lists_differ_in_what_was_changed(
    seed: int, place: FolderPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order, with the newer line of a file that is there; also across blocks."""
    monkeypatch.setattr(manifest, "BLOCK_LINES", 20)
    monkeypatch.setattr(manifest, "MOST_BLOCK_LINES", 50)
    chance = random.Random(seed)
    old = files(chance, 600)
    new = {path: file for path, file in old.items() if chance.random() > 0.05}
    new |= files(chance, chance.choice([0, 5, 100]))
    for path in list(new):
        if chance.random() < 0.05:
            new[path] = one(path, 2000 + chance.randrange(100))
    lists = Manifests(place)
    before, after = lists.write(lines(old)), lists.write(lines(new))
    other = Manifests(place)
    found = list(other.differences(before, after))
    assert [key for key, _ in found] == sorted(key for key, _ in found)
    told = {path_of(key.decode()): line and file_of(line).state for key, line in found}
    states = ({p: f.state for p, f in side.items()} for side in (old, new))
    was, now = states
    assert told == {p: now.get(p) for p in was.keys() | now.keys() if was.get(p) != now.get(p)}
    assert other.root(after).files == len(new)
    middle = sorted(line_of(f) for f in new.values())[len(new) // 2]
    behind = list(other.lines(after, key_of(middle)))
    assert behind == sorted(line_of(f) for f in new.values())[len(new) // 2 + 1 :]


def test_a_changed_file_costs_one_block(place: FolderPlace) -> None:
    """Of many; the same list again costs nothing."""
    found = {f"d{n:06}": one(f"d{n:06}", n) for n in range(20_000)}
    lists = Manifests(place)
    lists.write(lines(found))
    before = set(place.names("files-"))
    assert len(before) > 5
    found["d010000"] = one("d010000", 1)
    found["d010000x"] = one("d010000x", 1)
    Manifests(place).write(lines(found))
    more = sorted(set(place.names("files-")) - before)
    assert [name.startswith(BLOCK) for name in more] == [True, False]
    Manifests(place).write(lines(found))
    assert set(place.names("files-")) == before | set(more)


def test_what_nobody_needs_goes_and_what_a_round_needs_stays(
    place: FolderPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round that was written down is found again, and leads where it led."""
    lists = Manifests(place)
    roots = [lists.write(lines({f"f{n}": one(f"f{n}", n)})) for n in range(4)]
    assert lists.intend("load", 2, roots[0], roots[1]) == roots[1]
    assert lists.intend("load", 2, roots[0], roots[2]) == roots[1]
    lists.intend("load", 1, roots[3], roots[2])
    lists.intend("other", 9, roots[3], roots[2])
    lists.tidy("load", 1, {roots[0]})
    assert len(place.names(ROOT)) == 4  # all are young
    monkeypatch.setattr(manifest, "YOUNG_SECONDS", -1.0)
    lists.tidy("load", 1, {roots[0]})
    assert {name.removeprefix(ROOT) for name in place.names(ROOT)} == set(roots[:2])
    assert len(place.names(BLOCK)) == 2
    assert len(place.names(NEXT)) == 1
    assert Manifests(place).intended("load", 2, roots[0]) == roots[1]
    with pytest.raises(Lost, match="position reset"):
        Manifests(place).root(roots[3])
    lists.forget()
    assert place.names() == []
