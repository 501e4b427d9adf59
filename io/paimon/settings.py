"""What a job says of a Paimon table, and a data source of its catalog."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    field_validator,
    model_validator,
)

from vecferry.errors import near
from vecferry.fields import DataSourceName, SourceType, in_form
from vecferry.io.tables.settings import one_or_many
from vecferry.kinds import Client
from vecferry.secrets import Secret, secret_of
from vecferry.settings import Connection, StepSettings, pick

if TYPE_CHECKING:
    from vecferry.io.paimon.blobs import CatalogFiles

ScanMode = Literal["full", "incremental", "full-then-incremental"]
SCAN_MODES = ("full", "incremental", "full-then-incremental")
METASTORES = ("filesystem", "rest")

_SECRET_OPTION = re.compile(
    r"(?i)(key|secret|token|passw(or)?d|credentials?|authorization|signature)([-_.]?id)?s?$"
)
"""The name of an option whose value is a secret, such as ``fs.oss.accessKeyId``.

``token.provider`` and ``dlf.token-path`` say where a token is, and are not secrets.
"""


def _as_texts(given: Any) -> Any:
    """Options as texts, as Paimon has them; a flag of JSON or YAML is one of them."""
    if not isinstance(given, dict):
        return given
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in given.items()
        if value is not None
    }


def _with_secrets(options: dict[str, str]) -> dict[str, str]:
    return {
        name: secret_of(value) if _SECRET_OPTION.search(name) else value
        for name, value in options.items()
    }


def _shown(options: dict[str, str]) -> dict[str, str]:
    return {n: "***" if isinstance(v, Secret) else v for n, v in options.items()}


CatalogOptions = Annotated[
    dict[str, str],
    BeforeValidator(_as_texts),
    AfterValidator(_with_secrets),
    PlainSerializer(_shown),
]


class PaimonConnection(Connection):
    """A catalog of Paimon: a warehouse in files, or a REST catalog such as DLF.

    `options` are Paimon's own. Those whose names end in key, secret, token or password are secrets.
    """

    type: SourceType[Literal["paimon"]] = "paimon"
    options: CatalogOptions = Field(
        description="the options of the catalog, as Paimon has them",
        examples=[{"warehouse": "data/lake"}],
        json_schema_extra=in_form("connection", see="lake.md"),
    )

    @field_validator("options")
    @classmethod
    def _complete(cls, options: dict[str, str]) -> dict[str, str]:
        metastore = pick(options.get("metastore", "filesystem"), METASTORES, "metastore")
        empty = [name for name, value in options.items() if not str.__str__(value).strip()]
        if empty:
            raise ValueError(f"the option {empty[0]!r} is empty: give a value, or leave it out")
        if "warehouse" not in options:
            more = "the catalog's name in DLF" if metastore == "rest" else "the folder of its files"
            raise ValueError(
                f"the option 'warehouse' is missing{near('warehouse', options)}; add {more}"
            )
        if metastore == "rest" and "uri" not in options:
            raise ValueError("the option 'uri' is missing: a REST catalog needs its address")
        return {**options, "metastore": metastore}

    @property
    def is_rest(self) -> bool:
        """Whether a service keeps the catalog; else files do."""
        return self.options["metastore"] == "rest"

    def local_path(self) -> str | None:
        """The warehouse, if it is a folder of this machine; a REST catalog says where files are."""
        if self.is_rest:
            return None
        warehouse = self.options["warehouse"]
        if warehouse.startswith("file:"):
            return urlsplit(warehouse).path
        return None if "://" in warehouse else warehouse

    def paths(self) -> dict[str, str]:
        """The warehouse, if it is a folder that is not named by a URL."""
        warehouse = self.local_path()
        named = warehouse is not None and "file:" not in self.options["warehouse"]
        return {"warehouse": warehouse} if warehouse is not None and named else {}

    def with_paths(self, paths: Mapping[str, str]) -> Self:
        """The catalog with its warehouse elsewhere."""
        return self.model_copy(update={"options": {**self.options, **paths}})

    def open_files(self) -> CatalogFiles:
        """The BLOBs of the catalog's tables, by the places that a reader gives them."""
        from vecferry.io.paimon.blobs import CatalogFiles

        return CatalogFiles(self)


class PaimonSettings(StepSettings):
    """The `paimon` reader.

    `snapshotId`, `tag` and `timestamp` name an older state of the table; at most one of them, and
    in the mode ``full`` only. `key` names the columns that tell the rows of an append table apart.
    `roundRows` says after about how many rows a round of a sync ends. With `blobAsDescriptor` a
    BLOB comes as a text that says where it lies.
    """

    datasource: DataSourceName = None
    database: str = Field(
        min_length=1,
        description="the database of the table, a bare name",
        examples=["shop"],
        json_schema_extra=in_form("source"),
    )
    table: str = Field(
        min_length=1,
        description="the table, a bare name",
        examples=["items"],
        json_schema_extra=in_form("source"),
    )
    column: tuple[str, ...] = Field(
        default=("*",),
        description='names of columns; `["*"]` takes all',
        examples=[["id", "title"]],
        json_schema_extra=in_form("columns"),
    )
    where: str | None = Field(
        default=None,
        description="a condition on rows",
        examples=["price > 10"],
        json_schema_extra=in_form("source"),
    )
    scan_mode: ScanMode = Field(
        default="full-then-incremental",
        description="`full` reads one snapshot",
        json_schema_extra=in_form("follow", see="lake.md#following-a-table"),
    )
    snapshot_id: int | None = Field(
        default=None,
        ge=1,
        description="an older state: the snapshot of this number",
        examples=[42],
        json_schema_extra=in_form("source", advanced=True, when=("scanMode", "full")),
    )
    tag: str | None = Field(
        default=None,
        description="an older state: the snapshot of this tag",
        examples=["monthly"],
        json_schema_extra=in_form("source", advanced=True, when=("scanMode", "full")),
    )
    timestamp: str | None = Field(
        default=None,
        description="an older state: the table at this time",
        examples=["2026-01-02T03:04:05Z"],
        json_schema_extra=in_form("source", advanced=True, when=("scanMode", "full")),
    )
    key: tuple[str, ...] = Field(
        default=(),
        description="the columns that tell the rows of a table without a primary key apart",
        examples=[["id"]],
        json_schema_extra=in_form("columns", advanced=True),
    )
    blob_as_descriptor: bool = Field(
        default=False,
        description="true: a BLOB comes as a text that says where the BLOB lies",
        json_schema_extra=in_form("columns", advanced=True, see="lake.md#images"),
    )
    round_rows: int = Field(
        default=1000000,
        ge=1,
        description="after about how many rows a round of a sync ends",
        examples=[100000],
        json_schema_extra=in_form("follow", advanced=True),
    )

    ignored: ClassVar[frozenset[str]] = frozenset({"envType"})

    @field_validator("column", "key", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return one_or_many(value)

    @field_validator("scan_mode", mode="before")
    @classmethod
    def _in_any_case(cls, value: Any) -> Any:
        return pick(value, SCAN_MODES, "scanMode")

    @field_validator("where", "tag", "timestamp")
    @classmethod
    def _blank_is_none(cls, value: str | None) -> str | None:
        return (value or "").strip() or None

    @field_validator("database", "table")
    @classmethod
    def _bare_name(cls, name: str) -> str:
        if "." in name or "`" in name:
            raise ValueError(
                f"{name!r} is not a bare name: write database and table as two parameters, "
                "without quotes"
            )
        return name

    @field_validator("timestamp")
    @classmethod
    def _a_time(cls, text: str | None) -> str | None:
        if text is not None:
            _milliseconds(text)
        return text

    @field_validator("where")
    @classmethod
    def _readable(cls, text: str | None) -> str | None:
        if text is not None:
            from vecferry.io.paimon.condition import checked

            checked(text)
        return text

    @model_validator(mode="after")
    def _consistent(self) -> PaimonSettings:
        if not self.column:
            raise ValueError('column is empty: name columns, or write ["*"] for all')
        for what, names in (("column", self.column), ("key", self.key)):
            twice = {n for n in names if names.count(n) > 1}
            if twice:
                raise ValueError(f"{min(twice)!r} stands twice in `{what}`: leave one out")
        if self.takes_all and len(self.column) > 1:
            raise ValueError('"*" takes all columns: leave the others out')
        given = [n for n, v in self._travel().items() if v is not None]
        if len(given) > 1:
            raise ValueError(
                f"{given[0]} and {given[1]} both name a state of the table: choose one"
            )
        if given and self.scan_mode != "full":
            raise ValueError(
                f"{given[0]} reads an older state once: add scanMode: full, or leave it out"
            )
        return self

    def _travel(self) -> dict[str, object]:
        return {"snapshotId": self.snapshot_id, "tag": self.tag, "timestamp": self.timestamp}

    @property
    def full_name(self) -> str:
        """Database and table."""
        return f"{self.database}.{self.table}"

    @property
    def milliseconds(self) -> int | None:
        """`timestamp` in milliseconds since 1970."""
        return None if self.timestamp is None else _milliseconds(self.timestamp)

    @property
    def takes_all(self) -> bool:
        """Whether all columns of the table are read."""
        return "*" in self.column

    def clients(self) -> list[Client]:
        """What reads a condition."""
        return [] if self.where is None else [Client("sqlglot", "vecferry[paimon]")]

    @property
    def follows(self) -> bool:
        """Whether changes are read, so that positions are kept."""
        return self.scan_mode != "full"

    @property
    def tells_keys(self) -> bool:
        """Also a table that is read once tells its key."""
        return True

    def outputs(self) -> dict[str, int | None] | None:
        """The columns by name; None where all of the table are taken."""
        return None if self.takes_all else dict.fromkeys(self.column)


def _milliseconds(text: str) -> int:
    """A time of ISO 8601, in UTC without an offset, or milliseconds since 1970."""
    if re.fullmatch(r"[0-9]{1,15}", text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as e:
        raise ValueError(
            f"{text!r} is not a time: write 2026-11-29T12:00:00Z, or milliseconds since 1970"
        ) from e
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
