"""The list of files that a target holds, kept beside the positions of a sync.

A list is cut into blocks, and a block is named by a digest of its bytes. So two lists that differ
in one file share all blocks but one, and a round that reads one file writes one block. Where a
block ends depends on the paths in it: a new file moves no border but its own. The *root* of a list
names its blocks. A position names a root.

A round is written down before it begins, as the root that it leads to. A round that was broken off
is repeated with the same root. It may have read a file that was removed before the next listing.
That file is in the root, so the next round finds that it is gone.

Stands apart from `followed` because it knows neither stores of files nor steps.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import orjson

from vecferry.errors import FatalError
from vecferry.io.files.listing import key_of, size_of
from vecferry.positions.place import Place

BLOCK_LINES = 2048
"""How many lines a block has on average."""
MOST_BLOCK_LINES = 4 * BLOCK_LINES
HELD_BLOCKS = 128
"""So many blocks stay in memory, packed: about 50 kB each."""
YOUNG_SECONDS = 600.0
"""What nothing refers to is removed once it is so old: until then, somebody may be about to."""

ROOT, BLOCK, NEXT = "files-root-", "files-block-", "files-next-"
"""How names begin, among those of the positions."""

Difference = tuple[bytes, bytes | None]
"""What names a file, and its line in the newer list; None where it is gone."""


class Lost(FatalError):
    """A list, or a block of it, is not there any more."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A part of a list: its digest, what names its first file, how many files and bytes."""

    digest: str
    first: bytes
    files: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Root:
    """A list as its blocks."""

    blocks: tuple[Block, ...]

    @property
    def files(self) -> int:
        """How many files it has."""
        return sum(block.files for block in self.blocks)

    @property
    def bytes(self) -> int:
        """The bytes of these files."""
        return sum(block.bytes for block in self.blocks)


class Manifests:
    """The lists of one sync, in the place of its positions. Used by one thread."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._known: set[str] = set()
        self._looked = False
        self._roots: dict[str, Root] = {}
        self._held: OrderedDict[str, bytes] = OrderedDict()

    def write(self, lines: Iterable[bytes]) -> str:
        """Keeps a list of sorted lines; gives the name of its root, the same for the same lines."""
        if not self._looked:  # what is there need not be packed and written again
            self._known.update(self._place.names(BLOCK))
            self._looked = True
        blocks: list[Block] = []
        part: list[bytes] = []
        size = 0
        for line in lines:
            key = key_of(line)
            part.append(line)
            size += size_of(line)
            if zlib.crc32(key) % BLOCK_LINES == 0 or len(part) >= MOST_BLOCK_LINES:
                blocks.append(self._block(part, size))
                part, size = [], 0
        if part:
            blocks.append(self._block(part, size))
        root = Root(blocks=tuple(blocks))
        told = [[b.digest, b.first.decode(), b.files, b.bytes] for b in blocks]
        name = self._create(ROOT, orjson.dumps(told))
        self._roots[name] = root
        return name

    def root(self, name: str) -> Root:
        """The list of that root; raises `Lost`."""
        found = self._roots.get(name)
        if found is None:
            told = orjson.loads(self._read(ROOT, name))
            found = Root(
                blocks=tuple(
                    Block(digest=digest, first=first.encode(), files=files, bytes=size)
                    for digest, first, files, size in told
                )
            )
            self._known.update(BLOCK + block.digest for block in found.blocks)
            self._roots = {name: found, **dict(list(self._roots.items())[-3:])}
        return found

    def lines(self, name: str, after: bytes = b"") -> Iterator[bytes]:
        """The lines of a list in order, behind what names a file; raises `Lost`."""
        root = self.root(name)
        begin = max(0, bisect_right(root.blocks, after, key=lambda block: block.first) - 1)
        for block in root.blocks[begin:]:
            for line in self._lines(block):
                if not after or key_of(line) > after:
                    yield line

    def differences(self, old: str, new: str) -> Iterator[Difference]:
        """What differs between two lists, in order; blocks of both are not read."""
        if old == new:
            return
        of_old, of_new = self.root(old), self.root(new)
        both = {b.digest for b in of_old.blocks} & {b.digest for b in of_new.blocks}
        left, right = self._apart(of_old, both), self._apart(of_new, both)
        one, other = next(left, None), next(right, None)
        while one is not None or other is not None:
            if one is not None and one == other:
                one, other = next(left, None), next(right, None)
                continue
            before = None if one is None else key_of(one)
            after = None if other is None else key_of(other)
            if after is None or (before is not None and before < after):
                assert before is not None
                yield before, None
                one = next(left, None)
                continue
            yield after, other
            other = next(right, None)
            if before == after:
                one = next(left, None)

    def intended(self, load: str, number: int, since: str) -> str | None:
        """Where a round leads that was written down before; None if none was."""
        data = self._place.read(_next_name(load, number, since))
        return None if data is None else data.decode()

    def intend(self, load: str, number: int, since: str, until: str) -> str:
        """Writes down where a round leads; gives what was written down before, if anything was."""
        self._place.create(_next_name(load, number, since), until.encode())
        return self.intended(load, number, since) or until

    def lists(self) -> list[str]:
        """All roots that are kept."""
        return [name.removeprefix(ROOT) for name in self._place.names(ROOT)]

    def tidy(self, load: str, number: int, roots: Collection[str]) -> None:
        """Removes what is older than round `number`, and what neither `roots` nor a round needs."""
        names = [n for n in self._place.names("files-") if n.startswith((ROOT, BLOCK, NEXT))]
        needed, wanted = set[str](), set(roots)
        for name in names:
            if name.startswith(NEXT):
                of, at, _ = name.removeprefix(NEXT).split("-")
                if of == load and int(at) > number and (data := self._place.read(name)) is not None:
                    needed.add(name)
                    wanted.add(data.decode())
        try:
            for root in wanted:
                needed.add(ROOT + root)
                needed.update(BLOCK + block.digest for block in self.root(root).blocks)
        except Lost:
            return  # who needs it says so
        for name in names:
            if name not in needed and (self._place.age(name) or 0) > YOUNG_SECONDS:
                self._known.discard(name)
                self._place.remove(name)

    def forget(self) -> None:
        """Removes all lists."""
        for name in self._place.names("files-"):
            if name.startswith((ROOT, BLOCK, NEXT)):
                self._place.remove(name)
        self._known.clear()
        self._roots.clear()

    def _apart(self, root: Root, both: set[str]) -> Iterator[bytes]:
        for block in root.blocks:
            if block.digest not in both:
                yield from self._lines(block)

    def _lines(self, block: Block) -> list[bytes]:
        return self._read(BLOCK, block.digest).split(b"\n")

    def _block(self, lines: list[bytes], size: int) -> Block:
        digest = self._create(BLOCK, b"\n".join(lines))
        return Block(digest=digest, first=key_of(lines[0]), files=len(lines), bytes=size)

    def _create(self, kind: str, data: bytes) -> str:
        """Keeps bytes under their digest, unless they are known to be there."""
        digest = hashlib.sha256(data).hexdigest()[:32]
        name = kind + digest
        if name not in self._known:
            packed = zlib.compress(data, 6)
            self._place.create(name, packed)
            self._known.add(name)
            self._hold(name, packed)
        return digest

    def _read(self, kind: str, digest: str) -> bytes:
        name = kind + digest
        packed = self._held.get(name)
        if packed is None:
            packed = self._place.read(name)
        if packed is None:
            raise Lost(
                f"positions {self._place.where}: {name} is gone, a part of the list of the files "
                "that were read; try again if the job's sync runs, else forget the position with "
                "`vecferry position reset`"
            )
        self._hold(name, packed)
        return zlib.decompress(packed)

    def _hold(self, name: str, packed: bytes) -> None:
        self._held[name] = packed
        self._held.move_to_end(name)
        while len(self._held) > HELD_BLOCKS:
            self._held.popitem(last=False)


def moment() -> int:
    """Now, in milliseconds since 1970."""
    return int(time.time() * 1000)


def _next_name(load: str, number: int, since: str) -> str:
    return f"{NEXT}{load}-{number:012d}-{since[:16]}"
