"""Asks the holder of a lease for something, and waits for the answer; or does it, if nobody holds.

The request is left with the positions first. So a command that is killed leaves it to whoever holds
the lease next. What two commands ask at once is carried out one after the other.

Apart from `vecferry.pipelines.run.requests` because who asks need not hold anything.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable

from vecferry.errors import FatalError, TransientError, VecferryError
from vecferry.pipelines.run.interrupts import breakable
from vecferry.positions.place import NEAR
from vecferry.positions.requests import Answer, Request
from vecferry.positions.store import LeaseHeld, Positions

NEAR_SECONDS, FAR_SECONDS = 0.2, 2.0
"""How often the answer is asked for: in a place where that costs nothing, and in another one."""
AWAY_SECONDS = 60.0
"""How long the place of the positions may be away before the command gives up."""

Alone = Callable[[Request], str | None]
"""Takes the lease and carries out all requests that wait; `LeaseHeld` if another process holds it.

Gives why it did not come to its end; None if it did.
"""


def asker() -> str:
    """Who asks, as a request says it."""
    return f"process {os.getpid()} on {socket.gethostname()}"


class Asking:
    """One request, from the asking to the last answer.

    Args:
      positions: the sync's.
      alone: carries requests out where nobody holds the lease.
      tell: is called with each line of an answer, and with whom is waited for.
    """

    def __init__(self, positions: Positions, alone: Alone, tell: Callable[[str], None]) -> None:
        self._positions, self._alone, self._tell = positions, alone, tell
        self._requests = positions.requests
        self._shown = 0
        self._waits_for = ""
        self._away_since: float | None = None

    def answered(self, request: Request) -> Answer:
        """Asks, and gives the last answer, whose `status` is the command's.

        Raises:
          JobError: it can't be carried out; the request is withdrawn.
          VecferryError: the same, after it was begun.
        """
        self._positions.require_own(self._positions.load())
        self._requests.ask(request)
        try:
            while True:
                answer = self._passing(lambda: self._once(request))
                if answer is not None:
                    self._forget(request)
                    return answer
                self._pause()
        except KeyboardInterrupt:
            self._leave(request)
            raise
        except VecferryError:
            self._forget(request)
            raise

    def _once(self, request: Request) -> Answer | None:
        """One look; None where the answer is yet to come."""
        there = self._requests.is_there(request.id)
        answer = self._answer(request)
        if answer is not None:
            return answer
        if not there:
            raise FatalError(
                f"positions {self._positions.where}: the request is there no longer, and has no "
                "answer: somebody removed it; look how the sync stands, and ask again"
            )
        holder = self._positions.standing()
        if holder.state != "Running":
            try:
                why = self._alone(request)
            except LeaseHeld:
                return None
            answer = self._answer(request)
            if answer is None:
                raise FatalError(why or "the request was not carried out")
            return answer
        if str(holder.holder) != self._waits_for:
            self._waits_for = str(holder.holder)
            self._tell(f"waits for {holder.holder}, who carries this out between two rounds")
        return None

    def _answer(self, request: Request) -> Answer | None:
        """The last answer; tells the lines before it."""
        lines = self._requests.answers(request.id)
        for line in lines[self._shown :]:
            if not line.done:
                self._tell(line.text)
        self._shown = len(lines)
        return lines[-1] if lines and lines[-1].done else None

    def _passing(self, look: Callable[[], Answer | None]) -> Answer | None:
        """What a look gives; a place that is away for a while is waited for."""
        try:
            answer = look()
        except TransientError:
            now = time.monotonic()
            self._away_since = self._away_since or now
            if now - self._away_since > AWAY_SECONDS:
                raise
            return None
        self._away_since = None
        return answer

    def _pause(self) -> None:
        near = self._positions.place.pace.store <= NEAR.store
        with breakable():
            time.sleep(NEAR_SECONDS if near else FAR_SECONDS)

    def _leave(self, request: Request) -> None:
        """Withdraws a request that nobody has begun; says what becomes of another one."""
        with contextlib.suppress(VecferryError):
            if self._requests.answers(request.id):
                self._tell("the request was begun, and is carried out all the same")
            else:
                self._requests.forget(request.id)
                self._tell("the request is withdrawn")

    def _forget(self, request: Request) -> None:
        with contextlib.suppress(VecferryError):
            self._requests.forget(request.id)
