"""A file read by ranges, as services give them."""

from __future__ import annotations

import io
from collections.abc import Callable

LEAST_AHEAD, MOST_AHEAD = 256 << 10, 8 << 20
"""What a request brings beyond what was asked for; it doubles as long as reading goes on."""


class ResumingFile(io.BufferedIOBase):
    """A file of `size` bytes read by ranges, each of which `fetch` can repeat.

    It holds one block: what is read on, grows it to `MOST_AHEAD`; a seek begins with
    `LEAST_AHEAD` again, so that neither a footer nor a preview brings more than it needs.
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
