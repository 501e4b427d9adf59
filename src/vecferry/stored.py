"""What a target holds, row by row: what a sync compares with its source, and deletes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vecferry.rows import Change, Reject


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A row of a target, in a form in which rows of a source can be compared with it.

    Attributes:
      key: what the store calls the row; equal for a stored row and for the change that wrote it.
      version: the version that the store keeps; None where it keeps none.
      values: by field, what it holds but for vectors, in one form for each value.
      vectors: by field, its vectors as float32; None where a field holds none.
    """

    key: Hashable
    version: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    vectors: Mapping[str, npt.NDArray[np.float32] | None] = field(default_factory=dict)


SourceKeys = Callable[[], Iterator[Change | Reject]]
"""Reads the columns of the key of each row that the source holds now, in any order.

Raises where they can't be read whole. A reject among them lets all rows of the target stay.
"""


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """What became of the rows of a target that the source no longer has.

    Attributes:
      deleted: how many rows were deleted.
      kept: how many rows stay, rows that were written meanwhile among them.
      note: what a person should know, in words; empty if there is nothing.
    """

    deleted: int = 0
    kept: int = 0
    note: str = ""
