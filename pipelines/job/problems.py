"""Turns what pydantic finds into sentences with a path, a value, a rule and a way out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from vecferry.errors import near, redact, shorten, without_query
from vecferry.settings import Settings

S = TypeVar("S", bound=BaseModel)

_SECRET_NAME = re.compile(
    r"(?i)(?<!primary)(?<!partition)key$|password|token$|secret|credential|accessid"
)


class Problem(str):
    """A sentence that says what is wrong, and its parts, for programs.

    Attributes:
      path: where the fault is, such as ``job.steps[0].stepType``; None if nobody knows.
      value: what stands there, ``***`` in place of a secret; None if nothing does.
      rule: what is wrong.
      repair: what to do; None if the rule says it all.
    """

    path: str | None
    value: object
    rule: str
    repair: str | None

    def __new__(
        cls,
        text: str,
        *,
        path: str | None = None,
        value: object = None,
        rule: str = "",
        repair: str | None = None,
    ) -> Problem:
        problem = super().__new__(cls, text)
        problem.path, problem.value = path, value
        problem.rule, problem.repair = rule or text, repair
        return problem

    @classmethod
    def of(cls, text: str) -> Problem:
        """A sentence of the form ``WHERE: WHAT IS WRONG; WHAT TO DO``, taken apart."""
        if isinstance(text, Problem):
            return text
        told = _IS.match(text)
        if told is not None:
            rule, repair = _parted(told["rest"])
            return cls(text, path=told["path"], rule=rule, repair=repair)
        where, colon, rest = text.partition(": ")
        if not colon or not _WHERE.fullmatch(where):
            where, rest = "", text
        rule, repair = _parted(rest)
        return cls(text, path=where or None, rule=rule, repair=repair)

    def to_json(self) -> dict[str, Any]:
        """The problem as values of JSON, without secrets."""
        value = as_told(self.value) if isinstance(self.value, str) else self.value
        parts = {"path": self.path, "rule": self.rule, "repair": self.repair, "message": str(self)}
        shown = {name: None if part is None else as_told(part) for name, part in parts.items()}
        return {"path": shown.pop("path"), "value": value, **shown}


def as_told(text: str) -> str:
    """`text` without secrets, with an escape for each half of a character: JSON holds none."""
    return redact(text).encode("utf-8", "backslashreplace").decode()


_WHERE = re.compile(r"[^\s:]\S*(?: (?:[\w.]+|'[^']*')){0,3}")
"""What may stand before the colon of a sentence: a path, an option with a value, a step."""
_IS = re.compile(r"(?P<path>[^\s:]*[.\[][^\s:]*) (?P<rest>is .+)", re.DOTALL)
_TO_DO = re.compile(
    r"(?s)(?P<rule>.+)[;:] (?P<repair>(?:add|ask|change|check|choose|did|drop|fill|fix|free|give|if"
    r"|install|leave|let|look|make|map|mend|move|name|omit|please|put|quote|raise|read|remove"
    r"|rename|replay|report|run|say|see|set|start|take|try|turn|unset|use|wait|write)\b.+)"
)
"""A sentence whose last part begins with a verb that says what to do."""


def _parted(text: str) -> tuple[str, str | None]:
    """What is wrong, and what to do about it."""
    found = _TO_DO.fullmatch(text)
    return (found["rule"], found["repair"]) if found is not None else (text, None)


def validate(model: type[S], data: object, path: str) -> tuple[S | None, list[str]]:
    """`data` as a `model`, or None and every problem, each beginning with its path.

    A key that is not known, beside a missing key that is much like it, is one problem.
    """
    try:
        return model.model_validate(data), []
    except ValidationError as e:
        errors = e.errors(include_url=False)
        meant = _misspelt(model, errors)
        found = [_problem(error, path, model, meant) for error in errors]
        return None, list(dict.fromkeys(found))


def near_misses(given: Iterable[str], missing: Iterable[str]) -> dict[str, str]:
    """Missing key -> the unknown key that was probably meant to be it; each stands once."""
    likely = sorted(
        (
            (difflib.SequenceMatcher(None, one.casefold(), other.casefold()).ratio(), one, other)
            for one in missing
            for other in given
        ),
        reverse=True,
    )
    meant: dict[str, str] = {}
    for likeness, one, other in likely:
        if likeness >= _LIKENESS and one not in meant and other not in meant.values():
            meant[one] = other
    return meant


_LIKENESS = 0.75
Meant = dict[tuple[Any, ...], str]
"""Location of a missing key -> the unknown key beside it that was meant."""


def _misspelt(model: type[BaseModel], errors: Sequence[Any]) -> Meant:
    missing: dict[tuple[Any, ...], list[Any]] = {}
    for error in errors:
        if error["type"] == "missing" and isinstance(error["input"], dict):
            missing.setdefault(error["loc"][:-1], []).append(error)
    meant: Meant = {}
    for parent, of_parent in missing.items():
        known = {
            name
            for each in _models_at(model, parent)
            for field, info in each.model_fields.items()
            for name in (field, info.alias)
        }
        given = [key for key in of_parent[0]["input"] if isinstance(key, str) and key not in known]
        wanted = {str(error["loc"][-1]): error["loc"] for error in of_parent}
        for name, other in near_misses(given, wanted).items():
            meant[wanted[name]] = other
    return meant


def _models_at(model: type[BaseModel], loc: tuple[Any, ...]) -> list[type[BaseModel]]:
    """The models that may stand at a location, each of a union."""
    models = [model]
    for part in loc:
        if isinstance(part, int) or _is_branch(part):
            continue
        fields = [(each, _field_of(each, part)) for each in models]
        models = [
            found
            for each, name in fields
            if name
            for found in _models_in(each.model_fields[name].annotation)
        ]
    return models


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _problem(error: Any, path: str, model: type[BaseModel], meant: Meant) -> Problem:
    loc = [p for p in error["loc"] if not _is_branch(p)]
    where = _place(path, loc)
    name = next((str(p) for p in reversed(loc) if isinstance(p, str)), "")
    if error["type"] == "missing":
        wrong = meant.get(error["loc"])
        if wrong is not None:
            return _near_miss(_place(path, [*loc[:-1], wrong]), name)
        field = model.model_fields.get(_field_of(model, name))
        about = f" ({field.description})" if field is not None and field.description else ""
        rule = f"is missing{about}"
        variables = model.variables if issubclass(model, Settings) else {}
        variable = variables.get(_field_of(model, name))
        way = f'add it, such as "${{{variable}}}"' if variable else "add it"
        return Problem(f"{where} {rule}: {way}", path=where, rule=rule, repair=way)
    if error["type"] == NEAR_MISS:
        return _near_miss(_place(path, [*loc, error["ctx"]["wrong"]]), error["ctx"]["wanted"])
    value = error["input"]
    message = _rule(error, value)
    message = f"{message[:1].lower()}{message[1:]}"
    rule, repair = _parted(message)
    if isinstance(value, dict | list):  # may hold a secret somewhere, and helps nobody
        return Problem(f"{where}: {message}", path=where, rule=rule, repair=repair)
    if isinstance(value, str):
        value = without_query(value)
    secret = _SECRET_NAME.search(name)
    shown = "***" if secret else shorten(value, 80, repr)
    plain = "***" if secret else _plain(value)
    text = f"{where} is {shown}: {message}"
    return Problem(text, path=where, value=plain, rule=rule, repair=repair)


NEAR_MISS = "near_miss"
"""The type of the error of a model that knows which key was meant: `wrong` and `wanted`."""


def _near_miss(where: str, wanted: str) -> Problem:
    rule, repair = f"is not known, and {wanted} is missing", f"did you mean {wanted!r}?"
    return Problem(f"{where}: {rule}; {repair}", path=where, rule=rule, repair=repair)


def _place(path: str, loc: Sequence[Any]) -> str:
    return path + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in loc)


def _plain(value: object) -> object:
    """A value as JSON may hold it; a long text or number is cut."""
    if isinstance(value, bool | float | None):
        return value
    if isinstance(value, int) and abs(value) < 2**53:
        return int(value)
    return shorten(value, 80)


_OBJECT, _LIST, _NUMBER = (
    "must be an object of keys and values",
    "must be a list",
    "must be a number",
)
_WHOLE = "must be a whole number"
_RULES = {
    "int_parsing": _WHOLE,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": _WHOLE + " of fewer digits",
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "string_unicode": "holds half of a character; write the text anew",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "invalid_key": "must have a text as its name; quote it",
    "none_required": "must be null, or left out",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} or less",
    "multiple_of": "must be a multiple of {multiple_of}",
    "too_short": "must have at least {min_length} item(s)",
    "too_long": "must have at most {max_length} items",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "value_error": "{error}",
    "assertion_error": "{error}",
}


def _rule(error: Any, value: object) -> str:
    """The rule that a value breaks, in our words."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f'must be a text; quote it: "{str(value).lower()}"'
    rule = _RULES.get(kind)
    if rule is None:
        return str(error["msg"])
    if kind in ("value_error", "assertion_error"):
        return shorten(context.get("error", error["msg"]), 1000)
    return rule.format(**context)


def _is_branch(part: Any) -> bool:
    """Whether a part of a location names pydantic's branch of a union, and not the user's key."""
    return isinstance(part, str) and ("[" in part or part[:1].isupper() or part in _BRANCHES)


_BRANCHES = {"str", "int", "float", "bool", "dict", "list"}


def _field_of(model: type[BaseModel], alias: str) -> str:
    for name, field in model.model_fields.items():
        if alias in (field.alias, name):
            return name
    return ""


def unknown_keys(settings: Settings, path: str) -> list[str]:
    """A warning for each key that no field knows, in `settings` and inside it."""
    return list(_unknown(settings, path))


def _unknown(settings: Settings, path: str) -> Iterator[str]:
    known = {f.alias or n for n, f in type(settings).model_fields.items()}
    for key in settings.model_extra or {}:
        if key not in type(settings).ignored and not type(settings).passes_on:
            yield f"{path}.{key} is not known and is passed over{near(key, known)}"
    for name, field in type(settings).model_fields.items():
        child = getattr(settings, name)
        where = f"{path}.{field.alias or name}"
        for suffix, item in _settings_in(child):
            yield from _unknown(item, where + suffix)


def _settings_in(value: Any) -> Iterable[tuple[str, Settings]]:
    if isinstance(value, Settings):
        yield "", value
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            if isinstance(item, Settings):
                yield f"[{i}]", item
