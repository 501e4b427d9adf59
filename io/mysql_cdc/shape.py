"""How the rows of a table, as the log has them, become rows of the job.

Stands apart from `vecferry.io.mysql_cdc.following` because it needs no log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from vecferry.errors import FatalError, near
from vecferry.io.common.unfit import UnfitValue
from vecferry.io.mysql.settings import MySqlSettings
from vecferry.io.mysql_cdc.columns import Columns
from vecferry.io.mysql_cdc.rereading import Key
from vecferry.io.mysql_cdc.rows import ABSENT, PARTIAL
from vecferry.io.tables.database import Table

Image = Sequence[Any]
"""The values of a row, one for each column of the table."""

SPECIAL = frozenset({UnfitValue, type(ABSENT), type(PARTIAL)})
"""The types of what is not a value of a row."""

_ALIASED = re.compile(r"(?is)(`(?:[^`]|``)+`|[^\W\d][\w$]*)\s+AS\s+(`(?:[^`]|``)+`|[^\W\d]\w*)")

_NAME = re.compile(r"[^\W\d][\w$]*|`(?:[^`]|``)+`")


_INEXACT = frozenset({"json", "float", "double"})


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Which values of an image a row has.

    Attributes:
      names: the columns of the row, as far as they are plain columns of the table.
      at: their places in the image.
      take: the values at these places, as a tuple.
      keys: the key's columns, as the row names them. If the row lacks one, all columns of the row:
        the target's id may be made of any.
      key_at: their places in the image.
      rereads: whether each row is to be read again, as the log can't give what the job asks for.
      exact: whether values of a column that are equal are the same. In JSON, 1 equals 1.0.
    """

    names: tuple[str, ...]
    at: tuple[int, ...]
    take: Callable[[Image], tuple[Any, ...]]
    keys: tuple[str, ...]
    key_at: tuple[int, ...]
    rereads: bool
    exact: bool

    def known(self, image: Image) -> dict[str, Any]:
        """The columns of the row that an image has, and that a row can hold."""
        pairs = zip(self.names, self.take(image), strict=True)
        return {name: value for name, value in pairs if type(value) not in SPECIAL}

    def key(self, image: Image, other: Image | None = None) -> Key:
        """The key of an image; what it lacks is that of the `other` image of the row."""
        values = [image[i] for i in self.key_at]
        if other is not None:
            values = [
                other[i] if v is ABSENT else v for i, v in zip(self.key_at, values, strict=True)
            ]
        return tuple(values)

    def lacks(self, image: Image) -> bool:
        """Whether an image lacks a value that the row has."""
        return any(image[i] is ABSENT or image[i] is PARTIAL for i in self.at)

    def unfit(self, image: Image) -> tuple[str, UnfitValue] | None:
        """The first column with a value that a row can't hold, and what is wrong with it."""
        for name, i in zip(self.names, self.at, strict=True):
            if isinstance(image[i], UnfitValue):
                return name, image[i]
        return None


def shape_of(
    settings: MySqlSettings, table: Table, columns: Columns, *, history: bool = False
) -> Shape:
    """How an image with these columns becomes a row; FatalError where a column is gone.

    `history` says that the log has former rows of the table as well, so that only the table tells
    which row is there.
    """
    places = {name: i for i, name in enumerate(columns.names)}
    folded = {name.casefold(): name for name in places}
    visible = {c.name for c in table.columns}
    names: list[str] = []
    at: list[int] = []
    rereads = history or settings.where is not None
    for given in settings.column:
        text = given.strip()
        if text == "*":
            for name, i in places.items():
                if name in visible:
                    names.append(name)
                    at.append(i)
            continue
        alias = _ALIASED.fullmatch(text)
        source, shown = (alias[1], alias[2]) if alias else (text, "")
        bare = _bare(source)
        name = bare if bare in places else folded.get(bare.casefold(), "")
        if name:
            names.append(_bare(shown) if shown else name)
            at.append(places[name])
        elif alias is None and _NAME.fullmatch(text):
            raise FatalError(
                f"{table.title} has no column {bare!r} any more{near(bare, places)}; it was "
                "dropped or renamed: correct `column`, and read all anew with `vecferry resync "
                "JOB`",
                "table-change",
            )
        else:
            rereads = True
    lacking = [c.name for c in table.key if c.name not in places]
    if lacking:
        raise FatalError(
            f"{table.title}: the log does not know its key column {lacking[0]!r}: the key was "
            "changed; read all anew with `vecferry resync JOB`",
            "table-change",
        )
    shown_as = dict(zip(at, names, strict=True))
    key_at = tuple(places[c.name] for c in table.key)
    shown = all(i in shown_as for i in key_at)
    return Shape(
        names=tuple(names),
        at=tuple(at),
        take=taker(at),
        exact=not any(columns.columns[i].data_type in _INEXACT for i in at),
        keys=tuple(shown_as[i] for i in key_at) if shown else tuple(names),
        key_at=key_at,
        rereads=rereads,
    )


def source_of(given: str) -> tuple[str | None, str]:
    """The column that an entry of `column` names, None for an expression; and the row's name."""
    text = given.strip()
    alias = _ALIASED.fullmatch(text)
    if alias:
        return _bare(alias[1]), _bare(alias[2])
    return (_bare(text) if _NAME.fullmatch(text) else None), _bare(text)


def taker(at: Sequence[int]) -> Callable[[Image], tuple[Any, ...]]:
    """A function that gives the values at these places, as a tuple."""
    if len(at) == 1:
        (only,) = at
        return lambda image: (image[only],)
    if not at:
        return lambda image: ()
    return itemgetter(*at)


def _bare(name: str) -> str:
    return name[1:-1].replace("``", "`") if name[:1] == "`" else name
