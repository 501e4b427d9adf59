"""One line for each reject, though a runner repeats bundles: a run's folder, tidied at its end."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import fsspec
import orjson
from apache_beam.metrics import Metrics

from vecferry.beam import PlainFn
from vecferry.errors import PROGRAMMING_ERRORS, JobError, hide_secrets, redact, shorten
from vecferry.process import run_scope, run_state
from vecferry.rows import INSERT, Change, Reject, Row, cut_value, decode_value, encode_value

log = logging.getLogger(__name__)


def to_line(reject: Reject, run: str) -> bytes:
    """A reject as a JSON line, vectors in base64, values over 1 MiB cut, secrets taken out."""
    row = reject.row
    line: dict[str, Any] = {
        "run": run,
        "step": _text(reject.step),
        "stepType": reject.step_type,
        "reason": reject.reason,
        "message": _text(redact(reject.message)),
        "origin": _named(_text(reject.origin)),
        "key": _shown(reject.key),
        "row": None if row is None else _columns(row),
        "raw": None if reject.raw is None else _shown(reject.raw),
    }
    change = row if row is not None else reject.instead
    if change is not None and (change.kind != INSERT or change.version is not None):
        line["kind"], line["version"] = change.kind, change.version
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _columns(row: Change) -> dict[str, Any]:
    """The values of a row by column; a row with a secret among its names is not replayed."""
    shown = {}
    for name, value in row.items():
        text = _text(name)
        hidden = _named(text)
        shown[hidden] = _shown(value) if hidden == text else {"$secret": "a name"}
    return shown


def _named(text: str) -> str:
    """A name without secrets; a digest in place of a secret keeps different names apart."""
    hidden = hide_secrets(text)
    if hidden == text:
        return text
    return f"{hidden}#{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _text(text: str) -> str:
    """`text` as JSON can hold it: half a surrogate pair becomes its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def _shown(value: Any) -> Any:
    """A value as it is written; one that holds a secret of the job is marked, and not replayed."""
    try:
        encoded = encode_value(value)
        # The line adds two levels, and JSON is written up to a depth.
        text = encoded if isinstance(encoded, str) else orjson.dumps([[encoded]])[2:-2].decode()
    except (TypeError, ValueError, RecursionError) as e:
        # Nested too deep, or half a surrogate pair in a name: nothing that JSON can hold.
        return {"$cut": {"bytes": 0, "sha256": "", "head": f"not written: {_text(str(e))}"}}
    hidden = hide_secrets(text)
    return cut_value(encoded) if hidden == text else {"$secret": cut_value(hidden)}


class _Part:
    """The open file of this process; each line is flushed, so that a crash keeps it."""

    def __init__(self, folder: str) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        name = f"part-{socket.gethostname()}-{os.getpid()}.jsonl"
        self._file = (Path(folder) / name).open("ab")
        self._lock = threading.Lock()
        self._broken: str | None = None

    def write(self, line: bytes) -> None:
        with self._lock:
            if self._broken is not None:  # a line behind half a line would be lost with it
                raise OSError(self._broken)
            try:
                self._file.write(line)
                self._file.flush()
            except OSError as e:
                self._broken = str(e)
                raise

    def close(self) -> None:
        """Called when the run is over."""
        try:
            self._file.close()
        except OSError:
            if self._broken is None:  # what a full disk did not take was told
                raise


def require_folder(folder: str) -> None:
    """Raises JobError where the folder of a run's rejects can't be made; leaves none behind.

    A reject in the middle of a run is too late to find out. On an object store, an object is
    written and removed.
    """
    if "://" in folder:
        _require_remote(folder)
        return
    path = Path(folder)
    new = [p for p in (path, *path.parents) if not os.path.exists(p)]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as e:
        raise JobError(
            f"--rejects: the folder {shorten(folder)} can't be made and written to "
            f"({e.strerror or e}); name another folder"
        ) from e
    finally:
        for made in new:
            with contextlib.suppress(OSError):  # another run uses it by now, or it was not made
                made.rmdir()


def _require_remote(folder: str) -> None:
    try:
        fs, path = fsspec.core.url_to_fs(f"{folder}/probe-{uuid.uuid4().hex}")
        fs.pipe_file(path, b"")
        with contextlib.suppress(Exception):  # who may write need not be allowed to delete
            fs.rm_file(path)
    except PROGRAMMING_ERRORS:
        raise
    except Exception as e:  # each client of a store has errors of its own
        raise JobError(
            f"--rejects: {shorten(folder)} can't be written to ({shorten(redact(str(e)), 200)}); "
            "correct the address or the rights, or name another folder"
        ) from e


class WriteRejectsFn(PlainFn):
    """Writes each reject as it happens; on an object store, one object for each bundle.

    A reject that cannot be written, as on a full disk, is counted as such and ends the reading.
    What was read by then is finished, and the run has failed.
    """

    def __init__(self, folder: str, run: str) -> None:
        self.folder, self.run = folder, run
        self.remote = "://" in folder

    def start_bundle(self) -> None:
        self.lines: list[bytes] = []
        self.held: list[tuple[str, str]] = []

    def process(self, reject: Reject) -> None:
        line = to_line(reject, self.run)
        if self.remote:
            self.lines.append(line)
            self.held.append((reject.step, reject.reason))
            return
        try:
            part = run_scope(self.run).get(("rejects", self.folder), lambda: _Part(self.folder))
            part.write(line)
        except OSError as e:
            self._unkept([(reject.step, reject.reason)], e)

    def finish_bundle(self) -> None:
        if not self.lines:
            return
        name = f"{self.folder}/part-{uuid.uuid4().hex}.jsonl"
        try:
            with fsspec.open(name, "wb") as part:
                part.write(b"".join(self.lines))
        except PROGRAMMING_ERRORS:
            raise
        except Exception as e:  # each client of a store has errors of its own
            self._unkept(self.held, e)

    def _unkept(self, rejects: list[tuple[str, str]], error: Exception) -> None:
        Metrics.counter("vecferry.rejects", "rows-unkept").inc(len(rejects))
        run_state(self.run).unkept(
            rejects,
            f"--rejects {self.folder}: can't be written to ({shorten(redact(str(error)), 120)}); "
            "make room, or name another folder, and run the job again",
        )


@dataclass(kw_only=True, eq=False)
class WriteRejects(beam.PTransform):
    """Writes `Reject`s into the folder of a run; gives nothing."""

    folder: str
    run: str

    def expand(self, rejects: object) -> Any:
        return rejects | "Write" >> beam.ParDo(WriteRejectsFn(self.folder, self.run))


@dataclass(frozen=True)
class Replayed:
    """A row on its way back: the step that refused it, and its line."""

    step: str
    line: dict[str, Any]

    def change(self) -> Change | None:
        """The row as that step was given it; None where a reader refused a record.

        Raises ValueError where a value was cut or hidden.
        """
        row = self.line.get("row")
        if row is None:
            return None
        return Change(
            {k: decode_value(v) for k, v in row.items()},
            kind=self.line.get("kind", INSERT),
            version=self.line.get("version"),
            origin=self.line["origin"],
        )

    def key(self) -> object:
        """The key as the step told it; of a reader a list. ValueError as for `change`."""
        return decode_value(self.line.get("key"))

    def known(self) -> Row:
        """The values of the row that were neither cut nor hidden; empty of a reader's reject."""
        row: Row = {}
        for name, value in (self.line.get("row") or {}).items():
            with contextlib.suppress(ValueError):
                row[name] = decode_value(value)
        return row

    def raw(self) -> Any:
        """The record that a reader refused, as text or bytes; ValueError as for `change`."""
        return decode_value(self.line.get("raw"))


def _parse(part: Path, number: int, text: bytes) -> dict[str, Any]:
    try:
        line = orjson.loads(text)
        return {**line, "step": line["step"], "origin": line["origin"]}
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise JobError(
            f"{part}: line {number} is not a reject (a JSON object with step and origin); "
            "mend the line or take it out"
        ) from None


def read_rejects(folder: str) -> Iterator[Replayed]:
    """The rejects of a run, each (step, origin) once; a last line cut off by a crash is left out.

    Raises JobError where the folder has none.
    """
    parts = sorted(Path(folder).glob("part-*.jsonl"))
    if not parts:
        inner = sorted(p.name for p in Path(folder).glob("*") if any(p.glob("part-*.jsonl")))
        hint = f"; name one of the runs in it: {', '.join(inner[-5:])}" if inner else ""
        hint = hint or "; name the folder of a run"
        raise JobError(f"--replay {folder}: has no rejects (part-*.jsonl){hint}")
    seen: set[tuple[str, str]] = set()
    for part in parts:
        with part.open("rb") as lines:
            for number, text in enumerate(lines, 1):
                if not text.endswith(b"\n"):
                    log.warning("%s: line %d was cut off and is left out", part, number)
                    continue
                line = _parse(part, number, text)
                mark = (line["step"], line["origin"])
                if line["origin"] and mark in seen:
                    continue
                seen.add(mark)
                yield Replayed(line["step"], line)


ONCE = "part-once.jsonl"


def count_rejects(folder: str) -> dict[tuple[str, str], int]:
    """As `tidy_rejects`, while a run goes on: nothing is rewritten."""
    fs, path = fsspec.core.url_to_fs(folder)
    lines = _distinct(fs, sorted(fs.glob(f"{path.rstrip('/')}/part-*.jsonl")))
    return dict(Counter((line["step"], line["reason"]) for _, line in lines))


def reject_lines(folder: str) -> Iterator[dict[str, Any]]:
    """The lines of a run's rejects (local, or any fsspec URL), each (step, origin) once.

    Raises JobError where the folder can't be read, or has none.
    """
    try:
        fs, path = fsspec.core.url_to_fs(folder)
        parts = sorted(fs.glob(f"{path.rstrip('/')}/part-*.jsonl"))
    except PROGRAMMING_ERRORS:
        raise
    except Exception as e:  # each client of a store has errors of its own
        raise JobError(
            f"{folder}: can't be read ({shorten(redact(str(e)), 200)}); correct the address"
        ) from e
    if not parts:
        raise JobError(f"{folder}: has no rejects (part-*.jsonl); name the folder of a run")
    for _, line in _distinct(fs, parts):
        yield line


def tidy_rejects(folder: str) -> dict[tuple[str, str], int]:
    """How many rejects there are by (step, reason), each (step, origin) counted once.

    Where a line was written twice, the parts of `folder` (local, or any fsspec URL) are replaced by
    one that has it once. No worker may write any more.
    """
    fs, path = fsspec.core.url_to_fs(folder)
    parts = sorted(fs.glob(f"{path.rstrip('/')}/part-*.jsonl"))
    counts: Counter[tuple[str, str]] = Counter()
    total = 0
    for _, line in _distinct(fs, parts):
        counts[line["step"], line["reason"]] += 1
    for part in parts:
        with fs.open(part, "rb") as lines:
            total += sum(1 for _ in lines)
    if total > counts.total():
        _write_once(fs, path, parts)
    return dict(counts)


def _write_once(fs: Any, path: str, parts: list[str]) -> None:
    new = f"{path.rstrip('/')}/once.part"
    with fs.open(new, "wb") as out:
        for text, _ in _distinct(fs, parts):
            out.write(text)
    for part in parts:
        fs.rm_file(part)
    fs.mv(new, f"{path.rstrip('/')}/{ONCE}")


def _distinct(fs: Any, parts: list[str]) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each reject once, as text and parsed; a line that was cut off is left out."""
    seen: set[tuple[str, str]] = set()
    for part in parts:
        with fs.open(part, "rb") as lines:
            for text in lines:
                try:
                    line = orjson.loads(text)
                except orjson.JSONDecodeError:
                    continue
                mark = (line["step"], line["origin"])
                if line["origin"] and mark in seen:
                    continue
                seen.add(mark)
                yield text, line
