"""What goes on in place of a change that a step rejects: `setting.onReject`.

A rejected change of a text would leave the old text in the store, searchable with the old vector.
So the row goes on without the vector that failed, or a delete goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from vecferry.rows import DELETE, INSERT, UPDATE, Change, Substitute, substitute

Mode = Literal["withoutVector", "delete", "keep"]
MODES: tuple[Mode, ...] = ("withoutVector", "delete", "keep")


@dataclass(frozen=True, kw_only=True)
class OnReject:
    """What goes on in place of a rejected change.

    Attributes:
      mode: the row without the vector that failed, a delete, or nothing (``keep``).
      plain: whether a plain row counts, an insert without a version.
      key: the columns that make the writer's id and routing, as the rows name them behind the
        step; None if they are not known.
    """

    mode: Mode = "keep"
    plain: bool = False
    key: tuple[str, ...] | None = None

    def concerns(self, change: Change) -> bool:
        """Whether something goes on in place of `change`."""
        if self.mode == "keep" or self.key == ():  # without an id, nothing can be replaced
            return False
        changes = self.plain or change.kind != INSERT or change.version is not None
        return changes or type(change) is Substitute

    def of(self, change: Change, without: Iterable[str] = ()) -> Substitute | None:
        """What goes on in place of `change`; None if its key is not known, or the old row stays.

        Args:
          change: the change as it would have left the step, as far as its columns are known.
          without: the vector columns that failed. Without them the row can't go on, but a delete.
        """
        if not self.concerns(change) or any(change.get(name) is None for name in self.key or ()):
            return None
        nulls: dict[str, None] = dict.fromkeys(without)
        if nulls and self.mode == "withoutVector" and change.kind != DELETE:
            return substitute({**change, **nulls}, change, UPDATE)
        return substitute(change, change, DELETE)


KEEP = OnReject()
"""Nothing goes on: the older row of the key stays."""
