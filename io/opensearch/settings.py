"""What a job may say of OpenSearch: the connection and the writer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vecferry.fields import SourceType, in_form
from vecferry.io.search.settings import OPENSEARCH, SearchConnection, SearchSettings


class OpenSearchConnection(SearchConnection):
    """A cluster of OpenSearch, or PolarSearch, with the k-NN plugin."""

    type: SourceType[Literal["opensearch"]] = "opensearch"


class OpenSearchSettings(SearchSettings):
    """The writer `opensearch`."""

    vectors = OPENSEARCH

    pipeline: str | None = Field(
        default=None,
        description="the ingest pipeline; `_none` bypasses the index's own",
        examples=["my-pipeline"],
        json_schema_extra=in_form(
            "write", advanced=True, otherwise="`_none` if the step writes vectors"
        ),
    )
