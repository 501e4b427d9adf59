"""vecferry ferries rows into vector stores and embeds them on the way, on Apache Beam.

``vecferry.load("job.yaml")`` gives a job to check, preview, estimate, run and search. Import
modules by the long name only: ``from vecferry.io.milvus import WriteToMilvus``. A public name is
imported when it is asked for, so ``vecferry check`` starts without Beam.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecferry.lazy import hands_on

if TYPE_CHECKING:
    from vecferry.errors import JobError as JobError
    from vecferry.errors import VecferryError as VecferryError
    from vecferry.pipelines.api.job import JobEstimate as JobEstimate
    from vecferry.pipelines.api.job import JobPreview as JobPreview
    from vecferry.pipelines.api.job import LoadedJob as LoadedJob
    from vecferry.pipelines.api.job import RunResult as RunResult
    from vecferry.pipelines.api.job import load as load
    from vecferry.pipelines.api.rows import Rows as Rows

__version__ = "0.1.0"

__all__ = [
    "JobError",
    "JobEstimate",
    "JobPreview",
    "LoadedJob",
    "Rows",
    "RunResult",
    "VecferryError",
    "__version__",
    "load",
]

__getattr__ = hands_on(
    __name__,
    {
        "JobError": "errors",
        "JobEstimate": "pipelines.api.job",
        "JobPreview": "pipelines.api.job",
        "LoadedJob": "pipelines.api.job",
        "Rows": "pipelines.api.rows",
        "RunResult": "pipelines.api.job",
        "VecferryError": "errors",
        "load": "pipelines.api.job",
    },
)
