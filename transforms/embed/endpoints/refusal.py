"""Answers of status 200 that hold no vectors: a refusal in disguise, or a server in trouble.

Apart from `client`, which does not know where an API keeps its vectors.
"""

from __future__ import annotations

from vecferry.errors import TransientError
from vecferry.transforms.embed.endpoints.client import fault_of, said_in


def items_of(content: dict[str, object], path: tuple[str, ...], url: str) -> list[object]:
    """The list at `path` of an answer, whose items hold vectors.

    An answer with an error in its place raises what the error means as a status of its own. An
    answer with neither raises TransientError.
    """
    found: object = content
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    if isinstance(found, list):
        error = content.get("error")
        if found or not error:
            return found
    error = content.get("error") or (content.get("code") and content.get("message"))
    if not error:
        name = path[-1]
        raise TransientError(f"{url} answers 200 without {name}: {said_in(content)}")
    raise fault_of(f"{url} (200 with an error in it)", _status(content), {}, content)


def _status(content: dict[str, object]) -> int:
    """The status that an error should have had."""
    error = content.get("error")
    where = error if isinstance(error, dict) else content
    for name in ("status", "code", "status_code"):
        code = where.get(name)
        if isinstance(code, str) and len(code) == 3 and code.isascii() and code.isdigit():
            code = int(code)
        if isinstance(code, int) and 400 <= code < 600:
            return code
    told = (where.get("code"), where.get("type"))
    words = " ".join(word for word in told if isinstance(word, str)).lower()
    if "rate" in words or "throttl" in words:
        return 429
    return 500 if any(word in words for word in ("internal", "server", "overload")) else 400
