"""What commands ask of the holder of a lease, and what the holder answers.

A command must not write beside a running sync. It leaves a request; the holder carries the request
out between two rounds. A request stays until its last answer, so a holder that dies in the middle
leaves it to the next one. Apart from `vecferry.positions.store` because no lease is needed here.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from vecferry.errors import redact
from vecferry.positions.place import Place

RequestKind = Literal["resync", "repair", "reset", "set"]

_ANSWER = re.compile(r"answer-([0-9a-f]+-[0-9a-f]+)-(\d{6,})")
_KEPT = 20
"""Of so many requests that are done, answers stay if nobody fetches them."""

Json = str | int | float | bool | list["Json"] | dict[str, "Json"] | None


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a command asks for.

    Attributes:
      kind: what is to be done.
      arguments: how, as values of JSON that the two sides agree on.
      asked_by: who asks, in words, such as ``process 12 on host``.
      time: when, in seconds since 1970 by the clock of who asks.
      id: tells the request from others; requests are sorted by it.
    """

    kind: RequestKind
    arguments: Mapping[str, Json] = field(default_factory=dict)
    asked_by: str = ""
    time: float = field(default_factory=time.time)
    id: str = field(default_factory=lambda: f"{time.time_ns():016x}-{uuid.uuid4().hex[:12]}")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A line about a request; `done` in the last one, which has the exit `status`."""

    text: str
    done: bool = False
    status: int = 0
    result: Json = None


class Requests:
    """The requests that lie in a place, and their answers."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def ask(self, request: Request) -> str:
        """Leaves a request; gives its id."""
        self._place.create(f"request-{request.id}", _bytes(asdict(request)))
        return request.id

    def waiting(self, *, tidy: bool = True) -> list[Request]:
        """The requests that have no last answer yet, oldest first.

        With `tidy`, those that have one are removed: whoever answered was killed before.
        """
        found = []
        for name in sorted(self._place.names("request-")):
            told = _told(self._place.read(name))
            try:
                request = Request(**told)  # type: ignore[arg-type]
            except TypeError:  # of a newer version, or cut short
                continue
            if not any(answer.done for answer in self.answers(request.id)):
                found.append(request)
            elif tidy:
                self._place.remove(name)
        return found

    def is_there(self, asked: str) -> bool:
        """Whether a request was left, and is not at its end."""
        return f"request-{asked}" in self._place.names(f"request-{asked}")

    def answer(self, asked: str, answer: Answer) -> None:
        """Adds a line to the answers of a request; the last one ends the request."""
        data = _bytes({**asdict(answer), "text": redact(answer.text)})
        number = max((n for n, _ in self._names(asked)), default=0) + 1
        while not self._place.create(f"answer-{asked}-{number:06d}", data):
            if self._place.read(f"answer-{asked}-{number:06d}") == data:
                break
            number += 1
        if answer.done:
            self._place.remove(f"request-{asked}")
            self._forget_old()

    def answers(self, asked: str) -> list[Answer]:
        """The lines so far, in order."""
        found = []
        for _, name in sorted(self._names(asked)):
            try:
                found.append(Answer(**_told(self._place.read(name))))  # type: ignore[arg-type]
            except TypeError:
                continue
        return found

    def forget(self, asked: str) -> None:
        """Removes a request, whether done or not, and its answers."""
        self._place.remove(f"request-{asked}")
        for _, name in self._names(asked):
            self._place.remove(name)

    def _names(self, asked: str) -> list[tuple[int, str]]:
        found = [(n, _ANSWER.fullmatch(n)) for n in self._place.names(f"answer-{asked}-")]
        return [(int(match[2]), name) for name, match in found if match]

    def _forget_old(self) -> None:
        """Removes answers that nobody fetched."""
        names = self._place.names("answer-")
        asked = sorted({match[1] for n in names if (match := _ANSWER.fullmatch(n))})
        still = {name.removeprefix("request-") for name in self._place.names("request-")}
        for old in asked[:-_KEPT]:
            if old not in still:
                self.forget(old)


def _bytes(told: Mapping[str, object]) -> bytes:
    return json.dumps(told, ensure_ascii=False, allow_nan=False).encode()


def _told(data: bytes | None) -> dict[str, object]:
    """The object that bytes hold; an empty one if they hold none."""
    try:
        told = json.loads(data or b"")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
