"""What the paid requests of a run cost in this process, and the budget that they keep to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import NamedTuple

from vecferry.errors import TerminalError
from vecferry.process import RunState
from vecferry.run.link import link_of
from vecferry.steps import Budget, StepContext

OVER_BUDGET = "over-budget"
"""The reason of the rows that a budget left without a vector."""


class Charge(NamedTuple):
    """What a request that failed costs: whether it was sent, and whether it may be billed."""

    sent: bool
    billed: bool


FULL = Charge(sent=True, billed=True)


Amounts = tuple[int, int, int]
"""Requests, tokens, and money in nano."""

Grant = Callable[[Amounts], Amounts | None]
"""Asks for so much of a shared budget; gives as much or more, or None if it is not there."""

GRANTS = 64
"""A worker is granted this part of what is left of a shared budget, or what it needs."""


class OverBudgetError(TerminalError):
    """A request was not sent, because with it the run would have spent more than it may."""


class Ledger:
    """Books each request of a run before it is sent; for all steps and threads.

    `budget` is what the run may spend. `share` tells which part of it belongs to this process. The
    first request that would exceed it ends `run`: its readers stop, and what is under way is
    finished.

    If the processes of a run share one budget, the launcher's ledger holds it, and grants parts of
    it. The ledger of each worker has `more`, which asks for them.
    """

    def __init__(
        self,
        run: RunState,
        budget: Budget,
        share: Callable[[], float] = lambda: 1.0,
        more: Grant | None = None,
    ) -> None:
        self._share, self._more = share, more
        self._granted = (0, 0, 0)
        self._run, self._budget = run, budget
        self._lock = threading.Lock()
        self._refused = False
        self.requests = self.tokens = self.nano = self.under_way = 0
        self.counts_tokens = budget.tokens is not None

    def book(
        self,
        tokens: int,
        charge_of: Callable[[BaseException], Charge] = lambda e: FULL,
        price: Callable[[int], int] = lambda tokens: 0,
    ) -> Booking:
        """A request that may cost about `tokens`; raises OverBudgetError if it may not go.

        `charge_of` tells of an error that the request fails with what the failure costs. `price`
        tells what the request costs by its tokens, in nano.
        """
        nano = price(tokens)
        with self._lock:
            if not self._allows(tokens, nano):
                self._refused = True
                self._run.end("budget")
                raise OverBudgetError(self._bound(), OVER_BUDGET)
            self.requests += 1
            self.tokens += tokens
            self.nano += nano
            self.under_way += 1
            self._tell()
            return Booking(self, tokens, self.under_way, charge_of, price)

    def _allows(self, tokens: int, nano: int) -> bool:
        needed = (self.requests + 1, self.tokens + tokens, self.nano + nano)
        if self._more is None:
            return _within(needed, self._bounds())
        pairs = zip(self._of_budget(), self._granted, strict=True)
        have = [None if bound is None else got for bound, got in pairs]
        if _within(needed, have):
            return True
        short = [0 if h is None else max(0, n - h) for n, h in zip(needed, have, strict=True)]
        granted = self._more((short[0], short[1], short[2]))
        if granted is None:
            return False
        self._granted = _plus(self._granted, granted)
        return True

    def _of_budget(self) -> Sequence[int | None]:
        return self._budget.requests, self._budget.tokens, self._budget.nano

    def grant(self, short: Amounts) -> Amounts | None:
        """What a worker may spend besides, at least `short`; None if that is too much.

        After that the run is to end. While much is left, more is granted than was asked for, so
        that workers ask rarely.
        """
        with self._lock:
            granted = []
            for bound, gone, asked in zip(self._of_budget(), self._granted, short, strict=True):
                left = asked if bound is None else bound - gone
                if asked > left:
                    self._refused = True
                    return None
                granted.append(max(asked, 0 if bound is None else left // GRANTS))
            found = granted[0], granted[1], granted[2]
            self._granted = _plus(self._granted, found)
            return found

    def take_over(self, spent: Iterable[Amounts]) -> None:
        """Books what the workers of the run have spent together."""
        with self._lock:
            total = (0, 0, 0)
            for amounts in spent:
                total = _plus(total, amounts)
            self.requests, self.tokens, self.nano = total

    def _bounds(self) -> list[int | None]:
        share = self._share() if self._more is None else 1.0
        return [None if bound is None else int(bound * share) for bound in self._of_budget()]

    def _bound(self) -> str:
        named = self._budget.named(*self._bounds())
        return f"setting.budget allows {named}, and the next request would exceed that"

    def settle(self, booking: Booking, tokens: int, nano: int, *, sent: bool) -> None:
        """Ends a request: `tokens` and `nano` are what it did cost."""
        with self._lock:
            self.under_way -= 1
            self.tokens += tokens - booking.tokens
            self.nano += nano - booking.nano
            if not sent:
                self.requests -= 1
            self._tell()

    def _tell(self) -> None:
        self._run.requests_under_way = self.under_way
        self._run.spent = self.requests, self.tokens, self.nano

    def verdict(self) -> str | None:
        """Why the run ended early, and how to go on; None if it did not."""
        if not self._refused:
            return None
        return (
            f"{self._bound()}: {self._budget.spent(self.requests, self.tokens, self.nano)}; "
            f"rows that were read and not embedded are rejected ({OVER_BUDGET}). Run the job "
            "again with budget left: with setting.vectorCache it asks only for what is missing"
        )


class Booking:
    """A request that was booked; a context manager around the call.

    `tokens` and `nano` are the estimate, and `billed` the vendor's own number of tokens once it is
    known. `spent` is what the request did cost, in nano, once it has ended. `place` is the number
    of requests of this process that were under way as this one began, itself included.
    """

    __slots__ = ("_charge_of", "_ledger", "_price", "billed", "nano", "place", "spent", "tokens")

    def __init__(
        self,
        ledger: Ledger,
        tokens: int,
        place: int,
        charge_of: Callable[[BaseException], Charge],
        price: Callable[[int], int],
    ) -> None:
        self._ledger, self.tokens, self.place = ledger, tokens, place
        self._charge_of, self._price = charge_of, price
        self.nano = price(tokens)
        self.billed = self.spent = 0

    def __enter__(self) -> Booking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        sent, billed = FULL if e is None else self._charge_of(e)
        tokens = (self.billed or self.tokens) if billed else 0
        self.spent = self._price(tokens) if billed else 0
        self._ledger.settle(self, tokens, self.spent, sent=sent)


def ledger_of(context: StepContext) -> Ledger:
    """The ledger of a run, or of a round, in this process; it holds this process's share."""

    def make() -> Ledger:
        link = link_of(context.run)
        more = None if link is None else link.grant
        return Ledger(context.state, context.shared.budget, context.share, more)

    return context.scope.round.get("ledger", make)


def _within(needed: Amounts, bounds: Sequence[int | None]) -> bool:
    return all(b is None or n <= b for n, b in zip(needed, bounds, strict=True))


def _plus(one: Amounts, other: Amounts) -> Amounts:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]
