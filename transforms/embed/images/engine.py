"""The images of one bundle that are being loaded; all but the loading on the bundle's thread.

Apart from `vecferry.transforms.embed.engine` because a step without images needs none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

from vecferry.errors import TerminalError
from vecferry.steps import Counts
from vecferry.threads import DaemonPool, raisable
from vecferry.transforms.embed.endpoints.base import Image, Vector
from vecferry.transforms.embed.images.content import ImageSource
from vecferry.transforms.embed.images.load import Found, ImageLoader, Loaded
from vecferry.transforms.embed.images.messages import ImageLoaded, Load, W

LEAST_THREADS = 4
MOST_LOADED = 128 << 20
"""Bytes of images that are loaded at a time, if all of them are as large as the largest so far."""
FIRST = 8
"""So many images are loaded at a time until the first one tells how large they are."""
MOST_KNOWN = 65_536
"""Places whose images are remembered by their keys."""


class Images(Generic[W]):
    """Loads the images of a bundle by threads of its own, which `post` what they have loaded.

    A place (a URL or a path) is loaded once while a bundle lasts; a vector is found by an image's
    content alone.

    Twice as many images are loaded at once as requests are under way (`in_flight`). An image comes
    a little slower than a vector as a rule, and a request takes several images.
    """

    def __init__(
        self,
        load: ImageLoader,
        in_flight: int,
        counts: Counts,
        post: Callable[[ImageLoaded[W]], None],
    ) -> None:
        self.load = load
        self._counts, self._post = counts, post
        threads = max(LEAST_THREADS, 2 * in_flight)
        self._pool = DaemonPool(self._work, threads, "vecferry-images")
        self._most, self._under_way, self._largest = 2 * threads, 0, 0
        self._loading: dict[str, Load[W]] = {}
        self._known: dict[str, bytes | TerminalError] = {}

    def abandon(self) -> list[list[tuple[W, str]]]:
        """Forgets the images that are being loaded; gives the rows that wait for each."""
        self._pool.drop()
        rows = [load.rows for load in self._loading.values()]
        self._loading, self._under_way = {}, 0
        return rows

    @property
    def busy(self) -> bool:
        """Whether an image is being loaded, of which a message will come."""
        return self._under_way > 0

    @property
    def held(self) -> int:
        """Bytes that are read of places now, if each image is as large as the largest so far.

        An image that stands in its row counts as a part of the row.
        """
        return len(self._loading) * self._largest

    @property
    def full(self) -> bool:
        """Whether no more rows should come for now."""
        most = max(1, MOST_LOADED // self._largest) if self._largest else FIRST
        return self._under_way >= min(self._most, most)

    def known(self, source: ImageSource) -> bytes | TerminalError | None:
        """The key of the image at a place that was loaded before, or why there is none."""
        return self._known.get(source.value) if source.at_a_place else None

    def want(self, source: ImageSource, row: W, name: str) -> None:
        """Has an image loaded for column `name` of a row."""
        if source.at_a_place:
            waiting = self._loading.get(source.value)
            if waiting is not None:
                waiting.rows.append((row, name))
                return
        load = Load(source, row, name)
        if source.at_a_place:
            self._loading[source.value] = load
        self._under_way += 1
        self._pool.put(load)

    def landed(self, load: Load[W], result: Loaded) -> None:
        """Notes and counts what came of loading an image."""
        self._under_way -= 1
        if load.source.at_a_place:
            del self._loading[load.source.value]
            self._remember(load.source.value, result)
        if isinstance(result, Image):
            self._largest = max(self._largest, len(result.data))
        elif isinstance(result, Found):
            self._largest = max(self._largest, 1)  # nothing of it is kept
        if isinstance(result, Image | Found):
            self._counts.add("images-loaded")
        if isinstance(result, Image) and result.scaled:
            self._counts.add("images-scaled")

    def one(self, content: bytes) -> Image | Vector | Exception:
        """The `Image` of a content, or its vector where that is known, or why there is neither."""
        result = self.load(ImageSource("content", content))
        return result.vector if isinstance(result, Found) else result

    def close(self) -> None:
        """Ends the threads; what was not loaded is left."""
        self._pool.drop()
        self._pool.close()

    def _work(self, load: Load[W]) -> None:
        try:
            result = self.load(load.source)
        except BaseException as e:
            result = raisable(e)
        self._post(ImageLoaded(load, result))

    def _remember(self, place: str, result: Loaded) -> None:
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        if isinstance(result, Image | Found):
            self._known[place] = result.key
        elif isinstance(result, TerminalError):
            self._known[place] = result
