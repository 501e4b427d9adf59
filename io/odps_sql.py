"""Reads through SQL what the table tunnel can't give: rows that meet a condition, views, JSON."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Iterable
from typing import Any

from vecferry.errors import FatalError, shorten
from vecferry.io.odps_client import OdpsClient, Stopped, one_try
from vecferry.io.odps_errors import told
from vecferry.io.odps_partitions import Partition
from vecferry.io.odps_values import base_of, is_null_partition

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
