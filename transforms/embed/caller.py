"""One batch to one endpoint: retries, bisection and pacing, until every input has its fate.

Runs on a pool's thread: what happened is told in an `Outcome`, counted by the bundle's thread.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from vecferry.budget import Ledger, OverBudgetError
from vecferry.errors import FatalError, TerminalError, TransientError
from vecferry.retry import CLOCK, Backoff, Clock
from vecferry.transforms.embed.endpoints.base import (
    Answer,
    BadResponseError,
    Content,
    DimensionError,
    Endpoint,
    PoisonError,
    ThrottledError,
    Vector,
    charge_of,
)
from vecferry.transforms.embed.long import estimate_tokens
from vecferry.transforms.embed.pace import Pacer

LONGEST_WAIT = 10.0
"""Seconds between two tries of one batch at most: an endpoint that is back is soon noticed."""

LEAST_PATIENCE = 120.0
"""A Retry-After of a 429 up to this many seconds is kept to, however soon the deadline is."""
HARMLESS = "vecferry"
"""A text that no endpoint refuses for what it says."""

Fate = Vector | TerminalError


@dataclass(slots=True)
class Outcome:
    """What became of a batch: a fate for each input, or the error that ends the job.

    `under_way` is the most requests of this process that were under way as one of it began, `msec`
    how long each good answer took.
    """

    fates: list[Any]
    requests: int = 0
    inputs: int = 0
    tokens: int = 0
    retries: int = 0
    throttled: int = 0
    bisections: int = 0
    under_way: int = 0
    msec: list[float] = field(default_factory=list)
    evicted: int = 0
    limit: int | None = None
    error: Exception | None = None


class Caller:
    """Asks an endpoint for the vectors of batches; one for all threads of an operator.

    `deadline` is in seconds since a batch's first failure; with None it waits as long as it takes.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        pacer: Pacer,
        ledger: Ledger,
        *,
        what: str,
        deadline: float | None,
        closed: threading.Event,
        clock: Clock = CLOCK,
    ) -> None:
        self._endpoint, self._pacer, self._ledger = endpoint, pacer, ledger
        self._counts_tokens = pacer.counts_tokens or ledger.counts_tokens
        self._what, self._deadline, self._closed = what, deadline, closed
        self._clock = clock
        self._ended: Exception | None = None  # what failed the bundle: nothing is asked after it
        self._fits = False  # whether the endpoint ever gave the right dimension

    def __call__(self, inputs: list[Content]) -> Outcome:
        """The outcome of a batch; never raises."""
        out = Outcome([None] * len(inputs), error=self._ended)
        if self._ended is None:
            try:
                self._embed(inputs, 0, out, None)
                if not self._fits and len(inputs) > 1:
                    self._blame(inputs, out)
            except Exception as e:
                out.error = self._ended = e
        return out

    def _blame(self, inputs: list[Content], out: Outcome) -> None:
        """Raises FatalError if the request is refused, whatever its texts say.

        If every text of a batch was refused, and no text of another batch was ever taken, a
        harmless one is asked for. Otherwise a wrong parameter would have all rows rejected, at two
        requests each.
        """
        if not all(isinstance(text, str) for text in inputs):
            return
        if not all(_is_refused(fate) for fate in out.fates):
            return
        try:
            out.tokens += self._send([HARMLESS], out).tokens
            self._fits = True
        except PoisonError as e:
            raise FatalError(
                f"{self._what}: all {len(inputs)} texts of a batch were refused one by one, and so "
                f"is the harmless {HARMLESS!r}: check modelName, dimension and sendDimension: {e}"
            ) from e
        except (BadResponseError, OverBudgetError):
            pass

    def _embed(
        self, inputs: list[Content], at: int, out: Outcome, known: PoisonError | None
    ) -> bool:
        """Gives inputs their fates, from place `at` on; True where all of them are vectors.

        A part that is `known` to hold a poison, because the whole was refused and its other half
        was not, is split without asking.
        """
        fault: PoisonError | BadResponseError
        try:
            if known is not None and len(inputs) > 1:
                raise known
            answer = self._send(inputs, out)
        except OverBudgetError as e:
            out.fates[at : at + len(inputs)] = [e] * len(inputs)
            return False
        except (PoisonError, BadResponseError) as e:
            fault = e
        else:
            out.fates[at : at + len(inputs)] = answer.vectors
            out.tokens += answer.tokens
            self._fits = True
            return True
        if len(inputs) == 1:
            out.fates[at] = self._refusal(fault)
            return False
        limit = fault.limit if isinstance(fault, PoisonError) else None
        if limit is not None and limit < len(inputs):
            out.limit = limit
            return self._split(inputs, at, out, limit)
        out.bisections += 1
        half = (len(inputs) + 1) // 2
        left = self._embed(inputs[:half], at, out, None)
        certain = left and isinstance(fault, PoisonError) and fault.reason != "too-large"
        right = self._embed(inputs[half:], at + half, out, fault if certain else None)  # type: ignore[arg-type]
        return left and right

    def _split(self, inputs: list[Content], at: int, out: Outcome, limit: int) -> bool:
        good = True
        for i in range(0, len(inputs), limit):
            good &= self._embed(inputs[i : i + limit], at + i, out, None)
        return good

    def _refusal(self, fault: PoisonError | BadResponseError) -> TerminalError:
        if isinstance(fault, PoisonError):
            return TerminalError(str(fault), fault.reason)
        return TerminalError(f"{fault}, twice", "bad-response")

    def _send(self, inputs: list[Content], out: Outcome) -> Answer:
        backoff: Backoff | None = None
        cost = sum(map(estimate_tokens, inputs)) if self._counts_tokens else 0
        first = self._clock.now()
        bad = 0
        while True:
            self._pacer.acquire(cost, self._sleep)
            started = self._clock.now()
            try:
                answer = self._ask(inputs, cost, out)
                self._pacer.passed()
                return answer
            except PoisonError:
                self._pacer.passed()
                raise
            except BadResponseError as e:
                fault = e
            except ThrottledError as e:
                out.throttled += 1
                self._pacer.throttled(started, e.retry_after)
                self._give_up_throttled(first, e)
                continue
            except TransientError as e:
                backoff = backoff or Backoff(
                    deadline=self._deadline, cap=LONGEST_WAIT, clock=self._clock.now
                )
                wait = backoff.next_wait(e.retry_after)
                if wait is None:
                    raise self._gave_up(backoff.tries, first, e) from e
                out.retries += 1
                self._sleep(wait)
                continue
            bad += 1
            if bad > 1:
                self._require_size(fault, len(inputs))
                raise fault
            out.retries += 1

    def _require_size(self, fault: BadResponseError, count: int) -> None:
        """Raises FatalError if the model gives vectors of another size than the step wants.

        One answer does not show this. A model that gives the right size may answer wrongly now and
        then, and several answers come in any order. So the same batch is asked for twice.
        """
        if not isinstance(fault, DimensionError):
            return
        if not self._fits:
            raise FatalError(f"{self._what}: {fault}") from fault
        if count > 1:
            raise FatalError(f"{self._what}: {fault}; before, it gave others") from fault

    def _ask(self, inputs: list[Content], cost: int, out: Outcome) -> Answer:
        started = time.perf_counter()
        try:
            booking = self._ledger.book(cost, charge_of)
            out.requests += 1
            out.inputs += len(inputs)
            out.under_way = max(out.under_way, booking.place)
            with booking:
                answer = self._endpoint.embed(inputs)
                booking.billed = answer.tokens
        except PoisonError as e:
            if not e.sent:
                out.requests -= 1
                out.inputs -= len(inputs)
            raise
        finally:
            self._pacer.done()
        out.msec.append((time.perf_counter() - started) * 1000)
        return answer

    def _sleep(self, seconds: float) -> None:
        if self._clock.wait(self._closed, seconds):
            raise TransientError(f"{self._what}: the bundle ended while its requests were waiting")

    def _give_up_throttled(self, first: float, e: ThrottledError) -> None:
        """A quota is not an outage: the deadline counts from the last request that passed."""
        since = max(first, self._pacer.last_success or first)
        if self._deadline is None:
            return
        if (e.retry_after or 0) > max(self._deadline, LEAST_PATIENCE):
            raise self._gave_up(1, first, e) from e
        if self._clock.now() - since > self._deadline:
            raise TransientError(
                f"{self._what}: gave up, every request was refused for {self._deadline:g} s: {e}"
            ) from e

    def _gave_up(self, tries: int, first: float, e: TransientError) -> TransientError:
        assert self._deadline is not None
        why = f"gave up after {tries} tries in {self._clock.now() - first:.0f} s"
        if (e.retry_after or 0) > self._deadline:
            why = (
                f"the endpoint asks to be left alone for {e.retry_after:,.0f} s, which is too long"
            )
        return TransientError(
            f"{self._what}: {why} (retryDeadlineSeconds {self._deadline:g}); run the job again "
            f"when the endpoint is back: {e}"
        )


def _is_refused(fate: Fate) -> bool:
    return isinstance(fate, TerminalError) and fate.reason == "refused-input"
