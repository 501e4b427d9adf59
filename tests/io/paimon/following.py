"""Tables of Paimon that are followed: what else happens to them, and a small sync in memory."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.io.paimon.support import DATABASE, Table, Warehouse
from vecferry.io.paimon.changes import PaimonChanges
from vecferry.io.paimon.settings import PaimonSettings
from vecferry.positions import Position
from vecferry.rows import DELETE, Change, Reject
from vecferry.steps import Span, StepContext

Row = dict[str, Any]

KEYED = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("text", pa.string()),
        ("at", pa.int64()),
        ("kind", pa.string()),
    ]
)
"""A row with a primary key; `kind` says what becomes of it, ``+I`` or ``-D``."""
PLAIN = pa.schema([("id", pa.int64()), ("text", pa.string())])


class Changing(Table):
    """A table that is written to by commits of any kind."""

    def put(self, *rows: Row) -> None:
        """Rows of a table with a primary key, written in one commit."""
        self.write([{"kind": "+I", **row} for row in rows])

    def delete(self, *rows: Row) -> None:
        """Rows of a table with a primary key are deleted in one commit."""
        self.write([{**row, "kind": "-D"} for row in rows])

    def truncate(self, partitions: list[dict[str, str]] | None = None) -> None:
        """All rows are gone, or those of partitions."""
        commit = self.handle.new_batch_write_builder().new_commit()
        if partitions is None:
            commit.truncate_table()
        else:
            commit.truncate_partitions(partitions)
        commit.close()

    def update(self, change: Callable[[Any], Any]) -> None:
        """A commit of what pypaimon's updates give."""
        builder = self.handle.new_batch_write_builder()
        commit = builder.new_commit()
        commit.commit(change(builder.new_update()))
        commit.close()

    def alter(self, *changes: Any) -> None:
        """The columns change."""
        self.warehouse.catalog.alter_table(f"{DATABASE}.{self.name}", list(changes), False)

    def rows(self) -> list[Row]:
        """The rows as pypaimon reads them now."""
        table = self.handle
        if table.options.deletion_vectors_enabled():
            table = table.copy({"deletion-vectors.merge-on-read": "true"})
        builder = table.new_read_builder()
        splits = builder.new_scan().plan().splits()
        found: list[Row] = builder.new_read().to_arrow(splits).to_pylist()
        return found

    @property
    def last(self) -> int:
        """The number of the newest snapshot."""
        return int(self.handle.snapshot_manager().get_latest_snapshot().id)

    def expire(self, before: int) -> None:
        """The snapshots before one are gone."""
        manager = self.handle.snapshot_manager()
        for number in range(1, before):
            Path(manager.get_snapshot_path(number)).unlink(missing_ok=True)
        Path(manager.snapshot_dir, "EARLIEST").write_text(str(before))

    def consumers(self) -> dict[str, int]:
        """By name, from which snapshot on the table keeps them."""
        found: dict[str, int] = self.handle.consumer_manager().consumers()
        return found


def keyed(warehouse: Warehouse, schema: pa.Schema = KEYED, **more: Any) -> Changing:
    """A new table whose key is `id`, unless `more` says otherwise."""
    given = {"keys": ["id"], "bucket": "2", "rowkind__field": "kind", **more}
    warehouse.make("t", schema, **given)
    return Changing(warehouse, "t")


class Follower:
    """A sync of a table into memory, as `pipelines.run.sync` carries it out.

    A new source is made for each round, and splits are pickled. A key that comes twice in a round
    is an error, and so is a change that is older than the row that it meets.
    """

    def __init__(self, table: Changing, keys: Iterable[str] = ("id",), **parameters: Any) -> None:
        self.table, self.keys = table, tuple(keys)
        self.parameters = {"column": ["id", "text"], **parameters}
        self.position: Position | None = None
        self.there: dict[tuple[Any, ...], Row] = {}
        self.versions: dict[tuple[Any, ...], int] = {}
        self.spans: list[Span] = []
        self.given: list[Change] = []

    def source(self) -> PaimonChanges:
        """The reader."""
        given = {"database": DATABASE, "table": self.table.name, **self.parameters}
        return PaimonChanges(
            PaimonSettings.model_validate(given),
            self.table.warehouse.connection,
            StepContext(step="Read", step_type="paimon"),
        )

    def round(self, until: Any = None) -> Span:
        """One round; its span, which is stored unless it is nothing."""
        source = self.source()
        identity, position, why = source.identity(), self.position, ""
        if position is not None and position.identity != identity:
            position, why = None, "another table"
        span = source.span(position, until)
        self.spans.append(span)
        if span.kind == "nothing":
            return span
        epoch = self.position.epoch if self.position else 0
        span = replace(span, epoch=epoch + 1 if span.fresh else epoch, why=why or span.why)
        splits = pickle.loads(pickle.dumps(source.plan(span).splits))
        self.given = [item for split in splits for item in self._read(split)]
        seen: set[tuple[Any, ...]] = set()
        for change in self.given:
            self._apply(change, seen)
        self.position = Position(
            epoch=span.epoch, identity=identity, phase=span.phase, at=span.until
        )
        if span.kind == "full" and span.phase == "changes":
            for key in [k for k, v in self.versions.items() if v >> 52 < span.epoch]:
                self.there.pop(key, None)
        return span

    def _read(self, split: Any) -> list[Change]:
        items = list(self.source().read(split))
        assert not [item for item in items if isinstance(item, Reject)]
        return items  # type: ignore[return-value]

    def _apply(self, change: Change, seen: set[tuple[Any, ...]]) -> None:
        key = tuple(change[name] for name in self.keys)
        assert key not in seen, f"{key} comes twice in a round"
        seen.add(key)
        assert change.version is not None
        assert change.version >= self.versions.get(key, 0), f"{key} gets older"
        self.versions[key] = change.version
        if change.kind == DELETE:
            self.there.pop(key, None)
        else:
            self.there[key] = dict(change)

    def run(self) -> list[Change]:
        """Rounds until nothing is left; all changes that they gave."""
        given: list[Change] = []
        while self.round().kind != "nothing":
            given += self.given
        return given

    def differences(self, where: Callable[[Row], bool] = lambda row: True) -> list[Any]:
        """The rows that differ from the table, or stand on one side only."""
        names = self.parameters["column"]
        wanted = {
            tuple(row[k] for k in self.keys): {n: row[n] for n in names}
            for row in self.table.rows()
            if where(row)
        }
        return [k for k in {*wanted, *self.there} if wanted.get(k) != self.there.get(k)]


def kinds(changes: Iterable[Change]) -> Mapping[str, list[Any]]:
    """The first key column of changes, by kind, in order."""
    found: dict[str, list[Any]] = {}
    for change in changes:
        found.setdefault(change.kind, []).append(change["id"])
    return {kind: sorted(ids) for kind, ids in found.items()}
