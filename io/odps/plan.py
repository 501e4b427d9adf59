"""What a step reads of a table: columns and partitions, and the sessions and splits for them.

Stands apart from `source` because a plan is made once, and the source reads its splits.
"""

from __future__ import annotations

import contextlib
import copy
import enum
import logging
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from vecferry.errors import FatalError, JobError, near, shorten
from vecferry.io.odps.client import OdpsClient, Stopped, one_try, told
from vecferry.io.odps.partitions import Partition, choose, spec_of
from vecferry.io.odps.settings import OdpsSettings
from vecferry.io.odps.values import UNREADABLE, base_of, holds, is_null_partition

HINTS = {
    "odps.sql.type.system.odps2": "true",
    "odps.sql.type.json.enable": "true",
    "odps.sql.submit.mode": "",
}

_LOOK_SECONDS = (0.1, 5.0)
_log = logging.getLogger(__name__)


def query_of(
    table: str,
    columns: Iterable[tuple[str, Any]],
    partitions: Iterable[Partition],
    keys: dict[str, Any],
    condition: str | None,
) -> str:
    """The query for some columns (name and type) of some partitions of ``project.table``.

    `keys` are the partition keys with their types; `partitions` is empty of a table without. A JSON
    column comes as its text. The condition stands on lines of its own, so that a comment at its end
    does no harm.
    """
    chosen = ", ".join(_column(name, kind) for name, kind in columns)
    conditions = []
    places = [
        " AND ".join(f"{_name(k)} {_equals(v, keys[k])}" for k, v in p.items()) for p in partitions
    ]
    if places:
        conditions.append("(\n" + " OR\n".join(f"({p})" for p in places) + "\n)")
    if condition:
        conditions.append(f"(\n{condition.strip().rstrip(';')}\n)")
    where = f"\nWHERE {' AND '.join(conditions)}" if conditions else ""
    project, _, name = table.partition(".")
    return f"SELECT {chosen}\nFROM {_name(project)}.{_name(name)}{where};"


def _name(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _column(name: str, kind: Any) -> str:
    if base_of(kind) == "json":
        return f"JSON_FORMAT({_name(name)}) AS {_name(name)}"
    return _name(name)


def _equals(value: str, kind: Any) -> str:
    if is_null_partition(kind, value):
        return "IS NULL"
    text = "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    is_text = base_of(kind) in ("string", "varchar", "char")
    return f"= {text}" if is_text else f"= CAST({text} AS {kind})"


def run_query(client: OdpsClient, query: str) -> str:
    """Runs a query to its end and gives the id of its instance; FatalError where it fails."""
    # The id makes a repeated request find the job that the first one has started.
    unique = uuid.uuid4().hex
    instance = client.call(
        "starting the query",
        lambda: client.odps.run_sql(
            query, project=client.project, hints=HINTS, unique_identifier_id=unique
        ),
    )
    _log.info("the query runs as instance %s", instance.id)
    wait, longest = _LOOK_SECONDS
    try:
        while not client.call("the query's state", lambda: instance.is_terminated(retry=False)):
            client.pause(wait)
            wait = min(wait * 1.5, longest)
    except (Stopped, KeyboardInterrupt):
        # Nobody waits for it any more, and what it scans is billed.
        with contextlib.suppress(Exception), one_try():
            instance.stop()
        raise
    problem = client.call("the query's end", lambda: _problem(instance))
    if problem:
        raise FatalError(f"the query on the table fails: {problem}; it was: {shorten(query, 500)}")
    return str(instance.id)


def _problem(instance: Any) -> str:
    """Why an ended instance has failed; an empty text where it has not."""
    from odps.errors import parse_instance_error
    from odps.models import Instance

    done = Instance.Task.TaskStatus
    for name, task in instance.get_task_statuses(retry=False).items():
        if task.status == done.FAILED:
            return told(parse_instance_error(instance.get_task_result(name, retry=False)))
        if task.status != done.SUCCESS:
            return f"it was ended from outside ({task.status.value.lower()})"
    return ""


LEAST_SPLIT_ROWS = 10_000
SPLITS_PER_STREAM = 4
STREAMS = 4
"""How many streams splits are made for where the job names no `concurrent`."""
SESSIONS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """Where a column of the row comes from: the table, the partition's key or a constant."""

    name: str
    column: str
    kind: str
    constant: Any = None


@dataclass(frozen=True, slots=True)
class OdpsSession:
    """A download session: of a table or partition, or of the result of a query (`instance`).

    `rows` are those of the whole session, `modified` when its data had changed last.
    """

    download_id: str
    rows: int
    partition: str = ""
    instance: str = ""
    modified: str = ""


@dataclass(frozen=True, slots=True)
class OdpsSplit:
    """Rows `start` to ``start + count`` of a session; `columns` of the table become `sources`."""

    session: OdpsSession
    start: int
    count: int
    columns: tuple[str, ...]
    sources: tuple[SourceColumn, ...]


class TablePlan:
    """The columns and partitions that a step means, looked up in the table once. Reads no row."""

    def __init__(self, client: OdpsClient, settings: OdpsSettings) -> None:
        self.client, self.settings = client, settings
        self.table = client.table(settings.table)
        schema = self.table.table_schema
        self.columns: dict[str, Any] = {c.name: c.type for c in schema.simple_columns}
        self.keys: dict[str, Any] = {c.name: c.type for c in schema.partitions or []}
        self.sources = tuple(self._sources())
        self.through_sql = bool(settings.condition) or self._tunnel_refuses()
        self._partitions: list[dict[str, str]] | None = None
        self._opened: dict[str, OdpsSession] = {}

    def by(self, client: OdpsClient) -> TablePlan:
        """The same plan, with all that is known already, for another client of the table."""
        other = copy.copy(self)
        other.client = client
        return other

    def _sources(self) -> Iterable[SourceColumn]:
        known = {n.lower(): (n, k) for n, k in {**self.columns, **self.keys}.items()}
        problems: list[str] = []
        found: list[SourceColumn] = []
        for column in self.settings.column:
            if column.constant:
                found.append(SourceColumn(column.name, "", "", column.constant_value))
            elif column.name == "*":
                found += [SourceColumn(n, n, str(k)) for n, k in self.columns.items()]
            elif column.name.lower() in known:
                name, kind = known[column.name.lower()]
                found.append(SourceColumn(column.name, name, str(kind)))
            else:
                problems.append(
                    f"table {self.settings.table!r} has no column {column.name!r}"
                    f"{near(column.name, known)}; it has {', '.join(n for n, _ in known.values())}"
                )
        problems += [p for s in found if s.column and (p := _unreadable(s))]
        if problems:
            raise JobError(problems)
        return {s.name: s for s in found}.values()

    def _tunnel_refuses(self) -> bool:
        """Whether the table tunnel can't give the rows of this table, and a query must."""
        json = any(base_of(s.kind) == "json" for s in self.sources)
        if json or self.is_view:
            return True
        of_keys = self.client.call("the table's properties", lambda: self.table.primary_key)
        return bool(of_keys and self.table.is_transactional)

    @property
    def is_view(self) -> bool:
        """Whether the table is a view, an external table or the like: without rows of its own."""
        kind = self.table.type
        kind = kind.value if isinstance(kind, enum.Enum) else kind
        return bool(self.table.is_virtual_view) or kind not in (None, "MANAGED_TABLE")

    def partitions(self) -> list[dict[str, str]]:
        """The partitions that the job means, listed once; none of a table that has no keys."""
        if self._partitions is None:
            self._partitions = self._list()
        return self._partitions

    def _list(self) -> list[dict[str, str]]:
        patterns, table = self.settings.partition, self.settings.table
        if not self.keys:
            if patterns:
                raise JobError(f"table {table!r} has no partitions; leave `partition` out")
            return []
        keys = list(self.keys)
        if not patterns:
            raise JobError(
                f"table {table!r} is partitioned by {', '.join(keys)}; say in `partition` which "
                f"partitions to read, all of them with {','.join(f'{k}=*' for k in keys)!r}"
            )
        try:
            chosen, missing = choose(patterns, keys, self.client.partitions(self.table))
        except ValueError as e:
            raise JobError(str(e)) from e
        if missing and not self.settings.success_on_no_partition:
            raise JobError(
                [f"table {table!r}: {m}; or set successOnNoPartition to true" for m in missing]
            )
        for text in missing:
            _log.warning("table %r: %s; successOnNoPartition is on", table, text)
        return chosen

    def query(self, partitions: list[dict[str, str]]) -> str:
        """The query that gives the rows of `partitions`, with the columns of the job."""
        columns = {s.column: {**self.columns, **self.keys}[s.column] for s in self.wire()}
        name = f"{self.client.project}.{self.table.name}"
        return query_of(name, columns.items(), partitions, self.keys, self.settings.condition)

    def wire(self) -> list[SourceColumn]:
        """The columns to ask the server for; one at least, since it sends all for none."""
        taken = [s for s in self.sources if s.column]
        if not self.through_sql:
            taken = [s for s in taken if s.column in self.columns]
        return taken or [self._any_column()]

    def _any_column(self) -> SourceColumn:
        for name, kind in self.columns.items():
            if not holds(kind, "json", *UNREADABLE):
                return SourceColumn(name, name, str(kind))
        raise JobError(
            f"table {self.settings.table!r} has no column that can be read; name a table with a "
            "column of another type, as BIGINT"
        )

    def sessions(self, most_rows: int | None = None) -> list[OdpsSession]:
        """A download session of each partition, or of the query; empty ones are left out.

        With `most_rows` no more are opened once the ones before hold so many.
        """
        partitions = self.partitions()
        if self.keys and not partitions:
            return []
        if self.through_sql:
            instance = run_query(self.client, self.query(partitions))
            session = self.client.instance_session(instance)
            made = [OdpsSession(session.id, session.count, instance=instance)]
        elif most_rows is None:
            specs = [spec_of(p) for p in partitions] or [""]
            with ThreadPoolExecutor(SESSIONS_AT_ONCE) as pool:
                made = list(pool.map(self.session, specs))
        else:
            made = []
            for spec in [spec_of(p) for p in partitions] or [""]:
                made.append(self.session(spec))
                if sum(s.rows for s in made) >= most_rows:
                    break
        return [s for s in made if s.rows]

    def session(self, partition: str) -> OdpsSession:
        """The download session of a partition, opened once; see `open`."""
        if partition not in self._opened:
            self._opened[partition] = self.open(partition)
        return self._opened[partition]

    def open(self, partition: str) -> OdpsSession:
        """A new download session of a partition (``pt=1,ds=2``), or of the table where empty."""
        # Before the session: a change between the two must not look like none.
        modified = self.client.modified(self.table, partition)
        session = self.client.table_session(self.table.name, partition)
        return OdpsSession(session.id, session.count, partition, modified=modified)


def reopened(plan: TablePlan, lost: OdpsSession) -> OdpsSession:
    """A session in place of one that was lost; FatalError where it would give other rows."""
    if lost.instance:
        new = plan.client.instance_session(lost.instance)
        found = OdpsSession(new.id, new.count, instance=lost.instance)
        changed = False
    else:
        found = plan.open(lost.partition)
        # Once more, after it was opened: what `open` gives is the time before.
        now = plan.client.modified(plan.table, lost.partition)
        changed = now != lost.modified
    if found.rows != lost.rows or changed:
        what = f"partition {lost.partition!r} of " if lost.partition else ""
        raise FatalError(
            f"{what}table {plan.table.name!r} changed while it was read ({lost.rows} rows then, "
            f"{found.rows} now), and its session was lost; run the job again when nobody writes"
        )
    return found


def cut(plan: TablePlan, sessions: list[OdpsSession], concurrent: int | None) -> list[OdpsSplit]:
    """The splits of all sessions, some for each stream, each of a bounded number of rows."""
    total = sum(s.rows for s in sessions)
    wanted = SPLITS_PER_STREAM * (concurrent or STREAMS)
    step = min(plan.settings.max_split_rows, max(LEAST_SPLIT_ROWS, -(-total // wanted)))
    columns = tuple(dict.fromkeys(s.column for s in plan.wire()))
    splits = []
    for session in sessions:
        size = session.rows if plan.settings.split_mode == "partition" else step
        for start in range(0, session.rows, size):
            count = min(size, session.rows - start)
            splits.append(OdpsSplit(session, start, count, columns, plan.sources))
    return splits


def _unreadable(source: SourceColumn) -> str:
    from odps.types import validate_data_type

    kind = validate_data_type(source.kind)
    nested_json = base_of(kind) != "json" and bool(holds(kind, "json"))
    found = holds(kind, *UNREADABLE) or ("json inside another type" if nested_json else "")
    if not found:
        return ""
    return (
        f"column {source.name!r} is of type {source.kind}, and {found.upper()} can't be read: "
        "leave it out of `column`, or read a view that casts it to STRING"
    )
