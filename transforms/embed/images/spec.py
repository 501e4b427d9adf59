"""What a step says of its images: what its model takes, and what URLs may lead to.

Imports neither numpy nor a client, since settings are made of it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ImageRules:
    """What a model takes: bytes in one image, formats (None is any), and the job's own bound."""

    model: str
    most_bytes: int
    formats: frozenset[str] | None = None
    most_pixels: int | None = None


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """All that the loading of a step's images needs to know.

    Attributes:
      rules: what the model takes.
      rejects_unreachable: whether rows are rejected whose images are on a host that is down.
      trusted: regular expressions, one of which matches each URL as a whole; None is any URL.
      allow_private: whether addresses may be asked that are not of the Internet.
      timeout: seconds for an image.
    """

    rules: ImageRules
    rejects_unreachable: bool = False
    trusted: tuple[str, ...] | None = None
    allow_private: bool = False
    timeout: float = 30.0

    @property
    def scales(self) -> bool:
        """Whether images are scaled down that have too many pixels or bytes."""
        return self.rules.most_pixels is not None
