"""The public PTransform of embedding."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecferry.beam import MakeOperator, OperatorTransform
from vecferry.steps import StepContext
from vecferry.transforms.embed.engine import Embedder
from vecferry.transforms.embed.settings import EmbedSettings

if TYPE_CHECKING:
    from vecferry.transforms.embed.images.load import HasFiles


@dataclass(kw_only=True, eq=False)
class Embed(OperatorTransform):
    """Adds to each row the vectors of its texts and images.

    Takes dicts or `Change`s; gives `Change`s with a vector column more, a float32 array of shape
    (dimension,), read-only because rows of equal text share it. Rows that can't be embedded go to
    the output ``rejected``. In a bundle equal texts cost one request, in a worker process what the
    cache still holds costs none. `connection` is the data source in which images lie that rows name
    by a path: any settings with a method ``open_files``, such as ``LocalConnection``.

    Example::

        embedded = rows | Embed(settings=EmbedSettings(
            model_provider="local",
            embedding_columns={"sourceColumnNames": ["text"], "embeddingColumnName": "vector"},
        ))
        embedded.rows, embedded.rejected
    """

    settings: EmbedSettings
    connection: HasFiles | None = None

    verb = "Embed"
    step_type = "embedding-transformer"

    def operator(self, context: StepContext) -> MakeOperator:
        """A picklable function that makes the engine."""
        return functools.partial(Embedder, self.settings, self.connection, context)
