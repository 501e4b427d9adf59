"""The settings of an embedding step, as DataWorks writes them, and what can be checked of them."""

from __future__ import annotations

import re
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from vecferry.errors import near, without_query
from vecferry.kinds import Client
from vecferry.settings import Maker, SecretText, Settings, StepSettings
from vecferry.transforms.embed.cache.settings import VectorCacheSettings
from vecferry.transforms.embed.models import (
    LOCAL_MODEL,
    PROVIDERS,
    Model,
    Provider,
    dimension_fault,
    local_fault,
    model_of,
)


class EmbeddingColumn(Settings):
    """Which columns make up a text, or which one an image, and the column of the vector."""

    source_column_names: tuple[str, ...] = Field(min_length=1)
    embedding_column_name: str = Field(min_length=1)
    input_type: Literal["text", "image"] = "text"

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
            f"endpoint {without_query(url)!r} is no URL: write the base URL, "
            "such as https://dashscope.aliyuncs.com/compatible-mode/v1"
        )
    odd = _ODD.search(url)
    if odd is not None:
        raise ValueError(
            f"endpoint {without_query(url)!r} holds {odd.group()!r}: write the base URL alone, "
            "without a query, in ASCII (a name of other letters as xn--…)"
        )
    return url.rstrip("/")


def key_fault(key: str) -> str | None:
    """Why a key can't be sent in a header, without showing it; None where it can."""
    if key.isascii() and key.isprintable():
        return None
    return (
        "apiKey holds a line break or another character that no key has: was it read from a file "
        "with a line's end?"
    )


def path_fault(name: str) -> str | None:
    """Why a model's name can't stand in a URL's path; None where it can."""
    if re.fullmatch(r"[\w.-]+", name, re.ASCII):
        return None
    return f"modelName {name!r} can't be a service id: it may hold letters, digits, _ . and -"


BATCH_SIZE = 10
LOCAL_DEFAULTS = {"dimension": 256, "batch_size": 64}
"""What a `local` step takes where the job says nothing: the model's own size, no small requests."""


BAILIAN_MULTIMODAL = "/api/v1/services/embeddings/multimodal-embedding/multimodal-embedding"


class EmbedSettings(StepSettings):
    """The parameters of stepType ``embedding-transformer``."""

    model_provider: str = Field(json_schema_extra={"enum": list(PROVIDERS)})
    model_name: str | None = None
    api_key: SecretText | None = None
    endpoint: str | None = None
    batch_size: int = Field(BATCH_SIZE, ge=1)
    embedding_columns: tuple[EmbeddingColumn, ...]
    append_delimiter: str = "\n"
    skip_empty_value: bool = False
    dimension: int = 1024
    null_as_empty_string: bool = False
    append_field_name_enable: bool = False
    append_field_name_delimiter: str | None = None

    workspace: str = Field("default", pattern=r"^[\w.-]+$")
    cache_bytes: int = Field(64 << 20, ge=0)
    timeout_seconds: float = Field(30.0, gt=0)
    retry_deadline_seconds: float | None = Field(None, gt=0)
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)
    over_limit: Literal["reject", "truncate", "split"] = "reject"
    send_dimension: bool | None = None
    image_datasource: str | None = None
    image_max_pixels: int | None = Field(None, ge=1024)
    image_unreachable: Literal["fail", "reject"] = "fail"
    allow_private_addresses: bool = False
    trusted_endpoints: tuple[str, ...] | None = None
    vector_cache: VectorCacheSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_local(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if (value.get("modelProvider") or value.get("model_provider")) != "local":
            return value
        names = {"dimension": ("dimension",), "batch_size": ("batch_size", "batchSize")}
        missing = {k: d for k, d in LOCAL_DEFAULTS.items() if not any(n in value for n in names[k])}
        return {**value, **missing}

    @model_validator(mode="before")
    @classmethod
    def _fill_single(cls, value: Any) -> Any:
        """A model that takes fewer inputs than is usual gets as many, where the job says none."""
        if not isinstance(value, dict) or "batchSize" in value or "batch_size" in value:
            return value
        provider = value.get("modelProvider") or value.get("model_provider")
        model = model_of(str(provider), str(value.get("modelName") or value.get("model_name")))
        if model is None or model.inputs is None or model.inputs >= BATCH_SIZE:
            return value
        return {**value, "batch_size": model.inputs}

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

    @field_validator("endpoint")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        return None if value is None else checked_endpoint(value)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = (*self._connection_faults(), *self._model_faults(), self._image_fault())
        problems = [p for p in faults if p]
        if self.append_field_name_enable and self.append_field_name_delimiter is None:
            problems.append(
                "appendFieldNameEnable is on without appendFieldNameDelimiter: "
                'say what stands between a field\'s name and its value, such as ": "'
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _connection_faults(self) -> list[str | None]:
        provider = self.provider
        faults: list[str | None] = []
        if self.model_provider == "local":
            return [local_fault(self.model_name)]
        if not self.model_name:
            faults.append(f"modelName is missing: {self.model_provider} needs one")
        own_server = self.endpoint is not None or provider.base is None
        if not self.api_key and (provider.key_needed or not own_server):
            faults.append(f"apiKey is missing: {self.model_provider} needs one")
        faults.append(key_fault(self.api_key or ""))
        if self.protocol == "aiSearch":
            faults.append(path_fault(self.model_name or "-"))
        if provider.base is None and self.endpoint is None:
            faults.append(
                f"endpoint is missing: {self.model_provider} has no address of its own, "
                "write the base URL of the deployed service"
            )
        return faults

    def _model_faults(self) -> list[str | None]:
        model = self.model
        if model is None:
            return []
        faults = [dimension_fault(self.model_name, model, self.dimension)]
        if model.inputs is not None and self.batch_size > model.inputs:
            faults.append(
                f"batchSize {self.batch_size} is more than the {model.inputs} inputs that "
                f"{self.model_name} takes in a request: use batchSize <= {model.inputs}"
            )
        return faults

    def _image_fault(self) -> str | None:
        if not self.takes_images:
            idle = self.image_datasource is not None or self.image_max_pixels is not None
            text = "imageDatasource and imageMaxPixels are for columns of inputType image, of which"
            return f"{text} there is none" if idle else None
        way = "use a multimodal model of bailian or aiSearch (tongyi-embedding-vision-plus, …)"
        if not self.provider.images:
            return f"inputType image: modelProvider {self.model_provider} embeds texts only: {way}"
        if self.model is not None and not self.model.multimodal:
            return f"inputType image: {self.model_name} embeds texts only: {way}"
        if self.protocol == "openai":
            return "inputType image: images have no compatible mode: write the host as endpoint"
        return None

    @property
    def takes_images(self) -> bool:
        """Whether a column of the step is an image."""
        return any(c.input_type == "image" for c in self.embedding_columns)

    def input_type_of(self, embedding_column: str) -> str:
        """Whether a vector column is of a text or of an image."""
        names = {c.embedding_column_name: c.input_type for c in self.embedding_columns}
        return names[embedding_column]

    @property
    def multimodal(self) -> bool:
        """Whether the model is spoken to by a multimodal API; an unknown one, if it gets images."""
        return self.model.multimodal if self.model is not None else self.takes_images

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
    def provider(self) -> Provider:
        """How the provider is spoken to."""
        return PROVIDERS[self.model_provider]

    @property
    def model(self) -> Model | None:
        """What is known of the model; None where nothing is."""
        return model_of(self.model_provider, self.model_name)

    @property
    def asks_dimension(self) -> bool:
        """Whether requests name the dimension: `sendDimension`, else as model and provider take."""
        if self.send_dimension is not None:
            return self.send_dimension
        return self.provider.chooses and (self.model is None or self.model.chooses)

    @property
    def protocol(self) -> Literal["local", "openai", "bailian-native", "aiSearch"]:
        """What requests and answers look like."""
        if self.model_provider == "local":
            return "local"
        if self.model_provider == "aiSearch":
            return "openai" if "/compatible-mode" in (self.endpoint or "") else "aiSearch"
        native = self.multimodal and self.model_provider == "bailian"
        return "bailian-native" if native else "openai"

    @property
    def url(self) -> str | None:
        """Where requests go, in full; None for what runs in this process."""
        base = self.endpoint or self.provider.base or ""
        host = "{0.scheme}://{0.netloc}".format(urlsplit(base))
        if self.protocol == "local":
            return None
        if self.protocol == "bailian-native":
            return f"{host}{BAILIAN_MULTIMODAL}"
        if self.protocol == "aiSearch":
            kind = "multi-modal-embedding" if self.multimodal else "text-embedding"
            where = f"/v3/openapi/workspaces/{self.workspace}/{kind}/{self.model_name}"
            return f"{host}{where}"
        if base.endswith("/embeddings"):
            return base
        if self.model_provider == "paiModelGallery" and not base.endswith("/v1"):
            return f"{base}/v1/embeddings"
        return f"{base}/embeddings"

    @property
    def other_url(self) -> str | None:
        """Where requests go if there is nothing at `url`: PAI serves some models at the bare path.

        None where the endpoint says clearly what it is.
        """
        bare = (self.model_provider == "paiModelGallery" and self.endpoint) or ""
        return bare if bare and f"{bare}/v1/embeddings" == self.url else None

    @property
    def shown_model(self) -> str:
        """The model's name in messages."""
        return self.model_name or LOCAL_MODEL

    def identity(self) -> tuple[Any, ...]:
        """What a vector depends on besides its input: vectors of equal identity may be shared."""
        return (
            self.model_provider,
            self.url,
            self.shown_model,
            self.dimension,
            self.asks_dimension,
        )

    def inputs(self) -> list[str]:
        """The columns that texts and images are made of."""
        names = (n for c in self.embedding_columns for n in c.source_column_names)
        return list(dict.fromkeys(names))

    def outputs(self) -> dict[str, int | None]:
        """The vector columns that are added, with their dimension."""
        return {c.embedding_column_name: self.dimension for c in self.embedding_columns}

    def calls(self) -> list[str]:
        """Where texts and images go."""
        return [url for url in (self.url, self.other_url) if url is not None]

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
        """The library that runs a model in the worker itself."""
        local = self.model_provider == "local"
        return [Client("wordllama", "vecferry[local]")] if local else []
