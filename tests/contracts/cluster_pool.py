"""A pool of workers whose program is given.

``python -m tests.contracts.cluster_pool PORT PROGRAM`` starts it.
"""

from __future__ import annotations

import sys

from tests.contracts.cluster_workers import program
from vecferry.pipelines.cluster.worker_pool import serve

if __name__ == "__main__":
    serve(int(sys.argv[1]), "127.0.0.1", program(sys.argv[2]))
