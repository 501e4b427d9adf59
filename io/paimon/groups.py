"""Keys of a round that are looked up together, and the files for that.

A key that moves between two groups would become two changes, a delete and an upsert, whose order
nobody knows. So a group holds all the files in which one of its keys can stand. Stands apart from
`changes` because each kind of table has its own rule.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from vecferry.io.common.lake_changes import Group
from vecferry.io.paimon.planning import (
    OVERWRITE,
    Commit,
    History,
    KeyPart,
    Where,
    light,
    where_of,
    without,
)

GroupOf = Callable[[Where], Hashable]


def groups_of(history: History, since: int, until: int, commits: list[Commit]) -> list[Group]:
    """The groups of the rows that some commits behind `since` have touched, as of `until`."""
    if not any(c.parts or c.row_ids for c in commits):
        return []
    if history.nature == "evolving":
        return [_evolving(history, until, commits)]
    if history.nature == "append":
        return _appended(history, since, until, commits)
    return list(_merged(history, until, commits))


def _merged(history: History, until: int, commits: list[Commit]) -> Iterator[Group]:
    """By bucket, as a key stays in its bucket; otherwise by what a key stays in."""
    group_of = _group_of(history, commits)
    touched = _gathered(commits, group_of)
    present: dict[Hashable, list[Any]] = {}
    for split in history.splits(until):
        group = group_of(where_of(split))
        if group in touched:
            present.setdefault(group, []).append(light(split))
    for n, (group, parts) in enumerate(touched.items()):
        yield _group(n, parts, present.get(group, []))


def _group_of(history: History, commits: list[Commit]) -> GroupOf:
    table = history.table
    if table.cross_partition_update:
        return lambda where: ()
    rewritten: set[tuple[Any, ...]] = set()
    buckets: dict[tuple[Any, ...], set[int]] = {}
    for commit in commits:
        for partition, counts in commit.buckets.items():
            buckets.setdefault(partition, set()).update(counts)
            # Dynamic buckets are dealt out anew by an overwrite, fixed ones with another number.
            if commit.kind == OVERWRITE and table.total_buckets < 0:
                rewritten.add(partition)
    rewritten |= {partition for partition, counts in buckets.items() if len(counts) > 1}
    return lambda where: where[0] if where[0] in rewritten else where


def _appended(history: History, since: int, until: int, commits: list[Commit]) -> list[Group]:
    """Of rows that were only added, each split alone; else all that is new since, together."""
    # A file whose deletion vector changed may show rows again.
    marked = {
        part.split.files[0].file_name
        for commit in commits
        for parts in commit.parts.values()
        for part in parts
        if part.positions is not None
    }
    known = history.file_names(since) - marked
    splits = []
    for split in history.splits(until):
        new = without(split, known)
        if new is not None:
            splits.append(light(new))
    added = {name for commit in commits for name in commit.files}
    live = {file.file_name for split in splits for file in split.files}
    if live == added and not any(commit.deletes for commit in commits):
        return [_group(n, [], [split]) for n, split in enumerate(splits)]
    (touched,) = _gathered(commits, lambda where: ()).values()
    return [_group(0, touched, splits)]


def _evolving(history: History, until: int, commits: list[Commit]) -> Group:
    """The keys of the touched row ids before and after each commit; a file may hold no key."""
    touched: list[KeyPart] = []
    for commit in commits:
        ids = commit.row_ids
        if not ids:
            continue
        for number in (commit.snapshot - 1, commit.snapshot):
            if number:
                touched += [KeyPart(light(s)) for s in history.splits(number, ids)]
    every = [ids for commit in commits for ids in commit.row_ids]
    found = _group(0, touched, [light(split) for split in history.splits(until, every)])
    return replace(found, rows=0)  # row ids find the rows already, so keys need not


def _gathered(commits: Iterable[Commit], group_of: GroupOf) -> dict[Hashable, list[KeyPart]]:
    """The parts of all commits by group; what two commits name is read once."""
    found: dict[Hashable, dict[Any, KeyPart]] = {}
    for commit in commits:
        for where, parts in commit.parts.items():
            for part in parts:
                name = (part.split.files[0].file_name, part.positions)
                found.setdefault(group_of(where), {})[where, name] = part
    return {group: list(parts.values()) for group, parts in found.items()}


def _group(number: int, touched: list[KeyPart], present: list[Any]) -> Group:
    rows = sum(split.row_count for split in present)
    return Group(name=f"{number}", touched=tuple(touched), present=tuple(present), rows=rows)
