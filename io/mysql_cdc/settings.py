"""What a job says of the tables of MySQL that it follows."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from vecferry.fields import DataSourceName, in_form
from vecferry.io.mysql.settings import MySqlSettings
from vecferry.io.tables.settings import one_or_many, with_shards
from vecferry.settings import StepSettings, pick

ScanMode = Literal["initial", "latest", "earliest", "position"]
SCAN_MODES = ("initial", "latest", "earliest", "position")
ON_PURGED = ("fail", "resync")
ON_TABLE_CHANGE = ("resync", "stop")


class MySqlCdcSettings(StepSettings):
    """The `mysql-cdc` reader: tables of MySQL, loaded once and then followed by the binary log.

    `scanMode` says how a first run begins. ``initial`` loads the tables; ``latest`` begins at the
    end of the log, ``earliest`` at the oldest change that the server keeps. ``position`` needs a
    place from ``vecferry position set``. `onPurged` says whether all is read anew where the log
    behind the position is gone. `onTableChange` says the same of a TRUNCATE and its like.
    Otherwise the run ends. `chunkRows` is the number of rows that a SELECT of a full load reads.
    """

    datasource: DataSourceName = None
    table: tuple[str, ...] = Field(
        min_length=1,
        description="a table, or a list of tables with the same key and columns",
        examples=[["items"]],
        json_schema_extra=in_form("source"),
    )
    column: tuple[str, ...] = Field(
        default=("*",),
        description="columns, and expressions with an alias",
        examples=[["id", "title"]],
        json_schema_extra=in_form("columns"),
    )
    where: str | None = Field(
        default=None,
        description="a condition in SQL that rows must meet",
        examples=["price > 10"],
        json_schema_extra=in_form("source"),
    )
    scan_mode: ScanMode = Field(
        default="initial",
        description="how a first run begins: `initial` loads the tables; `latest`, `earliest` "
        "and `position` read only the log",
        json_schema_extra=in_form("follow"),
    )
    chunk_rows: int = Field(
        default=8192,
        ge=1,
        description="how many rows one SELECT of a full load reads",
        examples=[4096],
        json_schema_extra=in_form("speed", advanced=True),
    )
    on_purged: Literal["fail", "resync"] = Field(
        default="fail",
        description="what happens if the log behind the position is gone",
        json_schema_extra=in_form("follow", advanced=True),
    )
    on_table_change: Literal["resync", "stop"] = Field(
        default="resync",
        description="what a TRUNCATE and its like cause",
        json_schema_extra=in_form("follow", advanced=True),
    )

    ignored: ClassVar[frozenset[str]] = frozenset({"encoding", "envType"})

    @field_validator("table", "column", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return one_or_many(value)

    @field_validator("table", mode="after")
    @classmethod
    def _shards(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return with_shards(names)

    @field_validator("where", mode="after")
    @classmethod
    def _blank_is_none(cls, value: str | None) -> str | None:
        return (value or "").strip() or None

    @field_validator("scan_mode", mode="before")
    @classmethod
    def _mode(cls, value: Any) -> Any:
        return pick(value, SCAN_MODES, "scanMode")

    @field_validator("on_purged", mode="before")
    @classmethod
    def _purged(cls, value: Any) -> Any:
        return pick(value, ON_PURGED, "onPurged")

    @field_validator("on_table_change", mode="before")
    @classmethod
    def _changed(cls, value: Any) -> Any:
        return pick(value, ON_TABLE_CHANGE, "onTableChange")

    @model_validator(mode="after")
    def _readable(self) -> MySqlCdcSettings:
        _ = self.tables
        return self

    @property
    def tables(self) -> MySqlSettings:
        """How the tables are read by SELECT; ValueError says what can't be."""
        given = {"datasource": self.datasource, "table": self.table, "column": self.column}
        return MySqlSettings.model_validate({**given, "where": self.where})

    @property
    def follows(self) -> bool:
        """Always: the stepType `mysql` reads a table once."""
        return True

    @property
    def poll_seconds(self) -> float:
        """The server is asked where its log ends ten times a second."""
        return 0.1

    def outputs(self) -> dict[str, int | None] | None:
        """The columns by name; None where only the server can tell them."""
        return self.tables.outputs()
