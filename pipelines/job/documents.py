"""Reads JSON and YAML files, with errors that name the line.

JSON may have comments and commas before closing brackets, as scripts of the vendor's pages have.
YAML is read as version 1.2 says: only ``true`` and ``false`` are booleans, and dates are texts. A
number remembers how it was written, so that ``1.10`` stays ``1.10`` where a text is expected.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml

from vecferry.errors import JobError

T = TypeVar("T")

MOST_BYTES = 16 << 20
"""A longer file is not a job."""
MOST_NODES = 200_000
"""Values in a document, each as often as aliases repeat it."""
MOST_DEPTH = 100
MOST_DIGITS = 100
"""Longer whole numbers are written as texts; Python refuses those of 4,300 digits."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_HALF = re.compile("[\ud800-\udfff]")
_BLANK = re.compile(r"[^\n]")


class DocumentError(Exception):
    """Something that no document may have; `where` is its line, if known."""

    def __init__(self, told: str, where: str = "") -> None:
        super().__init__(f"{where}{told}")


def _twice(key: str, where: str = "") -> NoReturn:
    raise DocumentError(f"the key {key!r} is there twice in one object: remove one of them", where)


class WrittenInt(int):
    """A whole number that is written in another way than Python writes it, such as ``007``."""

    written: str

    def __str__(self) -> str:
        return self.written


class WrittenFloat(float):
    """A number that is written in another way than Python writes it, such as ``1.10``."""

    written: str

    def __str__(self) -> str:
        return self.written


def _whole(text: str) -> int:
    """A whole number that remembers its text; DocumentError if the number is too long."""
    if len(text) > MOST_DIGITS:
        raise DocumentError(
            f"a number has {len(text):,} digits, {MOST_DIGITS} at most; quote it, if it is a text"
        )
    value = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if str(value) == text:
        return value
    found = WrittenInt(value)
    found.written = text
    return found


def _fraction(text: str) -> float:
    """A number that remembers its text; DocumentError if no float holds the number."""
    value = float(text.replace(".inf", "inf").replace(".nan", "nan").replace(".Inf", "inf"))
    if math.isinf(value) and "inf" not in text.lower():
        raise DocumentError(f"the number {text[:40]} is too great; quote it, if it is a text")
    if str(value) == text:
        return value
    found = WrittenFloat(value)
    found.written = text
    return found


def parse_document(path: Path, what: str) -> Any:
    """The content of a JSON or YAML file; raises JobError if the file is missing or neither.

    A file that ends in ``.json`` is JSON. Any other file is YAML, or JSON that begins with a brace.
    """
    text = _text(path, what)
    try:
        if path.suffix == ".json":
            content = _parse_json(text)
        elif text.lstrip().startswith("{"):
            content = _parse_either(text)
        else:
            content = _parse_yaml(text)
        _require_bounded(content)
    except DocumentError as e:
        raise JobError(f"{path}: {e}") from None
    return content


def parse_value(text: str) -> Any:
    """The value that `text` is if it is JSON, else the text; DocumentError if it is too deep."""
    try:
        value = _loads(text, parse_constant=_not_json)
    except json.JSONDecodeError:
        return text
    _require_bounded(value)
    return value


def _not_json(text: str) -> NoReturn:
    raise json.JSONDecodeError("is not JSON", text, 0)


def _text(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise JobError(
                f"{path}: exceeds {MOST_BYTES >> 20} MiB, too long for a {what} file; shorten it, "
                "or name another file"
            )
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        near_by = sorted(p.name for p in path.parent.glob("*") if p.suffix == path.suffix)[:5]
        hint = f"; {path.parent} has {', '.join(near_by)}" if near_by else ""
        raise JobError(f"{path}: this {what} file does not exist; correct the path{hint}") from None
    except (OSError, ValueError) as e:  # a name with a zero byte is a ValueError, too
        raise JobError(
            f"{path}: cannot be read as a {what} file: {e}; name a file in UTF-8 that this user "
            "may read"
        ) from e


def _parse_either(text: str) -> Any:
    """JSON with its comments, or else YAML in braces."""
    try:
        return _relaxed(text)
    except json.JSONDecodeError:
        return _parse_yaml(text)


def _parse_json(text: str) -> Any:
    try:
        return _relaxed(text)
    except json.JSONDecodeError as e:
        # The line itself is not shown: it may hold a key.
        raise DocumentError(f"is not JSON: line {e.lineno}, column {e.colno}: {e.msg}") from None


def _relaxed(text: str) -> Any:
    """JSON, or JSON with comments and commas before closing brackets."""
    try:
        return _loads(text)
    except json.JSONDecodeError:
        return _loads(_plain_json(text))


def _loads(text: str, **more: Any) -> Any:
    _require_shallow(text)
    return json.loads(
        text, object_pairs_hook=_once, parse_int=_whole, parse_float=_fraction, **more
    )


def _plain_json(text: str) -> str:
    """`text` with blanks in place of comments, and of commas before a closing bracket.

    Every line and column stays where it is.
    """
    kept: list[str] = []
    comma = -1  # the place in `kept` of the last comma, if only blanks follow
    before = "["  # the last sign that was neither blank nor comment
    at = 0
    while at < len(text):
        sign = text[at]
        match = _STRING.match(text, at) if sign == '"' else None
        if sign == "/":
            match = _COMMENT.match(text, at)
            if match:
                kept.append(_BLANK.sub(" ", match[0]))
                at = match.end()
                continue
        if sign in "]}" and comma >= 0:
            kept[comma] = " "
        if match:
            kept.append(match[0])
            at = match.end()
        else:
            kept.append(sign)
            at += 1
        if sign.isspace():
            continue
        comma = len(kept) - 1 if sign == "," and before not in "[{,:" else -1
        before = sign
    return "".join(kept)


def _require_shallow(text: str) -> None:
    """Raises DocumentError if brackets are nested too deeply for a parser that calls itself."""
    depth = 0
    for match in re.finditer(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', text, re.DOTALL):
        if match[0] in "[{":
            depth += 1
            if depth > MOST_DEPTH:
                line = text.count("\n", 0, match.start()) + 1
                _too_deep(f"line {line}: ")
        elif match[0] in "]}":
            depth -= 1


def _too_deep(where: str = "") -> NoReturn:
    raise DocumentError(f"is nested more than {MOST_DEPTH} deep; write less into another", where)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        _twice(next(name for name in names if names.count(name) > 1))
    return found


def _require_bounded(content: object) -> None:
    """Raises DocumentError if a parsed document is deeper or larger than any job."""
    left = MOST_NODES
    todo: list[tuple[Any, int]] = [(content, 0)]
    while todo:
        value, depth = todo.pop()
        left -= 1
        if left < 0:
            raise DocumentError(
                f"holds more than {MOST_NODES:,} values, each alias counted as often as it stands"
            )
        if isinstance(value, dict | list):
            if depth >= MOST_DEPTH:
                _too_deep()
            parts = [*value, *value.values()] if isinstance(value, dict) else value
            todo += [(part, depth + 1) for part in parts]
        elif isinstance(value, str) and not value.isascii() and _HALF.search(value):
            raise DocumentError(
                "a text holds half of a character (a surrogate); write the text anew"
            )


def as_texts(value: T) -> T:
    """`value` with a text in place of each number that is written in a way of its own."""
    found: Any = value
    if isinstance(value, dict):
        found = {name: as_texts(part) for name, part in value.items()}
    elif isinstance(value, list):
        found = [as_texts(part) for part in value]
    elif isinstance(value, WrittenInt | WrittenFloat):
        found = value.written
    return found  # type: ignore[no-any-return]


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.2 that reports a repeated key as a mistake."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - as PyYAML has it
    yaml_constructors: dict[Any, Any] = {}  # noqa: RUF012 - as PyYAML has it

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """The mapping of a node; a merge key (``<<``) may be overridden as YAML says."""
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    _twice(key.value, f"line {key.start_mark.line + 1}: ")
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_TAG = "tag:yaml.org,2002:"
_RESOLVED = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "merge": (r"<<", "<"),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
}
for _name, (_pattern, _first) in _RESOLVED.items():
    _Loader.add_implicit_resolver(
        _TAG + _name, re.compile(f"(?:{_pattern})$", re.ASCII), list(_first)
    )


def _scalar(make: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    def construct(loader: Any, node: Any) -> Any:
        where = f"line {node.start_mark.line + 1}: "
        text = loader.construct_scalar(node)
        try:
            return make(text)
        except DocumentError as e:
            raise DocumentError(str(e), where) from None
        except (ValueError, KeyError):
            name = node.tag.removeprefix(_TAG)
            raise DocumentError(f"{text[:40]!r} is not of type {name}", where) from None

    return construct


def _refused(loader: Any, node: Any) -> Any:
    raise DocumentError(
        f"the tag {node.tag.removeprefix(_TAG)!r} means nothing in a job; leave the tag out",
        f"line {node.start_mark.line + 1}: ",
    )


def _truth(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


_SCALARS: dict[str, Callable[[str], Any]] = {
    "bool": _truth,
    "int": _whole,
    "float": lambda text: _fraction(text.lower()) if "." in text else _fraction(text),
    "null": lambda text: None,
    "str": str,
}
for _name, _make in _SCALARS.items():
    _Loader.add_constructor(_TAG + _name, _scalar(_make))
_Loader.add_constructor(_TAG + "map", yaml.SafeLoader.construct_yaml_map)
_Loader.add_constructor(_TAG + "seq", yaml.SafeLoader.construct_yaml_seq)
_Loader.add_constructor(None, _refused)


def _parse_yaml(text: str) -> Any:
    try:
        _require_sane(text)
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise DocumentError(f"is not YAML: {where}{e.problem or 'unreadable'}") from None
    except yaml.reader.ReaderError as e:
        raise DocumentError(f"is not YAML: {e.reason}") from None


def _require_sane(text: str) -> None:
    """Raises DocumentError if aliases make a document hold itself, or make it very large.

    Reads events only, so that neither depth nor size of what they describe costs anything.
    """
    sizes: dict[str, int] = {}  # of each anchor, the values behind it
    open_: list[tuple[str | None, int]] = []  # anchors and sizes of what is not yet closed
    for event in yaml.parse(text, Loader=_Loader):
        where = f"line {event.start_mark.line + 1}: " if event.start_mark else ""
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, 1))
            if len(open_) > MOST_DEPTH:
                _too_deep(where)
            continue
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_):
                raise DocumentError(f"the alias *{event.anchor} makes a value hold itself", where)
            anchor, size = None, sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_.pop()
        else:
            continue
        if anchor:
            sizes[anchor] = size
        if open_:
            outer, so_far = open_[-1]
            open_[-1] = (outer, so_far + size)
        if size > MOST_NODES or (open_ and open_[-1][1] > MOST_NODES):
            raise DocumentError(
                f"holds more than {MOST_NODES:,} values, each alias counted as often as it stands",
                where,
            )
