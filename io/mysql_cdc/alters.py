"""Whether an ALTER TABLE left the values of columns as the log told them.

The log has the statement and no rows. So a column that was added, got the name of another, or is of
a narrower type now, has values that nobody told. Then the table must be read anew.

Stands apart from `vecferry.io.mysql_cdc.statements` because that knows no columns.
"""

from __future__ import annotations

from collections.abc import Iterable

from vecferry.io.mysql.settings import MySqlSettings
from vecferry.io.mysql_cdc.columns import Column, Columns
from vecferry.io.mysql_cdc.shape import source_of
from vecferry.io.mysql_cdc.statements import Effect

_WIDER = (
    ("tinyint", "smallint", "mediumint", "int", "bigint"),
    ("char", "varchar", "tinytext", "text", "mediumtext", "longtext"),
    ("varbinary", "tinyblob", "blob", "mediumblob", "longblob"),
)
"""A value of a type is the same in the types after it."""
_UNICODE = frozenset({"utf8", "utf8mb3", "utf8mb4"})


def other_values(
    effect: Effect,
    before: Columns,
    now: Columns,
    selects: MySqlSettings,
    mapped: Iterable[str] | None,
) -> str | None:
    """The first column that the job uses and whose values may be others now; None without one.

    Args:
      effect: what the statement does.
      before: the columns before the statement.
      now: the columns as the catalog has them now, or None of them if the table is gone.
      selects: the columns and the condition of the job.
      mapped: the columns of which something is written, as rows name them; None for all.
    """
    known = {c.name.casefold(): c for c in before.columns}
    then = {c.name.casefold(): c for c in now.columns}
    uses = _Uses(selects, None if mapped is None else {name.casefold() for name in mapped})
    for name in sorted(effect.given):
        if uses(name, known):
            return name
    for name, old in known.items():
        new = then.get(name)
        if new is None or not uses(name, known):
            continue
        again = name in effect.modified and (old.generated or new.generated)
        if again or not _keeps(old, new):
            return name
    return None


class _Uses:
    """Whether a job uses a column; in doubt it does."""

    def __init__(self, selects: MySqlSettings, mapped: set[str] | None) -> None:
        self._all = False
        self._plain: set[str] = set()
        self._texts = [(selects.where or "").casefold()]
        self._mapped = mapped
        for given in selects.column:
            if given.strip() == "*":
                self._all = True
                continue
            source, shown = source_of(given)
            if source is None:
                self._texts.append(given.casefold())
            elif mapped is None or shown.casefold() in mapped:
                self._plain.add(source.casefold())

    def __call__(self, name: str, known: Iterable[str]) -> bool:
        if name in self._plain or any(name in text for text in self._texts):
            return True
        return self._all and name in (known if self._mapped is None else self._mapped)


def _keeps(old: Column, new: Column) -> bool:
    """Whether each value of a column is the same in its new type."""
    if old.generated != new.generated or old.unsigned != new.unsigned:
        return False
    if old.charset != new.charset and not (old.charset == "ascii" or _both(old, new) <= _UNICODE):
        return False
    if old.charset == "utf8mb4" != new.charset:
        return False
    if old.data_type != new.data_type:
        return any(
            old.data_type in order
            and new.data_type in order
            and order.index(old.data_type) < order.index(new.data_type)
            and (old.octets or 0) <= (new.octets or 0)
            for order in _WIDER
        )
    if new.digits < old.digits or old.scale != new.scale:
        return False
    if old.charset == new.charset and (old.octets or 0) > (new.octets or 0):
        return False
    return new.members[: len(old.members)] == old.members


def _both(old: Column, new: Column) -> frozenset[str]:
    return frozenset({old.charset or "", new.charset or ""})
