"""The target that the command line names instead of the job's own, and leave to mix vectors.

Stands apart from `vecferry.pipelines.cli.app` because every face can move a job to another target.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from vecferry.errors import JobError
from vecferry.pipelines.job.model import Job
from vecferry.pipelines.job.problems import validate
from vecferry.pipelines.job.resolve import ResolvedJob, ResolvedStep
from vecferry.pipelines.registry import settings_of


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """``--into NEW``, ``--switch-alias`` and ``--force``."""

    into: str | None = None
    switch_alias: bool = False
    force: bool = False

    def refuse_parts(
        self, *, limit: int | None = None, replay: str | None = None, detached: bool = False
    ) -> None:
        """Refuses to move an alias if the run does not fill the whole target, or ends unseen.

        The launcher moves the alias as its last act. A run that goes on without its launcher moves
        none.
        """
        if not self.switch_alias:
            return
        parts = {"--limit": limit is not None, "--replay": replay is not None, "--detach": detached}
        why = {
            "--limit": "the alias would name a target with a part of the rows",
            "--replay": "the alias would name a target with the replayed rows only, as far as this "
            "run knows",
            "--detach": "the launcher moves the alias once the run is done, and won't be there",
        }
        problems = [
            f"--switch-alias with {option}: {why[option]}; leave one of them out"
            for option, given in parts.items()
            if given
        ]
        if problems:
            raise JobError(problems)

    def apply(self, resolved: ResolvedJob) -> ResolvedJob:
        """The job with the target that the options name; raises JobError if that is impossible."""
        if self.into is None:
            if self.switch_alias:
                raise JobError("--switch-alias: say which target the alias is to name, by --into")
            return dataclasses.replace(resolved, force=self.force)
        writer, own = self._moved(resolved.writer, resolved.job, self.into)
        steps = (*resolved.steps[:-1], writer)
        return dataclasses.replace(resolved, steps=steps, force=self.force, instead_of=own)

    def _moved(self, writer: ResolvedStep, job: Job, name: str) -> tuple[ResolvedStep, str]:
        """The step with the new target, and the name of its own."""
        try:
            changes = writer.settings.moved(name, switch=self.switch_alias)
        except ValueError as e:
            raise JobError(f"step {writer.name!r}: {e}") from None
        key = next(iter(changes))
        own: str = getattr(writer.settings, key)
        if own == name:
            raise JobError(f"--into {name}: this is the {key} of the job itself: name a new one")
        parameter = {**job.steps[writer.index].parameter, **changes}
        path = f"--into {name}: steps[{writer.index}].parameter"
        settings, problems = validate(settings_of(writer.kind), parameter, path)
        if settings is None:
            raise JobError(problems)
        return dataclasses.replace(writer, settings=settings), own


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options to a command, which gets them as `target`."""

    @click.option(
        "--into",
        metavar="NEW",
        help="Fill this target, not the job's own.",
    )
    @click.option(
        "--switch-alias",
        is_flag=True,
        help="With --into: move the alias after the run.",
    )
    @click.option(
        "--force",
        is_flag=True,
        help="Write among vectors of another model; mark anew.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, into: str | None, switch_alias: bool, force: bool, **rest: Any) -> Any:
        target = TargetOptions(into=into, switch_alias=switch_alias, force=force)
        return command(*args, target=target, **rest)

    return wrapped
