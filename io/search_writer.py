"""What the two public writers of search stores share."""

from __future__ import annotations

from collections.abc import Callable

from vecferry.io.search_client import patiently
from vecferry.io.search_settings import SearchSettings
from vecferry.io.search_target import SearchTarget
from vecferry.io.sink import SinkWriter
from vecferry.process import once
from vecferry.retry import call_with_retries
from vecferry.steps import StepContext


def refuse_recreate(settings: SearchSettings, prepared: bool) -> None:
    """Raises ValueError where a repeated bundle would drop what was written."""
    if settings.recreates and not prepared:
        raise ValueError(
            "schemaCreateMode 'recreate' (or cleanup) would drop the index again with each bundle "
            "that is repeated; drop it before the pipeline and use 'createIfNotExist'"
        )


def make_writer(
    make_target: Callable[[StepContext], SearchTarget], prepared: bool, context: StepContext
) -> SinkWriter:
    """The writer of one bundle; the first one in a process makes the index ready if need be."""
    target = make_target(context)
    if not prepared:
        key = (target.dialect.store, "prepared", context.run, context.step)
        call_with_retries(
            lambda: patiently(lambda: once(key, lambda: _prepare(target))),
            deadline=context.retry_deadline,
            what=f"step {context.step!r}",
        )
    return target.operator()


def _prepare(target: SearchTarget) -> bool:
    target.prepare()
    return True
