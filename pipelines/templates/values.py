"""Turns the given texts into values of a template's parameters, and reports every mistake.

Stands apart from `job` because it knows parameters, and no job.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vecferry.errors import JobError, keep_secret, near, shorten
from vecferry.pipelines.templates.metadata import Parameter, TemplateMetadata


def choose_values(
    metadata: TemplateMetadata,
    given: Mapping[str, str],
    environment: Mapping[str, str],
    elsewhere: Collection[str] = (),
    *,
    secrets_needed: bool = True,
) -> dict[str, Any]:
    """A value, typed, for each parameter that has a value.

    A value is `given`, or comes from the `environment` if the parameter names a variable, or is the
    default. An empty text is not a value. Names that are asked for `elsewhere` are ignored. If
    secrets are not needed, a secret that is missing or wrong is an empty text.

    Raises JobError with every problem: the parameter, its value (never a secret's), the rule and
    the way out.
    """
    known = {p.name: p for p in metadata.parameters}
    problems = [
        f"-p {name}: the template has no parameter {name!r}{near(name, known)}; it has "
        f"{', '.join(known) or 'none'}"
        for name in given
        if name not in known and name not in elsewhere
    ]
    for name in given.keys() & known.keys():
        if known[name].secret:
            keep_secret(given[name])  # before any message
    values: dict[str, Any] = {}
    for parameter in metadata.parameters:
        if not _is_there(parameter, values):
            problems += _not_wanted(parameter, given)
            continue
        found = _choose(parameter, given, environment, values)
        if found and parameter.secret and not secrets_needed:
            values[parameter.name] = ""
        else:
            problems += found
    if problems:
        raise JobError(problems)
    return values


def written_secrets(metadata: TemplateMetadata, values: Mapping[str, Any]) -> dict[str, str]:
    """Of each secret among `values`, the placeholder by which workers fill it."""
    return {
        str(values[p.name]): placeholder_of(p)
        for p in metadata.parameters
        if p.secret and p.name in values
    }


def placeholder_of(parameter: Parameter) -> str:
    """How files name the value of a parameter: by the variable that it comes from, or its name."""
    return f"${{{parameter.custom_metadata.environment or parameter.name}}}"


def _is_there(parameter: Parameter, values: Mapping[str, Any]) -> bool:
    """Whether the parent's value brings this parameter into existence."""
    if parameter.parent_name is None:
        return True
    if parameter.parent_name not in values:
        return False
    parent = values[parameter.parent_name]
    text = str(parent).lower() if isinstance(parent, bool) else str(parent)
    return text in parameter.parent_trigger_values


def _not_wanted(parameter: Parameter, given: Mapping[str, str]) -> list[str]:
    if not given.get(parameter.name):
        return []
    return [
        f"-p {parameter.name} is given, and means nothing here: it is for {parameter.parent_name} "
        f"{' or '.join(parameter.parent_trigger_values)}; leave it out, or change "
        f"{parameter.parent_name}"
    ]


def _choose(
    parameter: Parameter,
    given: Mapping[str, str],
    environment: Mapping[str, str],
    values: dict[str, Any],
) -> list[str]:
    """Puts the parameter's value into `values`; gives the problems found."""
    variable = parameter.custom_metadata.environment
    text, where = given.get(parameter.name), f"-p {parameter.name}"
    if text is None and variable and environment.get(variable):
        text, where = environment[variable], f"parameter {parameter.name}, of ${variable}"
        if parameter.secret:
            keep_secret(text)
    if text is None and parameter.default_value is not None:
        text = parameter.default_value
    if not text:
        return [_missing(parameter)] if not parameter.is_optional else []
    try:
        value = parameter.parse(text)
    except ValueError as e:
        shown = "***" if parameter.secret else repr(shorten(text, 80))
        return [f"{where} is {shown}: {e}; {parameter.label}: {parameter.help_text}"]
    if value == [] and not parameter.is_optional:
        return [_missing(parameter)]
    values[parameter.name] = value
    return []


def _missing(parameter: Parameter) -> str:
    variable = parameter.custom_metadata.environment
    way = f"give -p {parameter.name}=…" + (f", or set {variable}" if variable else "")
    return f"parameter {parameter.name} is missing: {way}; {parameter.label}: {parameter.help_text}"
