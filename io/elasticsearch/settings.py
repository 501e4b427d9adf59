"""What a job may say of Elasticsearch: the connection and the writer."""

from __future__ import annotations

import base64
from typing import Literal, Self

from pydantic import Field, model_validator

from vecferry.fields import SourceType, in_form
from vecferry.io.search.settings import ELASTICSEARCH, SearchConnection, SearchSettings
from vecferry.settings import SecretText


class ElasticsearchConnection(SearchConnection):
    """A cluster of Elasticsearch 8.15 or newer, with a password or an API key."""

    type: SourceType[Literal["elasticsearch"]] = "elasticsearch"
    api_key: SecretText | None = Field(
        default=None,
        description="a key, in place of `username` and `password`",
        examples=["${ELASTIC_API_KEY}"],
        json_schema_extra=in_form("login"),
    )

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if self.api_key is not None and self.username is not None:
            raise ValueError("apiKey and username are both given: leave one of them out")
        return self

    @property
    def login(self) -> dict[str, str]:
        """The header of the API key, or of the password."""
        if self.api_key is None:
            return super().login
        key = str.__str__(self.api_key)
        if ":" in key:  # `id:key`; what is encoded already stays
            key = base64.b64encode(key.encode()).decode()
        return {"authorization": f"ApiKey {key}"}


class ElasticsearchSettings(SearchSettings):
    """The writer `elasticsearch`, with the parameters of DataWorks and DataX."""

    vectors = ELASTICSEARCH
