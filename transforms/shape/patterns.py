"""How texts are replaced: by RE2, whose time grows with the text only.

Apart from `operations` because settings try a pattern, so that a wrong one is found by `check`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vecferry.transforms.shape.settings import EditRule

_GROUP = re.compile(r"\\(?:([0-9]{1,2})|(\\)|(.|$))", re.DOTALL)


def replacer(rule: EditRule) -> Callable[[str], str]:
    """What a rule of `replace` does to a text. Raises ValueError for a wrong pattern."""
    old, new = rule.string_to_replace or "", rule.replace_with
    if not rule.regular_expression and rule.case_sensitive:
        return lambda text: text.replace(old, new)
    pattern = _compiled(old if rule.regular_expression else None, old, rule.case_sensitive)
    template = _template(new, pattern.groups) if rule.regular_expression else [new]

    def expand(match: Any) -> str:
        return "".join(p if isinstance(p, str) else match.group(p) or "" for p in template)

    def replace(text: str) -> str:
        # To look first is cheap, and most texts have nothing to replace.
        return pattern.sub(expand, text) if pattern.search(text) else text

    return replace


def _compiled(pattern: str | None, plain: str, case_sensitive: bool) -> Any:
    try:
        import re2
    except ImportError:
        raise ValueError(
            "replace needs the package google-re2; pip install 'vecferry[shaping]', or say "
            "caseSensitive: true for a plain text"
        ) from None
    options = re2.Options()
    options.case_sensitive = case_sensitive
    options.log_errors = False
    try:
        return re2.compile(re2.escape(plain) if pattern is None else pattern, options)
    except re2.error as e:
        why = e.args[0].decode("utf-8", "replace") if e.args else "it can't be read"
        raise ValueError(
            f"stringToReplace {pattern!r} is not a regular expression of RE2: {why}; see "
            "https://github.com/google/re2/wiki/Syntax"
        ) from None


def _template(text: str, groups: int) -> list[str | int]:
    """The parts of a replacement: texts, and numbers of groups."""
    parts: list[str | int] = []
    at = 0
    for found in _GROUP.finditer(text):
        parts.append(text[at : found.start()])
        number, backslash, other = found.groups()
        if number is not None:
            if int(number) > groups:
                raise ValueError(
                    f"replaceWith names group {number}, and the pattern has {groups}; put brackets "
                    "around what it should be"
                )
            parts.append(int(number))
        elif backslash:
            parts.append("\\")
        else:
            raise ValueError(
                f"replaceWith has a backslash before {other!r}; write \\1 for a group, and \\\\ "
                "for a backslash"
            )
        at = found.end()
    return [*parts, text[at:]]
