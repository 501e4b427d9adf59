"""Which columns feed the writer's id and all that is written, seen from any step of a job.

Apart from `vecferry.pipelines.job.resolve` because columns are followed against the flow here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vecferry.instead import OnReject
from vecferry.pipelines.job.model import Setting
from vecferry.rows import CHUNK_INDEX
from vecferry.settings import StepSettings

Names = tuple[str, ...]


def id_columns(behind: Sequence[StepSettings], writer: StepSettings) -> Names | None:
    """The columns that make the writer's id and routing, before the transformers `behind`.

    None if only the target knows them; empty if the writer's rows have no id.
    """
    keys = writer.key_columns()
    return None if keys is None else _before(behind, keys)


def mapped_columns(behind: Sequence[StepSettings], writer: StepSettings) -> Names | None:
    """The columns that decide what is written, and which rows, before the transformers `behind`.

    None if any column may be written, as the job does not list what the writer takes.
    """
    written = writer.outputs()
    if not written or writer.takes_other_columns:
        return None
    found = [*written, *writer.inputs(), *(writer.key_columns() or ())]
    for i in range(len(behind) - 1, -1, -1):
        # What decides whether a row goes on is as good as written.
        found = [*_before(behind[i : i + 1], found), *behind[i].decides_by()]
    return tuple(dict.fromkeys(found))


def dealt_by(steps: Sequence[StepSettings]) -> tuple[int, Names] | None:
    """The step before which the rows of a job can be dealt to workers, and by what columns.

    These columns hold the writer's id, or name its documents. No step from there on makes them
    anew, so rows of one id have the same values there. Empty columns say that rows have no id.

    None if only the target knows what makes the id. None as well if a step that makes it computes,
    or waits for a service, as whoever deals carries out all steps before.
    """
    writer = steps[-1]
    keys = writer.document_key() or writer.key_columns()
    if keys is None:
        return None
    names = list(keys)
    for i in range(len(steps) - 2, 0, -1):
        settings = steps[i]
        outputs = settings.outputs()
        made = [name for name in names if outputs is None or name in outputs]
        if made and settings.document_key() and set(made) <= set(settings.part_columns()):
            names = [*(name for name in names if name not in made), *settings.document_key()]
        elif made:
            before = steps[1 : i + 1]
            light = all(s.computes_from() is None and not s.calls() for s in before)
            return (i + 1, tuple(dict.fromkeys(names))) if light else None
    return 1, tuple(dict.fromkeys(names))


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


def parts_problems(steps: Sequence[tuple[str, StepSettings]]) -> list[str]:
    """Problems of each step that makes several rows of one, such as the chunks of a document.

    And of each step that can't take changes, if the source is followed.

    `steps` are those of the job, with what messages call them.
    """
    (source, reader), *_, (target, writer) = steps
    keys, parents = writer.key_columns(), writer.document_key()
    problems, divided = _documents_problems(steps)
    for i, (where, settings) in enumerate(steps[1:-1], 1):
        why = settings.not_followed() if reader.follows else None
        if why is not None:
            problems.append(f"{where} {why}; {source} follows its source")
        if parents and divided and settings.decides_by():
            problems.append(
                f"{where} leaves chunks out, and {target} writes whole documents; put the step "
                "before the one that cuts them, or leave parentKey out"
            )
        parts, names = settings.part_columns(), settings.document_key()
        if not parts:
            continue
        if parents and divided and not names:
            problems.append(
                f"{where} makes several rows of a chunk, and {target} writes whole documents; put "
                "the step before the one that cuts them, or leave parentKey out"
            )
        divided = divided or bool(names)
        told = _before([behind for _, behind in steps[i + 1 : -1]], parents)
        if parents and names and set(told) != set(names):
            problems.append(
                f"{target} knows documents by parentKey {', '.join(parents)}, and {where} tells "
                f"them apart by {', '.join(names)}; make both the same"
            )
        if reader.follows and not (parents and names):
            problems.append(
                f"{where} makes several rows of one, and {source} follows its source: of a row "
                "that changed or is gone, old rows would stay; use a writer with parentKey, or a "
                "reader that reads all rows"
            )
        made = _before([behind for _, behind in steps[i + 1 : -1]], keys or ())
        if keys and not set(parts) & set(made):
            problems.append(
                f"{target} makes its id of {', '.join(keys)}, which all rows that {where} makes "
                f"of one row share, so that they would replace each other; make the id of "
                f"{parts[0]}"
            )
    ordered = writer.keeps_versions or reader.orders_documents
    if parents and reader.follows and not ordered:
        problems.append(
            f"{target} keeps no versions, and {source} follows its source: after a full load, "
            "nobody would know which documents are gone; use PostgreSQL with versionColumn, "
            "Elasticsearch or OpenSearch, or a reader that reads all rows"
        )
    if parents and not divided:
        problems.append(
            f"{target} has a parentKey, and no step cuts documents into chunks; add a step "
            "text-splitting, or leave parentKey out"
        )
    return problems


def _documents_problems(steps: Sequence[tuple[str, StepSettings]]) -> tuple[list[str], bool]:
    """Problems of a source whose changes are of whole documents, such as a folder of files.

    And whether the source itself gives each document as several rows.
    """
    (source, reader), *between, (target, writer) = steps
    names, parts = reader.document_key(), reader.part_columns()
    if not names:
        return [], False
    named = ", ".join(names)
    behind = [settings for _, settings in between]
    keys, parents = writer.key_columns(), _before(behind, writer.document_key())
    told = f"{source} follows documents, which it names by {named}"
    problems = [
        f"{where} tells documents apart by {', '.join(settings.document_key())}, and {told}; make "
        f"parentColumns {named}"
        for where, settings in between
        if settings.document_key() and set(settings.document_key()) != set(names)
    ]
    if not keys:
        return [
            *problems,
            f"{target} does not say what makes its id, and {told}: nobody would know which rows "
            "are gone; name the columns of the id in the writer",
        ], False
    made = set(_before(behind, keys))
    if made == set(names):
        if not reader.one_row_each:
            problems.append(
                f"{target} has one id, or one document, for all rows of {named}, and the format of "
                f"{source} has many rows in a file; make the id of {parts[0]}, with parentKey "
                f"{named}, and leave out text-splitting; or take a format with one row in a file"
            )
        return problems, False
    if made != {parts[0]} and made != {*names, CHUNK_INDEX}:
        problems.append(
            f"{target} makes its id of {', '.join(keys)}, and {told}: rows that a document no "
            f"longer has would stay; make the id of {parts[0]}, and keep an id of your own in "
            "another field"
        )
    elif set(parents) != set(names):
        problems.append(
            f"{target} has no parentKey {named}, and {told}: rows that a document no longer has "
            f"would stay; set parentKey to {named}"
        )
    return problems, True


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
