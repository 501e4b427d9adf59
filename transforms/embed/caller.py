"""One batch to one endpoint: retries, bisection and pacing, until every input has its fate.

Runs on a pool's thread: what happened is told in an `Outcome`, counted by the bundle's thread.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vecferry.budget import Booking, Ledger, OverBudgetError
from vecferry.errors import FatalError, GivenUp, TerminalError, TransientError, VecferryError
from vecferry.halt import Halt
from vecferry.money import Price
from vecferry.retry import CLOCK, Backoff, Clock
from vecferry.run.giving_up import STILL_SECONDS
from vecferry.transforms.embed.endpoints.base import (
    Answer,
    BadResponseError,
    Content,
    DimensionError,
    Endpoint,
    Image,
    PoisonError,
    ShapeError,
    ThrottledError,
    Vector,
    charge_of,
)
from vecferry.transforms.embed.learned import Learned
from vecferry.transforms.embed.long import estimate_tokens
from vecferry.transforms.embed.pace import Pacer
from vecferry.waits import WAITS

LONGEST_WAIT = 10.0
"""Seconds between two tries of one batch at most: an endpoint that is back is soon noticed."""

LEAST_PATIENCE = 120.0
"""A Retry-After of a 429 up to this many seconds is kept to, however soon the deadline is."""
HARMLESS = "vecferry"
"""A text that no endpoint refuses for what it says."""
OTHER_HARMLESS = "a ferry crosses the river"
"""The same, for a batch that holds the first."""

REPEATS = 5
"""Equal failures of a batch after which a harmless text is asked for; half of a batch needs 2."""
ROUNDS = 2
"""How often a harmless text must pass and a batch fail, turn by turn; a single input once more."""

TRIES_ALONE = 4
"""How often a single input is asked for whose answer holds no vector, or several."""

MOST_IMAGE_TOKENS = 1_000_000

_SERVERS_FAULT = frozenset({"refused-input", "too-large", "bad-response"})
_STATUS = re.compile(r"answers \d{3}")
_VARYING = re.compile(r"[0-9a-f-]{8,}|\d+", re.IGNORECASE)

Fate = Vector | TerminalError | GivenUp


@dataclass(slots=True)
class Outcome:
    """What became of a batch: a fate for each input, or the error that ends the job.

    `under_way` is the most requests of this process that were under way as one of it began, `msec`
    how long each good answer took. `nano` is what was billed, by the price that the job names.
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
    nano: int = 0
    error: Exception | None = None


class _RepeatedError(VecferryError):
    """A request fails again and again, alike, while the endpoint serves another."""


Fault = PoisonError | BadResponseError | _RepeatedError


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
        halt: Halt,
        learned: Learned,
        where: str = "",
        run: str = "",
        clock: Clock = CLOCK,
        price: Price | None = None,
    ) -> None:
        self._learned, self._price = learned, price
        self._endpoint, self._pacer, self._ledger = endpoint, pacer, ledger
        priced = price is not None
        self._counts_tokens = pacer.counts_tokens or ledger.counts_tokens or priced
        self._what, self._deadline, self._halt, self._run = what, deadline, halt, run
        self._where = where
        self._clock = clock
        self._ended: Exception | None = None  # what failed the bundle: nothing is asked after it
        self._last: tuple[Content, Vector] | None = None
        self._refused_alone = 0  # batches of one input that were refused, in a row

    def __call__(self, inputs: list[Content]) -> Outcome:
        """The outcome of a batch; never raises."""
        out = Outcome([None] * len(inputs), error=self._ended)
        if self._ended is None:
            try:
                self._embed_parts(inputs, 0, out)
                self._judge(inputs, out)
            except Exception as e:
                out.error = self._ended = e
        if isinstance(out.error, GivenUp):
            out.fates = [out.error] * len(inputs)  # nobody has judged the answers that came
            out.error = None
        return out

    def _embed_parts(self, inputs: list[Content], at: int, out: Outcome) -> bool:
        """Gives inputs their fates, in requests of a size that the endpoint serves."""
        good = True
        for part in self._learned.parts(inputs):
            good &= self._embed(part, at, out)
            at += len(part)
        return good

    def _embed(
        self,
        inputs: list[Content],
        at: int,
        out: Outcome,
        known: Fault | None = None,
        suspect: bool = False,
    ) -> bool:
        """Gives inputs their fates, from place `at` on; True where all of them are vectors.

        A part that is `known` to hold a poison, because the whole was refused and its other half
        was not, is split without asking. A `suspect` part belongs to a batch that failed again
        and again.
        """
        fault: Fault
        try:
            if known is not None and len(inputs) > 1:
                raise known
            answer = self._send(inputs, out, suspect)
        except OverBudgetError as e:
            out.fates[at : at + len(inputs)] = [e] * len(inputs)
            return False
        except (PoisonError, BadResponseError, _RepeatedError) as e:
            fault = e
        else:
            out.fates[at : at + len(inputs)] = answer.vectors
            out.tokens += answer.tokens
            self._learned.serve(inputs)
            return True
        if len(inputs) == 1:
            out.fates[at] = self._refusal(fault)
            if isinstance(fault, BadResponseError) and self._learned.waste():
                raise self._useless(fault)
            return False
        return self._take_apart(inputs, at, out, fault)

    def _take_apart(self, inputs: list[Content], at: int, out: Outcome, fault: Fault) -> bool:
        """Finds in smaller requests which inputs are at fault, and whether any is."""
        learned = self._learned
        if isinstance(fault, BadResponseError):
            if isinstance(fault, ShapeError):
                learned.mix_up()
            if isinstance(fault, ShapeError) or learned.singly or not learned.fits:
                return self._one_by_one(inputs, at, out)
        refused = isinstance(fault, PoisonError)
        if isinstance(fault, PoisonError) and fault.limit and fault.limit < len(inputs):
            learned.bounds(inputs[0]).limit(fault.limit)
            return self._embed_parts(inputs, at, out)
        may_exceed = refused and learned.may_exceed(inputs)
        repeated = isinstance(fault, _RepeatedError)
        out.bisections += 1
        half = (len(inputs) + 1) // 2
        left = self._embed(inputs[:half], at, out, suspect=repeated)
        certain = left and not may_exceed and not isinstance(fault, BadResponseError)
        if learned.singly:
            return self._one_by_one(inputs[half:], at + half, out) and left
        right = self._embed(
            inputs[half:], at + half, out, fault if certain else None, suspect=repeated
        )
        if left and right and isinstance(fault, PoisonError):
            learned.exceed(inputs, too_large=fault.reason == "too-large")
        return left and right

    def _one_by_one(self, inputs: list[Content], at: int, out: Outcome) -> bool:
        good = True
        for i, one in enumerate(inputs):
            good &= self._embed([one], at + i, out)
        return good

    def _judge(self, inputs: list[Content], out: Outcome) -> None:
        """Finds faults that show only in a batch as a whole, or from batch to batch."""
        if all(isinstance(fate, np.ndarray) for fate in out.fates):
            self._refused_alone = 0
            self._require_different(inputs, out)
        elif all(_is_servers(fate) for fate in out.fates):
            self._refused_alone += len(inputs) == 1
            if len(inputs) > 1 or self._refused_alone > 1:
                self._blame(inputs, out)

    def _blame(self, inputs: list[Content], out: Outcome) -> None:
        """Raises FatalError if the endpoint refuses every request, whatever its texts say.

        If every text of a batch was refused, a harmless one is asked for. Otherwise a wrong
        parameter, or an account that is closed in mid run, would have all rows rejected.
        """
        if not all(isinstance(text, str) for text in inputs):
            return
        bad = all(fate.reason == "bad-response" for fate in out.fates)
        if bad and not self._learned.fits:
            raise self._useless(out.fates[0])
        check = "check modelName, dimension and sendDimension"
        if self._learned.fits:
            check = "it served others before: check the account, its quota and the gateway"
        try:
            out.tokens += self._send([_harmless(inputs)], out, final=True).tokens
            self._learned.fits = True
        except PoisonError as e:
            raise FatalError(
                f"{self._what}: all {len(inputs)} texts of a batch were refused one by one, and so "
                f"is the harmless {HARMLESS!r}: {check}: {e}"
            ) from e
        except BadResponseError as e:
            if bad:
                raise self._useless(e) from e
        except OverBudgetError:
            pass

    def _useless(self, e: Exception) -> FatalError:
        return FatalError(
            f"{self._what}: no answer of the endpoint can be used, whatever the text: check "
            f"endpoint, modelName and what serves them: {e}"
        )

    def _require_different(self, inputs: list[Content], out: Outcome) -> None:
        """Looks closer at one vector for all inputs of a batch, or for two that came alone.

        A model gives one vector for all texts of which it knows nothing, and others for others. If
        the harmless text has this vector as well, the endpoint is at fault.
        """
        fates, last = out.fates, self._last
        self._last = inputs[-1], fates[-1]
        compared = [(inputs[0], fates[0])]
        if len(inputs) == 1:
            if last is None or self._learned.varies:
                return
            compared.append(last)
        else:
            compared += zip(inputs[1:], fates[1:], strict=True)
        vector = fates[0]
        if any(not np.array_equal(vector, other) for _, other in reversed(compared)):
            self._learned.varies = True
            return
        texts = [one for one, _ in compared]
        others = [one for one in texts if _folded(one) != _folded(texts[0])]
        if not others:
            return
        try:
            if len(inputs) > 1:
                again = self._send(inputs, out, final=True)
                out.tokens += again.tokens
                out.retries += 1
                if any(not np.array_equal(vector, other) for other in again.vectors):
                    self._learned.varies = True
                    out.fates[:] = again.vectors
                    return
                if not self._same_alone(texts[0], others[-1], out):
                    self._learned.singly = True
                    self._one_by_one(inputs, 0, out)
                    return
            known = self._send([_harmless(texts)], out, final=True)
        except (PoisonError, BadResponseError, OverBudgetError):
            return
        out.tokens += known.tokens
        if not np.array_equal(known.vectors[0], vector):
            self._learned.varies = True
            return
        why = f"the endpoint gives one vector for {len(texts)} texts, and for {HARMLESS!r}"
        if not self._learned.varies:
            raise self._useless(BadResponseError(why))
        out.fates[:] = [TerminalError(why, "bad-response")] * len(inputs)

    def _same_alone(self, one: Content, other: Content, out: Outcome) -> bool:
        """Whether two inputs have one vector if each is asked for by itself."""
        answers = [self._send([content], out, final=True) for content in (one, other)]
        out.tokens += sum(answer.tokens for answer in answers)
        return np.array_equal(answers[0].vectors[0], answers[1].vectors[0])

    def _refusal(self, fault: Fault) -> TerminalError:
        if isinstance(fault, PoisonError):
            return fault
        if isinstance(fault, _RepeatedError):
            return PoisonError(str(fault))
        return TerminalError(f"{fault}, twice", "bad-response")

    def _send(
        self, inputs: list[Content], out: Outcome, suspect: bool = False, final: bool = False
    ) -> Answer:
        """The answer for `inputs`, however often it takes; a `final` request is not taken apart."""
        try:
            return self._sent(inputs, out, suspect, final)
        finally:
            WAITS.over(id(out))

    def _sent(self, inputs: list[Content], out: Outcome, suspect: bool, final: bool) -> Answer:
        backoff: Backoff | None = None
        repeats = _Repeats(2 if suspect else REPEATS)
        cost = sum(map(estimate_tokens, inputs)) if self._counts_tokens else 0
        first = self._clock.now()
        bad = 0
        while True:
            self._pacer.acquire(cost, self._pause)
            started = self._clock.now()
            try:
                answer = self._ask(inputs, cost, out)
                self._pacer.passed(started)
                return answer
            except PoisonError:
                self._pacer.passed(started)
                raise
            except BadResponseError as e:
                fault = e
            except ThrottledError as e:
                out.throttled += 1
                alone = self._pacer.throttled(started, e.retry_after)
                self._give_up_throttled(first, e)
                self._wait_for(out, e, out.throttled, None)
                if alone:
                    self._sleep(alone)
                continue
            except TransientError as e:
                backoff = backoff or Backoff(
                    deadline=self._deadline, cap=LONGEST_WAIT, clock=self._clock.now
                )
                wait = backoff.next_wait(e.retry_after)
                repeats.add(e)
                if not final and (repeats.many or wait is None):
                    served = self._duel(inputs, cost, out, e, suspect)
                    if served is not None:
                        return served
                    repeats = _Repeats(2 * repeats.most)
                if wait is None:
                    raise self._gave_up(backoff.tries, first, e) from e
                out.retries += 1
                self._wait_for(out, e, backoff.tries, backoff.left)
                self._sleep(wait)
                continue
            bad += 1
            if bad >= (TRIES_ALONE if len(inputs) == 1 and isinstance(fault, ShapeError) else 2):
                self._require_size(fault, len(inputs))
                raise fault
            out.retries += 1

    def _duel(
        self, inputs: list[Content], cost: int, out: Outcome, e: TransientError, suspect: bool
    ) -> Answer | None:
        """Asks for a harmless text and for `inputs` by turns.

        Raises _RepeatedError if the first is served and the second is not, time and again: then
        the inputs are at fault. None if the endpoint is; the answer if the inputs are served.
        """
        harmless = _harmless(inputs)
        for _ in range(ROUNDS + 1 if len(inputs) == 1 else 1 if suspect else ROUNDS):
            try:
                out.tokens += self._ask_paced([harmless], cost and 2, out).tokens
            except (TransientError, BadResponseError, PoisonError, OverBudgetError):
                return None
            try:
                out.retries += 1
                return self._ask_paced(inputs, cost, out)
            except ThrottledError:
                return None
            except TransientError as again:
                if _alike(again) != _alike(e):
                    return None
        raise _RepeatedError(f"{e}, again and again, while {harmless!r} is served")

    def _ask_paced(self, inputs: list[Content], cost: int, out: Outcome) -> Answer:
        self._pacer.acquire(cost, self._pause)
        started = self._clock.now()
        try:
            answer = self._ask(inputs, cost, out)
        except ThrottledError as e:
            out.throttled += 1
            self._pacer.throttled(started, e.retry_after)
            raise
        self._pacer.passed(started)
        return answer

    def _require_size(self, fault: BadResponseError, count: int) -> None:
        """Raises FatalError if the model gives vectors of another size than the step wants.

        One answer does not show this. A model that gives the right size may answer wrongly now and
        then, and several answers come in any order. So the same batch is asked for twice.
        """
        if not isinstance(fault, DimensionError):
            return
        if not self._learned.fits:
            raise FatalError(f"{self._what}: {fault}") from fault
        if count > 1:
            raise FatalError(f"{self._what}: {fault}; before, it gave others") from fault

    def _ask(self, inputs: list[Content], cost: int, out: Outcome) -> Answer:
        started = time.perf_counter()
        booking: Booking | None = None
        try:
            booking = self._ledger.book(cost, charge_of, self._price_of(inputs))
            out.requests += 1
            out.inputs += len(inputs)
            out.under_way = max(out.under_way, booking.place)
            with booking, WAITS.request(self._what, self._where, self._run):
                answer = self._endpoint.embed(inputs)
                if not 0 <= answer.tokens <= _most_tokens(inputs):
                    answer.tokens = 0  # not what the request may cost: the estimate stands
                booking.billed = answer.tokens
        except PoisonError as e:
            if not e.sent:
                out.requests -= 1
                out.inputs -= len(inputs)
            raise
        finally:
            self._pacer.done()
            out.nano += booking.spent if booking is not None else 0
        out.msec.append((time.perf_counter() - started) * 1000)
        return answer

    def _wait_for(self, out: Outcome, e: TransientError, tries: int, left: float | None) -> None:
        """Says that the batch of `out` waits for the endpoint."""
        WAITS.failed(id(out), self._what, e, tries=tries, left=left, run=self._run)

    def _price_of(self, inputs: list[Content]) -> Callable[[int], int]:
        """What a request of these inputs costs by its tokens, in nano."""
        price = self._price
        if price is None:
            return _free
        images = sum(isinstance(one, Image) for one in inputs)
        return lambda tokens: price.nano(tokens, images)

    def _sleep(self, seconds: float) -> None:
        """Waits after a failure; raises where nobody waits any more."""
        self._halt.sleep(seconds, self._clock, self._what)

    def _pause(self, seconds: float) -> None:
        """Waits as the pace wants; an interrupted run does so while the endpoint serves others."""
        last = self._pacer.last_success
        if last is not None and self._clock.now() - last < STILL_SECONDS:
            self._halt.pause(seconds, self._clock, self._what)
        else:
            self._sleep(seconds)

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


class _Repeats:
    """Counts failures that are alike, in a row; `many` from `most` on."""

    def __init__(self, most: int) -> None:
        self.most, self._count, self._last = most, 0, ""

    @property
    def many(self) -> bool:
        return self._count >= self.most

    def add(self, e: TransientError) -> None:
        what = _alike(e)
        self._count = self._count + 1 if what == self._last else 1
        self._last = what


def _alike(e: TransientError) -> str:
    """A failure in words, without the numbers that differ from one to the next."""
    status = _STATUS.search(str(e))
    return (status.group() if status else "") + _VARYING.sub("#", str(e))


def _most_tokens(inputs: list[Content]) -> int:
    """More tokens than a request can cost: no token is shorter than a byte, but for a few each."""
    return sum(MOST_IMAGE_TOKENS if isinstance(one, Image) else 64 + 4 * len(one) for one in inputs)


def _free(tokens: int) -> int:
    return 0


def _is_servers(fate: Fate) -> bool:
    return isinstance(fate, TerminalError) and fate.reason in _SERVERS_FAULT


def _harmless(inputs: list[Content]) -> str:
    return OTHER_HARMLESS if HARMLESS in inputs else HARMLESS


def _folded(content: Content) -> object:
    """A text without what many models do not tell apart: case and blanks."""
    return " ".join(content.casefold().split()) if isinstance(content, str) else content
