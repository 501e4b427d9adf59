"""``vecferry-worker --pool PORT``: a pool that starts workers for ``--environment_type=EXTERNAL``.

Stands apart from `worker` because only a pool loads it.

Beam's own pool listens on every interface, whatever it is told; this one where `host` says.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any


def serve(port: int, host: str, program: str = "") -> None:
    """Starts workers as they are asked for, until SIGTERM or SIGINT; then it ends them.

    `program` starts one worker, by default the ``vecferry-worker`` of this process.
    """
    import grpc
    from apache_beam.portability.api import beam_fn_api_pb2_grpc as services
    from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
    from apache_beam.utils import thread_pool_executor

    boot = program or str(Path(sys.argv[0]).resolve())
    servicer = BeamFnExternalWorkerPoolServicer(
        use_process=True, container_executable=boot, data_buffer_time_limit_ms=-1
    )
    server = grpc.server(thread_pool_executor.shared_unbounded_instance())
    services.add_BeamFnExternalWorkerPoolServicer_to_server(servicer, server)
    if server.add_insecure_port(f"{host}:{port}") == 0:
        sys.exit(f"vecferry-worker: {host}:{port} can't be listened on")
    server.start()
    ended = threading.Event()

    def end(*_: Any) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    print(f"vecferry-worker: serving workers at {host}:{port}", flush=True)
    ended.wait()
    server.stop(0)
    for process in list(servicer._worker_processes.values()):
        process.terminate()
    sys.stdout.flush()
    os._exit(0)
