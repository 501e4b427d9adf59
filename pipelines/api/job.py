"""A job in Python: checked, previewed, estimated, run and searched as the command line does it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vecferry.errors import JobError, VecferryError, redact
from vecferry.pipelines.api import html
from vecferry.pipelines.api.rows import Rows
from vecferry.pipelines.run.report import Report
from vecferry.process import end_run

if TYPE_CHECKING:
    from vecferry.pipelines.job.resolve import ResolvedJob

Progress = Callable[[str], None]
"""Is told, a few times a second and on another thread, how far a run is: ``12,000 read …``."""


def load(
    job: str | os.PathLike[str],
    *,
    data_sources: str | os.PathLike[str] | None = None,
    parameters: Mapping[str, str] | None = None,
    assignments: Mapping[str, str] | None = None,
    template_folders: Sequence[str] = (),
) -> LoadedJob:
    """A job file, or ``template:NAME``, with all that it names, checked without a connection.

    Args:
      job: the path of the file, or ``template:NAME``.
      data_sources: the file of data sources; by default the one that the command line finds.
      parameters: a value for each placeholder ``${NAME}``, before those of the environment.
      assignments: path -> value, as ``--set`` of the command line takes them.
      template_folders: folders of templates of your own.

    Raises:
      JobError: the job or a data source is wrong; `problems` lists every mistake.
    """
    given: dict[str, Any] = {
        "data_sources": None if data_sources is None else os.fspath(data_sources),
        "parameters": dict(parameters or {}),
        "assignments": dict(assignments or {}),
    }
    name = os.fspath(job)
    if name.startswith("template:"):
        from vecferry.pipelines.templates.job import resolve_template

        return LoadedJob(resolve_template(name, folders=tuple(template_folders), **given))
    from vecferry.pipelines.autoetl.resolve import resolve_file

    return LoadedJob(resolve_file(name, **given))


@dataclass(frozen=True)
class JobPreview:
    """Rows after each step, in the order of the steps; the writer's are what it would send.

    Attributes:
      steps: of each step, its rows.
      rejects: what the steps rejected, with `step`, `reason`, `message` and `origin`.
    """

    steps: dict[str, Rows]
    rejects: Rows

    def __getitem__(self, step: str) -> Rows:
        return self.steps[step]

    def _repr_html_(self) -> str:
        parts = [f"<h4>{html.cell(n)}</h4>{rows._repr_html_()}" for n, rows in self.steps.items()]
        rejects = [f"<h4>rejects</h4>{self.rejects._repr_html_()}"] if self.rejects else []
        return "".join([*parts, *rejects])


@dataclass(frozen=True)
class JobEstimate:
    """What a run would read, send and cost; `found` is what ``check --estimate --json`` tells."""

    job: str
    found: dict[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        """The numbers in `found` by name, such as ``rows`` and ``requests``."""
        return {name: n for name, n in self.found.items() if type(n) is int}

    @property
    def rejected_by(self) -> Rows:
        """How many rows each step would reject for each reason: `step`, `reason`, `rows`."""
        return Rows(self.found["rejected_by"], ("step", "reason", "rows"))

    def to_arrow(self) -> Any:
        """The counts as a table of Arrow with one row."""
        return Rows([self.counts]).to_arrow()

    def _repr_html_(self) -> str:
        named: dict[str, Any] = {n.replace("_", " "): f"{v:,}" for n, v in self.counts.items()}
        if self.found["cost"] is not None:
            named["cost"] = f"about {self.found['cost']:,.6g} {self.found['currency']}"
        return html.facts(f"{self.job}: estimate", named)


@dataclass(frozen=True)
class RunResult:
    """How a run went; `report` is what ``vecferry run --json`` prints, as a dict."""

    report: dict[str, Any]

    @property
    def state(self) -> str:
        """``DONE``, ``FAILED``, ``CANCELLED`` or ``RUNNING``."""
        return str(self.report["state"])

    @property
    def rejected_by(self) -> Rows:
        """How many rows each step rejected for each reason: `step`, `reason`, `rows`."""
        return Rows(self.report["rejected_by"], ("step", "reason", "rows"))

    def raise_for_state(self) -> None:
        """Raises VecferryError if the run has failed or was cancelled."""
        if self.state in ("FAILED", "CANCELLED"):
            raise VecferryError(f"{self.report['job']}: {self.state}: {self.report['error']}")

    def __str__(self) -> str:
        from vecferry.pipelines.run.summary import describe

        return describe(Report.model_validate(self.report))

    def _repr_html_(self) -> str:
        plain = {
            name.replace("_", " "): value
            for name, value in self.report.items()
            if isinstance(value, int | float | str) and name != "job"
        }
        rejects = self.rejected_by._repr_html_() if self.rejected_by else ""
        return html.facts(f"{self.report['job']}: {self.state}", plain) + rejects


class LoadedJob:
    """A job that `load` has read and checked.

    Attributes:
      name: the job's name.
      steps: the name of each step -> its stepType, in their order.
      warnings: what is odd in the job, but not wrong.
    """

    def __init__(self, resolved: ResolvedJob) -> None:
        self._resolved = resolved
        self.name = resolved.job.name
        self.steps = {step.name: step.kind.step_type for step in resolved.steps}
        self.warnings = list(resolved.warnings)

    def __repr__(self) -> str:
        return f"<job {self.name}: {' → '.join(self.steps)}>"

    def _repr_html_(self) -> str:
        told = {**self.steps, **{f"warning {i}": w for i, w in enumerate(self.warnings, 1)}}
        return html.facts(self.name, told)

    def check(self, *, rejects: str = "rejects") -> None:
        """Tries the source, the target, the vector cache and each embedding step.

        Each model embeds a short text, which costs a little. Nothing is written.

        Raises:
          JobError: something can't be reached or does not fit; `problems` lists every fault.
        """
        from vecferry.pipelines.run.preflight import connect_all

        connect_all(self._resolved, rejects)

    def preview(self, rows: int = 3, *, source_only: bool = False) -> JobPreview:
        """The first `rows` records after each step. Models are called; nothing is written.

        With `source_only`, what the reader gives alone. Raises JobError.
        """
        from vecferry.pipelines.run import dryrun

        shown = self._asked(
            lambda: dryrun.preview(self._resolved, rows, source_only=source_only), dryrun.RUN
        )
        rejects = [
            {"step": s.step, "reason": r.reason, "message": redact(r.message), "origin": r.origin}
            for s in shown
            for r in s.rejects
        ]
        columns = ("step", "reason", "message", "origin")
        return JobPreview({s.step: Rows(s.rows) for s in shown}, Rows(rejects, columns))

    def estimate(self, sample: int | None = None) -> JobEstimate:
        """Reads the source and counts what a run would send and cost; no model is called.

        With `sample`, from about so many rows of the source. Raises JobError.
        """
        from vecferry.pipelines.run.dryrun import RUN
        from vecferry.pipelines.run.estimate import estimate

        found = self._asked(lambda: estimate(self._resolved, sample), RUN)
        return JobEstimate(self.name, asdict(found))

    def run(
        self,
        *,
        limit: int | None = None,
        rejects: str = "rejects",
        replay: str | None = None,
        continuous: bool = False,
        until: str | None = None,
        preflight: bool = True,
        runner: str = "DirectRunner",
        workers: int | None = None,
        beam_options: Sequence[str] = (),
        progress: Progress | bool = True,
    ) -> RunResult:
        """Runs the job to its end; the options are those of ``vecferry run``.

        Args:
          limit: the most records that are read.
          rejects: the folder in which a run with rejects makes a folder of its own.
          replay: the folder of an earlier run, whose rejects are read in place of the source.
          continuous: whether a sync follows its source for ever.
          until: ``now``, a time or a place of the source where a sync ends.
          preflight: whether source, endpoints and target are tried first.
          runner: the runner of Beam.
          workers: how many processes of this machine do the work; None where the job decides.
          beam_options: options of Beam, as words of a command line.
          progress: True shows a line in a notebook or on a terminal; or a function that takes it.

        Raises:
          JobError: the job can't run at all; nothing was written.
        """
        from vecferry.pipelines.api.progress import shown_by
        from vecferry.pipelines.launch import run_job
        from vecferry.pipelines.run.interrupts import listening
        from vecferry.pipelines.run.options import RunOptions

        options = RunOptions(
            runner=runner,
            workers=workers,
            beam_options=tuple(beam_options),
            rejects=rejects,
            replay=replay,
            limit=limit,
            continuous=continuous,
            until=until,
            preflight=preflight,
        )
        with listening(), shown_by(progress) as told:
            report = run_job(self._resolved, options, told)
        return RunResult(report.model_dump())

    def query(self, wanted: str | bytes, k: int = 5, *, column: str | None = None) -> Rows:
        """The `k` rows of the target nearest to a text, or to the bytes of an image.

        `score` says how near each row is. `column` names the vector column, if the job makes
        several. Raises JobError.
        """
        from vecferry.pipelines.run.search import search

        if isinstance(wanted, str) and not wanted.strip():
            raise JobError("the text is empty: write what to search for")
        return Rows(search(self._resolved, wanted, k, column))

    def _asked(self, ask: Callable[[], Any], run: str) -> Any:
        """The answer of a dry run; a source that can't be read is a JobError."""
        from vecferry.pipelines.job.clients import require_clients

        require_clients(self._resolved)
        try:
            return ask()
        except JobError:
            raise
        except VecferryError as e:
            raise JobError(str(e)) from e
        finally:
            end_run(run)
