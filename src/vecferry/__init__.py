"""vecferry ferries rows into vector stores, embedding them on the way, on Apache Beam.

Import by the long name only: ``from vecferry.io.milvus import WriteToMilvus``. The package itself
imports nothing, so that ``vecferry check`` starts without Beam.
"""

__version__ = "0.1.0"
