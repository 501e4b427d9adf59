"""What a runner says of a failure, down to what a person needs."""

from __future__ import annotations

import re

from vecferry.errors import redact, shorten

_OF_PYTHON = re.compile(r"^[\w.]+(Error|Exception)\b")
_OF_JAVA = re.compile(
    r"^(?:Caused by: |Pipeline \S+ failed in state \w+: )?"
    r"(java|org|io)\.[\w.$]+(Error|Exception): (?P<told>.+)"
)


def root_cause(error: BaseException) -> str:
    """The message at the root of what Beam raises: the text of a traceback, or of several."""
    if "NoResourceAvailableException" in str(error):
        return (
            "Flink had too few free slots for this job: ask for less with --parallelism, add "
            "TaskManagers, or look for jobs that still run"
        )
    lines = [line.strip() for line in str(error).splitlines()]
    python = [line for line in lines if _OF_PYTHON.match(line) and not _OF_JAVA.match(line)]
    if python:
        return redact(shorten(python[-1], 500))
    java = list(dict.fromkeys(m["told"] for line in lines if (m := _OF_JAVA.match(line))))
    if len(java) > 1 and java[-2].endswith(java[-1]):
        java.pop()  # the one before says the same, and what it was about
    return redact(shorten(java[-1] if java else error, 500))
