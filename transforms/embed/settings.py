"""The settings of an embedding step, as DataWorks writes them, and what can be checked of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlencode, urlsplit
from urllib.request import getproxies

import orjson
from pydantic import (
    Field,
    JsonValue,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from vecferry.errors import near, without_query
from vecferry.fields import in_form
from vecferry.kinds import Client
from vecferry.money import Price
from vecferry.secrets import SECRET_NAME, Secret, secret_of
from vecferry.settings import Maker, SecretText, Settings, StepSettings
from vecferry.transforms.embed.cache.settings import VectorCacheSettings
from vecferry.transforms.embed.endpoints.models import Model, dimension_fault
from vecferry.transforms.embed.endpoints.providers import OPENAI, PROVIDERS, Provider
from vecferry.transforms.embed.endpoints.spec import EndpointOptions, EndpointSpec
from vecferry.transforms.embed.images.spec import ImageRules, ImageSpec


class EmbeddingColumn(Settings):
    """The columns that make up a text, or the one of an image, and the column of the vector."""

    source_column_names: tuple[str, ...] = Field(
        min_length=1,
        description="the columns that make up the text, or the one column of the image",
        examples=[["title", "about"]],
        json_schema_extra=in_form("input"),
    )
    embedding_column_name: str = Field(
        min_length=1,
        description="the new column of the vector",
        examples=["vector"],
        json_schema_extra=in_form("input"),
    )
    input_type: Literal["text", "image"] = Field(
        default="text",
        description="`image`: exactly one source column",
        json_schema_extra=in_form("input", see="images.md"),
    )

    @field_validator("source_column_names", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _keeps_its_source(self) -> Self:
        if self.embedding_column_name in self.source_column_names:
            raise ValueError(
                f"embeddingColumnName {self.embedding_column_name!r} is also a source column, "
                "which it would replace: choose another name"
            )
        if self.input_type == "image" and len(self.source_column_names) > 1:
            raise ValueError(
                f"inputType image with {len(self.source_column_names)} sourceColumnNames: an image "
                "is one column; write an object for each, with an embeddingColumnName of its own"
            )
        return self


_ODD = re.compile(r"[^!-~]|[\\?#]")
"""What no base URL holds: white space, other than ASCII, a query or a fragment."""


def checked_endpoint(url: str) -> str:
    """A base URL without a slash at its end; ValueError where requests to it could not be made."""
    if "@" in url:  # first, for the other messages show the URL
        raise ValueError("endpoint holds a user or password: put the key into apiKey instead")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, brackets that don't close
        good = False
    if not good:
        raise ValueError(
            f"endpoint {without_query(url)!r} is not a URL: write the base URL, "
            "such as https://dashscope.aliyuncs.com/compatible-mode/v1"
        )
    odd = _ODD.search(url)
    if odd is not None:
        raise ValueError(
            f"endpoint {without_query(url)!r} holds {odd.group()!r}: write the base URL alone, "
            "without a query, in ASCII (a name of other letters as xn--…)"
        )
    return url.rstrip("/")


_SECRET = re.compile(r"key|token|secret|sig|passw|auth", re.IGNORECASE)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The name of a header: RFC 9110, section 5.6.2."""
_HEADER = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_SET_HEADERS = frozenset(
    {
        "accept", "accept-encoding", "connection", "content-encoding", "content-length",
        "content-type", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
OWN_FIELDS = frozenset({"model", "input", "dimensions", "encoding_format"})
"""What a request of the step holds anyway."""


def _with_query_apart(value: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a step; what follows ``?`` in `endpoint` becomes a part of `query`."""
    endpoint, query = value.get("endpoint"), value.get("query")
    if not isinstance(endpoint, str) or not isinstance(query, dict | None):
        return value
    base, mark, rest = endpoint.partition("?")
    pairs = parse_qsl(rest, keep_blank_values=True)
    whole = bool(pairs) and all("=" in part for part in rest.split("&"))
    whole = whole and not any(_SECRET.search(name) for name, _ in pairs)  # `checked_endpoint` tells
    if not mark or "#" in rest or not whole or len(dict(pairs)) < len(pairs):
        return value
    return value | {"endpoint": base, "query": {**dict(pairs), **(query or {})}}


def _with_secrets(value: JsonValue, name: str = "") -> JsonValue:
    """A value of a body; texts in it whose name is that of a secret are secrets."""
    if isinstance(value, dict):
        return {key: _with_secrets(part, key) for key, part in value.items()}
    if isinstance(value, list):
        return [_with_secrets(part, name) for part in value]
    if isinstance(value, str) and _names_secret(name):
        return secret_of(value)
    return value


def _names_secret(name: str) -> bool:
    return SECRET_NAME.search(name) is not None and "tokeni" not in name.lower()


def _shown(body: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """A body as it may be shown."""
    return {name: _hidden(part) for name, part in body.items()}


def _hidden(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return _shown(value)
    if isinstance(value, list):
        return [_hidden(part) for part in value]
    return "***" if isinstance(value, Secret) else value


def _json(body: dict[str, JsonValue]) -> str:
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS).decode()


BATCH_SIZE = 10
_PAYS_WITH_MODEL, _PAYS_WITH_IMAGES = 8 << 20, 1 << 20
"""So many bytes of source take some seconds; starting a process takes one to two."""
"""Inputs in a request, if neither the job nor the provider or its model says otherwise."""


class EmbedSettings(StepSettings):
    """The parameters of stepType ``embedding-transformer``."""

    model_provider: str = Field(
        description="how to speak to the service",
        examples=["openai"],
        json_schema_extra=in_form("model", choices=tuple(PROVIDERS), see="embedding.md#providers"),
    )
    model_name: str | None = Field(
        default=None,
        description="the model; required by every provider but `local`",
        examples=["text-embedding-v4"],
        json_schema_extra=in_form("model"),
    )
    api_key: SecretText | None = Field(
        default=None,
        description="the key of the service; not needed by `local` and by an `openai` server "
        "that wants none",
        examples=["${EMBED_KEY}"],
        json_schema_extra=in_form("model"),
    )
    endpoint: str | None = Field(
        default=None,
        description="the base URL; `/embeddings` is appended unless the URL ends with it",
        examples=["https://api.openai.com/v1"],
        json_schema_extra=in_form("model", otherwise="the provider's own"),
    )
    batch_size: int = Field(
        BATCH_SIZE,
        ge=1,
        description="inputs in a request; more than the known model takes is an error",
        examples=[10],
        json_schema_extra=in_form("speed", advanced=True, otherwise="10 (`local`: 64)"),
    )
    embedding_columns: tuple[EmbeddingColumn, ...] = Field(
        description="the source columns and the column of the vector; a list of such objects "
        "makes several vectors",
        examples=[{"sourceColumnNames": ["title", "about"], "embeddingColumnName": "vector"}],
        json_schema_extra=in_form("input"),
    )
    append_delimiter: str = Field(
        default="\n",
        description="the text between the columns of one text",
        examples=["\n"],
        json_schema_extra=in_form("input", advanced=True),
    )
    skip_empty_value: bool = Field(
        default=False,
        description="leave empty parts out; let rows without any text pass",
        json_schema_extra=in_form("input", advanced=True),
    )
    dimension: int = Field(
        default=1024,
        description="size of the vectors, also in a writer's column that says none; the model "
        "must give it",
        examples=[512],
        json_schema_extra=in_form("model", otherwise="1024 (`local`: 256)"),
    )
    null_as_empty_string: bool = Field(
        default=False,
        description="a null among several columns is an empty part instead of none",
        json_schema_extra=in_form("input", advanced=True),
    )
    append_field_name_enable: bool = Field(
        default=False,
        description="put the column's name before its value",
        json_schema_extra=in_form("input", advanced=True),
    )
    append_field_name_delimiter: str | None = Field(
        default=None,
        description="the text between name and value; required if names are on",
        examples=[": "],
        json_schema_extra=in_form("input", advanced=True, when=("appendFieldNameEnable", True)),
    )

    workspace: str = Field(
        "default",
        pattern="^[\\w.-]+$",
        description="of `aiSearch`: the workspace",
        examples=["default"],
        json_schema_extra=in_form("model", advanced=True, when=("modelProvider", "aiSearch")),
    )
    cache_bytes: int = Field(
        64 << 20,
        ge=0,
        description="memory for the cache of vectors, per worker process; 0 turns the cache off",
        examples=[0],
        json_schema_extra=in_form("cache", advanced=True),
    )
    timeout_seconds: float = Field(
        30.0,
        gt=0,
        description="time limit of one request",
        examples=[60],
        json_schema_extra=in_form("limits", advanced=True),
    )
    retry_deadline_seconds: float | None = Field(
        None,
        gt=0,
        description="how long a batch waits for an endpoint that is down before the job fails",
        examples=[60],
        json_schema_extra=in_form("limits", advanced=True, otherwise="600"),
    )
    requests_per_minute: float | None = Field(
        None,
        gt=0,
        description="your quota of requests, if you know it: requests are spaced from the first "
        "one",
        examples=[300],
        json_schema_extra=in_form("limits", advanced=True),
    )
    tokens_per_minute: float | None = Field(
        None,
        gt=0,
        description="your quota of tokens, if you know it",
        examples=[1000000],
        json_schema_extra=in_form("limits", advanced=True),
    )
    over_limit: Literal["reject", "truncate", "split"] = Field(
        default="reject",
        description="what to do with a long text",
        json_schema_extra=in_form("text", advanced=True, see="embedding.md#long-texts"),
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        description="tokens of a text, for `overLimit`; learned from refusals if nobody says it",
        examples=[8192],
        json_schema_extra=in_form("text", advanced=True, otherwise="as the model takes"),
    )
    send_dimension: bool | None = Field(
        default=None,
        description="whether requests say `dimensions`; switch it off for a server that refuses it",
        json_schema_extra=in_form("requests", advanced=True, otherwise="as the model takes"),
    )
    price: Price | None = Field(
        default=None,
        description="what the service bills",
        examples=[{"perMillionTokens": 0.07}],
        json_schema_extra=in_form("limits", advanced=True, see="embedding.md#prices"),
    )
    body: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="further fields of each request; part of what a vector depends on",
        examples=[{"input_type": "passage"}],
        json_schema_extra=in_form("requests", advanced=True),
    )
    query_body: dict[str, JsonValue] | None = Field(
        default=None,
        description="the same for texts to search by",
        examples=[{"input_type": "query"}],
        json_schema_extra=in_form("requests", advanced=True, otherwise="`body`"),
    )
    request_body: str | None = Field(
        default=None,
        description="with `connector`: the whole body of a request",
        examples=['{"input": ${parameters.input}}'],
        json_schema_extra=in_form(
            "requests",
            advanced=True,
            when=("modelProvider", "connector"),
            see="embedding.md#providers",
        ),
    )
    query: dict[str, str] = Field(
        default_factory=dict,
        description="what follows the address; no keys, as messages show addresses",
        examples=[{"api-version": "2024-06-01"}],
        json_schema_extra=in_form("requests", advanced=True),
    )
    query_query: dict[str, str] | None = Field(
        default=None,
        description="the same for texts to search by",
        examples=[{"api-version": "2024-06-01"}],
        json_schema_extra=in_form("requests", advanced=True, otherwise="`query`"),
    )
    headers: dict[str, SecretText] = Field(
        default_factory=dict,
        description="further headers of each request; their values are secrets",
        examples=[{"api-key": "${KEY}"}],
        json_schema_extra=in_form("requests", advanced=True),
    )
    query_headers: dict[str, SecretText] = Field(
        default_factory=dict,
        description="further headers for texts to search by, over `headers`",
        examples=[{"x-task": "search"}],
        json_schema_extra=in_form("requests", advanced=True),
    )
    image_datasource: str | None = Field(
        default=None,
        description="the data source of paths",
        examples=["Files"],
        json_schema_extra=in_form("images", advanced=True),
    )
    image_max_pixels: int | None = Field(
        None,
        ge=1024,
        description="allows an image to be changed so that it fits",
        examples=[1048576],
        json_schema_extra=in_form("images", advanced=True, see="images.md#size-and-format"),
    )
    image_unreachable: Literal["fail", "reject"] = Field(
        default="fail",
        description="what happens if the host of an image is down",
        json_schema_extra=in_form("images", advanced=True),
    )
    allow_private_addresses: bool = Field(
        default=False,
        description="whether URLs may lead to loopback, private and other non-public addresses",
        json_schema_extra=in_form("images", advanced=True),
    )
    trusted_endpoints: tuple[str, ...] | None = Field(
        default=None,
        description="`setting.trustedEndpoints`, for a step outside a job",
        examples=[["^https://api\\.openai\\.com/"]],
        json_schema_extra=in_form("limits", advanced=True),
    )
    vector_cache: VectorCacheSettings | None = Field(
        default=None,
        description="`setting.vectorCache`, for a step outside a job",
        examples=[{"uri": "sqlite:///vectors-cache.db"}],
        json_schema_extra=in_form("cache", advanced=True, see="vector-cache.md"),
    )

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, value: Any) -> Any:
        """What the provider and the model take, where the job says nothing."""
        if not isinstance(value, dict):
            return value
        value = _with_query_apart(value)
        provider = PROVIDERS.get(str(value.get("modelProvider") or value.get("model_provider")))
        if provider is None:
            return value
        filled = dict(provider.defaults)
        model = provider.model(value.get("modelName") or value.get("model_name"))
        if model is not None and model.inputs is not None and model.inputs < BATCH_SIZE:
            filled["batch_size"] = model.inputs
        names = {name: {name, to_camel(name)} for name in filled}
        return value | {n: given for n, given in filled.items() if not names[n] & value.keys()}

    @field_validator("model_provider")
    @classmethod
    def _known_provider(cls, value: str) -> str:
        if value not in PROVIDERS:
            raise ValueError(
                f"modelProvider {value!r} is none of {', '.join(PROVIDERS)}{near(value, PROVIDERS)}"
            )
        return value

    @field_validator("embedding_columns", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict | EmbeddingColumn) else value

    @field_validator("embedding_columns")
    @classmethod
    def _distinct(cls, value: tuple[EmbeddingColumn, ...]) -> tuple[EmbeddingColumn, ...]:
        if not value:
            raise ValueError("embeddingColumns is empty: it needs at least 1 object")
        names = [c.embedding_column_name for c in value]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(
                f"embeddingColumnName {twice[0]!r} stands {names.count(twice[0])} times: "
                "each vector needs a column of its own"
            )
        return value

    @field_validator("dimension")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value < 1:
            raise ValueError(f"dimension {value} is not a size of a vector: use 1 or more")
        return value

    @field_validator("query", "query_query")
    @classmethod
    def _without_keys(
        cls, value: dict[str, str] | None, info: ValidationInfo
    ) -> dict[str, str] | None:
        for name in value or {}:
            if _SECRET.search(name):
                raise ValueError(
                    f"{to_camel(info.field_name or '')} names {name!r}, which addresses in "
                    "messages would show: put the key into apiKey or headers instead"
                )
        return value

    @field_validator("body", "query_body")
    @classmethod
    def _keeps_secrets(cls, value: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        return None if value is None else {n: _with_secrets(part, n) for n, part in value.items()}

    @field_serializer("body", "query_body")
    def _without_secrets(self, value: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        return None if value is None else _shown(value)

    @field_validator("headers", "query_headers")
    @classmethod
    def _own_headers(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        field = to_camel(info.field_name or "")
        for name, text in value.items():
            if not _TOKEN.fullmatch(name) or not _HEADER.fullmatch(str.__str__(text)):
                raise ValueError(
                    f"{field}: {name!r} or its value is not a header of HTTP: "
                    "write visible characters of ASCII, in one line"
                )
            if name.lower() in _SET_HEADERS:
                raise ValueError(f"{field} names {name!r}, which the step itself sets: omit it")
        return value

    @field_validator("endpoint")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        return None if value is None else checked_endpoint(value)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        options = self._options
        faults = (*self.provider.faults(options), *self._model_faults(), self._image_fault(options))
        problems = [p for p in faults if p]
        problems += [*self._body_faults(options), *self._header_faults(options)]
        if self.append_field_name_enable and self.append_field_name_delimiter is None:
            problems.append(
                "appendFieldNameEnable is on without appendFieldNameDelimiter: "
                'say what stands between a field\'s name and its value, such as ": "'
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _model_faults(self) -> list[str | None]:
        model = self.model
        if model is None:
            return []
        name = self.model_name or "the local model"
        faults = [dimension_fault(name, model, self.dimension)]
        if model.inputs is not None and self.batch_size > model.inputs:
            faults.append(
                f"batchSize {self.batch_size} is more than the {model.inputs} inputs that "
                f"{self.model_name} takes in a request: use batchSize <= {model.inputs}"
            )
        return faults

    def _header_faults(self, options: EndpointOptions) -> list[str]:
        """What keeps `headers` and `queryHeaders` from being sent."""
        faults = []
        for field, headers in (("headers", self.headers), ("queryHeaders", self.query_headers)):
            names = {name.lower() for name in headers}
            if names and self.provider.url(options) is None:
                faults.append(f"{field} are for services: leave them out")
            elif "authorization" in names and self.api_key is not None:
                faults.append(
                    f"{field} names 'Authorization', and apiKey is there: leave one of them out"
                )
        return faults

    def _body_faults(self, options: EndpointOptions) -> list[str]:
        """What keeps `body` and `queryBody` from being sent."""
        given = {*self.body, *(self.query_body or ())}
        if not given:
            return []
        if self.provider.opens(options) != OPENAI:
            return ["body and queryBody are for APIs of the shape of OpenAI's: leave them out"]
        return [
            f"body names {name!r}, which the step itself sets: leave it out"
            for name in sorted(given & OWN_FIELDS)
        ]

    def _image_fault(self, options: EndpointOptions) -> str | None:
        if self.takes_images:
            return self.provider.image_fault(options)
        if self.image_datasource is None and self.image_max_pixels is None:
            return None
        text = "imageDatasource and imageMaxPixels are for columns of inputType image, of which"
        return f"{text} there is none"

    @property
    def takes_images(self) -> bool:
        """Whether a column of the step is an image."""
        return any(c.input_type == "image" for c in self.embedding_columns)

    def input_type_of(self, embedding_column: str) -> str:
        """Whether a vector column is of a text or of an image."""
        names = {c.embedding_column_name: c.input_type for c in self.embedding_columns}
        return names[embedding_column]

    @property
    def images_at_once(self) -> int:
        """How many images a request may hold."""
        most = self.model.images if self.model is not None else None
        return min(self.batch_size, most or self.batch_size)

    @property
    def image_bytes(self) -> int:
        """The bytes that an image may have; of an unknown model, what a request has room for."""
        known = self.model.image_bytes if self.model is not None else None
        return known or (self.provider.request_bytes - (64 << 10)) // 4 * 3

    @property
    def image_spec(self) -> ImageSpec:
        """What the step says of its images."""
        formats = self.model.image_formats if self.model is not None else None
        return ImageSpec(
            rules=ImageRules(
                model=self.shown_model,
                most_bytes=self.image_bytes,
                formats=frozenset(formats) if formats else None,
                most_pixels=self.image_max_pixels,
            ),
            rejects_unreachable=self.image_unreachable == "reject",
            trusted=self.trusted_endpoints,
            allow_private=self.allow_private_addresses,
            timeout=self.timeout_seconds,
        )

    @property
    def provider(self) -> Provider:
        """The provider, which knows its addresses and protocols."""
        return PROVIDERS[self.model_provider]

    @property
    def model(self) -> Model | None:
        """What is known of the model; None if nothing is."""
        return self.provider.model(self.model_name)

    @property
    def most_tokens(self) -> int | None:
        """How many tokens a text may have; None if nobody says it."""
        return self.max_tokens or (self.model.tokens if self.model is not None else None)

    @property
    def _options(self) -> EndpointOptions:
        return EndpointOptions(
            provider=self.model_provider,
            model_name=self.model_name,
            model=self.model,
            endpoint=self.endpoint,
            workspace=self.workspace,
            api_key=self.api_key,
            dimension=self.dimension,
            send_dimension=self.send_dimension,
            takes_images=self.takes_images,
            timeout=self.timeout_seconds,
            request_body=self.request_body,
        )

    @property
    def endpoint_spec(self) -> EndpointSpec:
        """What the step's endpoint is opened with."""
        return self._spec(self.query, self.headers)

    @property
    def query_spec(self) -> EndpointSpec:
        """What the endpoint for texts to search by is opened with."""
        own = {name.lower() for name in self.query_headers}
        headers = {n: text for n, text in self.headers.items() if n.lower() not in own}
        return self._spec(
            self.query if self.query_query is None else self.query_query,
            headers | self.query_headers,
        )

    def _spec(self, query: dict[str, str], headers: Mapping[str, str]) -> EndpointSpec:
        spec = self.provider.spec(self._options)
        if query:
            more = f"?{urlencode(query)}"
            other = spec.other_url and spec.other_url + more
            spec = replace(spec, url=spec.url and spec.url + more, other_url=other)
        if headers:
            spec = replace(spec, headers=tuple(headers.items()))
        if not self.body and not self.query_body:
            return spec
        queries = self.body if self.query_body is None else self.query_body
        return replace(spec, body=_json(self.body), query_body=_json(queries))

    @property
    def shown_model(self) -> str:
        """The model's name in messages."""
        return self.provider.shown_model(self.model_name)

    def computes_from(self) -> int | None:
        """A model in this process computes, and so does whoever loads and encodes images."""
        if self.takes_images:
            return _PAYS_WITH_IMAGES
        return None if self.calls() else _PAYS_WITH_MODEL

    def calls(self) -> list[str]:
        """The addresses of the endpoint; none for a model in this process."""
        spec = self.endpoint_spec
        return [url for url in (spec.url, spec.other_url) if url is not None]

    def key_variable(self) -> str | None:
        """The variable that the provider's own clients read."""
        return next(iter(self.provider.variables), None)

    def identity(self) -> tuple[Any, ...]:
        """What a vector depends on besides its input: vectors of equal identity may be shared."""
        spec = self.endpoint_spec
        return (
            self.model_provider,
            spec.url,
            self.shown_model,
            self.dimension,
            spec.asks_dimension,
            *([_json(_shown(self.body))] if self.body else []),
            *([self.request_body] if self.request_body is not None else []),
            *self._of_headers(),
        )

    def _of_headers(self) -> list[str]:
        """A digest of the headers that may change a vector, if any.

        A header whose name is that of a secret says who asks, so that a new key keeps the cache.
        """
        told = sorted(
            [name.lower(), str.__str__(text)]
            for name, text in self.headers.items()
            if not _names_secret(name)
        )
        return [f"headers {sha256(orjson.dumps(told)).hexdigest()}"] if told else []

    def inputs(self) -> list[str]:
        """The columns that texts and images are made of."""
        names = (n for c in self.embedding_columns for n in c.source_column_names)
        return list(dict.fromkeys(names))

    def outputs(self) -> dict[str, int | None]:
        """The vector columns that are added, with their dimension."""
        return {c.embedding_column_name: self.dimension for c in self.embedding_columns}

    def billed(self) -> Price | None:
        """What the service bills; see `StepSettings`."""
        return self.price

    def made_of(self) -> dict[str, list[str]]:
        """Each vector column that is added, with the columns of its text or image."""
        return {
            c.embedding_column_name: list(c.source_column_names) for c in self.embedding_columns
        }

    def with_deadline(self, seconds: float) -> Self:
        """A deadline of the step's own, shortened to `seconds`."""
        own = self.retry_deadline_seconds
        if own is None or own <= seconds:
            return self
        return self.model_copy(update={"retry_deadline_seconds": seconds})

    def makers(self) -> dict[str, Maker]:
        """What makes the vectors of each column that is added."""
        provider, model = self.model_provider, self.shown_model
        maker = Maker(provider=provider, model=model, dimension=self.dimension)
        return dict.fromkeys(self.outputs(), maker)

    def clients(self) -> list[Client]:
        """The library that runs a model in the worker itself, and the one that reads images."""
        client = self.provider.client
        images = [Client("PIL", "vecferry[images]")] if self.takes_images else []
        return images if client is None else [client, *images]

    def clients_here(self) -> list[Client]:
        """What speaks through a SOCKS proxy that the environment names."""
        if not any(value.startswith("socks") for value in getproxies().values()):
            return []  # so that `vecferry check` does not import the client of HTTP
        from vecferry.transforms.embed.endpoints.proxies import is_by_socks

        by_socks = any(map(is_by_socks, self.calls()))
        return [Client("socks", "vecferry[socks]")] if by_socks else []
