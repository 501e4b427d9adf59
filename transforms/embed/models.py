"""What is known of providers and their models: one table, from the vendors' own pages.

A model that is not here is allowed: its limits are then the server's to tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Model:
    """A known model: the dimensions it gives, the first of which is its own, and its limits.

    `inputs` is the number of inputs in a request, `tokens` in one input, `request_tokens` in all of
    a request; `chooses` tells whether a request may ask for a dimension; `multimodal` models have
    an API of their own. Those take images of `image_formats` (None where the vendor names none), of
    at most `image_bytes` each, and `images` of them in a request.
    """

    dimensions: tuple[int, ...]
    inputs: int | None = None
    tokens: int | None = None
    request_tokens: int | None = None
    chooses: bool = True
    multimodal: bool = False
    images: int | None = None
    image_bytes: int | None = None
    image_formats: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Provider:
    """How a provider is spoken to.

    `auth` is how the key goes into the ``Authorization`` header; `base64` whether vectors may be
    asked for as base64; `chooses` whether a request may ask for a dimension at all; `images`
    whether it has an API for them. `request_bytes` is how large a request is made at most, unless
    a single input alone takes more.
    """

    title: str
    base: str | None = None
    auth: Literal["bearer", "raw"] = "bearer"
    key_needed: bool = True
    base64: bool = False
    chooses: bool = True
    images: bool = False
    request_bytes: int = 6 << 20


PROVIDERS: dict[str, Provider] = {
    "bailian": Provider(
        title="Alibaba Cloud Model Studio (Bailian)",
        base="https://dashscope.aliyuncs.com/compatible-mode/v1",
        images=True,
    ),
    "dataworksModelService": Provider(title="a model service deployed in DataWorks"),
    "paiModelGallery": Provider(title="PAI Model Gallery (PAI-EAS)", auth="raw", chooses=False),
    "aiSearch": Provider(
        title="AI Search Open Platform", chooses=False, images=True, request_bytes=8_000_000
    ),
    "openai": Provider(
        title="any OpenAI-compatible server",
        base="https://api.openai.com/v1",
        key_needed=False,
        base64=True,
    ),
    "local": Provider(title="wordllama in this process, offline", key_needed=False),
}

_MB = 1 << 20
_PLAIN_FORMATS = ("jpeg", "png", "bmp")
_MANY_FORMATS = (*_PLAIN_FORMATS, "webp", "tiff")
_SEARCH_IMAGE = (8_000_000 - (64 << 10)) // 4 * 3  # as base64 it fills the body of 8 MB
_STUDIO = (2048, 1536, 1024, 768, 512, 256, 128, 64)

MODELS: dict[str, Model] = {
    "text-embedding-v4": Model(dimensions=(1024, *_STUDIO), inputs=10, tokens=8192),
    "text-embedding-v3": Model(dimensions=(1024, 768, 512, 256, 128, 64), inputs=10, tokens=8192),
    "text-embedding-v2": Model(dimensions=(1536,), inputs=25, tokens=2048, chooses=False),
    "text-embedding-v1": Model(dimensions=(1536,), inputs=25, tokens=2048, chooses=False),
    "bge-m3": Model(dimensions=(1024,), tokens=8192, chooses=False),
    "text-embedding-3-small": Model(
        dimensions=(1536, 1024, 768, 512, 256, 128, 64),
        inputs=2048,
        tokens=8191,
        request_tokens=300_000,
    ),
    "text-embedding-3-large": Model(
        dimensions=(3072, 2048, 1536, 1024, 768, 512, 256, 128, 64),
        inputs=2048,
        tokens=8191,
        request_tokens=300_000,
    ),
    "text-embedding-ada-002": Model(
        dimensions=(1536,), inputs=2048, tokens=8191, request_tokens=300_000, chooses=False
    ),
    "tongyi-embedding-vision-plus": Model(
        dimensions=(1152, 1024, 512, 256, 128, 64),
        tokens=1024,
        multimodal=True,
        images=8,
        image_bytes=3 * _MB,
        image_formats=_PLAIN_FORMATS,
    ),
    "tongyi-embedding-vision-flash": Model(
        dimensions=(768, 512, 256, 128, 64),
        tokens=1024,
        multimodal=True,
        images=8,
        image_bytes=3 * _MB,
        image_formats=_PLAIN_FORMATS,
    ),
    "multimodal-embedding-v1": Model(
        dimensions=(1024,),
        tokens=512,
        chooses=False,
        multimodal=True,
        images=8,
        image_bytes=3 * _MB,
        image_formats=_PLAIN_FORMATS,
    ),
    # It makes one vector of all that is in a request.
    "qwen2.5-vl-embedding": Model(
        dimensions=(1024, 2048, 768, 512),
        inputs=1,
        tokens=32_000,
        multimodal=True,
        images=1,
        image_bytes=5 * _MB,
        image_formats=_MANY_FORMATS,
    ),
    "ops-text-embedding-001": Model(dimensions=(1536,), inputs=32, tokens=300, chooses=False),
    "ops-text-embedding-zh-001": Model(dimensions=(768,), inputs=32, tokens=1024, chooses=False),
    "ops-text-embedding-en-001": Model(dimensions=(768,), inputs=32, tokens=512, chooses=False),
    "ops-text-embedding-002": Model(dimensions=(1024,), inputs=32, tokens=8192, chooses=False),
    "ops-gte-sentence-embedding-multilingual-base": Model(
        dimensions=(768,), inputs=32, chooses=False
    ),
    "ops-qwen3-embedding-0.6b": Model(dimensions=(1024,), inputs=32, chooses=False),
    "ops-m2-encoder": Model(
        dimensions=(768,), inputs=32, chooses=False, multimodal=True, image_bytes=_SEARCH_IMAGE
    ),
    "ops-m2-encoder-large": Model(
        dimensions=(1024,), inputs=32, chooses=False, multimodal=True, image_bytes=_SEARCH_IMAGE
    ),
    "ops-gme-qwen2-vl-2b-instruct": Model(
        dimensions=(1536,), inputs=32, chooses=False, multimodal=True, image_bytes=_SEARCH_IMAGE
    ),
}

ANY_DIMENSION = frozenset({"text-embedding-3-small", "text-embedding-3-large"})
"""Models that give every dimension up to their own, which stands first in the table."""

LOCAL = Model(dimensions=(256, 128, 64))
LOCAL_MODEL = "wordllama-l2-supercat"


def model_of(provider: str, name: str | None) -> Model | None:
    """The known model that a step means, or None."""
    return LOCAL if provider == "local" else MODELS.get((name or "").rsplit("/", 1)[-1].lower())


def local_fault(name: str | None) -> str | None:
    """Why a step of provider local can't have the model `name`; None where it can."""
    if name in (None, "", LOCAL_MODEL, "wordllama"):
        return None
    return (
        f"modelName {name!r} is not in this process: modelProvider local has only {LOCAL_MODEL}: "
        "leave modelName out, or name the provider that has it"
    )


def dimension_fault(name: str | None, model: Model, dimension: int) -> str | None:
    """Why `model` can't give vectors of `dimension`, with what it can give; None where it can."""
    given = sorted(set(model.dimensions), reverse=True)
    if (name or "") in ANY_DIMENSION:
        if dimension <= given[0]:
            return None
        return f"dimension {dimension} is more than {name} gives: use 1 to {given[0]}"
    if dimension in given:
        return None
    choices = " or ".join(map(str, given)) if len(given) < 3 else ", ".join(map(str, given))
    return f"dimension {dimension} is not one that {name or 'the local model'} gives: use {choices}"
