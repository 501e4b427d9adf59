"""From what a row says of its image to the image that is sent: found, read, known or made ready.

Runs on threads of its own, so that a slow server or a large file holds back nothing but itself.

Apart from `engine` because it runs on those threads, and `engine` on the bundle's.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

from vecferry.errors import FatalError, JobError, TerminalError, TransientError, shorten
from vecferry.halt import Halt
from vecferry.retry import CLOCK, Backoff, Clock
from vecferry.steps import StepContext
from vecferry.transforms.embed.endpoints.base import Image, Vector
from vecferry.transforms.embed.images.address import UnknownHostError
from vecferry.transforms.embed.images.content import ImageSource, content_of, image_key
from vecferry.transforms.embed.images.fetch import BrokenImageError, Fetcher, Hold
from vecferry.transforms.embed.images.prepare import Gate, pillow, prepare
from vecferry.transforms.embed.images.spec import ImageSpec
from vecferry.waits import WAITS

MOST_SOURCE = 32 << 20
"""Bytes that are read of an image which may be scaled down."""
MOST_READING = 128 << 20
"""Bytes of images that are being read or made ready at a time in a process."""
LONGEST_WAIT = 10.0
NAME_TRIES = 3
"""So often a host's name is looked up before it is held for wrong."""
ALONE_TRIES = 5
"""So often an image is asked for that fails where others of its host come."""
REJECT_SECONDS = 30.0
"""How long a host is waited for where `imageUnreachable` says reject."""

_NO_FILE = {errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_ADVICE = ": set imageMaxPixels to have such images scaled down"
_reading = Gate(MOST_READING)


class Found(NamedTuple):
    """An image whose vector is known."""

    key: bytes
    vector: Vector


Loaded = Image | Found | Exception
"""An image to be sent, the vector that is known for it, or why there is neither."""


Known = Callable[[bytes], Vector | None]
"""Gives the vector that is known for an image's key, or None; called by many threads."""


class Files(Protocol):
    """The files of a data source, such as a `FileStore`."""

    def relative(self, pattern: str) -> str:
        """A path within the data source; JobError if it leads out."""

    def open(self, path: str) -> Any:
        """The file, opened for reading bytes."""


class HasFiles(Protocol):
    """The connection of a data source with files, such as ``LocalConnection``."""

    def open_files(self) -> Files:
        """Its files."""


class ImageLoader:
    """Loads images for one operator; called by many threads.

    `connection` is the data source of paths, None if the step names none; `deadline` is in seconds
    since an image's first try.
    """

    def __init__(
        self,
        spec: ImageSpec,
        known: Known,
        connection: HasFiles | None,
        context: StepContext,
        *,
        deadline: float,
        halt: Halt,
        clock: Clock = CLOCK,
    ) -> None:
        pillow()  # its absence is told at once
        self._known, self._connection, self._halt = known, connection, halt
        self._rules, self._clock = spec.rules, clock
        self._what, self._run = f"step {context.step!r}", context.run
        self._rejects = spec.rejects_unreachable
        self._deadline = deadline
        self._patience = min(deadline, REJECT_SECONDS) if self._rejects else deadline
        self._most_bytes = MOST_SOURCE if spec.scales else spec.rules.most_bytes
        self._advice = "" if spec.scales else _ADVICE
        self._fetcher = context.scope.get(
            ("images", spec.trusted, spec.allow_private, spec.timeout, self._most_bytes),
            lambda: Fetcher(
                patterns=spec.trusted,
                allow_private=spec.allow_private,
                timeout=spec.timeout,
                most_bytes=self._most_bytes,
                advice=self._advice,
                connections=context.shared.concurrent or context.in_flight(),
                clock=clock,
            ),
        )
        self._files: Files | None = None

    def __call__(self, source: ImageSource) -> Loaded:
        """The image of a source; never raises."""
        try:
            with ExitStack() as made_ready:
                content = self._content(source, made_ready)
                key = image_key(content, self._rules.most_pixels)
                vector = self._known(key)
                if vector is not None:
                    return Found(key, vector)
                return prepare(key, content, self._rules)
        except FatalError as e:
            return e
        except TerminalError as e:
            return TerminalError(f"image ({source.shown}): {e}", e.reason)
        except Exception as e:
            return e

    def _content(self, source: ImageSource, held: ExitStack) -> bytes:
        """The content of a source; what room it takes is let go of when `held` ends."""
        if source.kind not in ("url", "path"):
            return content_of(source)
        first, hold = self._clock.now(), partial(_hold_until, held)
        # From the first try on: a store of files has its own retries, and has waited already.
        deadline = self._patience if source.kind == "url" else self._deadline
        backoff = Backoff(deadline=deadline, cap=LONGEST_WAIT, clock=self._clock.now)
        try:
            return self._tried(source, hold, held, backoff, first)
        finally:
            WAITS.over(backoff)

    def _tried(
        self, source: ImageSource, hold: Hold, held: ExitStack, backoff: Backoff, first: float
    ) -> bytes:
        while True:
            try:
                if source.kind == "url":
                    return self._fetch(source.value, hold)
                return self._read(source, hold)
            except TransientError as e:
                held.close()  # the next try takes room of its own
                wait = backoff.next_wait(e.retry_after)
                self._give_up_one(source, e, backoff.tries, first)
                if wait is None:
                    raise self._gave_up(source, e, backoff.tries, first) from e
                WAITS.failed(
                    backoff, self._what, e, tries=backoff.tries, left=backoff.left, run=self._run
                )
                self._halt.sleep(wait, self._clock, self._what)

    def _fetch(self, url: str, hold: Hold) -> bytes:
        if self._rejects and self._fetcher.is_down(url):
            text = "its host gave no answer a moment ago"
            raise TerminalError(text, "image-unreachable")
        return self._fetcher.get(url, hold)

    def _give_up_one(
        self, source: ImageSource, e: TransientError, tries: int, first: float
    ) -> None:
        """Raises TerminalError where the failure is the image's own, not that of a server."""
        if isinstance(e, UnknownHostError) and tries >= NAME_TRIES:
            text = f"{e}; it was looked up {tries} times"
            raise TerminalError(text, "image-not-found") from e
        if not isinstance(e, BrokenImageError) or tries < ALONE_TRIES:
            return
        if self._fetcher.answered(source.value) > first:
            text = f"{e}; it was asked for {tries} times, and its host gave others meanwhile"
            raise TerminalError(text, "image-unavailable") from e

    def _gave_up(
        self, source: ImageSource, e: TransientError, tries: int, first: float
    ) -> Exception:
        text = f"gave up after {tries} tries in {self._clock.now() - first:.0f} s: {e}"
        if source.kind == "url" and self._rejects:
            if self._fetcher.answered(source.value) < first:
                self._fetcher.give_up(source.value)
            return TerminalError(text, "image-unreachable")
        way = "run the job again when it is back"
        if source.kind == "url":
            way += ", or set imageUnreachable to reject, which rejects the rows of such images"
        return TransientError(f"{self._what}: an image could not be read: {text}: {way}")

    def _read(self, source: ImageSource, hold: Hold) -> bytes:
        """The content of a file; what is wrong with its path is the row's fault."""
        if self._files is None:
            assert self._connection is not None
            self._files = self._connection.open_files()
        try:
            relative = self._files.relative(source.value)
            with self._files.open(relative) as file:
                size = getattr(file, "size", None)
                known = size if type(size) is int else self._most_bytes
                with hold(min(known, self._most_bytes)):
                    content: bytes = file.read(self._most_bytes + 1)
        except JobError as e:
            raise TerminalError(str(e), "image-outside") from e
        except PermissionError as e:
            raise TerminalError("the file may not be read", "image-refused") from e
        except (FileNotFoundError, ValueError) as e:
            raise TerminalError(self._no_file(), "image-not-found") from e
        except OSError as e:
            if e.errno in _NO_FILE:
                raise TerminalError(self._no_file(), "image-not-found") from e
            raise TransientError(f"the file can't be read: {shorten(e, 120)}") from e
        if len(content) > self._most_bytes:
            raise TerminalError(
                f"the file has more than {self._most_bytes:,} bytes{self._advice}",
                "image-too-large",
            )
        return content

    def _no_file(self) -> str:
        return "the data source that imageDatasource names has no such file"


@contextmanager
def _hold_until(end: ExitStack, amount: int) -> Iterator[None]:
    """Holds room for what is read until `end`, or only while it is read where that fails."""
    with ExitStack() as reading:
        reading.enter_context(_reading.hold(amount))
        yield
        end.enter_context(reading.pop_all())
