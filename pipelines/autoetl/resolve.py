"""Job files and calls of AutoETL, resolved to be run or written to be read."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from vecferry.pipelines.autoetl.bodies import Document
from vecferry.pipelines.autoetl.expand import expanded
from vecferry.pipelines.job.datasources import read_data_sources
from vecferry.pipelines.job.documents import parse_document
from vecferry.pipelines.job.placeholders import Values, fill, set_value
from vecferry.pipelines.job.resolve import ResolvedJob, checked_job, read_and_resolve, resolve


def resolve_file(
    path: str,
    *,
    data_sources: str | None = None,
    parameters: Mapping[str, str] | None = None,
    assignments: Mapping[str, str] | None = None,
) -> ResolvedJob:
    """A job file with everything it names, checked; it may have a `mapping`."""
    raw = parse_document(Path(path), "job")
    given = {"data_sources": data_sources, "parameters": parameters, "assignments": assignments}
    if not has_mapping(raw):
        return read_and_resolve(path, **given)  # type: ignore[arg-type]
    return resolve_mapping(raw, Path(path).stem, beside=os.path.dirname(path), **given)  # type: ignore[arg-type]


def has_mapping(raw: object) -> bool:
    """Whether a document of a job has a `mapping`."""
    return isinstance(raw, dict) and raw.get("mapping") is not None


def resolve_mapping(
    raw: Document,
    stem: str,
    *,
    data_sources: str | None = None,
    parameters: Mapping[str, str] | None = None,
    assignments: Mapping[str, str] | None = None,
    beside: str | None = None,
) -> ResolvedJob:
    """The job of a document with `mapping`, checked as any other job. Raises JobError."""
    values = Values.of(parameters)
    written: dict[str, str] = {}
    job, warnings = written_job(
        raw,
        data_sources=data_sources,
        parameters=values,
        assignments=assignments,
        written=written,
        beside=beside,
    )
    filled, problems = fill(job, values, written=written)
    checked, more = checked_job(filled, problems, stem)
    resolved = resolve(checked, read_data_sources(data_sources, values, beside), written)
    resolved.warnings[:0] = [*warnings, *more]
    return dataclasses.replace(resolved, given=values.given)


def written_job(
    raw: Document,
    *,
    data_sources: str | None = None,
    parameters: Mapping[str, str] | None = None,
    assignments: Mapping[str, str] | None = None,
    written: dict[str, str] | None = None,
    beside: str | None = None,
) -> tuple[Document, list[str]]:
    """The job that a mapping stands for, as a file would hold it, and warnings.

    `assignments` are set; placeholders, such as those of keys, stay. Raises JobError.
    """
    values = Values.of(parameters)
    sources = read_data_sources(data_sources, values, beside)
    given = dict(assignments or {})
    early = {path: given.pop(path) for path in [*given] if path.startswith("mapping.")}
    raw = copy.deepcopy(raw)
    for path, text in early.items():
        set_value(raw, path, text)
    job, warnings = expanded(raw, sources, values, written)
    for path, text in given.items():
        set_value(job, path, text)
    return job, warnings
