"""The body of a request as a connector of ml-commons has it, with places for texts and model.

Apart from `vecferry.transforms.embed.endpoints.connector` because settings are checked by it, which
import neither numpy nor a client.
"""

from __future__ import annotations

import json
import re

INPUT = "${parameters.input}"
"""The place of the texts, a list of JSON."""
MODEL = "${parameters.model}"
"""The place of the model's name, within a text of JSON."""
_LEFT = re.compile(r"\$\{[^}]*\}?")


def around_input(body: str, model: str) -> tuple[bytes, bytes]:
    """What stands before the texts, and what behind, with the model's name filled in.

    Raises ValueError if no request can be made of `body`.
    """
    if body.count(INPUT) != 1:
        raise ValueError(
            f"requestBody names {INPUT} {body.count(INPUT)} times, and the texts go there: "
            "name it once"
        )
    before, after = body.replace(MODEL, json.dumps(model)[1:-1]).split(INPUT)
    left = _LEFT.search(before) or _LEFT.search(after)
    if left is not None:
        raise ValueError(f"requestBody names {left[0]}, which nothing fills: write its value there")
    try:
        whole = json.loads(f'{before}["a text"]{after}')
    except ValueError as e:
        raise ValueError(
            f"requestBody is not JSON once the texts are in it ({e}): mend it; the texts are a "
            "list, so no quotes stand around their place"
        ) from None
    if not isinstance(whole, dict):
        raise ValueError("requestBody is not an object of JSON: write it as { … }")
    return before.encode(), after.encode()
