"""A consumer of a table: a file beside it by which Paimon keeps snapshots from expiry.

Stands apart from `changes` because nothing else is ever written to a table.
"""

from __future__ import annotations

import errno
import re
import time

from vecferry.errors import redact, shorten
from vecferry.io.paimon.client import Table, causes_of

RENEW_SECONDS = 600.0
"""How long a consumer that does not move is left alone."""
_READ_ONLY = (errno.EPERM, errno.EACCES, errno.EROFS)


class Consumer:
    """The consumer of one job.

    Paimon keeps the snapshot that a consumer names, and all behind it. So the position itself is
    named, not the snapshot behind it: files that the next commit removed are needed still, for the
    keys in them.

    Args:
      table: a handle of the table.
      job: the job's name.
      held: what this process wrote last, by job, and when. A consumer that says so is left alone
        for a while; then it is written anew, since a table may forget old ones.
    """

    def __init__(self, table: Table, job: str, held: dict[str, tuple[int, float]]) -> None:
        self.name = re.sub(r"[^\w.-]+", "_", job) or "vecferry"
        self._table, self._held = table, held

    def hold(self, snapshot: int) -> str | None:
        """Names a snapshot; a note for people where the catalog does not allow it."""
        number = max(1, snapshot)
        known, moment = self._held.get(self.name, (0, 0.0))
        if known == number and time.monotonic() < moment + RENEW_SECONDS:
            return None
        from pypaimon.consumer.consumer import Consumer as Entry

        try:
            self._table.consumer_manager().reset_consumer(self.name, Entry(number))
        except Exception as e:
            if not _refused(e):
                raise
            self._held[self.name] = (number, time.monotonic())
            return (
                f"the consumer {self.name!r} could not be written ({_told(e)}). Snapshots may "
                "expire before they are read: allow this login to write beside the table, or keep "
                "snapshots longer (snapshot.time-retained)"
            )
        self._held[self.name] = (number, time.monotonic())
        return None

    def release(self) -> str | None:
        """Removes the consumer; a note where it stays."""
        manager = self._table.consumer_manager()
        self._held.pop(self.name, None)
        manager.delete_consumer(self.name)  # keeps quiet if it can't
        if manager.consumer(self.name) is None:
            return None
        return (
            f"the consumer {self.name!r} of the table could not be removed: remove it, or it "
            "keeps all snapshots from expiry"
        )


def _refused(error: BaseException) -> bool:
    """Whether a folder or a service takes nothing from this login."""
    for cause in causes_of(error):
        if isinstance(cause, PermissionError) or type(cause).__name__ == "ForbiddenException":
            return True
        if any(word in str(cause) for word in ("ACCESS_DENIED", "AccessDenied", "Forbidden")):
            return True
        if isinstance(cause, OSError) and cause.errno in _READ_ONLY:
            return True
    return False


def _told(error: BaseException) -> str:
    return shorten(redact(str(error).splitlines()[0] if str(error) else type(error).__name__), 160)
