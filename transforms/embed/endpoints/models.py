"""What is known of models: one table, from the vendors' own pages.

A model that is not here is allowed: its server tells its limits.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Model:
    """A known model: the dimensions it gives, the first of which is its own, and its limits.

    Attributes:
      dimensions: what it gives; its own dimension stands first.
      inputs: how many inputs a request may hold.
      tokens: how many tokens an input may have.
      request_tokens: how many tokens a request may have.
      chooses: whether a request may ask for a dimension.
      multimodal: whether it has an API of its own, which takes images.
      images: how many images a request may hold.
      image_bytes: how many bytes an image may have.
      image_formats: the formats of images; None if the vendor names none.
      any_dimension: whether it gives every dimension up to its own.
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
    any_dimension: bool = False


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
        any_dimension=True,
    ),
    "text-embedding-3-large": Model(
        dimensions=(3072, 2048, 1536, 1024, 768, 512, 256, 128, 64),
        inputs=2048,
        tokens=8191,
        request_tokens=300_000,
        any_dimension=True,
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


def model_named(name: str | None) -> Model | None:
    """The known model of this name, which may stand behind the name of its maker and a slash."""
    return MODELS.get((name or "").rsplit("/", 1)[-1].lower())


def dimension_fault(name: str, model: Model, dimension: int) -> str | None:
    """Why `model` can't give vectors of `dimension`, with what it can give; None if it can."""
    given = sorted(set(model.dimensions), reverse=True)
    if model.any_dimension:
        if dimension <= given[0]:
            return None
        return f"dimension {dimension} is more than {name} gives: use 1 to {given[0]}"
    if dimension in given:
        return None
    choices = " or ".join(map(str, given)) if len(given) < 3 else ", ".join(map(str, given))
    return f"dimension {dimension} is not one that {name} gives: use {choices}"
