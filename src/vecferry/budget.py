"""What the paid requests of a run cost in this process, and the budget that they keep to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from vecferry.errors import TerminalError
from vecferry.process import RunState
from vecferry.steps import StepContext

OVER_BUDGET = "over-budget"
"""The reason of the rows that a budget left without a vector."""


class Charge(NamedTuple):
    """What a request that failed costs: whether it was sent, and whether it may be billed."""

    sent: bool
    billed: bool


FULL = Charge(sent=True, billed=True)


class OverBudgetError(TerminalError):
    """A request was not sent, because with it the run would have spent more than it may."""


class Ledger:
    """Books each request of a run before it is sent; for all steps and threads.

    `requests` and `tokens` are what the run may spend, None without a bound. `share` tells which
    part of them belongs to this process. The first request that would exceed them ends `run`: its
    readers stop, and what is under way is finished.
    """

    def __init__(
        self,
        run: RunState,
        requests: int | None,
        tokens: int | None,
        share: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self._share = share
        self._run, self._most_requests, self._most_tokens = run, requests, tokens
        self._lock = threading.Lock()
        self._refused = False
        self.requests = self.tokens = self.under_way = 0
        self.counts_tokens = tokens is not None

    def book(
        self, tokens: int, charge_of: Callable[[BaseException], Charge] = lambda e: FULL
    ) -> Booking:
        """A request that may cost about `tokens`; raises OverBudgetError if it may not go.

        `charge_of` tells of an error that the request fails with what the failure costs.
        """
        with self._lock:
            if not self._allows(tokens):
                self._refused = True
                self._run.end("budget")
                raise OverBudgetError(self._bound(), OVER_BUDGET)
            self.requests += 1
            self.tokens += tokens
            self.under_way += 1
            return Booking(self, tokens, self.under_way, charge_of)

    def _allows(self, used: int) -> bool:
        requests, tokens = self._bounds()
        if requests is not None and self.requests >= requests:
            return False
        return tokens is None or self.tokens + used <= tokens

    def _bounds(self) -> list[int | None]:
        share = self._share()
        most = (self._most_requests, self._most_tokens)
        return [None if bound is None else int(bound * share) for bound in most]

    def _bound(self) -> str:
        bounds = zip(("requests", "tokens"), self._bounds(), strict=True)
        named = " and ".join(f"{n:,} {name}" for name, n in bounds if n is not None)
        return f"setting.budget allows {named}, and the next request would exceed that"

    def settle(self, booking: Booking, tokens: int, *, sent: bool) -> None:
        """Ends a request: `tokens` is what it did cost."""
        with self._lock:
            self.under_way -= 1
            self.tokens += tokens - booking.tokens
            if not sent:
                self.requests -= 1

    def verdict(self) -> str | None:
        """Why the run ended early, and how to go on; None if it did not."""
        if not self._refused:
            return None
        return (
            f"{self._bound()}: {self.requests:,} requests and {self.tokens:,} tokens are spent; "
            f"rows that were read and not embedded are rejected ({OVER_BUDGET}). Run the job "
            "again with budget left: with setting.vectorCache it asks only for what is missing"
        )


class Booking:
    """A request that was booked; a context manager around the call.

    `tokens` is the estimate, and `billed` the vendor's own number once it is known. `place` is the
    number of requests of this process that were under way as this one began, itself included.
    """

    __slots__ = ("_charge_of", "_ledger", "billed", "place", "tokens")

    def __init__(
        self,
        ledger: Ledger,
        tokens: int,
        place: int,
        charge_of: Callable[[BaseException], Charge],
    ) -> None:
        self._ledger, self.tokens, self.place = ledger, tokens, place
        self._charge_of = charge_of
        self.billed = 0

    def __enter__(self) -> Booking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        sent, billed = FULL if e is None else self._charge_of(e)
        self._ledger.settle(self, (self.billed or self.tokens) if billed else 0, sent=sent)


def ledger_of(context: StepContext) -> Ledger:
    """The ledger of a run, or of a round, in this process; it holds this process's share."""

    def make() -> Ledger:
        budget = context.shared.budget
        return Ledger(context.state, budget.requests, budget.tokens, context.share)

    return context.scope.round.get("ledger", make)
