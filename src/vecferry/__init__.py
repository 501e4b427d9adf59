"""vecferry ferries rows into vector stores and embeds them on the way, on Apache Beam.

Import modules by the long name only: ``from vecferry.io.milvus import WriteToMilvus``. The package
itself imports nothing, so ``vecferry check`` starts without Beam.
"""

__version__ = "0.1.0"
