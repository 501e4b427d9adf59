"""Fills a job from outside: ``${name}`` placeholders, times, references, and ``--set`` values."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from vecferry.errors import JobError, VecferryError, near
from vecferry.pipelines.job.documents import DocumentError, parse_value
from vecferry.pipelines.job.schedule import (
    EXPRESSION,
    ScheduledTime,
    TimeExpressionError,
    is_date,
)
from vecferry.references import EITHER, REFERENCE, NothingThereError, at_its_place, look_up
from vecferry.secrets import PLACEHOLDER as PLACEHOLDER

ALIKE = 0.85
"""How near an environment variable's name must be for a guess: there are many variables."""
AS_WRITTEN = frozenset({"requestBody", "request_body"})
"""Keys whose texts have placeholders of others, such as ``${parameters.input}`` of ml-commons."""
_INDEX = re.compile(r"\[([^\[\].]+)\]")


class Values(Mapping[str, str]):
    """What fills placeholders by name: the command line, then the schedule, then the environment.

    A value of the command line may hold expressions of a time, as parameters of DataWorks do.
    `paths_from_here` says that paths in a file of data sources are relative to the current folder.
    Raises JobError if such an expression is wrong, or no time is given.
    """

    def __init__(
        self,
        given: Mapping[str, str] | None = None,
        at: ScheduledTime | None = None,
        *,
        paths_from_here: bool = False,
    ) -> None:
        self.at, self.paths_from_here = at, paths_from_here
        self.given: dict[str, str] = {}
        problems: list[str] = []
        for name, text in (given or {}).items():
            self.given[name], more = _timed(text, at, f"-p {name}", later=False)
            problems += more
        if problems:
            raise JobError(problems)

    @classmethod
    def of(cls, given: Mapping[str, str] | None) -> Values:
        """Values of the command line over the environment; `given` itself if it is that already."""
        return given if isinstance(given, Values) else cls(given)

    def __getitem__(self, name: str) -> str:
        if name in self.given:
            return self.given[name]
        try:
            told = self.at.named(name) if self.at is not None else None
        except TimeExpressionError:
            told = None
        return os.environ[name] if told is None else told

    def __iter__(self) -> Iterator[str]:
        yield from self.given
        yield from (name for name in os.environ if name not in self.given)

    def __len__(self) -> int:
        return len({*self.given, *os.environ})


def _timed(
    text: str,
    at: ScheduledTime | None,
    where: str,
    *,
    given: frozenset[str] = frozenset(),
    later: bool = True,
) -> tuple[str, list[str]]:
    """`text` with every expression of a time told, and a problem for each that can't be.

    Placeholders of `given` names stay, and so do all of another kind. Without a time, those that
    are filled by their names `later` stay as well.
    """
    if "$" not in text:
        return text, []
    problems: list[str] = []

    def told(match: re.Match[str]) -> str:
        square, curly, bare = match.group("square", "curly", "bare")
        name = (curly or "").partition(":-")[0]
        if curly is not None and (name in given or not is_date(name)):
            return match[0]
        if at is None:
            if curly is None or not later or not PLACEHOLDER.fullmatch(match[0]):
                problems.append(f"{where}: {match[0]} has no value: {_NO_TIME}")
            return match[0]
        try:
            if square is not None:
                return at.scheduled(square)
            return at.system(bare) if bare else at.named(name) or match[0]
        except TimeExpressionError as e:
            problems.append(f"{where}: {match[0]} tells no time: {e}")
            return match[0]

    return EXPRESSION.sub(told, text), problems


_NO_TIME = "give the time of the schedule, as --at now --time-zone Asia/Shanghai"


class _Filler:
    """Fills documents; see `fill`."""

    def __init__(
        self, values: Mapping[str, str], written: dict[str, str] | None, folder: str | None
    ) -> None:
        self._values, self._written, self._folder = values, written, folder
        self.problems: list[str] = []

    def fill(self, value: object, path: str) -> Any:
        """`value`, at a path of the document, filled."""
        if isinstance(value, str):
            return self._text(value, path or "job")
        if isinstance(value, dict):
            return {
                key: child
                if key in AS_WRITTEN and isinstance(child, str)
                else self.fill(child, f"{path}.{key}" if path else str(key))
                for key, child in value.items()
            }
        if isinstance(value, list):
            return [self.fill(child, f"{path}[{i}]") for i, child in enumerate(value)]
        return value

    def _text(self, text: str, path: str) -> str:
        if "$" not in text:
            return text
        if isinstance(self._values, Values):
            given = frozenset(self._values.given)
            text, problems = _timed(text, self._values.at, path, given=given)
            self.problems += problems
        text = REFERENCE.sub(lambda match: at_its_place(match, self._folder), text)
        filled = EITHER.sub(lambda match: self._value(match, path), text)
        if filled != text and self._written is not None:
            self._written[filled] = text
        return filled

    def _value(self, match: re.Match[str], path: str) -> str:
        kind, what, instead, name, default = match.groups()
        if kind is not None:
            return self._reference(match, kind, what, instead, path)
        if name in self._values:
            return str(self._values[name])
        if default is not None:
            return str(default)
        if isinstance(self._values, Values) and self._values.at and is_date(name):
            return match[0]  # `_timed` has told why
        ways = f"give -p {name}=… or set the environment variable {name}"
        if is_date(name):
            ways += f"; {_NO_TIME}, if it is a date"
        near_by = near(name, self._values, ALIKE)
        self.problems.append(f"{path}: ${{{name}}} has no value: {ways}{near_by}")
        return match[0]

    def _reference(
        self, match: re.Match[str], kind: str, what: str, default: str | None, path: str
    ) -> str:
        try:
            return look_up(kind, what)
        except NothingThereError as e:
            if default is not None:
                return default
            self.problems.append(f"{path}: ${{{kind}:{what}}} has no value: {e}")
        except VecferryError as e:
            self.problems.append(f"{path}: ${{{kind}:{what}}} has no value: {e}")
        return match[0]


def fill(
    value: object,
    values: Mapping[str, str],
    path: str = "",
    written: dict[str, str] | None = None,
    folder: str | None = None,
) -> tuple[Any, list[str]]:
    """`value` with every ``${name}``, ``${name:-default}``, reference and time replaced.

    Gives the filled copy and a problem for each that has no value. What each filled text was
    written as is put into `written`, with times told. A text under a key of `AS_WRITTEN` stays.
    Files of ``${file:…}`` are relative to `folder`. Times are looked for if `values` are `Values`.
    """
    filler = _Filler(values, written, folder)
    return filler.fill(value, path), filler.problems


def names_in(value: object) -> set[str]:
    """The names of all placeholders in `value` that `fill` fills."""
    return {name for text in _texts_in(value) for name, _ in PLACEHOLDER.findall(text)}


def is_filled(value: object) -> bool:
    """Whether `value` holds nothing that `fill` fills: what is left over has been told already."""
    return not any(EITHER.search(t) or EXPRESSION.search(t) for t in _texts_in(value))


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, child in value.items():
            if key not in AS_WRITTEN or not isinstance(child, str):
                yield from _texts_in(child)
    elif isinstance(value, list):
        for child in value:
            yield from _texts_in(child)


def parse_assignments(pairs: tuple[str, ...], option: str) -> dict[str, str]:
    """``NAME=VALUE`` texts as a dict; raises JobError for a text without name or equals sign."""
    result = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            what = "PATH" if option == "--set" else "NAME"
            begin = re.match(r"[\w.-]*", name)[0]  # type: ignore[index]
            rest = "…" if begin != name else ""  # it may be a secret behind another sign
            raise JobError(f"{option} {begin + rest!r}: must be {what}=VALUE")
        result[name] = value
    return result


def set_value(job: object, path: str, text: str) -> None:
    """Sets the value at a dotted `path` of `job`, such as ``steps.1.parameter.endpoint``.

    `text` is read as JSON if it is JSON, else unchanged. A new last name is added; raises JobError
    if another part of the path is missing.
    """
    *parents, last = _INDEX.sub(r".\1", path).strip(".").split(".")
    here = job
    for n, part in enumerate(parents, 1):
        here = _child(here, part, path, ".".join(parents[:n]))
    try:
        value = parse_value(text)
    except DocumentError as e:
        raise JobError(f"--set {path}: {e}") from None
    if isinstance(here, list):
        here[_position(here, last, path)] = value
    elif isinstance(here, dict):
        here[last] = value
    else:
        raise JobError(
            f"--set {path}: {last!r} can't be set in a {type(here).__name__}; "
            f"set {'.'.join(parents)} as a whole"
        )


def _child(here: Any, part: str, path: str, so_far: str) -> Any:
    if isinstance(here, list):
        return here[_position(here, part, path)]
    if isinstance(here, dict) and part in here:
        return here[part]
    known = list(here) if isinstance(here, dict) else []
    hint = near(part, known)
    if isinstance(here, dict) and not hint:
        hint = f"; add it as a whole, as JSON: --set '{so_far}={{…}}'"
    if not isinstance(here, dict):
        above = so_far.removesuffix(f".{part}")
        hint = f"; {above} is a {type(here).__name__}: set it as a whole"
    raise JobError(f"--set {path}: the job does not have {part!r}{hint}")


def _position(items: list[Any], part: str, path: str) -> int:
    named = [
        i for i, item in enumerate(items) if isinstance(item, dict) and item.get("name") == part
    ]
    if len(named) == 1:
        return named[0]
    if re.fullmatch(r"[0-9]{1,6}", part) and int(part) < len(items):
        return int(part)
    names = [str(item["name"]) for item in items if isinstance(item, dict) and "name" in item]
    known = f" of {', '.join(names)}" if names else ""
    raise JobError(
        f"--set {path}: {part!r} must be a number from 0 to {len(items) - 1} or a name{known}"
        f"{near(part, names)}"
    )
