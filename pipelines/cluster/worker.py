"""``vecferry-worker``: starts a worker process, as the boot program of Beam's images does.

For ``--environment_type=PROCESS``, and for EXTERNAL as the pool's ``--container_executable``. The
program asks the runner what to do, and installs the packages that came with the job. It checks that
it can run the job, and becomes a worker of Beam. If it cannot run the job, it answers each bundle
with the reason, tells the launcher, and exits with status 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vecferry.errors import redact
from vecferry.pipelines.cluster.requirements import complaint, missing

OPTION = "vecferry_worker"
"""The option of a job that tells its workers what they need."""
PROVISION_SECONDS = 30
REFUSE_SECONDS = 60
_INSTALLED = "VECFERRY_INSTALLED"


class CannotStart(Exception):
    """This worker can't run the job; the text says why."""


def main(argv: list[str] | None = None) -> None:
    """Starts a worker as the runner asks; does not return while the worker lives."""
    arguments = _parser().parse_known_args(argv)[0]
    if arguments.pool is not None:
        from vecferry.pipelines.cluster.worker_pool import serve

        serve(arguments.pool, arguments.host)
        return
    if not arguments.id or not arguments.provision_endpoint:
        sys.exit("vecferry-worker is started by a runner, with --id and --provision_endpoint")
    os.dup2(2, 1)  # what a pool gives as standard output is a pipe that nobody reads
    info = _provision(arguments.id, arguments.provision_endpoint)
    needs = _needs(info)
    try:
        _install(info, arguments)
        problems = missing(needs) if needs else []
        if problems:
            raise CannotStart(complaint(problems))
    except CannotStart as e:
        _refuse(str(e), needs, info, arguments)
        sys.exit(f"vecferry-worker: {e}")
    _work(info, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vecferry-worker", description=__doc__)
    parser.add_argument("--pool", type=int, metavar="PORT", help="serve workers at this port")
    parser.add_argument("--host", default="127.0.0.1", help="the address of the pool")
    for name in ("id", "provision_endpoint", "logging_endpoint", "artifact_endpoint"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--control_endpoint", default="")
    return parser


def _provision(worker: str, endpoint: str) -> Any:
    """What the runner says of the job: options, endpoints, packages."""
    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2 as messages
    from apache_beam.portability.api import beam_provision_api_pb2_grpc as services

    with grpc.insecure_channel(endpoint) as channel:
        answer = services.ProvisionServiceStub(channel).GetProvisionInfo(
            messages.GetProvisionInfoRequest(),
            metadata=(("worker_id", worker),),
            timeout=PROVISION_SECONDS,
            wait_for_ready=True,
        )
    return answer.info


def _needs(info: Any) -> dict[str, Any]:
    from google.protobuf import json_format

    options = json_format.MessageToDict(info.pipeline_options)
    nested = options.get("options")
    value = options.get(f"beam:option:{OPTION}:v1")
    if value is None and isinstance(nested, dict):
        value = nested.get(OPTION)
    return json.loads(value) if value else {}


def _address(own: Any, given: str) -> str:
    return str(own.url or given)


def _install(info: Any, arguments: argparse.Namespace) -> None:
    """Installs the packages that came with the job, once on a machine, and starts anew with them.

    Raises CannotStart where they can't be installed.
    """
    if not info.dependencies or os.environ.get(_INSTALLED):
        return
    folder = Path(tempfile.mkdtemp(prefix="vecferry-worker-"))
    try:
        files = _fetched(info, arguments, folder)
        packages = [f for f in files if f.name.endswith((".whl", ".tar.gz", ".zip"))]
        if not packages:
            return
        target = _installed(packages)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{target}:{found}".rstrip(":")
    os.environ[_INSTALLED] = str(target)
    os.execv(
        sys.executable, [sys.executable, "-m", "vecferry.pipelines.cluster.worker", *sys.argv[1:]]
    )


def _fetched(info: Any, arguments: argparse.Namespace, folder: Path) -> list[Path]:
    """The files that came with the job, in `folder`, under their own names."""
    import grpc
    from apache_beam.portability.api import beam_artifact_api_pb2_grpc as services
    from apache_beam.portability.api import beam_runner_api_pb2 as messages
    from apache_beam.runners.portability import artifact_service

    files = []
    with grpc.insecure_channel(
        _address(info.artifact_endpoint, arguments.artifact_endpoint),
        options=[("grpc.max_receive_message_length", -1)],
    ) as channel:
        channel = grpc.intercept_channel(channel, _named(arguments.id))
        service = services.ArtifactRetrievalServiceStub(channel)
        for stored in artifact_service.resolve_artifacts(info.dependencies, service, str(folder)):
            role = messages.ArtifactStagingToRolePayload.FromString(stored.role_payload)
            path = messages.ArtifactFilePayload.FromString(stored.type_payload).path
            if path and role.staged_name:
                files.append(Path(path).rename(folder / Path(role.staged_name).name))
    return files


def _named(worker: str) -> Any:
    from apache_beam.runners.worker.worker_id_interceptor import WorkerIdInterceptor

    return WorkerIdInterceptor(worker)


def _installed(packages: list[Path]) -> Path:
    """The folder with `packages` installed, which appears only when it is complete."""
    digest = hashlib.sha256()
    for package in sorted(packages, key=lambda p: p.name):
        digest.update(package.name.encode() + package.read_bytes())
    cache = Path(tempfile.gettempdir()) / f"vecferry-packages-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    if cache.stat().st_uid != os.getuid():
        raise CannotStart(f"{cache} belongs to somebody else: remove it, or set TMPDIR")
    target = cache / digest.hexdigest()[:16]
    if target.is_dir():
        return target
    part = Path(tempfile.mkdtemp(dir=cache))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    done = subprocess.run(
        [*command, str(part), *map(str, packages)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        shutil.rmtree(part, ignore_errors=True)
        names = ", ".join(p.name for p in packages)
        raise CannotStart(f"{names} can't be installed: {done.stderr.strip()[-500:]}")
    try:
        part.rename(target)
    except OSError:  # another worker was quicker
        shutil.rmtree(part, ignore_errors=True)
    return target


def _refuse(reason: str, needs: dict[str, Any], info: Any, arguments: argparse.Namespace) -> None:
    """Answers what the runner asks with the reason, so that the job fails with it."""
    if needs.get("reports"):
        from vecferry.run.channel import complain

        complain(needs["reports"], reason)
    import grpc
    from apache_beam.portability.api import beam_fn_api_pb2 as messages
    from apache_beam.portability.api import beam_fn_api_pb2_grpc as services

    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def stream() -> Iterable[Any]:
        while (answer := answers.get()) is not None:
            yield answer

    address = _address(info.control_endpoint, arguments.control_endpoint)
    with grpc.insecure_channel(address) as channel:
        named = grpc.intercept_channel(channel, _named(arguments.id))
        requests = services.BeamFnControlStub(named).Control(stream())
        end = threading.Timer(REFUSE_SECONDS, requests.cancel)
        end.daemon = True
        end.start()
        try:
            for request in requests:
                answer = messages.InstructionResponse(
                    instruction_id=request.instruction_id, error=redact(reason)
                )
                answers.put(answer)
        except grpc.RpcError:  # the runner has heard enough
            pass
        answers.put(None)


def _work(info: Any, arguments: argparse.Namespace) -> None:
    """Becomes a worker of Beam, in this process: importing Beam again would take seconds."""
    from apache_beam.portability.api import endpoints_pb2
    from google.protobuf import json_format, text_format

    def described(own: Any, given: str) -> str:
        url = _address(own, given)
        descriptor = endpoints_pb2.ApiServiceDescriptor(url=url)
        return str(text_format.MessageToString(descriptor, as_one_line=True))

    os.environ["WORKER_ID"] = arguments.id
    os.environ["PIPELINE_OPTIONS"] = json_format.MessageToJson(info.pipeline_options)
    os.environ["SEMI_PERSISTENT_DIRECTORY"] = tempfile.gettempdir()
    os.environ["RUNNER_CAPABILITIES"] = " ".join(info.runner_capabilities)
    os.environ["LOGGING_API_SERVICE_DESCRIPTOR"] = described(
        info.logging_endpoint, arguments.logging_endpoint
    )
    os.environ["CONTROL_API_SERVICE_DESCRIPTOR"] = described(
        info.control_endpoint, arguments.control_endpoint
    )
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main([sys.argv[0]])


if __name__ == "__main__":
    main()
