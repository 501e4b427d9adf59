"""What happened to a table of Paimon: its snapshots, and the files that each has touched.

Only this module uses inner parts of pypaimon; therefore its version is pinned. The stream that
pypaimon has hides an OVERWRITE, refuses removed files, and skips deletion vectors. So manifests are
read here as they stand, with the files that a commit added and with those that it removed.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from vecferry.io.paimon.batches import DataSplit, Predicate
from vecferry.io.paimon.client import Table

COMPACT, OVERWRITE = "COMPACT", "OVERWRITE"
CHECKED_AT_ONCE = 8
"""Snapshots whose manifests are read at the same time; each is a few small files."""

Nature = Literal["merged", "compacted", "append", "evolving"]
"""How the rows of a table come to be.

- ``merged``: each read merges the files of a bucket by primary key.
- ``compacted``: only compaction makes rows visible, as with first-row and postponed buckets.
- ``append``: a row is where it was written, until a commit rewrites its file.
- ``evolving``: a row has a row id, and a file holds some columns of some row ids.
"""

Where = tuple[tuple[Any, ...], int]
"""A partition's values, and a bucket."""

Snapshot = Any
"""pypaimon's `Snapshot`."""
File = Any
"""pypaimon's `DataFileMeta`."""
Entry = Any
"""pypaimon's `ManifestEntry`: a file that was added or removed."""
Partition = Any
"""pypaimon's `GenericRow` of a partition."""


@dataclass(frozen=True)
class KeyPart:
    """Rows whose keys may have changed: a split, and which of its rows; None for all."""

    split: DataSplit
    positions: tuple[int, ...] | None = None


@dataclass
class Commit:
    """What one snapshot has touched.

    Attributes:
      snapshot: its number.
      kind: ``APPEND``, ``OVERWRITE``, ``COMPACT`` or ``ANALYZE``.
      rows: how many rows it may have changed.
      parts: by partition and bucket, where the keys of these rows stand.
      row_ids: of an evolving table, the row ids in place of parts, as first and last.
      buckets: by partition, into how many buckets its files are cut.
      files: the names of added files.
      deletes: whether rows may be gone.
    """

    snapshot: int
    kind: str
    rows: int = 0
    parts: dict[Where, list[KeyPart]] = field(default_factory=dict)
    row_ids: list[tuple[int, int]] = field(default_factory=list)
    buckets: dict[tuple[Any, ...], set[int]] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    deletes: bool = False


def nature_of(table: Table) -> Nature:
    """How the rows of a table come to be."""
    from pypaimon.table.bucket_mode import BucketMode

    if table.is_primary_key_table:
        postponed = table.bucket_mode() == BucketMode.POSTPONE_MODE
        first = str(table.options.merge_engine()).endswith("FIRST_ROW")
        return "compacted" if postponed or first else "merged"
    return "evolving" if table.options.data_evolution_enabled() else "append"


def has_changelog(table: Table) -> bool:
    """Whether the table keeps a changelog of its own."""
    return not str(table.options.changelog_producer()).endswith("NONE")


def made_at(table: Table) -> str:
    """What no other table has: the catalog's uuid, or else when the first schema was written."""
    uuid = table.catalog_environment.uuid
    if uuid:
        return str(uuid)
    first = table.schema_manager.get_schema(0)
    return f"{table.identifier.get_full_name()} of {first.time_millis if first else 'unknown'}"


class History:
    """The snapshots of a table, read by one handle; what was read once is not read again."""

    def __init__(self, table: Table) -> None:
        from pypaimon.manifest.index_manifest_file import IndexManifestFile
        from pypaimon.manifest.manifest_file_manager import ManifestFileManager
        from pypaimon.manifest.manifest_list_manager import ManifestListManager
        from pypaimon.read.scanner.append_table_split_generator import AppendTableSplitGenerator

        self.table, self.nature = table, nature_of(table)
        self._snapshots = table.snapshot_manager()
        self._lists, self._files = ManifestListManager(table), ManifestFileManager(table)
        self._indexes = IndexManifestFile(table)
        self._paths = AppendTableSplitGenerator(table, 1, 1)
        self._commits: dict[tuple[int, str], Commit] = {}

    # Snapshots

    def latest(self) -> Snapshot:
        """The newest snapshot; None of a table without one."""
        return self._snapshots.get_latest_snapshot()

    def snapshot(self, number: int) -> Snapshot:
        """A snapshot; None if it is not there, not yet or no longer."""
        return self._snapshots.get_snapshot_by_id(number) if number > 0 else None

    def at_time(self, milliseconds: int) -> Snapshot:
        """The newest snapshot that was there at a time; None if none was, or it is not kept."""
        return self._snapshots.earlier_or_equal_time_mills(milliseconds)

    @staticmethod
    def name_of(snapshot: Snapshot) -> str:
        """What no other snapshot has, though it may have the same number after a rollback."""
        return str(snapshot.delta_manifest_list)

    # What each has touched

    def commits(self, since: int, until: int) -> Iterator[Commit]:
        """What the snapshots behind `since` have touched, up to `until`, in order.

        Raises FileNotFoundError if one of them is gone.
        """
        numbers = list(range(since + 1, until + 1))
        with ThreadPoolExecutor(CHECKED_AT_ONCE) as pool:
            for at in range(0, len(numbers), CHECKED_AT_ONCE):
                yield from pool.map(self.commit, numbers[at : at + CHECKED_AT_ONCE])

    def commit(self, number: int) -> Commit:
        """What one snapshot has touched; raises FileNotFoundError if it is gone."""
        snapshot = self._required(number)
        key = (number, self.name_of(snapshot))
        if key not in self._commits:
            self._commits[key] = self._touched(snapshot)
        return self._commits[key]

    def _required(self, number: int) -> Snapshot:
        snapshot = self.snapshot(number)
        if snapshot is None:
            raise FileNotFoundError(f"snapshot {number} of {self.table.identifier} is gone")
        return snapshot

    def _touched(self, snapshot: Snapshot) -> Commit:
        found = Commit(snapshot.id, snapshot.commit_kind)
        if self.nature == "compacted":
            # Rows become visible by compaction, and the changelog of that commit tells which.
            self._add_entries(found, self._entries(self._lists.read_changelog(snapshot)))
            if snapshot.commit_kind == OVERWRITE:
                self._add_entries(found, self._entries(self._lists.read_delta(snapshot)))
        elif snapshot.commit_kind != COMPACT:
            entries = self._entries(self._lists.read_delta(snapshot))
            self._add_entries(found, entries)
            self._add_deletions(found, snapshot, {e.file.file_name for e in entries})
        return found

    def _entries(self, manifests: Iterable[Any]) -> list[Entry]:
        """Added and removed files of some manifests; those that were postponed are left out."""
        entries = [e for m in manifests for e in self._files.read(m.file_name)]
        return [e for e in entries if e.bucket >= 0]

    def _add_entries(self, found: Commit, entries: list[Entry]) -> None:
        for entry in entries:
            found.rows += entry.file.row_count
            found.deletes = found.deletes or entry.kind != 0
            if entry.kind == 0:
                found.files.add(entry.file.file_name)
            partition = tuple(entry.partition.values)
            if entry.total_buckets is not None:
                found.buckets.setdefault(partition, set()).add(entry.total_buckets)
            if self.nature == "evolving":
                first = entry.file.first_row_id
                if first is not None:
                    found.row_ids.append((first, first + entry.file.row_count - 1))
                continue
            part = KeyPart(self.raw(entry.partition, entry.bucket, [entry.file]))
            found.parts.setdefault((partition, entry.bucket), []).append(part)

    def raw(self, partition: Partition, bucket: int, files: Iterable[File]) -> DataSplit:
        """A split that gives the rows of files as they stand, neither merged nor left out."""
        from pypaimon.read.split import DataSplit

        plain = [f.copy_without_stats() for f in files]
        self._paths._set_data_file_paths(plain, partition, bucket)
        return DataSplit(plain, partition, bucket, raw_convertible=True)

    # Deletion vectors

    def _add_deletions(self, found: Commit, snapshot: Snapshot, touched: Collection[str]) -> None:
        """The rows that deletion vectors hide, or show again: no file tells of them."""
        before = self.snapshot(snapshot.id - 1)
        if before is None:
            if snapshot.id == 1:
                return
            raise FileNotFoundError(f"snapshot {snapshot.id - 1} of {self.table.identifier}")
        if snapshot.index_manifest == before.index_manifest:
            return
        old, new = self._deletions(before), self._deletions(snapshot)
        changed = {
            name for name in old.keys() | new.keys() if name not in touched
            and _marks(old.get(name)) != _marks(new.get(name))
        }  # fmt: skip
        for entry in self._live(before, changed) if changed else ():
            name = entry.file.file_name
            places = self._positions(old.get(name)) ^ self._positions(new.get(name))
            if places:
                self._add_positions(found, entry, sorted(places))

    def _add_positions(self, found: Commit, entry: Entry, places: list[int]) -> None:
        found.rows += len(places)
        found.deletes = True
        if self.nature == "evolving":
            first = entry.file.first_row_id
            found.row_ids += [(first + begin, first + end) for begin, end in _runs(places)]
            return
        part = KeyPart(self.raw(entry.partition, entry.bucket, [entry.file]), tuple(places))
        where = (tuple(entry.partition.values), entry.bucket)
        found.parts.setdefault(where, []).append(part)

    def _deletions(self, snapshot: Snapshot) -> dict[str, Any]:
        """The deletion vectors of a snapshot, by the name of their data file."""
        from pypaimon.table.source.deletion_file import DeletionFile

        found: dict[str, Any] = {}
        if not snapshot.index_manifest:
            return found
        for entry in self._indexes.read(snapshot.index_manifest):
            index = entry.index_file
            if index.index_type != self._indexes.DELETION_VECTORS_INDEX or not index.dv_ranges:
                continue
            path = self.table.path_factory().bucket_index_path(
                tuple(entry.partition.values), entry.bucket, index, self.table.file_io
            )
            for name, meta in index.dv_ranges.items():
                found[name] = DeletionFile(path, meta.offset, meta.length, meta.cardinality)
        return found

    def _positions(self, deletion: Any) -> set[int]:
        from pypaimon.deletionvectors.deletion_vector import DeletionVector

        if deletion is None:
            return set()
        return set(DeletionVector.read(self.table.file_io, deletion).bit_map())

    def _live(self, snapshot: Snapshot, names: Collection[str]) -> list[Any]:
        """The files of these names that a snapshot has; those of a row id group are data files."""
        return list(
            self._files.read_entries_parallel(
                self._lists.read_all(snapshot),
                early_record_filter=lambda record: record["_FILE"]["_FILE_NAME"] in names,
            )
        )

    # Rows as they were at a snapshot

    def at(self, number: int) -> Table:
        """The table as it was at a snapshot, with the columns that it has now."""
        return self.table._copy_with_snapshot(self._required(number))

    def splits(self, number: int, row_ids: list[tuple[int, int]] | None = None) -> list[DataSplit]:
        """The splits of a snapshot, of all its rows or of an evolving table's `row_ids`."""
        scan = self.at(number).new_read_builder().new_scan()
        if row_ids is not None:
            from pypaimon.utils.range import Range

            scan = scan.with_row_ranges([Range(first, last) for first, last in row_ids])
        return list(scan.plan().splits())

    def file_names(self, number: int) -> set[str]:
        """The names of all files of a snapshot; none of snapshot 0."""
        snapshot = self.snapshot(number)
        if snapshot is None:
            return set()
        entries = self._files.read_entries_parallel(self._lists.read_all(snapshot))
        return {entry.file.file_name for entry in entries}


def where_of(split: DataSplit) -> Where:
    """The partition and the bucket of a split."""
    return tuple(split.partition.values), split.bucket


def without(split: DataSplit, names: Collection[str]) -> DataSplit | None:
    """A split without the files of these names; None where it has no other."""
    return split.filter_file(lambda file: file.file_name not in names)


def light(split: DataSplit) -> DataSplit:
    """A split without statistics, which are large and of use to planning only."""
    from pypaimon.globalindex.indexed_split import IndexedSplit

    if isinstance(split, IndexedSplit):
        return IndexedSplit(light(split.data_split()), split.row_ranges())
    other = copy.copy(split)
    other._files = [file.copy_without_stats() for file in split.files]
    return other


class Members(list[Any]):
    """Values of an IN condition. pypaimon looks each row up in a list, which takes its length."""

    def __init__(self, values: Iterable[Any]) -> None:
        super().__init__(values)
        self._set = frozenset(self)

    def __contains__(self, value: object) -> bool:
        return value in self._set


def keys_predicate(table: Table, columns: dict[str, list[Any]]) -> Predicate:
    """What takes at least the rows whose columns have these values."""
    builder = table.new_read_builder().new_predicate_builder()
    parts = [builder.is_in(name, []).new_literals(Members(v)) for name, v in columns.items()]
    return builder.and_predicates(parts)


def renamed_to(table: Table, number: int) -> str | None:
    """The name of the column with this number now; None if it is gone."""
    return next((f.name for f in table.fields if f.id == number), None)


def former_number(table: Table, name: str) -> int | None:
    """The number of a column that older schemas had; None if none had, or they can't be read."""
    try:
        schemas = table.schema_manager.list_all()
    except Exception:  # a catalog may keep the folder of schemas to itself
        return None
    numbers = [f.id for schema in schemas for f in schema.fields if f.name == name]
    return int(numbers[-1]) if numbers else None


def numbers_of(table: Table) -> dict[str, int]:
    """The number of each column by name: a column that is renamed keeps its number."""
    return {f.name: f.id for f in table.fields}


def _marks(deletion: Any) -> Any:
    return deletion and (deletion.dv_index_path, deletion.offset, deletion.length)


def _runs(places: list[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as ranges."""
    begin = last = places[0]
    for place in places[1:]:
        if place != last + 1:
            yield begin, last
            begin = place
        last = place
    yield begin, last
