"""One run of a job into a target at a time, on one machine.

Two runs that write the same rows pay twice, and the slower one may overwrite newer rows. A sync has
a lease instead, which holds among machines. Apart from `launch` because a run on a cluster is one
as well.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import click

from vecferry.errors import JobError, shorten
from vecferry.pipelines.job.resolve import ResolvedJob


@contextlib.contextmanager
def alone(resolved: ResolvedJob, *, concurrent: bool = False) -> Iterator[None]:
    """While this lasts, no other run of the job writes into its target, unless it is `concurrent`.

    The system gives the hold back when the process ends, however it ends. Raises JobError with who
    runs, if another run does.
    """
    target = _target(resolved)
    file = None if concurrent else _hold(_folder() / f"{_digest(resolved, target)}.json")
    if file is None:
        yield
        return
    with file:
        if isinstance(file, _Held):
            raise JobError(
                f"the job {resolved.job.name!r} is being run into {target} already, by "
                f"{file.told()}; wait for its end, or give --concurrent-runs"
            )
        told = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "folder": os.getcwd(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        file.write(json.dumps(told))
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(file.name)


class _Held:
    """A file that another process holds."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __enter__(self) -> _Held:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def told(self) -> str:
        """Who holds it, as far as it says."""
        self._file.seek(0)
        try:
            who = json.loads(self._file.read())
            return (
                f"process {who['process']} of {who['host']}, in {shorten(who['folder'])}, since "
                f"{who['since']}"
            )
        except (ValueError, KeyError, TypeError):
            return "a process that has just begun"


def _hold(path: Path) -> Any:
    """The file, opened and locked; `_Held` if another has it, None where files can't be locked."""
    while True:
        try:
            file = path.open("a+", encoding="utf-8")
        except OSError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _Held(file)
        except OSError:
            file.close()
            return None
        if _is_at(file, path):
            file.truncate(0)
            return file
        file.close()  # its holder removed it after we opened it


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _folder() -> Path:
    """Where runs of this user say that they run."""
    for folder in (
        Path(click.get_app_dir("vecferry", force_posix=False)) / "runs",
        Path(tempfile.gettempdir()) / f"vecferry-runs-{os.getuid()}",
    ):
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    return Path(os.devnull) / "none"  # in which no file can be made


def _target(resolved: ResolvedJob) -> str:
    """The target as messages call it."""
    settings = resolved.writer.settings
    try:
        key = next(iter(settings.moved("", switch=False)))
    except ValueError:
        return f"the target of step {resolved.writer.name!r}"
    return f"{key} {settings.__dict__.get(key, '')!r}"


def _digest(resolved: ResolvedJob, target: str) -> str:
    """One text for each job and target."""
    writer, connection = resolved.writer, resolved.writer.connection
    if connection is None:  # a step of another package, which says by itself where it writes
        where = writer.settings.model_dump(mode="json")
    else:
        paths = {name: os.path.abspath(path) for name, path in connection.paths().items()}
        where = {**connection.model_dump(mode="json"), **paths}
    told = [resolved.job.name, writer.kind.step_type, target, where]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:32]
