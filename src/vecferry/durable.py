"""Files that exist whole or not at all, whatever moment their writer is killed at.

Apart from `vecferry.positions.folder` because a store of files needs them as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from pathlib import Path

_PART = ".part-"
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def create_file(path: Path, data: bytes, *, lasting: bool = True) -> bool:
    """Makes a file that holds `data`; False if the path exists, which is left as it is.

    The bytes go into a file of another name, which is then linked to the path: a link never
    overwrites. A kill leaves the part behind, which blocks nobody (`is_part`). A `lasting` file
    survives the loss of power once this has returned. Raises OSError, and NotImplementedError on a
    file system without links.
    """
    part = path.parent / part_name()
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        except OSError as e:
            if e.errno in _NO_LINKS:
                raise NotImplementedError(f"the file system can't link files ({e.strerror})") from e
            raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
    if lasting:
        sync_folder(path.parent)
    return True


def part_name() -> str:
    """A name for a part of a file, which nobody else has."""
    return f"{_PART}{uuid.uuid4().hex}"


def is_part(name: str) -> bool:
    """Whether a file's name is that of a part, which a killed writer may have left behind."""
    return name.startswith(_PART)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive the loss of power, where the system can do so."""
    if os.name == "nt":  # a folder can't be opened there; names are kept by its journal
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
