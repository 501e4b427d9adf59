"""The job file: what DataWorks Data Integration writes, as models.

`read_job` gives a `Job` with a checked envelope and filled placeholders.
`vecferry.pipelines.job.resolve` checks the parameters of each step, with the data sources at hand.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from vecferry.errors import JobError, near
from vecferry.instead import MODES, Mode
from vecferry.pipelines.job.documents import parse_document
from vecferry.pipelines.job.placeholders import fill, set_value
from vecferry.pipelines.job.problems import unknown_keys, validate
from vecferry.positions.settings import PlaceUri, guard
from vecferry.settings import Settings, pick, require_pattern
from vecferry.transforms.embed.cache.settings import VectorCacheSettings

_NOT_IN_FILES = frozenset('/\\:*?"<>|[]{}#%$~')


class ErrorLimit(Settings):
    """When rejects fail the job; neither value means never."""

    record: int | None = Field(
        default=None, ge=0, description="the job fails when it rejects more rows"
    )
    percentage: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="… or a greater share of the rows read; unused with record",
    )


class Speed(Settings):
    """How much runs at once, and how fast at most."""

    ignored = frozenset({"dmu"})

    concurrent: int | None = Field(
        default=None, ge=1, description="streams = embedding requests in flight"
    )
    throttle: bool = Field(default=False, description="whether record and mbps hold")
    record: float | None = Field(default=None, gt=0, description="rows a second, with throttle")
    mbps: float | None = Field(default=None, gt=0, description="MiB a second, with throttle")

    @model_validator(mode="after")
    def _throttle_says_how(self) -> Speed:
        if self.throttle and self.record is None and self.mbps is None:
            raise ValueError("throttle is on without a rate; add record (rows/s) or mbps (MiB/s)")
        return self


class Budget(Settings):
    """What all embedding steps of a run may spend together."""

    requests: int | None = Field(default=None, ge=1, description="requests, tries included")
    tokens: int | None = Field(default=None, ge=1, description="tokens, as the service bills them")

    @model_validator(mode="after")
    def _bounds_something(self) -> Budget:
        if self.requests is None and self.tokens is None:
            known = ("requests", "tokens")
            hints = "".join(near(key, known) for key in self.model_extra or {})
            raise ValueError(
                f"budget bounds nothing: add requests or tokens, or leave it out{hints}"
            )
        return self


class Setting(Settings):
    """What holds for the whole job."""

    ignored = frozenset({"executeMode", "column", "locale", "processConfig"})

    error_limit: ErrorLimit = ErrorLimit()
    speed: Speed = Speed()
    vector_cache: VectorCacheSettings | None = None
    trusted_endpoints: list[str] | None = None
    budget: Budget | None = None
    positions: PlaceUri | None = None
    poll_seconds: float | None = Field(
        default=None, gt=0, description="how often a sync asks its source for news, in seconds"
    )
    pause_seconds: float = Field(
        default=0.1, ge=0, description="the least time between two rounds of a sync, in seconds"
    )
    on_reject: Mode | None = Field(
        default=None, description="what the target gets in place of a change that a step rejects"
    )

    @field_validator("on_reject", mode="before")
    @classmethod
    def _on_reject(cls, value: Any) -> Any:
        return None if value is None else pick(value, MODES, "onReject")

    @model_validator(mode="before")
    @classmethod
    def _positions_are_usable(cls, value: Any) -> Any:
        # Seen to here, not at the field: an error shows the value of a field, password and all.
        guard(value.get("positions") if isinstance(value, dict) else None)
        return value

    @field_validator("trusted_endpoints")
    @classmethod
    def _are_patterns(cls, patterns: list[str] | None) -> list[str] | None:
        for pattern in patterns or []:
            require_pattern(pattern)
        return patterns


class Hop(Settings):
    """An arrow from one step to another; only the order of `steps` counts."""

    from_: str = Field(alias="from")
    to: str


class Order(Settings):
    """The arrows between steps, which may be absent or skip steps."""

    hops: tuple[Hop, ...] = ()


class Step(Settings):
    """A reader, a transformer or a writer."""

    ignored = frozenset({"description", "copies", "id", "gui", "position"})

    step_type: str
    category: Literal["reader", "map", "flatmap", "map/flatmap", "writer"]
    parameter: dict[str, Any] = Field(default_factory=dict)
    name: str | None = None
    display_name: str | None = None

    @property
    def role(self) -> str:
        """reader, transformer or writer."""
        return self.category if self.category in ("reader", "writer") else "transformer"


class Job(Settings):
    """A job: one reader, any number of transformers in order, one writer."""

    ignored = frozenset({"$schema", "extend", "description"})

    type: Literal["job"] = "job"
    version: str = "2.0"
    name: str = ""
    steps: list[Step] = Field(min_length=2)
    setting: Setting = Setting()
    order: Order = Order()

    @field_validator("steps")
    @classmethod
    def _one_of_each_end(cls, steps: list[Step]) -> list[Step]:
        roles = [s.role for s in steps]
        for end in ("reader", "writer"):
            names = [step_name(s, i) for i, s in enumerate(steps) if s.role == end]
            if len(names) != 1:
                found = f"it has {len(names)}: {', '.join(names)}" if names else "it has none"
                raise ValueError(f"a job has one {end}, and {found}")
        if roles[0] != "reader" or roles[-1] != "writer":
            raise ValueError(
                "steps stand in the order of the flow: the reader comes first, the writer last"
            )
        return steps

    @model_validator(mode="after")
    def _names_are_known(self) -> Job:
        names = [step_name(s, i) for i, s in enumerate(self.steps)]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"two steps are called {twice[0]!r}; rename one")
        given = set(names) | {n for s in self.steps for n in (s.name, s.display_name) if n}
        for i, hop in enumerate(self.order.hops):
            for name in (hop.from_, hop.to):
                if name not in given:
                    raise ValueError(
                        f"order.hops[{i}] names {name!r}, which is not a step{near(name, given)}"
                    )
        return self


def step_name(step: Step, index: int) -> str:
    """What messages call a step: its name, else its displayName, else ``steps[i]``."""
    return step.name or step.display_name or f"steps[{index}]"


def as_file_name(name: str) -> str:
    """A job's name as the name of one file or folder, the same for the same name.

    Slashes, control characters and signs that search patterns have become ``_``. At most 100 bytes
    are left, so that what is added to the name has room.
    """
    safe = "".join(c if c.isprintable() and c not in _NOT_IN_FILES else "_" for c in name)
    if safe.strip(".") == "":
        safe = "_" * len(safe)
    return safe.encode()[:100].decode("utf-8", "ignore")


def parse_job(
    raw: object, *, values: Mapping[str, str], stem: str = "job"
) -> tuple[Job, list[str]]:
    """A job from parsed JSON, with warnings; raises JobError with every problem of its frame."""
    filled, problems = fill(raw, values)
    return validated(filled, problems, stem)


def validated(filled: object, problems: list[str], stem: str) -> tuple[Job, list[str]]:
    """A job from a filled document, with the warnings; raises JobError with all problems."""
    if not isinstance(filled, dict):
        given = "an empty file" if filled is None else f"a {type(filled).__name__}"
        raise JobError(f"job: must be a JSON object with steps, not {given}")
    _refuse_others(filled)
    job, more = validate(Job, filled, "job")
    if job is None or problems:
        raise JobError(problems + more)
    if not job.name:
        job = job.model_copy(update={"name": stem})
    return job, unknown_keys(job, "job")


def _refuse_others(filled: dict[str, Any]) -> None:
    """Raises JobError for a job file of another program, with what to do."""
    inner = filled.get("job")
    if "steps" in filled or not isinstance(inner, dict) or "content" not in inner:
        return
    content = inner["content"]
    first = content[0] if isinstance(content, list) and content else content
    names = []
    for end in ("reader", "writer"):
        part = first.get(end) if isinstance(first, dict) else None
        names.append(str(part.get("name")) if isinstance(part, dict) else end)
    raise JobError(
        [
            f"job: this is a job file of DataX (job.content, {' to '.join(names)}); vecferry takes "
            "the jobs of DataWorks",
            "job.content: make an entry of steps of each reader and writer: "
            '{"stepType": …, "category": "reader", "parameter": …}',
            "job.content: put each connection into a data source, and name it as datasource",
            "job.setting: write it as setting, beside steps; docs/job-file.md has an example",
        ]
    )


def read_raw(
    path: str,
    *,
    parameters: Mapping[str, str] | None = None,
    assignments: Mapping[str, str] | None = None,
    written: dict[str, str] | None = None,
) -> tuple[Any, list[str]]:
    """The document of a job file, with ``--set`` applied and placeholders filled; and problems.

    What each filled text was written as is put into `written`.
    """
    raw = parse_document(Path(path), "job")
    for where, text in (assignments or {}).items():
        set_value(raw, where, text)
    return fill(raw, {**os.environ, **(parameters or {})}, written=written)


def read_job(
    path: str,
    *,
    parameters: Mapping[str, str] | None = None,
    assignments: Mapping[str, str] | None = None,
) -> tuple[Job, list[str]]:
    """The job in a file, with ``--set`` applied and placeholders filled; and warnings.

    Placeholders come from `parameters`, then from the environment.
    """
    filled, problems = read_raw(path, parameters=parameters, assignments=assignments)
    return validated(filled, problems, Path(path).stem)
