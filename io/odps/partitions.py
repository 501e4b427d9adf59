"""Which partitions of a MaxCompute table a job means: specs, shell patterns and conditions.

A partition is a dict of key to value, both text, in the order of the table's keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

from vecferry.errors import near

Partition = Mapping[str, str]
Matches = Callable[[Partition], bool]

QUERY = "/*query*/"

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")|(?P<number>-?[0-9]+(?:\.[0-9]+)?)
    |(?P<word>`[^`]+`|[A-Za-z_]\w*)|(?P<sign><=|>=|<>|!=|==|=|<|>|\(|\)|,))""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_COMPARE: dict[str, Callable[[object, object], bool]] = {
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,  # type: ignore[operator]
    "<=": lambda a, b: a <= b,  # type: ignore[operator]
    ">": lambda a, b: a > b,  # type: ignore[operator]
    ">=": lambda a, b: a >= b,  # type: ignore[operator]
}


def spec_of(partition: Partition) -> str:
    """A partition as it is written: ``pt=1,ds=2``."""
    return ",".join(f"{k}={v}" for k, v in partition.items())


class Pattern:
    """One entry of `partition`: the keys it names, and whether a partition is meant by it.

    `exact` is true of a spec without wildcards, which must match something of its own.
    """

    def __init__(self, text: str, keys: list[str], matches: Matches, exact: bool) -> None:
        self.text, self.keys, self.matches, self.exact = text, keys, matches, exact


def parse_pattern(text: str) -> Pattern:
    """Reads ``pt=1,ds=2``, ``pt=1,ds=*`` or ``/*query*/ds>'20240101' and pt in ('a','b')``.

    Keys are compared without case. Values that both look like numbers, where the condition writes
    one without quotes, are compared as numbers, else as text. Raises ValueError.
    """
    stripped = text.strip()
    if stripped.startswith(QUERY):
        condition = _Condition(stripped[len(QUERY) :])
        return Pattern(text, condition.keys, condition.matches, exact=False)
    return _spec(stripped)


def _spec(text: str) -> Pattern:
    wanted: dict[str, str] = {}
    for part in re.split(r"[,/]", text):
        key, equals, value = part.partition("=")
        key, value = key.strip().lower(), value.strip().strip("'\"")
        if not (equals and key and value):
            raise ValueError(
                f"{text!r} is not a partition; write pt=1,ds=2, with * and ? as wildcards, or "
                f"{QUERY} and a condition"
            )
        if key in wanted:
            raise ValueError(f"{text!r} names the partition key {key!r} twice; name it once")
        wanted[key] = value

    def matches(partition: Partition) -> bool:
        given = {k.lower(): v for k, v in partition.items()}
        return all(k in given and fnmatchcase(given[k], _plain(v)) for k, v in wanted.items())

    wild = any(c in v for v in wanted.values() for c in "*?")
    return Pattern(text, list(wanted), matches, exact=not wild)


def _plain(pattern: str) -> str:
    """A pattern in which square brackets mean themselves."""
    return pattern.replace("[", "[[]")


class _Condition:
    """A condition over partition keys: comparisons, `in`, `between`, `like`, and, or, not."""

    def __init__(self, text: str) -> None:
        self.keys: list[str] = []
        self._text = text.strip()
        self._tokens = self._cut()
        self._at = 0
        self.matches = self._or()
        if self._at < len(self._tokens):
            raise self._wrong(f"{self._tokens[self._at][1]!r} is not expected")

    def _cut(self) -> list[tuple[str, str]]:
        tokens, at = [], 0
        while at < len(self._text):
            found = _TOKEN.match(self._text, at)
            if found is None:
                raise self._wrong(f"can't be read from {self._text[at : at + 20]!r} on")
            kind = str(found.lastgroup)
            tokens.append((kind, found[kind]))
            at = found.end()
        return tokens

    def _wrong(self, what: str) -> ValueError:
        return ValueError(f"the condition {self._text!r} of a partition is wrong: {what}")

    def _take(self, *wanted: str) -> str | None:
        """The next token, in small letters, where it is one of `wanted`."""
        if self._at < len(self._tokens):
            kind, token = self._tokens[self._at]
            if kind in ("word", "sign") and token.lower() in wanted:
                self._at += 1
                return token.lower()
        return None

    def _need(self, *wanted: str) -> str:
        found = self._take(*wanted)
        if found is None:
            there = self._tokens[self._at][1] if self._at < len(self._tokens) else "its end"
            raise self._wrong(f"{' or '.join(wanted)} is expected before {there}")
        return found

    def _or(self) -> Matches:
        sides = [self._and()]
        while self._take("or"):
            sides.append(self._and())
        return sides[0] if len(sides) == 1 else lambda p: any(s(p) for s in sides)

    def _and(self) -> Matches:
        sides = [self._not()]
        while self._take("and"):
            sides.append(self._not())
        return sides[0] if len(sides) == 1 else lambda p: all(s(p) for s in sides)

    def _not(self) -> Matches:
        if self._take("not"):
            inner = self._not()
            return lambda p: not inner(p)
        if self._take("("):
            inner = self._or()
            self._need(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Matches:
        kind, token = self._next("a partition key")
        if kind != "word":
            raise self._wrong(f"{token!r} stands where a partition key is expected")
        key = token.strip("`").lower()
        self.keys.append(key)
        negated = self._take("not") is not None
        operator = self._need("in", "like", "between", *(() if negated else _COMPARE))
        test = self._test(key, operator)
        return (lambda p: not test(p)) if negated else test

    def _test(self, key: str, operator: str) -> Matches:
        if operator == "in":
            self._need("(")
            values = [self._value()]
            while self._take(","):
                values.append(self._value())
            self._need(")")
            return lambda p: any(_compare(p, key, "=", v) for v in values)
        if operator == "between":
            low = self._value()
            self._need("and")
            high = self._value()
            return lambda p: _compare(p, key, ">=", low) and _compare(p, key, "<=", high)
        value = self._value()
        if operator == "like":
            pattern = re.compile(_like(str(value)), re.DOTALL)
            return lambda p: pattern.fullmatch(_get(p, key)) is not None
        return lambda p: _compare(p, key, operator, value)

    def _next(self, what: str) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise self._wrong(f"{what} is missing at its end")
        self._at += 1
        return self._tokens[self._at - 1]

    def _value(self) -> str | float:
        kind, token = self._next("a value")
        if kind == "number":
            return float(token) if "." in token else int(token)
        if kind != "text":
            raise self._wrong(f"{token!r} stands where a value is expected; write '{token}'")
        body = token[1:-1].replace(token[0] * 2, token[0])
        return re.sub(r"\\(.)", r"\1", body)


def _get(partition: Partition, key: str) -> str:
    return next(v for k, v in partition.items() if k.lower() == key)


def _compare(partition: Partition, key: str, operator: str, wanted: str | float) -> bool:
    text = _get(partition, key)
    given: str | float = text
    if not isinstance(wanted, str):
        if _NUMBER.fullmatch(text):
            given = float(text) if "." in text else int(text)
        else:
            wanted = str(wanted)
    return _COMPARE[operator](given, wanted)


def _like(pattern: str) -> str:
    """An SQL ``like`` pattern as a regular expression."""
    return "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in pattern)


def choose(
    patterns: tuple[str, ...], keys: list[str], partitions: list[dict[str, str]]
) -> tuple[list[dict[str, str]], list[str]]:
    """The partitions that the patterns mean, each once, in the order of the table.

    Gives also a text for each pattern that means none. Without patterns all are meant. Raises
    ValueError where a pattern names a key that the table lacks.
    """
    if not patterns:
        return partitions, []
    chosen: dict[str, None] = {}
    missing: list[str] = []
    known = {k.lower() for k in keys}
    for pattern in map(parse_pattern, patterns):
        for key in pattern.keys:
            if key not in known:
                raise ValueError(
                    f"partition {pattern.text!r}: the table has no partition key {key!r}"
                    f"{near(key, keys)}; it has {', '.join(keys)}"
                )
        found = [spec_of(p) for p in partitions if pattern.matches(p)]
        chosen |= dict.fromkeys(found)
        if not found:
            hint = near(pattern.text, [spec_of(p) for p in partitions])
            missing.append(f"no partition matches {pattern.text!r}{hint}")
    return [p for p in partitions if spec_of(p) in chosen], missing
