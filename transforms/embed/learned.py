"""What a process learns of an endpoint from what the endpoint refuses and what it serves.

The lessons outlast a bundle: no later bundle pays for them again.
"""

from __future__ import annotations

import threading

from vecferry.transforms.embed.endpoints.base import Content, Image, PoisonError
from vecferry.transforms.embed.long import MARGIN, estimate_tokens

SHAPES_IN_A_ROW = 3
"""After so many batches in a row, each of whose two answers was short or mixed, inputs are sent one
by one."""
FIRST_PROBE = 32
"""Batches that go one by one, until a whole one is tried again; then twice as many, and so on."""
USELESS = 3
"""So many single inputs without a usable answer, and none before, tell of the endpoint."""
SHORTEST = 32
"""Tokens below which a text is not taken to be too long."""
WIDE = 3.0
"""Nothing is known of the limit yet if a refused text has more than so many times the tokens."""
NARROW = 1.1
"""The limit is known well enough if a refused text has at most so many times a served one's tokens.
"""
_ALIKE = 1.25
"""A request is only as large as another one if it has at most so many times its size."""


def weight_of(content: Content) -> int:
    """What an input takes of a request, in letters; an image in bytes of base64."""
    return len(content) if isinstance(content, str) else -(-len(content.data) // 3) * 4


class Bounds:
    """How many inputs of one kind, and of what weight, an endpoint serves in one request.

    `most` and `weight` are None until they are known. `served` and `served_weight` are the
    largest that passed.
    """

    def __init__(self) -> None:
        self.most: int | None = None
        self.weight: int | None = None
        self.served = self.served_weight = 0

    def serve(self, count: int, weight: int) -> None:
        """Notes a request that was served."""
        self.served = max(self.served, count)
        self.served_weight = max(self.served_weight, weight)

    def may_exceed(self, count: int, weight: int) -> bool:
        """Whether a refused request may be too large: none of its size was ever served."""
        return count > self.served or weight > _ALIKE * self.served_weight

    def exceed(self, count: int, weight: int, *, too_large: bool) -> None:
        """Notes that a request was refused of which both halves were served.

        `too_large` says that the server spoke of bytes. What was served is never forbidden.
        """
        heavy = weight > self.served_weight
        if count > self.served and not (too_large and heavy):
            self.most = max(1, self.served)
        elif heavy:
            self.weight = max(1, self.served_weight)

    def limit(self, most: int) -> None:
        """Notes the number of inputs that the server names."""
        self.most = most if self.most is None else min(self.most, most)

    def parts(self, inputs: list[Content]) -> list[list[Content]]:
        """`inputs` in requests within the bounds; an input that is too heavy goes alone."""
        most, weight = self.most or len(inputs), self.weight
        if weight is None:
            return [inputs[at : at + most] for at in range(0, len(inputs), most)]
        parts: list[list[Content]] = [[]]
        room = weight
        for one in inputs:
            own = weight_of(one)
            if parts[-1] and (own > room or len(parts[-1]) >= most):
                parts.append([])
                room = weight
            parts[-1].append(one)
            room -= own
        return parts


class Lengths:
    """How long a text may be, in estimated tokens, by what an endpoint refuses and serves.

    `served` is the longest that was served. `refused` is the shortest that was refused for its
    length, and `named` the limit that a refusal named; both are None until one was.
    """

    def __init__(self) -> None:
        self.served = 0
        self.refused: int | None = None
        self.named: int | None = None

    def serve(self, text: str) -> None:
        """Notes a text that was served."""
        if len(text) > self.served:
            self.served = max(self.served, estimate_tokens(text))
            if self.refused is not None and self.served >= self.refused:
                self.refused = None  # it was something else

    def may_exceed(self, tokens: int, fault: PoisonError) -> bool:
        """Whether a text of so many tokens may have been refused for its length."""
        if tokens < SHORTEST:
            return False
        return fault.long or tokens > _ALIKE * self.served

    def exceed(self, tokens: int) -> None:
        """Notes that a text of so many tokens is too long."""
        if tokens > self.served:
            self.refused = min(tokens, self.refused or tokens)

    def most_for(self, tokens: int) -> int | None:
        """The tokens to which a text of so many is to be cut; None if it may pass as it is."""
        if self.named is not None and tokens > self.named:
            return self.named
        refused = self.refused
        if refused is None or tokens <= self.served or refused > WIDE * self.served:
            return None
        if tokens >= refused or refused <= NARROW * self.served:
            return int(self.served / MARGIN) + 1
        return None


class Learned:
    """The lessons of one endpoint in this process; for any thread.

    `fits` tells that it once gave a usable answer, `varies` that it gave different vectors, and
    `singly` that each request should hold one input.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.texts, self.images = Bounds(), Bounds()
        self.lengths = Lengths()
        self.fits = self.varies = self.singly = False
        self._shapes = self._useless = 0
        self._alone, self._probe = 0, FIRST_PROBE

    def bounds(self, one: Content) -> Bounds:
        """The bounds for inputs of the kind of `one`."""
        return self.images if isinstance(one, Image) else self.texts

    def serve(self, inputs: list[Content]) -> None:
        """Notes a usable answer."""
        with self._lock:
            self.fits = True
            self._useless = 0
            if len(inputs) > 1:
                self._shapes = 0
                self.singly = False
            self.bounds(inputs[0]).serve(len(inputs), sum(map(weight_of, inputs)))
            for one in inputs:
                if isinstance(one, str):
                    self.lengths.serve(one)

    def may_exceed(self, inputs: list[Content]) -> bool:
        """Whether a refused request may be too large for the endpoint."""
        return self.bounds(inputs[0]).may_exceed(len(inputs), sum(map(weight_of, inputs)))

    def exceed(self, inputs: list[Content], *, too_large: bool) -> None:
        """Notes that `inputs` were refused together, and served in two halves."""
        weight = sum(map(weight_of, inputs))
        with self._lock:
            self.bounds(inputs[0]).exceed(len(inputs), weight, too_large=too_large)

    def mix_up(self) -> None:
        """Notes a batch whose answer, twice, leaves open which vector is whose."""
        with self._lock:
            self._shapes += 1
            self.singly = self.singly or self._shapes >= SHAPES_IN_A_ROW

    def waste(self) -> bool:
        """Notes a single input without a usable answer; True if the endpoint gives no other."""
        with self._lock:
            self._useless += 1
            return not self.fits and self._useless >= USELESS

    def _probes(self) -> bool:
        """Whether this batch is the one that tells if batches are answered well again."""
        with self._lock:
            self._alone += 1
            if self._alone < self._probe:
                return False
            self._alone, self._probe = 0, 2 * self._probe
            return True

    def parts(self, inputs: list[Content]) -> list[list[Content]]:
        """`inputs` in requests that the endpoint should serve, by all that is known of it."""
        if len(inputs) == 1:
            return [inputs]
        if self.singly and not self._probes():
            return [[one] for one in inputs]
        return self.bounds(inputs[0]).parts(inputs)
