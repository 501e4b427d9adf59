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
