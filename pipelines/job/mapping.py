"""`mapping` of a job: a table into an index, as the calls of AutoETL say it.

Apart from `vecferry.pipelines.job.model` because `vecferry.pipelines.autoetl` makes steps of it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from vecferry.fields import in_form
from vecferry.settings import Settings


class MappingSettings(Settings):
    """In place of the steps of a job, or beside them: what a step says itself counts.

    ``sync_by_map`` has `fields` and `keys`. ``sync_by_table`` has `table`, `index` and `columns`.
    ``sync_by_view`` has the statement of a `view`.
    """

    source: str = Field(
        min_length=1,
        description="the data source of the database",
        examples=["Shop"],
        json_schema_extra=in_form("source"),
    )
    target: str = Field(
        default="search",
        min_length=1,
        description="the data source of the index",
        examples=["search"],
        json_schema_extra=in_form("target"),
    )
    fields_: str | None = Field(
        default=None,
        alias="fields",
        description="as `sync-by-map` takes them: `idx.f(db.t.c),…`",
        examples=["items.title(shop.items.title)"],
        json_schema_extra=in_form("columns"),
    )
    keys: str | None = Field(
        default=None,
        description="with `fields`: `idx.id=db.t.id`",
        examples=["items.id=shop.items.id"],
        json_schema_extra=in_form("columns", when=("fields",)),
    )
    table: str | None = Field(
        default=None,
        description="as `sync-by-table` takes it: `db.t`",
        examples=["shop.items"],
        json_schema_extra=in_form("source"),
    )
    index: str | None = Field(
        default=None,
        description="with `table`: the index",
        examples=["items"],
        json_schema_extra=in_form("target", when=("table",)),
    )
    columns: str | None = Field(
        default=None,
        description="with `table`: `c1,c2`",
        examples=["id,title"],
        json_schema_extra=in_form("columns", when=("table",), otherwise="all"),
    )
    view: str | None = Field(
        default=None,
        description="the statement of `sync-by-view`",
        examples=["CREATE SEARCH VIEW items AS SELECT id, title FROM shop.items"],
        json_schema_extra=in_form("source"),
    )
    key: str | None = Field(
        default=None,
        description="with `table` or `view`: the columns of the id, `c1,c2`",
        examples=["id"],
        json_schema_extra=in_form("columns", otherwise="the primary key"),
    )
    connector: str | dict[str, Any] | None = Field(
        default=None,
        description="the connector of ml-commons: a file of JSON, or the body",
        examples=["connector.json"],
        json_schema_extra=in_form("model", advanced=True),
    )
    pipeline: str | dict[str, Any] | None = Field(
        default=None,
        description="an ingest pipeline: a file of JSON, the body, or its name on the server",
        examples=["pipeline.json"],
        json_schema_extra=in_form("model", advanced=True),
    )
    index_body: str | dict[str, Any] | None = Field(
        default=None,
        description="of an index that is missing: a file of JSON, or the body",
        examples=["index.json"],
        json_schema_extra=in_form("creation", advanced=True),
    )
    embed: Literal["here", "server"] = Field(
        default="here",
        description="who makes the vectors: `here` or the `server`",
        json_schema_extra=in_form("model"),
    )

    @model_validator(mode="after")
    def _is_one_call(self) -> MappingSettings:
        given = {"fields": self.fields_, "table": self.table, "view": self.view}
        named = [name for name, value in given.items() if value is not None]
        if len(named) != 1:
            shown = " and ".join(named) or "none of them"
            raise ValueError(f"it has {shown}: give one of fields, table and view")
        needed = {"fields": "keys", "table": "index"}
        values = {"keys": self.keys, "index": self.index, "columns": self.columns, "key": self.key}
        lacking = needed.get(named[0])
        if lacking is not None and values[lacking] is None:
            raise ValueError(f"{named[0]} is given without {lacking}: give both")
        whose = {"keys": "fields", "index": "table", "columns": "table"}
        for name, owner in whose.items():
            if values[name] is not None and owner != named[0]:
                raise ValueError(f"{name} is for {owner}, and it has {named[0]}: leave it out")
        if self.key is not None and named[0] == "fields":
            raise ValueError("key stands beside fields, whose key is keys: leave key out")
        return self
