"""What a job says of the tables and queries that it reads."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from vecferry.fields import DataSourceName, in_form
from vecferry.io.tables.connection import TableConnection
from vecferry.settings import SecretText, Settings, StepSettings

_QUOTED = r"""`(?:[^`]|``)+`|"(?:[^"]|"")+\""""
_ALIAS = re.compile(rf"(?is).*\sAS\s+({_QUOTED}|[^\W\d]\w*)\s*")
_NAME = re.compile(rf"[^\W\d][\w$]*|{_QUOTED}")
_SHARDS = re.compile(r"""([^\[\]`"]*)\[([0-9]{1,9})-([0-9]{1,9})\]([^`"]*)""")
_MOST_SHARDS = 10_000


class TableGroup(Settings):
    """An entry of DataX's `connection`: tables or queries, and URLs that lead to one database."""

    jdbc_url: tuple[SecretText, ...] = Field(
        default=(),
        description="addresses that lead to one database",
        examples=[["jdbc:mysql://localhost:3306/shop"]],
        json_schema_extra=in_form("connection"),
    )
    datasource: str | None = Field(
        default=None,
        description="the name of the data source, as DataWorks writes it here",
        examples=["Shop"],
        json_schema_extra=in_form("connection"),
    )
    table: tuple[str, ...] = Field(
        default=(),
        description="tables of this database",
        examples=[["orders"]],
        json_schema_extra=in_form("source"),
    )
    query_sql: tuple[str, ...] = Field(
        default=(),
        description="statements, in place of tables",
        examples=[["SELECT id, name FROM items"]],
        json_schema_extra=in_form("source", advanced=True),
    )

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

    datasource: DataSourceName = None
    table: tuple[str, ...] = Field(
        default=(),
        description="a table or view, or a list; `schema.table` reads another schema (in MySQL: "
        "database)",
        examples=[["items"]],
        json_schema_extra=in_form("source"),
    )
    column: tuple[str, ...] = Field(
        default=("*",),
        description="columns and SQL expressions",
        examples=[["id", "title"]],
        json_schema_extra=in_form("columns"),
    )
    split_pk: str | None = Field(
        default=None,
        title="Split column",
        description="the column by whose ranges a table is read in parallel",
        examples=["id"],
        json_schema_extra=in_form(
            "speed", advanced=True, otherwise="the primary key, if it is one whole number"
        ),
    )
    where: str | None = Field(
        default=None,
        description="a condition in SQL",
        examples=["price > 10"],
        json_schema_extra=in_form("source"),
    )
    query_sql: tuple[str, ...] = Field(
        default=(),
        title="Query",
        description="a statement, or a list, in place of `table`, `column` and `where`",
        examples=[["SELECT id, title FROM items"]],
        json_schema_extra=in_form("source", advanced=True),
    )
    connection: tuple[TableGroup, ...] = Field(
        default=(),
        description="DataX's form, in place of `datasource` and `table`",
        examples=[[{"jdbcUrl": ["jdbc:mysql://localhost:3306/shop"], "table": ["items"]}]],
        json_schema_extra=in_form("connection", advanced=True, otherwise="`datasource`"),
    )
    username: str | None = Field(
        default=None,
        description="with `connection`: the user",
        examples=["reader"],
        json_schema_extra=in_form("login", advanced=True, when=("connection",)),
    )
    password: SecretText | None = Field(
        default=None,
        description="with `connection`: the user's password",
        examples=["${DB_PASSWORD}"],
        json_schema_extra=in_form("login", advanced=True, when=("connection",)),
    )
    ca_cert: str | None = Field(
        default=None,
        description="the same as of a data source",
        examples=["/etc/ssl/db.pem"],
        json_schema_extra=in_form("connection", advanced=True, when=("connection",)),
    )
    tls: str | None = Field(
        default=None,
        title="TLS",
        description="the same as of a data source",
        examples=["require"],
        json_schema_extra=in_form(
            "connection",
            advanced=True,
            choices=("off", "prefer", "require", "verify"),
            when=("connection",),
        ),
    )

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
            raise ValueError(
                f"connection[{group}] has no jdbcUrl, and others have one; give each of them one"
            )
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
                raise ValueError(
                    f"{name!r} stands for more than {_MOST_SHARDS:,} tables; split them among jobs"
                )
    return tuple(found)


def name_of(column: str) -> str | None:
    """The name that a column of a job will have in rows; None where only the server can tell."""
    text = column.strip()
    alias = _ALIAS.fullmatch(text)
    name = text if _NAME.fullmatch(text) else alias[1] if alias else None
    if name is None or name[0] not in '`"':
        return name
    return name[1:-1].replace(name[0] * 2, name[0])
