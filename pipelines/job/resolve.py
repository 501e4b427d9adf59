"""A job with its data sources: every step checked, every column followed through the flow."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from vecferry.errors import LEAST_IN_ROWS, JobError, near, redact
from vecferry.instead import KEEP
from vecferry.pipelines.job.datasources import DataSources, read_data_sources
from vecferry.pipelines.job.documents import parse_document
from vecferry.pipelines.job.feeds import (
    id_columns,
    idle_columns,
    mapped_columns,
    on_reject,
    parts_problems,
    wasted_vectors,
)
from vecferry.pipelines.job.model import Job, Step, read_raw, step_name, validated
from vecferry.pipelines.job.placeholders import Values, is_filled, names_in
from vecferry.pipelines.job.positions import ResolvedPlace, resolve_place
from vecferry.pipelines.job.prices import (
    budget_of,
    currency_of,
    priced,
    problems_of_money,
    unused_prices,
)
from vecferry.pipelines.job.problems import unknown_keys, validate
from vecferry.pipelines.registry import Kind, kind_of, load, settings_of
from vecferry.secrets import Written, as_variable, referenced, secrets_at, secrets_in
from vecferry.settings import Connection, Maker, StepSettings
from vecferry.steps import (
    Estimator,
    ReadOptions,
    RunContext,
    StepContext,
    Transformer,
    WriteOptions,
)
from vecferry.transforms.embed.cache.settings import cache_settings

Columns = dict[str, int | None]
T = TypeVar("T")


@dataclass(frozen=True)
class ResolvedStep:
    """A step whose settings and connection have been checked."""

    name: str
    index: int
    kind: Kind
    settings: StepSettings
    connection: Connection | None

    def logic(self, context: StepContext) -> Any:
        """The reader, operator or target of this step, callable without Beam."""
        if self.kind.logic is None:
            raise JobError(
                f"step {self.name!r}: {self.kind.step_type} can't run in this version yet"
            )
        return load(self.kind.logic)(self.settings, self.connection, context)

    def estimator(self) -> Estimator | None:
        """What stands in for a transformer in an estimate; None where the step itself is run."""
        logic: type[Transformer] = load(str(self.kind.logic))
        return logic.estimator(self.settings)


@dataclass(frozen=True)
class ResolvedJob:
    """A job that can be built into a graph; `force` and `instead_of` as `StepContext` has them.

    `written` says of each text that was filled in from outside what it was written as. `given` has
    the values of the command line by name. `positions` is where `setting.positions` says.
    """

    job: Job
    steps: tuple[ResolvedStep, ...]
    warnings: list[str] = field(default_factory=list)
    force: bool = False
    instead_of: str | None = None
    written: Mapping[str, str] = field(default_factory=dict, repr=False)
    given: Mapping[str, str] = field(default_factory=dict, repr=False)
    positions: ResolvedPlace | None = None

    def secrets(self) -> list[str]:
        """The secrets in the settings and connections of all steps."""
        return secrets_in([(step.settings, step.connection) for step in self.steps])

    def as_written(self) -> Written:
        """What the texts of the job were written as."""
        return Written(self.written, self.given)

    def referenced(self, value: T, run: str) -> T:
        """`value`, made of the job, for such workers."""
        return referenced(value, self.as_written().closed(self.secrets()), run)

    def with_references(self, run: str) -> ResolvedJob:
        """The job for workers that fill secrets by themselves; see `vecferry.secrets.referenced`.

        Raises JobError for a secret that is written out.
        """
        steps = tuple(
            dataclasses.replace(
                step,
                settings=self.referenced(step.settings, run),
                connection=self.referenced(step.connection, run),
            )
            for step in self.steps
        )
        return dataclasses.replace(self, steps=steps)

    @property
    def reader(self) -> ResolvedStep:
        """The first step."""
        return self.steps[0]

    @property
    def transformers(self) -> tuple[ResolvedStep, ...]:
        """The steps between the two ends, in the order of the flow."""
        return self.steps[1:-1]

    @property
    def writer(self) -> ResolvedStep:
        """The last step."""
        return self.steps[-1]

    def makers(self) -> dict[str, Maker]:
        """By column, what makes its vectors, for the vectors of the job's own steps."""
        made: dict[str, Maker] = {}
        for step in self.transformers:
            replaced = step.settings.outputs() or {}
            made = {name: maker for name, maker in made.items() if name not in replaced}
            made |= step.settings.makers()
        return made

    def made(self) -> dict[str, int]:
        """By column, the dimension of each vector that the job's own steps make."""
        given = ((s.settings.outputs() or {}).items() for s in self.transformers)
        return {n: dimension for outputs in given for n, dimension in outputs if dimension}

    @property
    def currency(self) -> str | None:
        """The currency of the job's prices; None if it names no price."""
        return currency_of(step.settings for step in self.transformers)

    def lacks_positions(self) -> str | None:
        """Why the job can't be run as a sync, which it is; None if it can, or reads once."""
        if not self.reader.settings.follows or self.job.setting.positions is not None:
            return None
        return (
            f"setting.positions is missing: {self.reader.name!r} follows its source, and "
            "a sync stores there how far it has read; name a folder, such as positions/JOB, or "
            "the URI of an object store or of Redis"
        )

    def unable(self) -> list[str]:
        """A problem for each step that can be checked but not run in this version."""
        return [
            f"step {s.name!r}: {s.kind.step_type} can't run in this version yet"
            for s in self.steps
            if s.kind.logic is None
        ]


def resolve(
    job: Job, sources: DataSources, written: Mapping[str, str] | None = None
) -> ResolvedJob:
    """Checks every step of a job; JobError holds all problems found.

    `written` says of each text of the job that was filled what it was written as.
    """
    problems: list[str] = []
    warnings: list[str] = []
    steps: list[ResolvedStep] = []
    made: Columns = {}
    for i, step in enumerate(job.steps):
        try:
            resolved, more = _resolve_step(job, step, i, sources, made)
        except JobError as e:
            problems += e.problems
        else:
            steps.append(resolved)
            warnings += more
            made = {**made, **(resolved.settings.outputs() or {})}
    if not problems:
        named = [(f"steps[{s.index}] {s.name!r}", s.settings) for s in steps]
        problems = [
            *_follow_columns(steps),
            *wasted_vectors(named),
            *_no_positions(job, steps[0]),
            *parts_problems(named),
            *problems_of_money(job, ((s.name, s.settings) for s in steps)),
        ]
    if problems:
        raise JobError(problems)
    where = job.setting.positions
    known = {**sources.written, **(written or {})}
    return ResolvedJob(
        job,
        tuple(steps),
        [
            *sources.doubts(),
            *warnings,
            *_unused_columns(job, steps),
            *_keys_written_out(steps, known),
            *_unjudged(job, steps[0]),
            *unused_prices(job),
        ],
        written=known,
        positions=resolve_place(where, sources, "job.setting.positions") if where else None,
    )


def read_and_resolve(
    path: str,
    *,
    data_sources: str | None = None,
    parameters: Mapping[str, str] | None = None,
    assignments: Mapping[str, str] | None = None,
) -> ResolvedJob:
    """A job file with everything it names, checked."""
    written: dict[str, str] = {}
    values = Values.of(parameters)
    filled, problems = read_raw(path, parameters=values, assignments=assignments, written=written)
    job, warnings = checked_job(filled, problems, Path(path).stem)
    sources = read_data_sources(data_sources, values, os.path.dirname(path))
    resolved = resolve(job, sources, written)
    known = names_in(parse_document(Path(path), "job")) | sources.names()
    for name in sorted(set(values.given) - known):
        warnings.append(
            f"-p {name}: neither the job nor its data sources ask for it{near(name, known)}"
        )
    resolved.warnings[:0] = warnings
    return dataclasses.replace(resolved, given=values.given)


def checked_job(filled: object, problems: list[str], stem: str) -> tuple[Job, list[str]]:
    """A job from a filled document, with the warnings of its frame.

    Raises JobError with `problems` and all that is wrong with the frame and inside the steps.
    """
    try:
        return validated(filled, problems, stem)
    except JobError as e:
        raise JobError(e.problems + _problems_of_steps(filled)) from None


def _problems_of_steps(filled: Any) -> list[str]:
    """Problems inside the steps of a job whose frame is wrong, to be reported together."""
    problems: list[str] = []
    steps = filled.get("steps") if isinstance(filled, dict) else None
    for i, step in enumerate(steps if isinstance(steps, list) else []):
        parameter = step.get("parameter") if isinstance(step, dict) else None
        told = not isinstance(parameter, dict) or not is_filled(parameter)
        if told or not all(isinstance(step.get(name), str) for name in ("stepType", "category")):
            continue
        try:
            kind = kind_of(str(step.get("stepType")), str(step.get("category")))
        except JobError as e:
            problems.append(f"steps[{i}].{e.problems[0]}")
        else:
            problems += validate(settings_of(kind), parameter, f"steps[{i}].parameter")[1]
    return problems


def _resolve_step(
    job: Job, step: Step, index: int, sources: DataSources, made: Columns
) -> tuple[ResolvedStep, list[str]]:
    name, path = step_name(step, index), f"steps[{index}]"
    try:
        kind = kind_of(step.step_type, step.role)
    except JobError as e:
        raise JobError(f"{path}.{e.problems[0]}") from e
    if kind.role != step.role:
        right = "map" if kind.role == "transformer" else kind.role
        raise JobError(
            f"{path}.category is {step.category!r}: {kind.step_type} is a {kind.role}; "
            f"write {right!r}"
        )
    parameter = {**step.parameter, **_job_wide(job, kind), **priced(job, kind, step.parameter)}
    of_kind = settings_of(kind)
    if kind.role == "writer":
        parameter = with_dimensions(parameter, of_kind.vector_types, made)
    settings, problems = validate(of_kind, parameter, f"{path}.parameter")
    connection: Connection | None = None
    warnings: list[str] = []
    # A reader of tables may have it deeper down, or bring a connection of its own.
    source = step.parameter.get(kind.source_key) or (settings and settings.source_name)
    if kind.sources and isinstance(source, str):
        try:
            connection, warnings = sources.get(source, kind.sources, f"{path} {name!r}")
        except JobError as e:
            problems += e.problems
    own = settings is not None and not settings.needs_datasource
    needed = kind.sources and kind.source_needed and not own
    if needed and not source and not any("datasource" in p for p in problems):
        problems.append(f"{path}.parameter.datasource is missing: name a data source")
    if settings is not None:
        problems += _untrusted(job, path, settings)
    if settings is None or problems:
        raise JobError(problems)
    warnings += unknown_keys(settings, f"{path}.parameter")  # type: ignore[arg-type]
    return ResolvedStep(name, index, kind, settings, connection), warnings


def with_dimensions(
    parameter: dict[str, Any], vector_types: Sequence[str], made: Columns
) -> dict[str, Any]:
    """The parameters of a writer, with the dimension of each vector column that says none.

    The dimension is that of the step that makes the vectors, so a job need not say it twice.
    """
    columns, mapping = parameter.get("column"), parameter.get("columnMapping")
    if not isinstance(columns, list):
        return parameter
    types = {t.casefold() for t in vector_types}
    sources = {
        str(m.get("dstColName")): m.get("sourceColName")
        for m in (mapping if isinstance(mapping, list) else [])
        if isinstance(m, dict)
    }

    def filled(column: Any) -> Any:
        if not isinstance(column, dict) or str(column.get("type")).casefold() not in types:
            return column
        given = [column.get(key) for key in ("dimension", "dims")]
        if any(str(d).strip().casefold() not in ("", "none") for d in given):
            return column
        name = str(column.get("name"))
        dimension = made.get(str(sources.get(name, name)))
        rest = {k: v for k, v in column.items() if k != "dims"}
        return column if dimension is None else {**rest, "dimension": dimension}

    return {**parameter, "column": [filled(c) for c in columns]}


def _job_wide(job: Job, kind: Kind) -> dict[str, Any]:
    """What a job says in `setting` that a step of this kind takes, as parameters of the step."""
    cache, patterns = job.setting.vector_cache, job.setting.trusted_endpoints
    told: dict[str, Any] = {}
    if cache is not None:
        told["vectorCache"] = cache_settings(cache.uri, cache.max_bytes)
    if patterns is not None:  # for the URLs of images; `_untrusted` looks at the endpoint's
        told["trustedEndpoints"] = patterns
    return {name: value for name, value in told.items() if name in kind.takes}


def _no_positions(job: Job, reader: ResolvedStep) -> list[str]:
    """A problem if positions are asked for, and the source has none."""
    if job.setting.positions is None or reader.settings.follows:
        return []
    return [
        f"job.setting.positions: step {reader.name!r} ({reader.kind.step_type}) reads all rows "
        "each time, and a position means nothing to it; leave positions out"
    ]


def _unjudged(job: Job, reader: ResolvedStep) -> list[str]:
    """A warning if something is expected of a sync, whose rounds are not judged so."""
    if job.setting.expect.is_empty or not reader.settings.follows:
        return []
    return [
        f"setting.expect is not judged in a sync, and step {reader.name!r} follows its source; it "
        "holds for runs with --into only"
    ]


def _untrusted(job: Job, path: str, settings: StepSettings) -> list[str]:
    """A problem for each endpoint of a step that no trusted pattern matches whole."""
    patterns = job.setting.trusted_endpoints
    if patterns is None:
        return []
    return [
        f"{path}.parameter.endpoint: {redact(url)} matches none of setting.trustedEndpoints "
        f"({', '.join(patterns) or 'the list is empty'}): add a pattern, or use another endpoint"
        for url in settings.calls()
        if not any(re.fullmatch(p, url) for p in patterns)
    ]


def _keys_written_out(steps: list[ResolvedStep], written: Mapping[str, str]) -> list[str]:
    """A warning for each key that stands in the job itself."""
    return [
        f"{path} is a key that is written out, for whoever reads the job; write "
        f"${{{step.settings.key_variable() or as_variable(path)}}} and set that variable, or name "
        "a file, ${file:…}"
        for step in steps
        for path, text in secrets_at(step.settings, f"steps[{step.index}].parameter")
        if len(text) >= LEAST_IN_ROWS and text not in written
    ]


def _follow_columns(steps: list[ResolvedStep]) -> list[str]:
    """Problems of columns that a step needs and no earlier step gives."""
    problems: list[str] = []
    columns: Columns | None = steps[0].settings.outputs()
    if columns is None:
        return problems
    for step in steps[1:]:
        where = f"steps[{step.index}] {step.name!r}"
        needed = step.settings.inputs()
        for name in needed:
            if name not in columns:
                problems.append(
                    f"{where} needs column {name!r}, which no step before it gives"
                    f"{near(name, columns)}; there are {', '.join(columns) or 'none'}"
                )
        if step.kind.role == "writer":
            problems += _wrong_dimensions(where, columns, step.settings.outputs() or {})
        else:
            gone = step.settings.takes_away()
            kept = {name: of for name, of in columns.items() if name not in gone}
            columns = {**kept, **(step.settings.outputs() or {})}
    return problems


def _unused_columns(job: Job, steps: list[ResolvedStep]) -> list[str]:
    """A warning for columns that a job asks a step for and no other step takes, as far as known."""
    *givers, writer = steps
    taken = writer.settings.outputs()
    if not taken or writer.settings.takes_other_columns:
        return []
    used = {*taken, *(name for step in steps[1:] for name in step.settings.inputs())}
    idle = [
        (s, [n for n in s.settings.outputs() or {} if n not in used and _asked(job, s, n)])
        for s in givers
    ]
    return [
        f"steps[{step.index}] {step.name!r} gives {', '.join(map(repr, names))}, which no other "
        "step takes, so it is not written"
        for step, names in idle
        if names
    ]


def _asked(job: Job, step: ResolvedStep, column: str) -> bool:
    """Whether a job names a column of a step; some columns come with the step unasked."""

    def named(value: Any) -> bool:
        if isinstance(value, dict):
            return any(map(named, value.values()))
        return any(map(named, value)) if isinstance(value, list) else value == column

    return named(job.steps[step.index].parameter)


def _wrong_dimensions(where: str, columns: Columns, taken: Columns) -> list[str]:
    problems = []
    for name, dimension in taken.items():
        given = columns.get(name)
        if dimension and given and dimension != given:
            problems.append(
                f"{where} takes vectors of {dimension} dimensions from column {name!r}, and the "
                f"step that makes them gives {given}; make both the same"
            )
    return problems


def context_of(resolved: ResolvedJob, step: ResolvedStep, run: str) -> StepContext:
    """The context of a step in a run on this machine."""
    setting = resolved.job.setting
    speed, role = setting.speed, step.kind.role
    writer = resolved.writer.settings
    behind = [other.settings for other in resolved.transformers if other.index > step.index]
    instead = on_reject(setting, behind, writer)
    read, write = ReadOptions(), WriteOptions()
    if role == "reader":
        read = ReadOptions(
            rows_per_second=speed.record if speed.throttle else None,
            bytes_per_second=speed.mbps * 2**20 if speed.throttle and speed.mbps else None,
            id_columns=id_columns(behind, writer),
            mapped_columns=mapped_columns(behind, writer),
        )
    elif role == "writer":
        makers = resolved.makers()
        taken = writer.outputs() or {}
        vectors = [name for name, dimension in taken.items() if dimension is not None]
        write = WriteOptions(
            makers=makers,
            made=resolved.made(),
            force=resolved.force,
            instead_of=resolved.instead_of,
            on_reject=instead,
            vectors=tuple(dict.fromkeys([*makers, *vectors])),
        )
    return StepContext(
        step=step.name,
        step_type=step.kind.step_type,
        shared=RunContext(
            id=run,
            concurrent=speed.concurrent,
            reject_limit=setting.error_limit.record,
            budget=budget_of(setting, resolved.currency),
        ),
        read=read,
        write=write,
        on_reject=KEEP if role == "writer" else instead,
        drop=idle_columns([other.settings for other in resolved.steps], step.index),
        whole_documents=bool(writer.document_key()),
        stamped=False,
    )
