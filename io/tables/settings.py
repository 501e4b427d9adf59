"""What a job says of the tables and queries that it reads."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, ClassVar

from pydantic import field_validator, model_validator

from vecferry.io.tables.connection import TableConnection
from vecferry.settings import SecretText, Settings, StepSettings

_ALIAS = re.compile(r"""(?is).*\sAS\s+(?:`([^`]+)`|"([^"]+)"|([^\W\d]\w*))\s*""")
_NAME = re.compile(r"[^\W\d][\w$]*")
_SHARDS = re.compile(r"""([^\[\]`"]*)\[([0-9]{1,9})-([0-9]{1,9})\]([^`"]*)""")
_MOST_SHARDS = 10_000


class TableGroup(Settings):
    """An entry of DataX's `connection`: tables or queries, and URLs that lead to one database."""

    jdbc_url: tuple[SecretText, ...] = ()
    datasource: str | None = None
    table: tuple[str, ...] = ()
    query_sql: tuple[str, ...] = ()

    @field_validator("jdbc_url", "table", "query_sql", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return one_or_many(value)

    @field_validator("table", mode="after")
    @classmethod
    def _shards(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return with_shards(names)


class TableSettings(StepSettings):
    """A reader of tables, as DataWorks Data Integration and DataX write it.

    Either `table` with a `datasource`, or `connection` with `username` and `password`.
    """

    connection_class: ClassVar[type[TableConnection]]

    datasource: str | None = None
    table: tuple[str, ...] = ()
    column: tuple[str, ...] = ("*",)
    split_pk: str | None = None
    where: str | None = None
    query_sql: tuple[str, ...] = ()
    connection: tuple[TableGroup, ...] = ()
    username: str | None = None
    password: SecretText | None = None
    ca_cert: str | None = None
    tls: str | None = None

    ignored: ClassVar[frozenset[str]] = frozenset(
        {"encoding", "mandatoryEncoding", "fetchSize", "splitFactor", "useSpecialSecret", "envType"}
    )

    @model_validator(mode="before")
    @classmethod
    def _lift_datasource(cls, given: Any) -> Any:
        # DataWorks writes the data source into `connection`.
        groups = given.get("connection") if isinstance(given, dict) else None
        if not isinstance(groups, list | tuple):
            return given
        named = [g.get("datasource") for g in groups if isinstance(g, dict)]
        names = [n for n in (*named, given.get("datasource")) if isinstance(n, str) and n]
        if len(set(names)) > 1:
            raise ValueError(
                f"connection names several data sources ({', '.join(sorted(set(names)))}); a step "
                "reads one: write a job for each"
            )
        return {**given, "datasource": names[0]} if names else given

    @field_validator("table", "column", "query_sql", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return one_or_many(value)

    @field_validator("table", mode="after")
    @classmethod
    def _shards(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return with_shards(names)

    @field_validator("split_pk", "where", mode="after")
    @classmethod
    def _blank_is_none(cls, value: str | None) -> str | None:
        return (value or "").strip() or None

    @model_validator(mode="after")
    def _consistent(self) -> TableSettings:
        if self.connection and (self.table or self.query_sql):
            raise ValueError(
                "table or querySql stands in the step and in its connection; leave out one of them"
            )
        if not any(tables or queries for _, tables, queries in self.groups):
            raise ValueError("there is nothing to read: name a `table`, or write a `querySql`")
        if not self.column:
            raise ValueError('column is empty: name columns, or write ["*"] for all')
        for _, tables, queries in self.groups:
            again = [name for name, n in Counter((*tables, *queries)).items() if n > 1]
            if again:
                raise ValueError(
                    f"{again[0]!r} stands twice, and its rows would come twice: leave one out"
                )
        names = [n for n in map(name_of, self.column) if n]
        twice = {n for n in names if names.count(n) > 1}
        if twice:
            raise ValueError(
                f"column {min(twice)!r} stands twice in `column`; a row has each name once: give "
                "one of them an alias (AS other)"
            )
        if not self.needs_datasource:
            _ = [self.candidates(i) for i in range(len(self.connection))]
        return self

    @property
    def groups(self) -> list[tuple[int, tuple[str, ...], tuple[str, ...]]]:
        """Number, tables and queries of each database that is read; queries come before tables."""
        given = self.connection or (TableGroup(table=self.table, query_sql=self.query_sql),)
        return [(i, () if g.query_sql else g.table, g.query_sql) for i, g in enumerate(given)]

    @property
    def source_name(self) -> str | None:
        """The data source, which may stand in a group of tables."""
        return self.datasource

    @property
    def needs_datasource(self) -> bool:
        """Whether the step leaves it to a data source where its tables are."""
        return not any(g.jdbc_url for g in self.connection)

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs that the step itself gives."""
        return tuple(_bare(u) for g in self.connection for u in g.jdbc_url)

    def candidates(self, group: int) -> list[TableConnection]:
        """The connections that the step itself gives for a group; the first that answers is used.

        ValueError says what is wrong with one of them.
        """
        more = {"ca_cert": self.ca_cert, "tls": self.tls}
        login = {"username": self.username, "password": self.password}
        given = {k: v for k, v in {**login, **more}.items() if v is not None}
        urls = self.connection[group].jdbc_url
        if not urls:
            raise ValueError(f"connection[{group}] has no jdbcUrl, and others have one")
        return [self.connection_class.model_validate({"jdbcUrl": _bare(u), **given}) for u in urls]

    def outputs(self) -> dict[str, int | None] | None:
        """The columns by name; None where only the server can tell them."""
        if any(queries for _, _, queries in self.groups):
            return None
        names = [name_of(c) for c in self.column]
        return None if None in names else dict.fromkeys(n for n in names if n)


def _bare(url: str) -> str:
    return str.__str__(url)


def one_or_many(value: object) -> Any:
    """A list, of one text where only that is given; an empty text is nothing."""
    if value is None or value == "":
        return ()
    return [value] if isinstance(value, str) else value


def with_shards(names: tuple[str, ...]) -> tuple[str, ...]:
    """`names`, with ``t_[08-10]`` as the names t_08, t_09 and t_10; not within quotes.

    As DataX has it: a range that begins with 0 keeps that many digits.
    """
    found: list[str] = []
    for name in names:
        shards = _SHARDS.fullmatch(name.strip())
        if shards is None:
            found.append(name)
            continue
        before, *ends, after = shards.groups()
        low, high = sorted(ends, key=int)
        digits = len(low) if low.startswith("0") else 0
        for n in range(int(low), int(high) + 1):
            found += with_shards((f"{before}{n:0{digits}}{after}",))
            if len(found) > _MOST_SHARDS:
                raise ValueError(f"{name!r} stands for more than {_MOST_SHARDS:,} tables")
    return tuple(found)


def name_of(column: str) -> str | None:
    """The name that a column of a job will have in rows; None where only the server can tell."""
    text = column.strip()
    if _NAME.fullmatch(text) or (text[:1] in '`"' and text[:1] == text[-1:] and text[1:-1]):
        return text.strip('`"')
    alias = _ALIAS.fullmatch(text)
    return next(filter(None, alias.groups())) if alias else None
