"""The steps of a job as the launcher uses them, without Beam."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Generator, Iterator, Mapping
from urllib.parse import urlsplit

from vecferry.errors import JobError, keep_secret
from vecferry.pipelines.job.resolve import ResolvedJob, ResolvedStep, context_of
from vecferry.pipelines.run.positions import positions_of
from vecferry.rows import Change, Reject
from vecferry.steps import ChangeSource, Keeps, Source, StepContext, Target, Transformer

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


def require_proxies(environment: Mapping[str, str]) -> None:
    """Raises JobError for a proxy in the environment that no client can use.

    Clients would end in a traceback of their own. A proxy's password is kept secret from here on.
    """
    problems = []
    for variable, value in environment.items():
        if variable.lower() not in _PROXIES or not value.strip():
            continue
        try:
            parts = urlsplit(value if "://" in value else f"http://{value}")
            port = parts.port
        except ValueError:
            keep_secret(value)
            problems.append(f"{variable}: is not the URL of a proxy; {_MEND}")
            continue
        keep_secret(parts.password)
        if parts.scheme.lower() not in _PROXY_SCHEMES:
            problems.append(f"{variable}: {parts.scheme!r} is not a scheme of proxies; {_MEND}")
        elif not parts.hostname or re.search(r"[\s\x00-\x1f]", value.strip()) or port == 0:
            problems.append(f"{variable}: names neither host nor port of a proxy; {_MEND}")
    if problems:
        raise JobError(problems)


_MEND = "write http://host:port, or unset the variable"


class JobLogic:
    """The source, the transformers and the target of a job in this process, each made once.

    What one of them has found out, such as the files that there are, is found out once in a run.

    Args:
      resolved: the job.
      run: the run's name.
      row_limit: how many rows are to be read at most.
      retry_deadline: how many seconds source and transformers wait for a server that is away; by
        default as long as in a run.
      target_deadline: the same of the target.
      resumed: whether the target holds what an earlier run of the same sync has written.
      load_ends: whether `EndsLoad.end_load` is called once all rows are in.
      readers: for how many processes the source should have splits.
    """

    def __init__(
        self,
        resolved: ResolvedJob,
        run: str,
        *,
        row_limit: int | None = None,
        retry_deadline: float | None = None,
        target_deadline: float | None = None,
        resumed: bool = False,
        load_ends: bool = False,
        readers: int = 1,
    ) -> None:
        require_proxies(os.environ)
        self._resolved, self.run = resolved, run
        self._row_limit, self._retry_deadline = row_limit, retry_deadline
        self._readers = readers
        self._target_deadline = target_deadline
        self._resumed, self._load_ends = resumed, load_ends
        self._transformers: dict[str, Transformer] = {}

    @functools.cached_property
    def source(self) -> Source:
        """The source of the job's reader."""
        step = self._resolved.reader
        context = self._impatient(step)
        read = dataclasses.replace(context.read, row_limit=self._row_limit, readers=self._readers)
        context = dataclasses.replace(context, read=read)
        source: Source = step.logic(context)
        if isinstance(source, Keeps):
            source.keep_in(lambda: positions_of(self._resolved).place)
        return source

    def transformer(self, step: ResolvedStep) -> Transformer:
        """The transformer of a step between the ends."""
        if step.name not in self._transformers:
            if self._retry_deadline is not None:
                settings = step.settings.with_deadline(self._retry_deadline)
                step = dataclasses.replace(step, settings=settings)
            self._transformers[step.name] = step.logic(self._impatient(step))
        return self._transformers[step.name]

    @functools.cached_property
    def target(self) -> Target:
        """What the job's writer writes to."""
        step = self._resolved.writer
        context = context_of(self._resolved, step, self.run)
        write = dataclasses.replace(context.write, resumed=self._resumed, load_ends=self._load_ends)
        context = dataclasses.replace(context, write=write)
        if self._target_deadline is not None:
            context = dataclasses.replace(context, retry_deadline=self._target_deadline)
        target: Target = step.logic(context)
        return target

    @property
    def change_source(self) -> ChangeSource:
        """The source of a job whose reader can be followed (`StepSettings.follows`)."""
        source: ChangeSource = self.source  # type: ignore[assignment]
        return source

    def keys(self) -> Iterator[Change | Reject]:
        """Each row that the source holds now, as the writer is given it but for its vectors."""
        source = self.source
        return self.without_vectors(
            item for split in source.plan().splits for item in source.read(split)
        )

    def without_vectors(self, items: Iterator[Change | Reject]) -> Iterator[Change | Reject]:
        """Rows of the reader as the writer is given them, but for their vectors."""
        for step in self._resolved.transformers:
            if not step.settings.makers():
                items = _through(self.transformer(step), items)
        return items

    def _impatient(self, step: ResolvedStep) -> StepContext:
        context = context_of(self._resolved, step, self.run)
        if self._retry_deadline is None:
            return context
        return dataclasses.replace(context, retry_deadline=self._retry_deadline)

    def close(self) -> None:
        """Lets go of what the transformers hold."""
        for transformer in self._transformers.values():
            transformer.close()


def _through(operator: Transformer, items: Iterator[Change | Reject]) -> Generator[Change | Reject]:
    for item in items:
        if isinstance(item, Reject):
            yield item
        else:
            yield from (emitted for emitted, _ in operator.process(item))
    yield from (emitted for emitted, _ in operator.finish())
