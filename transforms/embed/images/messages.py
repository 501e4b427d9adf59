"""What the threads that load images tell the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from vecferry.transforms.embed.images.content import ImageSource
    from vecferry.transforms.embed.images.load import Loaded


W = TypeVar("W")
"""What waits for the vector of an image: the engine's own affair."""


class Load(Generic[W]):
    """An image that is being loaded, and the rows, with their vector columns, that wait for it."""

    __slots__ = ("rows", "source")

    def __init__(self, source: ImageSource, row: W, name: str) -> None:
        self.source = source
        self.rows: list[tuple[W, str]] = [(row, name)]


class ImageTaker(Protocol[W]):
    """What takes images that were loaded."""

    def take_image(self, load: Load[W], result: Loaded) -> None:
        """Sends an image, or gives its rows what there is; raises what ends the bundle."""


@dataclass(slots=True)
class ImageLoaded(Generic[W]):
    """An image was loaded, or could not be."""

    load: Load[W]
    result: Loaded

    def apply(self, engine: ImageTaker[W]) -> None:
        """Lets the engine have it."""
        engine.take_image(self.load, self.result)
