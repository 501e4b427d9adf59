"""What the stores behind a service share: patterns by listing, calls repeated, files in ranges.

A kind of store adds `_list`, `_stat`, `_fetch`, `_has_root` and `classify`. To be written to, it
adds `_create`, `_remove` and `_age`.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Any, ClassVar, TypeVar

from vecferry.errors import FatalError, JobError, TransientError, redact, shorten
from vecferry.io.files.stores.base import FileInfo, FileStore, NoRoot
from vecferry.process import PROCESS
from vecferry.retry import call_with_retries, http_date
from vecferry.run.giving_up import STILL_SECONDS
from vecferry.steps import StepContext
from vecferry.threads import raisable
from vecferry.waits import WAITS

LEAST_AHEAD, MOST_AHEAD = 256 << 10, 8 << 20
"""What a request brings beyond what was asked for; it doubles as long as reading goes on."""


class ResumingFile(io.BufferedIOBase):
    """A file of `size` bytes read by ranges, each of which `fetch` can repeat.

    It holds one block. Reading on grows the block to `MOST_AHEAD`; a seek begins with `LEAST_AHEAD`
    again. So neither a footer nor a preview brings more than it needs.
    `failure` is what it raised last.
    """

    failure: Exception | None = None

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self.size = size
        self._fetch = fetch
        self._at = self._start = 0
        self._block = b""
        self._ahead = LEAST_AHEAD // 2

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """To any byte, without a request."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Goes to a place."""
        base = (0, self._at, self.size)[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """So many bytes, fewer at the end only; all that are left without `size`."""
        end = self.size if size is None or size < 0 else min(self.size, self._at + size)
        parts = []
        while self._at < end:
            parts.append(self._piece(end))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read1(self, size: int = -1, /) -> bytes:
        """What one request brings at most."""
        end = self.size if size < 0 else min(self.size, self._at + size)
        return self._piece(end) if self._at < end else b""

    def close(self) -> None:
        """Lets go of the block."""
        self._block = b""
        super().close()

    def _piece(self, end: int) -> bytes:
        """What the block has of the bytes up to `end`, at least one."""
        within = self._at - self._start
        if not 0 <= within < len(self._block):
            self._load(end)
            within = 0
        piece = self._block[within : within + end - self._at]
        self._at += len(piece)
        return piece

    def _load(self, end: int) -> None:
        if self.closed:
            raise ValueError("the file is closed")
        on = self._at == self._start + len(self._block)
        self._ahead = min(MOST_AHEAD, self._ahead * 2) if on else LEAST_AHEAD
        self._block = b""
        stop = min(self.size, self._at + max(self._ahead, min(end - self._at, MOST_AHEAD)))
        try:
            self._block, self._start = self._fetch(self._at, stop), self._at
        except Exception as e:
            self.failure = e
            raise


T = TypeVar("T")

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
"""A service that sends no byte for so long counts as away."""

FIRST_SECONDS = 5.0
"""So long a call is repeated to a service that has never answered in this process."""

log = logging.getLogger(__name__)


class Changed(Exception):
    """The file is another one than that which was asked for."""


class _Contact:
    """Whether a service has answered in this process."""

    answered = False


class _Patience:
    """Waits for the answers of one call in a run, and no longer once the run gives up servers.

    An answer that is under way then has `STILL_SECONDS`, or twice as long as the slowest one took.
    Each try has a thread of its own, since the clients of the stores can't be interrupted. It is
    left behind if its answer is awaited no more.
    """

    def __init__(self, context: StepContext, where: str) -> None:
        self._run, self._who, self._where = context.run, f"step {context.step!r}", where
        self._giving_up = context.state.giving_up
        self._given_up = threading.Event()

    def __enter__(self) -> _Patience:
        self._giving_up.tell(self._given_up.set)
        return self

    def __exit__(self, *_: object) -> None:
        self._giving_up.forget(self._given_up.set)

    def sleep(self, seconds: float) -> bool:
        """Waits before another try; whether there is to be none."""
        return self._given_up.wait(seconds)

    def answer(self, ask: Callable[[], T]) -> T:
        """What `ask` gives or raises; TransientError where it is awaited no more."""
        outcome: list[Any] = []
        woken = threading.Event()

        def work() -> None:
            try:
                outcome.append((ask(), None))
            except BaseException as e:
                outcome.append((None, raisable(e)))
            woken.set()

        with WAITS.request(self._who, self._where, self._run):
            threading.Thread(target=work, name="vecferry-files", daemon=True).start()
            self._giving_up.tell(woken.set)
            try:
                woken.wait()
                self._await_a_little(outcome)
            finally:
                self._giving_up.forget(woken.set)
        if not outcome:
            raise TransientError(f"{self._where} has not answered, and the run was interrupted")
        result, error = outcome[0]
        if error is not None:
            raise error
        found: T = result
        return found

    def _await_a_little(self, outcome: list[Any]) -> None:
        longest = WAITS.longest(self._run, self._who)
        end = time.monotonic() + max(STILL_SECONDS, 2 * longest)
        while not outcome and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)


_LOOK_SECONDS = 0.02


class RemoteStore(FileStore):
    """A folder of a store that is reached by requests; safe for use by several threads.

    Calls that fail for a time are repeated for `retry_seconds`. If the service has not answered yet
    in this process, they are repeated for `FIRST_SECONDS`, since its address may be wrong. `access`
    is how the service is reached. `name` is how messages call the store above `folder`.
    """

    schemes: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, access: Hashable, folder: str, name: str, retry_seconds: float | None
    ) -> None:
        super().__init__(f"{name}/{folder}".rstrip("/") if folder else name, f"/{folder}")
        self._retry_seconds = retry_seconds
        self._contact = PROCESS.get(("files", "answered", access), _Contact)
        self._context: StepContext | None = None

    def heed(self, context: StepContext) -> None:
        """Ends the waits of calls to come once the run of a step gives up servers."""
        self._context = context

    def relative(self, pattern: str, *, rooted: bool = False) -> str:
        """`pattern` within the folder; JobError where it leads out.

        A leading slash is the top of the store. A URL must name the data source's own store.
        """
        _, mark, rest = pattern.partition("://")
        if mark:
            self.require_here(pattern)
            return super().relative("/" + rest.partition("/")[2])
        return super().relative(pattern)

    def require_here(self, url: str) -> None:
        """Raises JobError where a URL names another store than this."""
        scheme, _, rest = url.partition("://")
        if scheme.lower() not in self.schemes or not self._is_here(rest.partition("/")[0]):
            raise JobError(
                f"{url!r} names another place than the data source, which is {self.name!r}: "
                "write the path within it, or name another data source"
            )

    def info(self, path: str) -> FileInfo:
        """The file as it is now; FileNotFoundError where it is gone."""
        return self._call(path, lambda: self._stat(path))

    def open(self, path: str, file: FileInfo | None = None) -> Any:
        """The file, opened for reading bytes; FatalError once another is read than that."""
        opened = file or self.info(path)

        def fetch(start: int, end: int) -> bytes:
            return self._call(path, lambda: self._fetch(opened, start, end))

        return ResumingFile(fetch, opened.size)

    def create(self, path: str, data: bytes) -> bool:
        """A file under a path that does not exist; a call is repeated as others are."""
        tries = 0

        def attempt() -> bool:
            nonlocal tries
            tries += 1
            return self._create(path, data)

        made = self._call(path, attempt)
        # An earlier try may have made the file, and its answer may have been lost.
        return made or (tries > 1 and self._read(path) == data)

    def remove(self, path: str) -> None:
        """Removes a file."""
        with contextlib.suppress(FileNotFoundError):
            self._call(path, lambda: self._remove(path))

    def age(self, path: str) -> float:
        """Seconds since a file was changed; FileNotFoundError."""
        return max(0.0, self._call(path, lambda: self._age(path)))

    def _read(self, path: str) -> bytes | None:
        with contextlib.suppress(FileNotFoundError), self.open(path) as file:
            return bytes(file.read())
        return None

    def _create(self, path: str, data: bytes) -> bool:
        """Makes a whole file; False where the path exists."""
        raise NotImplementedError

    def _remove(self, path: str) -> None:
        """Removes a file; may raise FileNotFoundError."""
        raise NotImplementedError

    def _age(self, path: str) -> float:
        """Seconds since a file was changed, by the clock of the service."""
        raise NotImplementedError

    def _is_here(self, authority: str) -> bool:
        """Whether a URL's host or bucket is the data source's."""
        raise NotImplementedError

    def _stat(self, path: str) -> FileInfo:
        """One file; FileNotFoundError, or IsADirectoryError."""
        raise NotImplementedError

    def _fetch(self, file: FileInfo, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of that version of a file; `Changed` where there is another."""
        raise NotImplementedError

    def _has_root(self) -> bool:
        """Whether the folder is there."""
        raise NotImplementedError

    def classify(self, error: Exception) -> Exception:
        """A `TransientError` for what may pass, a `FatalError` for what the user must correct."""
        raise NotImplementedError

    def _call(self, path: str, make: Callable[[], T]) -> T:
        """What `make` gives, repeated while it fails for a time."""
        where = f"{self.name}/{path}" if path not in ("", ".") else self.name
        contact, since = self._contact, time.monotonic()

        def attempt() -> T:
            try:
                made = make() if patience is None else patience.answer(make)
            except (FileNotFoundError, IsADirectoryError):
                contact.answered = True
                raise
            except Changed as e:
                raise FatalError(
                    f"{where} changed since it was listed; run the job again when nobody writes "
                    "to its files"
                ) from e
            except (JobError, FatalError, TransientError):
                raise
            except Exception as e:
                told = self.classify(e)
                if isinstance(told, FatalError):
                    raise FatalError(redact(f"{where}: {told}"), told.reason) from e
                raise told from e
            contact.answered = True
            return made

        def repeated() -> None:
            if time.monotonic() - since > 5:
                log.warning("%s does not answer; it is tried again", where)

        known = contact.answered
        patience = None if self._context is None else _Patience(self._context, where)
        try:
            with patience or contextlib.nullcontext():
                return call_with_retries(
                    attempt,
                    deadline=self._retry_seconds if known else FIRST_SECONDS,
                    what=where,
                    sleep=time.sleep if patience is None else patience.sleep,
                    on_retry=repeated,
                )
        except TransientError as e:
            way = (
                "run the job again when it does" if known else "correct the data source's endpoint"
            )
            raise TransientError(redact(f"{e}; {way}"), e.retry_after) from e

    def _require_root(self) -> None:
        if not self._call(".", self._has_root):
            raise NoRoot(self._no_root())

    def _is_folder(self, path: str) -> bool:
        if path == ".":
            return True
        try:
            self.info(path)
        except IsADirectoryError:
            return True
        except FileNotFoundError:
            return False
        return False

    def _named(self, path: str) -> list[FileInfo]:
        try:
            return [self.info(path)] if path != "." else list(self._below("", ["*"]))
        except IsADirectoryError:
            return list(self._below(path, ["*"]))
        except FileNotFoundError:
            return []

    def _some_paths(self) -> Iterable[str]:
        return (file.path for _, file in self._list("", "", True) if file is not None)


def require_whole(data: bytes, start: int, end: int) -> bytes:
    """`data` where it is bytes `start` to `end`; else TransientError, as a connection broke off."""
    if len(data) != end - start:
        raise TransientError(f"{len(data)} bytes came of the {end - start} from byte {start} on")
    return data


def seconds_between(changed: float, date: str | None) -> float:
    """From a time of change to the ``Date`` of an answer; to this machine's time without one."""
    asked = http_date(date)
    return (time.time() if asked is None else asked.timestamp()) - changed


def may_not_write(rights: str, said: str) -> FatalError:
    """The error for keys that may only read; `rights` are those to grant."""
    return FatalError(f"it may not be written with these keys: grant them {rights} ({said})")


def broken_off(error: Exception) -> bool:
    """Whether a connection failed, or broke off in the middle of an answer."""
    import urllib3

    return isinstance(error, OSError | http.client.HTTPException | urllib3.exceptions.HTTPError)


def unreachable(endpoint: str, error: BaseException) -> TransientError:
    """The error for a service that does not answer; tells what lies at its bottom."""
    bottom = error
    while (under := bottom.__cause__ or bottom.__context__) is not None:
        bottom = under
    return TransientError(f"{endpoint} does not answer: {shorten(bottom) or type(bottom).__name__}")
