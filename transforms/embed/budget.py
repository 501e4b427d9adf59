"""What the requests of a run cost in this process, and the budget that they may not exceed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from vecferry.errors import TerminalError
from vecferry.process import RunState, run_state
from vecferry.steps import StepContext
from vecferry.transforms.embed.endpoints.base import BadResponseError, PoisonError

OVER_BUDGET = "over-budget"
"""The reason of the rows that a budget left without a vector."""


class OverBudgetError(TerminalError):
    """A request was not sent, because with it the run would have spent more than it may."""


class Ledger:
    """Books each request of a run before it is sent; for all embedding steps and threads.

    `requests` and `tokens` are what the run may spend, None without a bound, and `share` tells
    which part of it is this process's. The first request that would exceed it ends `run`: its
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

    def book(self, tokens: int) -> Booking:
        """A request that may cost about `tokens`; raises OverBudgetError where it may not go."""
        with self._lock:
            if not self._allows(tokens):
                self._refused = True
                self._run.end("budget")
                raise OverBudgetError(self._bound(), OVER_BUDGET)
            self.requests += 1
            self.tokens += tokens
            self.under_way += 1
            return Booking(self, tokens, self.under_way)

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
        """Why the run ended early, and how to go on; None where it did not."""
        if not self._refused:
            return None
        return (
            f"{self._bound()}: {self.requests:,} requests and {self.tokens:,} tokens are spent; "
            f"rows that were read and not embedded are rejected ({OVER_BUDGET}). Run the job "
            "again with budget left: with setting.vectorCache it asks only for what is missing"
        )


class Booking:
    """A request that was booked; a context manager around the call itself.

    `tokens` is the estimate until the vendor's own number is put there; `place` how many requests
    of this process were under way as it began, itself included.
    """

    __slots__ = ("_ledger", "billed", "place", "tokens")

    def __init__(self, ledger: Ledger, tokens: int, place: int) -> None:
        self._ledger, self.tokens, self.place = ledger, tokens, place
        self.billed = 0

    def __enter__(self) -> Booking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        sent = not (isinstance(e, PoisonError) and not e.sent)
        may_be_billed = e is None or (sent and _may_be_billed(e))
        self._ledger.settle(self, (self.billed or self.tokens) if may_be_billed else 0, sent=sent)


def _may_be_billed(e: BaseException) -> bool:
    """Whether a request that failed may stand on the bill: its answer was lost, or is no good.

    An answer with a status other than 200 is not billed, nor what was never heard.
    """
    if isinstance(e, BadResponseError):
        return True
    return e.__cause__ is not None and not isinstance(e.__cause__, ConnectionRefusedError)


def ledger_of(context: StepContext) -> Ledger:
    """The ledger of a run in this process; of a budget it holds this process's share."""

    def make() -> Ledger:
        state = run_state(context.run, context.reject_limit)
        return Ledger(state, context.request_budget, context.token_budget, context.share)

    return context.scope.get("embed-ledger", make)
