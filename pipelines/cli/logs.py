"""How log lines look: text with the time, or JSON. Secrets are never shown.

Apart from `vecferry.pipelines.cli.options` because what is printed to standard error has the same
form.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from vecferry.errors import RedactingFilter
from vecferry.pipelines.cli.output import as_log_lines

FORMATS = ("text", "json")


class _JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        trace = record.exc_text or (record.exc_info and self.formatException(record.exc_info))
        if trace:
            line["trace"] = trace
        return json.dumps(line)


def use_log_format(name: str) -> None:
    """Writes log lines as ``text`` or ``json`` from now on, and all of standard error with them."""
    kind = _JsonFormatter if name == "json" else logging.Formatter
    text = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    for handler in logging.getLogger().handlers:
        handler.setFormatter(kind(text, datefmt="%Y-%m-%dT%H:%M:%S%z"))
    as_log_lines(name == "json")


def set_up_logging(verbose: int) -> None:
    """Shows warnings; with -v also vecferry's messages, with -vv all. Secrets are never shown."""
    handler = logging.StreamHandler()
    handler.addFilter(RedactingFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    use_log_format("text")
    root.setLevel(logging.DEBUG if verbose > 1 else logging.ERROR)
    # Milvus Lite lacks calls that its client tries first; grpc logs a traceback for each call.
    logging.getLogger("grpc").setLevel(logging.DEBUG if verbose > 1 else logging.CRITICAL)
    # The report says what failed a run; Beam would print the traceback of each layer first.
    logging.getLogger("apache_beam").setLevel(logging.DEBUG if verbose > 1 else logging.CRITICAL)
    logging.getLogger("vecferry").setLevel(logging.DEBUG if verbose else logging.WARNING)
    logging.getLogger("vecferry.progress").setLevel(logging.INFO)
