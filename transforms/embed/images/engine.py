"""The images of one bundle on their way to its outbox; all but the loading on its thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vecferry.errors import FatalError, TerminalError
from vecferry.steps import Counts, StepContext
from vecferry.threads import DaemonPool, raisable
from vecferry.transforms.embed.caller import Fate
from vecferry.transforms.embed.images.content import Image, ImageSource
from vecferry.transforms.embed.images.load import Found, ImageLoader, Loaded
from vecferry.transforms.embed.outbox import Outbox
from vecferry.transforms.embed.settings import EmbedSettings
from vecferry.transforms.embed.shared import Cache, Shared

LEAST_THREADS = 4
MOST_HELD = 128 << 20
"""Bytes of images that a bundle holds, in its rows and on their way, before it takes no more."""
MOST_KNOWN = 65_536
"""Places whose images are remembered by their keys."""


class Load:
    """An image that is being loaded, and the rows, with their vector columns, that wait for it."""

    __slots__ = ("_images", "rows", "source")

    def __init__(self, source: ImageSource, row: Any, name: str, images: Images) -> None:
        self.source, self._images = source, images
        self.rows = [(row, name)]

    def landed(self, result: Loaded) -> None:
        """Takes what came of it; on the bundle's thread. Raises what ends the bundle."""
        self._images.landed(self, result)


class Images:
    """Loads each image once, and hands it to the outbox unless its vector is known.

    It also knows how many bytes the rows inside the engine hold for their images. A place (a URL or
    a path) is loaded once while a bundle lasts; a vector is found by an image's content alone.
    """

    def __init__(
        self,
        load: ImageLoader,
        outbox: Outbox,
        cache: Cache,
        threads: int,
        counts: Counts,
        arrive: Callable[[list[tuple[Any, str]], Fate], None],
    ) -> None:
        self.load = load
        self._held = 0
        self._weights: dict[int, int] = {}
        self._outbox, self._cache, self._counts, self._arrived = outbox, cache, counts, arrive
        self._pool = DaemonPool(self._work, threads, "vecferry-images")
        self._most, self._under_way = 2 * threads, 0
        self._loading: dict[str, Load] = {}
        self._known: dict[str, bytes | TerminalError] = {}

    @property
    def busy(self) -> bool:
        """Whether an image is being loaded, which will come to the outbox's `done`."""
        return self._under_way > 0

    @property
    def full(self) -> bool:
        """Whether no more rows should come for now."""
        held = self._held + self._outbox.held
        return self._under_way >= self._most or held > MOST_HELD

    def enter(self, row: Any, inputs: list[Any]) -> None:
        """Notes what a row that comes in holds for its images; `leave` must follow."""
        weight = sum(one.weight for one in inputs if type(one) is ImageSource)
        if weight:
            self._weights[id(row)] = weight
            self._held += weight

    def leave(self, row: Any) -> None:
        """Ends what `enter` began, if it did."""
        self._held -= self._weights.pop(id(row), 0)

    def want(self, source: ImageSource, row: Any, name: str) -> None:
        """Lets column `name` of a row wait for the vector of an image."""
        if source.kind in ("url", "path"):
            if self._join(source.value, row, name):
                return
            load = self._loading[source.value] = Load(source, row, name, self)
        else:
            load = Load(source, row, name, self)
        self._under_way += 1
        self._pool.put(load)

    def landed(self, load: Load, result: Loaded) -> None:
        """Takes what came of loading an image; raises what ends the bundle."""
        self._under_way -= 1
        if load.source.kind in ("url", "path"):
            del self._loading[load.source.value]
            self._remember(load.source.value, result)
        if isinstance(result, Image):
            self._counts.add("images-loaded")
            if result.scaled:
                self._counts.add("images-scaled")
            for row, name in load.rows:
                self._outbox.want(result, row, name, looked_up=True)
        elif isinstance(result, Found):
            self._counts.add("images-loaded")
            self._counts.add("cache-hits", len(load.rows))
            self._arrived(load.rows, result.vector)
        elif isinstance(result, TerminalError) and not isinstance(result, FatalError):
            self._arrived(load.rows, result)
        else:
            raise result

    def one(self, content: bytes) -> Any:
        """The `Image` of a content, or its vector where that is known, or why there is neither."""
        result = self.load(ImageSource("content", content))
        return result.vector if isinstance(result, Found) else result

    def close(self) -> None:
        """Ends the threads; what was not loaded is left."""
        self._pool.drop()
        self._pool.close()

    def _work(self, one: Load) -> None:
        try:
            result = self.load(one.source)
        except BaseException as e:
            result = raisable(e)
        self._outbox.done.put((one, result))

    def _join(self, place: str, row: Any, name: str) -> bool:
        """Whether the image at a place is on its way, or was there before in this bundle."""
        load = self._loading.get(place)
        if load is not None:
            load.rows.append((row, name))
            return True
        known = self._known.get(place)
        if known is None:
            return False
        if isinstance(known, TerminalError):
            self._arrived([(row, name)], known)
            return True
        vector = self._cache.get(known)
        if vector is None:
            return self._outbox.join(Image(known), row, name)
        self._counts.add("cache-hits")
        self._arrived([(row, name)], vector)
        return True

    def _remember(self, place: str, result: Loaded) -> None:
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        if isinstance(result, Image | Found):
            self._known[place] = result.key
        elif isinstance(result, TerminalError):
            self._known[place] = result


def open_images(
    settings: EmbedSettings,
    context: StepContext,
    shared: Shared,
    outbox: Outbox,
    counts: Counts,
    arrive: Callable[[list[tuple[Any, str]], Fate], None],
    in_flight: int,
    **how: Any,
) -> Images:
    """The images of one bundle; `how` is what an `ImageLoader` needs besides.

    Twice as many are loaded at once as requests are under way: an image comes a little slower than
    a vector, as a rule, and a request takes several.
    """
    load = ImageLoader(settings, shared, context=context, **how)
    threads = max(LEAST_THREADS, 2 * in_flight)
    return Images(load, outbox, shared.cache, threads, counts, arrive)
