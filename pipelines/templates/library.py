"""Templates, jobs with described parameters: finds and reads them.

A template is a YAML file of three keys: ``metadata`` (`TemplateMetadata`), ``job`` and, if the
template brings its own, ``dataSources``. Parameters go in as values, see
`vecferry.pipelines.templates.insert`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecferry.errors import JobError, near
from vecferry.pipelines.job.documents import parse_document
from vecferry.pipelines.job.problems import unknown_keys, validate
from vecferry.pipelines.templates.insert import insert, misplaced, names_used
from vecferry.pipelines.templates.metadata import TemplateMetadata

PREFIX = "template:"
OWN_FOLDER = Path(__file__).parent
_KEYS = {"metadata", "job", "dataSources"}


@dataclass(frozen=True)
class Template:
    """A template as it stands in its file."""

    name: str
    path: Path
    metadata: TemplateMetadata
    job: dict[str, Any]
    data_sources: dict[str, Any]

    def filled(self, values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The job, and those of its own data sources that the job names, filled with `values`."""
        job = {"name": self.name, **insert(self.job, values)}
        named = set(_texts(job))
        own = insert(self.data_sources, values) if self.data_sources else {}
        return job, {name: source for name, source in own.items() if name in named}


def _texts(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict | list):
        for child in part.values() if isinstance(part, dict) else part:
            yield from _texts(child)


def find_templates(folders: Iterable[str | Path]) -> dict[str, Path]:
    """The files of all templates by name: those of `folders`, then those of vecferry.

    If several templates have one name, the first one counts. Raises JobError if a folder is
    missing.
    """
    found: dict[str, Path] = {}
    for folder in (*map(Path, folders), OWN_FOLDER):
        if not folder.is_dir():
            raise JobError(
                f"{folder}: this folder of templates does not exist; make it, or change "
                "--template-dir or VECFERRY_TEMPLATES"
            )
        for path in sorted(folder.iterdir()):
            if path.suffix in (".yaml", ".yml", ".json") and not path.is_fifo():
                found.setdefault(path.stem, path)
    return found


def load_template(name: str, folders: Iterable[str | Path] = ()) -> Template:
    """The template called `name`, checked; raises JobError if it is missing or wrong."""
    found = find_templates(folders)
    if name not in found:
        raise JobError(
            f"{PREFIX}{name}: this template does not exist{near(name, found)}; there are "
            f"{', '.join(sorted(found))}"
        )
    return read_template(found[name])


def read_template(path: Path) -> Template:
    """The template in a file, checked; raises JobError with all that is wrong."""
    raw = parse_document(path, "template")
    if not isinstance(raw, dict) or not {"metadata", "job"} <= raw.keys():
        raise JobError(f"{path}: a template is a mapping with metadata and job")
    problems = [
        f"{path}: {key!r} is not a part of a template{near(str(key), _KEYS)}; there are "
        f"{', '.join(sorted(_KEYS))}"
        for key in raw.keys() - _KEYS
    ]
    metadata, more = validate(TemplateMetadata, raw["metadata"], "metadata")
    problems += [f"{path}: {problem}" for problem in more]
    job, data_sources = raw["job"], raw.get("dataSources") or {}
    for key, part in (("job", job), ("dataSources", data_sources)):
        if not isinstance(part, dict):
            problems.append(f"{path}: {key} must be a mapping")
    if metadata is not None:
        problems += [f"{path}: {p}" for p in unknown_keys(metadata, "metadata")]
        problems += [f"{path}: {p}" for p in _misused(metadata, [job, data_sources])]
    problems += [f"{path}: {p}" for p in misplaced([job, data_sources])]
    if metadata is None or problems:
        raise JobError(problems)
    return Template(path.stem, path, metadata, job, data_sources)


def _misused(metadata: TemplateMetadata, parts: list[Any]) -> Iterator[str]:
    """What is wrong with the parameters that the job and the data sources use."""
    known = {p.name: p for p in metadata.parameters}
    used: set[str] = set()
    for use in names_used(parts):
        used.add(use.name)
        if use.name not in known:
            yield f"${{{use.name}}} is not a parameter in metadata{near(use.name, known)}"
        elif use.has_default:
            yield f"${{{use.name}:-…}}: the default belongs into metadata, as defaultValue"
        elif known[use.name].is_list and not use.alone:
            yield f"${{{use.name}}} is a list, and stands inside a text: let it stand alone"
        elif use.each and not known[use.name].is_list:
            yield f"$each: {use.name} is not a list; set customMetadata.form to list"
    yield from (
        f"parameter {n!r} is used nowhere: leave it out, or write ${{{n}}} where it belongs"
        for n in known
        if n not in used | {p.parent_name for p in metadata.parameters}
    )
