"""``vecferry doctor``: what of this machine, and of a job's services, keeps a job from running."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import click

from vecferry.errors import JobError
from vecferry.pipelines.cli.options import JobArguments, job_arguments, json_option
from vecferry.pipelines.cli.output import say, say_result

if TYPE_CHECKING:
    from vecferry.pipelines.job.resolve import ResolvedJob
    from vecferry.pipelines.run.doctor import Finding

FAILED = 1


@click.command()
@functools.partial(job_arguments, required=False)
@json_option
@click.pass_context
def doctor(ctx: click.Context, arguments: JobArguments, as_json: bool) -> None:
    """Examine versions, disks, proxies, and what JOB needs. Exit status 1: mend something.

    Services are connected to, and not logged in to.
    """
    from vecferry.pipelines.run import doctor

    resolved: ResolvedJob | None = None
    findings: list[Finding] = []
    if arguments.job:
        try:
            resolved = arguments.resolve()
        except JobError as e:
            findings = [
                doctor.Finding(check="job", status="fail", found=problem) for problem in e.problems
            ]
    findings += doctor.examine(resolved)
    failed = any(finding.status == "fail" for finding in findings)
    if as_json:
        errors = [f"{f.check}: {f.found}; {f.repair}" for f in findings if f.status == "fail"]
        say_result({"ok": not failed, "findings": doctor.as_json(findings)}, errors)
    else:
        for finding in findings:
            repair = f"; {finding.repair}" if finding.repair else ""
            say(f"{finding.status:<4}  {finding.check:<8}  {finding.found}{repair}")
    ctx.exit(FAILED if failed else 0)
