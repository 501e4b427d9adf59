"""Makes a job of a template and parameters: resolved to be run, or rendered to be read."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vecferry.pipelines.job.datasources import DataSources, read_data_sources
from vecferry.pipelines.job.documents import as_texts
from vecferry.pipelines.job.placeholders import PLACEHOLDER, Values, set_value
from vecferry.pipelines.job.resolve import ResolvedJob, checked_job, resolve
from vecferry.pipelines.templates.library import PREFIX, Template, load_template
from vecferry.pipelines.templates.values import choose_values, placeholder_of, written_secrets

_DOLLAR = "${a-dollar:-$}"
"""A placeholder that is never filled: a rendered job writes a literal ``$`` so."""


def resolve_template(
    source: str,
    *,
    folders: Iterable[str | Path] = (),
    data_sources: str | None = None,
    parameters: Mapping[str, str] | None = None,
    assignments: Mapping[str, str] | None = None,
) -> ResolvedJob:
    """The job of ``template:NAME`` with its parameters, checked as any other job.

    `assignments` are set in the filled job, unchanged. Raises JobError with every problem of the
    parameters, or else every problem of the job.
    """
    template = load_template(source.removeprefix(PREFIX), folders)
    known = Values.of(parameters)
    given, sources = known.given, read_data_sources(data_sources, known)
    values = _values(template, given, sources)
    job, own = template.filled(values)
    for path, text in (assignments or {}).items():
        set_value(job, path, text)
    checked, warnings = checked_job(job, [], template.name)
    written = written_secrets(template.metadata, values)
    resolved = resolve(checked, sources.with_own(own), written)
    resolved.warnings[:0] = warnings
    return dataclasses.replace(resolved, given=given)


def render_template(
    name: str, *, folders: Iterable[str | Path] = (), parameters: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The job of a template and its own data sources, as files would hold them.

    A secret stays a placeholder, named after its environment variable or after the parameter.
    Secrets need not be given. Raises JobError as `resolve_template` does.
    """
    template = load_template(name.removeprefix(PREFIX), folders)
    given = Values.of(parameters).given
    values = choose_values(template.metadata, given, os.environ, secrets_needed=False)
    shown = {name: _escaped(value) for name, value in values.items()}
    for parameter in template.metadata.parameters:
        if parameter.secret and parameter.name in values:
            shown[parameter.name] = placeholder_of(parameter)
    job, own = template.filled(shown)
    return as_texts(job), as_texts(own)


def _values(template: Template, given: dict[str, str], sources: DataSources) -> dict[str, Any]:
    own = {p.name for p in template.metadata.parameters}
    elsewhere = sources.names() if given.keys() - own else ()
    return choose_values(template.metadata, given, os.environ, elsewhere)


def _escaped(value: Any) -> Any:
    if isinstance(value, list):
        return [_escaped(one) for one in value]
    if not isinstance(value, str):
        return value
    return PLACEHOLDER.sub(lambda m: _DOLLAR + m[0][1:], value)
