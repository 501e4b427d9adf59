"""Which columns feed the writer's id and all that is written, seen from any step of a job.

Apart from `vecferry.pipelines.job.resolve` because columns are followed against the flow here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vecferry.instead import OnReject
from vecferry.pipelines.job.model import Setting
from vecferry.settings import StepSettings

Names = tuple[str, ...]


def id_columns(behind: Sequence[StepSettings], writer: StepSettings) -> Names | None:
    """The columns that make the writer's id and routing, before the transformers `behind`.

    None if only the target knows them; empty if the writer's rows have no id.
    """
    keys = writer.key_columns()
    return None if keys is None else _before(behind, keys)


def mapped_columns(behind: Sequence[StepSettings], writer: StepSettings) -> Names | None:
    """The columns of which something is written, before the transformers `behind`.

    None if any column may be written, as the job does not list what the writer takes.
    """
    written = writer.outputs()
    if not written or writer.takes_other_columns:
        return None
    return _before(behind, [*written, *writer.inputs(), *(writer.key_columns() or ())])


def idle_columns(steps: Sequence[StepSettings], index: int) -> Names:
    """The columns that the step at `index` of a job may leave out: no later step takes them.

    Of a source that is followed, rejected rows are read anew by what makes the writer's id, which
    stays. Empty where the job does not tell what is taken: by the writer, or by a step that names
    no column.
    """
    writer, later = steps[-1], steps[index + 1 : -1]
    taken = mapped_columns((), writer)
    key = id_columns(steps[1:-1], writer) if steps[0].follows else ()
    silent = any(not settings.inputs() for settings in later)
    if index == len(steps) - 1 or taken is None or key is None or silent:
        return ()
    needed = {*taken, *key, *(name for settings in later for name in settings.inputs())}
    before = steps[: index + 1]
    known = (name for s in before for name in (*s.inputs(), *(s.outputs() or ())))
    return tuple(name for name in dict.fromkeys(known) if name not in needed)


def unlike_keys(
    keys: Names, behind: Sequence[StepSettings], writer: StepSettings, where: str, *, follows: bool
) -> list[str]:
    """Problems of a writer's id that is not made of the `keys` of its source.

    None where the source tells no keys, or only the target knows what makes the id.
    """
    made = id_columns(behind, writer)
    if made is None or not keys:
        return []
    told = f"the source tells rows apart by {', '.join(keys)}"
    lacking = [name for name in keys if name not in made]
    if not made:
        if not follows:
            return []
        return [
            f"{where} has no id, and {told}: changes could replace and delete nothing; "
            f"{writer.key_advice(keys)}"
        ]
    if lacking:
        return [
            f"{where} makes its id of {', '.join(made)}, and {told}: rows that differ only in "
            f"{', '.join(lacking)} would replace each other; {writer.key_advice(keys)}"
        ]
    more = [name for name in made if name not in keys]
    if more and follows:
        return [
            f"{where} also makes its id of {', '.join(more)}, and {told}: if {' or '.join(more)} "
            "of a row changed, its old version would stay; leave the others out of the id"
        ]
    return []


def wasted_vectors(steps: Sequence[tuple[str, StepSettings]]) -> list[str]:
    """A problem for each vector that a transformer makes, and no later step takes.

    `steps` are those of the job, with what messages call them. Where the writer does not list what
    it takes, its target is asked later.
    """
    writer = steps[-1][1]
    written = {*(writer.outputs() or ()), *writer.inputs(), *(writer.key_columns() or ())}
    takes_all = not writer.outputs() or writer.takes_other_columns
    problems = []
    for i, (where, settings) in enumerate(steps[1:-1], 1):
        for name, dimension in (settings.outputs() or {}).items():
            if dimension and not _taken(name, steps[i + 1 : -1], name in written or takes_all):
                problems.append(
                    f"{where} makes vectors in column {name!r}, which no later step takes; list "
                    "the column in the writer, or leave out the step, which may cost money"
                )
    return problems


def _taken(name: str, behind: Sequence[tuple[str, StepSettings]], written: bool) -> bool:
    """Whether a step `behind` takes a column before another one replaces it, or it is `written`."""
    for _, settings in behind:
        if name in settings.inputs():
            return True
        if name in (settings.outputs() or ()):
            return False
    return written


def on_reject(setting: Setting, behind: Sequence[StepSettings], writer: StepSettings) -> OnReject:
    """What goes on in place of a change that is rejected before the transformers `behind`.

    A plain row, an insert without a version, counts only where the job says `onReject`. The row
    says nothing of an older row of its key.
    """
    mode = setting.on_reject
    key = id_columns(behind, writer)
    return OnReject(mode=mode or "withoutVector", plain=mode is not None, key=key)


def _before(behind: Sequence[StepSettings], names: Iterable[str]) -> Names:
    """The columns before the transformers `behind` that `names`, behind them, are made of."""
    found = list(names)
    for settings in reversed(behind):
        made = settings.made_of()
        found = [source for name in found for source in made.get(name, [name])]
    return tuple(dict.fromkeys(found))
