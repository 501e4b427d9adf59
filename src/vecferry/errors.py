"""The errors of vecferry; `vecferry.redaction` keeps secrets out of their texts.

    VecferryError
    ├── JobError         the job, the command line or a data source is wrong: exit status 2
    ├── TransientError   the same call may pass later: retried with backoff
    └── TerminalError    the same call will fail again
        └── FatalError   … and so will every other row: the job fails at once
            └── ReadAnew … until a sync has read its whole source again

All are picklable, and name the step, the key and the way out; never a secret, never a whole text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from vecferry.redaction import LEAST_IN_ROWS as LEAST_IN_ROWS
from vecferry.redaction import RedactingFilter as RedactingFilter
from vecferry.redaction import hide_secrets as hide_secrets
from vecferry.redaction import keep_secret as keep_secret
from vecferry.redaction import known_secrets as known_secrets
from vecferry.redaction import printable as printable
from vecferry.redaction import redact as redact
from vecferry.redaction import shorten as shorten
from vecferry.redaction import written as written


class VecferryError(Exception):
    """The root of all errors that vecferry raises."""


class JobError(VecferryError):
    """The job cannot be done as asked; `problems` holds every reason, one line each."""

    def __init__(self, problems: str | list[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> Any:
        return JobError, (self.problems,)


class TransientError(VecferryError):
    """A failure that may pass; `retry_after` is the server's own wish, in seconds."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.retry_after)


class TerminalError(VecferryError):
    """A failure that repeats with the same input; `reason` is the short word of the reject."""

    def __init__(self, message: str, reason: str = "refused") -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.reason)


class FatalError(TerminalError):
    """A failure of every row (a wrong key or model): the job fails, and no row is rejected."""


class ReadAnew(FatalError):
    """The changes behind a position can't be applied one by one, so a sync must read all anew.

    A reader raises this where the source tells of something that names no rows, such as TRUNCATE.
    A sync begins a new full load if its job may reconcile the target (`Target.owns_target`).
    Otherwise the sync fails with these words.
    """


class GivenUp(VecferryError):
    """The run was interrupted, and a server is away: its rows are unfinished, and come again."""


PROGRAMMING_ERRORS = (TypeError, AttributeError, NameError, AssertionError, NotImplementedError)
"""What code raises that is wrong itself; a value that does not fit is a ValueError."""


def is_own_fault(error: BaseException) -> bool:
    """Whether an error is of wrong code of ours: libraries raise such errors for bad values."""
    return isinstance(error, PROGRAMMING_ERRORS) and is_raised_in("vecferry", error)


def is_raised_in(package: str, error: BaseException) -> bool:
    """Whether code of `package` raised an error.

    Some clients read what a server sends without looking for faults. What they raise then, a
    ValueError or IndexError, tells of the server.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""
    return bool(module.partition(".")[0] == package)


def own_fault(where: str, error: BaseException) -> FatalError:
    """The error of a run that met a fault of our own; `where` names the column and its type.

    A row must not be rejected for such a fault: the next version may well take the row.
    """
    return FatalError(
        f"{where}: this is a fault of vecferry, not of the row "
        f"({type(error).__name__}: {shorten(redact(str(error)), 300)}); please report it",
        "fault",
    )


def near(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """``; did you mean 'x'?`` if a known word is near `word`, otherwise an empty text.

    `likeness`, 0 to 1, is the least likeness to suggest a word. Use a greater one if `known` holds
    words of all kinds.
    """
    folded = {k.casefold(): k for k in known}
    found = difflib.get_close_matches(word.casefold(), list(folded), n=1, cutoff=likeness)
    return f"; did you mean {folded[found[0]]!r}?" if found else ""


def without_query(url: str) -> str:
    """A URL with stars in place of what follows its first ``?`` or ``#``: keys may be there."""
    return re.sub(r"(?s)(://[^?#]*[?#]).+", r"\1***", url)
