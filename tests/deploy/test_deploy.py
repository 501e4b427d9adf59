"""What deploy/ holds is right as far as can be seen without a container engine."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam
import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import vecferry
from tests.code import SHARED
from tests.services import flink, spark
from vecferry.pipelines.cli import app as cli
from vecferry.pipelines.cluster import worker

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
MANIFESTS = sorted(p for p in (DEPLOY / "kubernetes").glob("*.yaml") if p.stem != "kustomization")
SCRIPT = (DEPLOY / "spark" / "job-server.sh").read_text()
PAGE = (ROOT / "docs" / "deploying.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KUBERNETES = "1.31"
APART = ("dev", "paimon")
"""Extras that go without pins: paimon needs an older pyarrow than all others."""

IMAGE = f"vecferry-worker:{vecferry.__version__}"
FLINK_IMAGE = "flink:1.19.0-scala_2.12-java17"
JOB_SERVER_IMAGE = f"apache/beam_flink1.19_job_server:{flink.BEAM}"


def tool(name: str) -> str:
    """A linter of the developer's extra."""
    found = shutil.which(
        name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    assert found is not None, f"pip install '.[dev]' installs {name}"
    return found


def objects() -> list[dict[str, Any]]:
    """Everything in the manifests."""
    return [document for path in MANIFESTS for document in yaml.safe_load_all(path.read_text())]


def the(kind: str, name: str) -> dict[str, Any]:
    (found,) = [o for o in objects() if o["kind"] == kind and o["metadata"].get("name") == name]
    return found


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and the specification of every pod."""
    for one in objects():
        if one["kind"] in ("Deployment", "Job"):
            name = one["metadata"].get("name") or one["metadata"]["generateName"]
            yield name, one["spec"]["template"]


def containers() -> dict[str, dict[str, Any]]:
    return {c["name"]: c for _, pod in pods() for c in pod["spec"]["containers"]}


def all_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The containers of a pod, with those that run before the others."""
    return [*spec.get("initContainers", ()), *spec["containers"]]


def argument(name: str) -> str:
    """The default of an ARG of the Dockerfile."""
    return re.search(rf"^ARG {name}=(\S+)$", DOCKERFILE, re.MULTILINE)[1]  # type: ignore[index]


def properties(text: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["hadolint", "deploy/Dockerfile"],
        ["shellcheck", "deploy/spark/job-server.sh"],
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml"],
    ],
    ids=lambda command: command[0],
)
def test_the_fields_own_linters_find_nothing(command: list[str]) -> None:
    """No warning either."""
    done = subprocess.run(
        [tool(command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_are_what_kubernetes_takes(path: Path) -> None:
    """By its own JSON Schemas, which know every field; a misspelt one is found."""
    documents = list(yaml.safe_load_all(path.read_text()))
    assert documents
    for document in documents:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    broken = {**documents[0], "sepc": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)
    assert f"Kubernetes {KUBERNETES}" in PAGE


@pytest.mark.slow
def test_the_kustomization_names_every_manifest_but_the_job() -> None:
    """A job is created for each run, not applied; and the image is named as the pods name it."""
    given = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    assert sorted(given["resources"]) == sorted(p.name for p in MANIFESTS if p.stem != "job")
    (image,) = given["images"]
    assert image["name"] == containers()["worker"]["image"]
    assert str(image["newTag"]) == vecferry.__version__
    run = containers()["vecferry"]["image"]
    assert run == f"{image['newName']}:{vecferry.__version__}"
    assert given["namespace"] == the("Namespace", "vecferry")["metadata"]["name"]


def test_the_image_has_the_beam_and_python_that_are_tested() -> None:
    """And pyproject.toml allows them."""
    beam, python = argument("BEAM_VERSION"), argument("PYTHON_VERSION")
    assert beam == apache_beam.__version__
    assert f"{python}.0" in SpecifierSet(PROJECT["requires-python"])
    requirement = next(
        r for r in map(Requirement, PROJECT["dependencies"]) if r.name == "apache-beam"
    )
    assert beam in requirement.specifier
    extras = PROJECT["optional-dependencies"]
    assert set(argument("EXTRAS").split(",")) <= set(extras)
    assert re.search(r"FROM apache/beam_python\${PYTHON_VERSION}_sdk:\${BEAM_VERSION}", DOCKERFILE)


@pytest.mark.slow
def test_the_image_gets_a_wheel_that_is_whole(tmp_path: Path) -> None:
    """Built from just what .dockerignore lets through: all modules, templates and providers."""
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    context = tmp_path / "context"
    context.mkdir()
    for name in (line[1:] for line in ignore if line.startswith("!")):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        more = {"symlinks": True} if copy is shutil.copytree else {}
        copy(ROOT / name, context / name, **more)  # type: ignore[operator]
    for made in context.rglob("*.egg-info"):
        shutil.rmtree(made)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, context],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob(f"vecferry-{vecferry.__version__}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        entries = archive.read(next(n for n in packed if n.endswith("entry_points.txt"))).decode()
    wanted = {
        f"vecferry/{path.relative_to(ROOT)}"
        for part in ("io", "pipelines", "transforms")
        for path in (ROOT / part).rglob("*")
        if path.suffix in (".py", ".yaml")
    }
    wanted |= {str(path.relative_to(ROOT / "src")) for path in SHARED} | {"vecferry/py.typed"}
    assert wanted - packed == set()
    templates = {Path(p) for p in packed if p.endswith(".yaml")}
    assert {p.stem for p in templates if p.parent.name == "templates"} == {
        "documents-to-elasticsearch", "documents-to-milvus", "documents-to-postgresql",
        "files-to-elasticsearch", "files-to-milvus", "mysql-cdc-to-opensearch",
        "mysql-to-opensearch", "odps-to-milvus", "paimon-to-elasticsearch",
    }  # fmt: skip
    assert "vecferry/pipelines/beam_yaml_providers.yaml" in packed
    assert all(re.search(rf"^{name} = ", entries, re.MULTILINE) for name in PROJECT["scripts"])


def test_versions_are_those_of_the_clusters_that_jobs_were_run_on() -> None:
    """And the page says them."""
    flink_jars, spark_jars = (dict(_versions(m.JARS)) for m in (flink, spark))
    assert flink_jars["beam-runners-flink-1.19"] == flink.BEAM
    images = {s["image"] for s in COMPOSE["services"].values()}
    images |= {c["image"] for n, c in containers().items() if n not in ("worker", "vecferry")}
    assert images == {FLINK_IMAGE, JOB_SERVER_IMAGE, IMAGE}
    for name, jar in (
        ("SPARK_VERSION", "spark-core_2.12"),
        ("BEAM_VERSION", "beam-runners-spark-3"),
        ("JOB_SERVICE_VERSION", "beam-runners-java-job-service"),
    ):
        assert re.search(rf"^{name}=(\S+)", SCRIPT, re.MULTILINE)[1] == spark_jars[jar]  # type: ignore[index]
        assert spark_jars[jar] in PAGE
    table = PAGE[PAGE.index("## Versions") : PAGE.index("## The image")]
    for version in (apache_beam.__version__, argument("PYTHON_VERSION"), "1.19.0", flink.BEAM):
        assert f" {version}" in table


def _versions(jars: Any) -> Iterator[tuple[str, str]]:
    for jar in jars:
        _, name, version = jar.split(":")
        yield name, version


@pytest.mark.slow
def test_flink_is_set_up_alike_in_compose_and_kubernetes() -> None:
    """But for what a pod must be told besides."""
    compose = properties(COMPOSE["services"]["jobmanager"]["environment"]["FLINK_PROPERTIES"])
    pod = properties(the("ConfigMap", "flink")["data"]["properties"])
    assert {k: v for k, v in pod.items() if k in compose} == compose
    assert {k for k in pod if k not in compose} == {
        "jobmanager.rpc.port", "blob.server.port", "taskmanager.rpc.port", "rest.port"
    }  # fmt: skip
    assert compose["jobmanager.rpc.address"] in COMPOSE["services"]
    assert the("Service", pod["jobmanager.rpc.address"])


@pytest.mark.slow
def test_ports_agree() -> None:
    """Of services, pods, Flink's settings, the job server's arguments and the client's options."""
    flink_ports = properties(the("ConfigMap", "flink")["data"]["properties"])
    named = {
        name: {p["name"]: p["containerPort"] for p in c.get("ports", ())}
        for name, c in containers().items()
    }
    assert named["jobmanager"] == {
        "rpc": flink_ports["jobmanager.rpc.port"], "blob": flink_ports["blob.server.port"],
        "rest": flink_ports["rest.port"],
    }  # fmt: skip
    assert named["taskmanager"]["rpc"] == flink_ports["taskmanager.rpc.port"]
    for name in ("jobmanager", "job-server"):
        ports = the("Service", name)["spec"]["ports"]
        assert {p["targetPort"]: p["port"] for p in ports} == named[name]
    server = options(containers()["job-server"]["args"])
    assert server == options(COMPOSE["services"]["job-server"]["command"])
    for port in ("job", "artifact", "expansion"):
        assert int(server[f"--{port}-port"]) == named["job-server"][port]
    assert server["--flink-master"] == f"jobmanager:{flink_ports['rest.port']}"
    client = options(containers()["vecferry"]["args"])
    assert client["--flink_master"] == f"http://jobmanager:{flink_ports['rest.port']}"
    assert client["--job_endpoint"] == f"{server['--job-host']}:{server['--job-port']}"
    for value in (client["--job_endpoint"], client["--flink_master"]):
        assert value in PAGE


def options(arguments: list[str]) -> dict[str, str]:
    return dict(a.partition("=")[::2] for a in arguments if a.startswith("--"))


@pytest.mark.slow
def test_each_task_manager_has_a_pool_of_its_own_that_no_one_else_reaches() -> None:
    """In its pod or network, on the loopback interface, at the port that the client names."""
    pool = ["vecferry-worker", "--pool", "50000"]
    managers = [n for n in COMPOSE["services"] if n.startswith("taskmanager-")]
    workers = [s for n, s in COMPOSE["services"].items() if n.startswith("worker-")]
    assert sorted(s["network_mode"] for s in workers) == sorted(f"service:{m}" for m in managers)
    assert all(s["entrypoint"] == pool for s in workers)
    assert containers()["worker"]["command"] == pool
    (pod,) = [p for name, p in pods() if name == "taskmanager"]
    assert [c["name"] for c in pod["spec"]["containers"]] == ["taskmanager", "worker"]
    given = worker._parser().parse_args(pool[1:])
    assert (given.pool, given.host) == (50000, "127.0.0.1")
    client = options(containers()["vecferry"]["args"])
    assert client["--environment_config"] == "localhost:50000"
    assert " ".join(pool) in PAGE


def test_the_programs_that_containers_start_are_in_the_wheel() -> None:
    """By the names that pyproject.toml gives them."""
    started = {containers()[n]["command"][0] for n in ("worker", "vecferry")}
    started |= {s["entrypoint"][0] for s in COMPOSE["services"].values() if "entrypoint" in s}
    assert started == {"vecferry", "vecferry-worker"}
    assert started <= set(PROJECT["scripts"])


@pytest.mark.slow
def test_the_commands_of_clients_are_ones_that_vecferry_knows() -> None:
    """Each option is ours, or one of Beam's that name the cluster."""
    own = {o for p in cli.app.commands["run"].params for o in p.opts}  # type: ignore[attr-defined]
    given = list(containers()["vecferry"]["args"])
    assert given[0] == "run"
    named = {a.partition("=")[0] for a in given[2:]}
    beams = {"--flink_master", "--job_endpoint", "--environment_type", "--environment_config"}
    assert named - beams <= own
    assert named - own == beams


def test_no_container_has_more_rights_than_it_needs() -> None:
    """Not root, no privileges to gain, no account of the cluster, bounds on memory and calls."""
    for name, pod in pods():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in all_of(spec):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
            user = container["securityContext"].get(
                "runAsUser", spec["securityContext"].get("runAsUser")
            )
            assert user in (9999, 10001)
    assert re.search(r"^USER 10001$", DOCKERFILE, re.MULTILINE)


@pytest.mark.slow
def test_what_is_published_is_published_on_this_machine_only() -> None:
    """A Flink cluster asks nobody who they are."""
    ports = [p for s in COMPOSE["services"].values() for p in s.get("ports", ())]
    assert ports
    assert all(p.startswith("127.0.0.1:") for p in ports)
    kinds = {s["spec"].get("type", "ClusterIP") for s in objects() if s["kind"] == "Service"}
    assert kinds == {"ClusterIP"}


# What each container writes while its root file system can't be written. Flink writes temporary
# files, logs, and settings, which its image's start writes. A worker writes its own folder.
WRITTEN = {
    "jobmanager": {"/tmp", "/opt/flink/conf", "/opt/flink/log", "/shared"},
    "taskmanager": {"/tmp", "/opt/flink/conf", "/opt/flink/log", "/shared"},
    "worker": {"/tmp", "/data"},
    "job-server": {"/tmp", "/shared"},
    "vecferry": {"/tmp", "/data"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_has_a_volume(name: str) -> None:
    """No container shares the folder of another but the one that all share."""
    (spec,) = [p["spec"] for _, p in pods() if name in {c["name"] for c in p["spec"]["containers"]}]
    mounts = {c["name"]: c["volumeMounts"] for c in spec["containers"]}
    own = [m for m in mounts[name] if not m.get("readOnly")]
    assert {m["mountPath"] for m in own} == WRITTEN[name]
    others = {m["name"] for n, ms in mounts.items() if n != name for m in ms}
    assert {m["name"] for m in own} & others == set()
    volumes = {v["name"]: v for v in spec["volumes"]}
    for mount in own:
        wanted = "persistentVolumeClaim" if mount["mountPath"] == "/shared" else "emptyDir"
        assert wanted in volumes[mount["name"]]
    if "/opt/flink/conf" in WRITTEN[name]:
        (first,) = spec["initContainers"]
        assert first["image"] == containers()[name]["image"]
        ((copied, source),) = [(m["name"], first["command"]) for m in first["volumeMounts"]]
        assert source == ["cp", "-R", "/opt/flink/conf/.", "/conf/"]
        assert copied == next(m["name"] for m in own if m["mountPath"] == "/opt/flink/conf")


def test_kubernetes_refuses_other_pods_in_the_namespace() -> None:
    """By the strictest of its standards, of the version that the manifests are checked against."""
    labels = the("Namespace", "vecferry")["metadata"]["labels"]
    standard = "pod-security.kubernetes.io"
    for mode in ("enforce", "audit", "warn"):
        assert labels[f"{standard}/{mode}"] == "restricted"
    assert labels[f"{standard}/enforce-version"] == f"v{KUBERNETES}"


def reached(labels: dict[str, str], address: str) -> bool:
    """Whether a pod may send to an address at port 443, by all policies that mean the pod."""
    rules = []
    for one in objects():
        if one["kind"] != "NetworkPolicy":
            continue
        assert "Egress" in one["spec"]["policyTypes"]
        if one["spec"]["podSelector"]["matchLabels"].items() <= labels.items():
            rules += one["spec"]["egress"]
    assert rules, labels
    blocks = [
        to["ipBlock"]
        for rule in rules
        if all(p["port"] == 443 for p in rule.get("ports", ()))
        for to in rule["to"]
        if "ipBlock" in to
    ]
    ip = ipaddress.ip_address(address)
    return any(
        ip in ipaddress.ip_network(b["cidr"])
        and not any(ip in ipaddress.ip_network(e) for e in b.get("except", ()))
        for b in blocks
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "address",
    [
        *("169.254.169.254", "169.254.170.2", "169.254.20.10", "168.63.129.16", "192.0.0.192"),
        *("100.100.100.200", "fd00:ec2::254", "fd20:ce::254", "fe80::a9fe:a9fe"),
        "fd00:c1::a9fe:a9fe",
    ],
)
def test_no_pod_asks_a_cloud_for_its_keys(address: str) -> None:
    """Nor does one that may reach everything else."""
    assert [name for name, pod in pods() if reached(pod["metadata"]["labels"], address)] == []


@pytest.mark.slow
@pytest.mark.parametrize("address", ["10.0.0.7", "93.184.216.34", "2606:4700::1111", "fd12::9"])
def test_only_workers_and_clients_leave_the_cluster(address: str) -> None:
    """Flink's own pods and the job server need no store."""
    leaving = {n for n, pod in pods() if reached(pod["metadata"]["labels"], address)}
    assert leaving == {"taskmanager", "vecferry-"}


@pytest.mark.slow
def test_every_pod_finds_the_cluster_and_names() -> None:
    """A policy that forgot the name servers would stop every run."""
    for name, pod in pods():
        labels = pod["metadata"]["labels"].items()
        rules = [
            rule
            for one in objects()
            if one["kind"] == "NetworkPolicy"
            and one["spec"]["podSelector"]["matchLabels"].items() <= labels
            for rule in one["spec"]["egress"]
        ]
        assert {"to": [{"podSelector": {"matchLabels": {"app": "vecferry-flink"}}}]} in rules, name
        (names,) = [r for r in rules if "ports" in r]
        assert names["ports"] == [{"protocol": p, "port": 53} for p in ("UDP", "TCP")]


def pins(file: str = "constraints.txt") -> dict[str, list[Requirement]]:
    """What such a file says, by the name of a package."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / file).read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


@pytest.mark.parametrize(
    ("file", "without"),
    [("constraints.txt", APART), ("constraints-lake.txt", {"dev"})],
    ids=["all", "lake"],
)
def test_constraints_name_one_tested_version_of_everything(file: str, without: set[str]) -> None:
    """Within what pyproject.toml allows, for each package of each extra that users install."""
    pinned = pins(file)
    for them in pinned.values():
        assert all(re.fullmatch(r"==[^*,]+", str(r.specifier)) for r in them)
    extras = PROJECT["optional-dependencies"]
    wanted = [
        Requirement(r)
        for r in (
            *PROJECT["dependencies"],
            *(r for e in extras if e not in without for r in extras[e]),
        )
    ]
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        if name != "vecferry":
            (pin,) = pinned[name]
            (version,) = pin.specifier
            assert version.version in requirement.specifier, requirement
    (beam,) = pinned["apache-beam"]
    assert str(beam.specifier) == f"=={apache_beam.__version__}"


def test_the_image_installs_what_the_constraints_name() -> None:
    """Each package that the Dockerfile names has its version there, and each command heeds it."""
    lines = DOCKERFILE.replace("\\\n", " ")
    commands = re.findall(r"pip install ([^;]*);", lines)
    assert len(commands) == 2
    for command in commands:
        assert re.search(r"--constraint (/wheels/)?constraints\.txt", command)
        names = [w.strip('"') for w in command.split() if not w.startswith("-")]
        for name in names:
            if "constraints.txt" not in name and "${wheel}" not in name:
                assert canonicalize_name(name.partition("==")[0]) in pins(), name
    assert re.search(r"pip wheel [^;]*--no-deps --no-build-isolation", lines)
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {"!constraints.txt", "!constraints-lake.txt"} <= set(ignored)
    lake = pins("constraints-lake.txt")
    assert all(str(lake[n]) == str(pins()[n]) for n in ("setuptools", "wheel", "apache-beam"))


@pytest.mark.slow
def test_the_kustomization_tells_how_each_image_is_pinned() -> None:
    """By its name as the pods say it, with a placeholder for what only a registry knows."""
    text = (DEPLOY / "kubernetes" / "kustomization.yaml").read_text()
    images = {c["image"] for n, c in containers().items() if n not in ("worker", "vecferry")}
    for image in images:
        name = image.partition(":")[0]
        assert f"# - name: {name}\n  #   digest: sha256:…\n" in text
    for name in ("PYTHON_DIGEST", "BEAM_DIGEST"):
        assert f'ARG {name}=""\n' in DOCKERFILE
        assert f"--build-arg {name}=@sha256:" in PAGE


def test_the_wheel_says_what_it_is() -> None:
    """Its licence, its authors, and the Pythons that it runs on, which are those it asks for."""
    assert PROJECT["license"] == {"text": "Apache-2.0"}
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert PROJECT["authors"]
    assert PROJECT["keywords"]
    said = [c.rpartition(" :: ")[2] for c in PROJECT["classifiers"] if ":: 3." in c]
    assert said == ["3.11", "3.12", "3.13"]
    assert all(f"{v}.0" in SpecifierSet(PROJECT["requires-python"]) for v in said)
    assert f"{argument('PYTHON_VERSION')}" in said


def test_the_network_policy_lets_in_the_cluster_and_its_clients() -> None:
    """Every pod of the cluster is meant by it, and a run of a job may pass."""
    policy = the("NetworkPolicy", "flink")["spec"]
    own = policy["podSelector"]["matchLabels"]
    passing = [s["podSelector"]["matchLabels"] for s in policy["ingress"][0]["from"]]
    for name, pod in pods():
        labels = pod["metadata"]["labels"]
        assert any(p.items() <= labels.items() for p in passing), name
        assert (own.items() <= labels.items()) == (not name.endswith("-"))


@pytest.mark.slow
def test_volumes_and_names_that_are_used_are_there() -> None:
    """A manifest that names what nobody makes would wait for ever."""
    for name, pod in pods():
        volumes = {v["name"]: v for v in pod["spec"].get("volumes", ())}
        mounted = {m["name"] for c in all_of(pod["spec"]) for m in c.get("volumeMounts", ())}
        assert mounted == set(volumes), name
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert the("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
    used = {v.partition(":")[0] for s in COMPOSE["services"].values() for v in s.get("volumes", ())}
    assert used == set(COMPOSE["volumes"])


def test_every_file_of_deploy_is_on_the_page() -> None:
    """Nobody finds what nothing leads to."""
    names = [p.name for p in DEPLOY.rglob("*") if p.is_file() and "Dockerfile." not in p.name]
    assert [n for n in names if n not in PAGE and n != "namespace.yaml"] == []


def test_the_script_says_what_it_needs() -> None:
    """Without a master, or without Spark, before anything is started."""
    script = str(DEPLOY / "spark" / "job-server.sh")
    environment = {k: v for k, v in os.environ.items() if k != "SPARK_HOME"}
    for arguments, status, told in (([], 2, "usage:"), (["spark://m:7077"], 1, "SPARK_HOME")):
        done = subprocess.run(
            [script, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == status
        assert told in done.stderr
