"""Gets software of test servers into the cache folder: Maven, Go, Debian, npm; none system-wide.

Each package is a folder that appears only when it is complete. So an interrupted installation is
begun anew, and two sessions don't disturb each other.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

INSTALL_SECONDS = 3600
"""A program that is built on a busy machine may take half an hour."""
POM = """<project><modelVersion>4.0.0</modelVersion>
<groupId>tests</groupId><artifactId>servers</artifactId><version>1</version>
<dependencies>{}</dependencies></project>"""
DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)


class Unavailable(Exception):
    """This machine lacks something that the server needs; the text says what, and the remedy."""


def cache_folder() -> Path:
    """Where software and data of test servers are kept."""
    given = os.environ.get("VECFERRY_SERVICES")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(cache) / "vecferry-services"


def package(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of a package; `make` fills it if it isn't there yet."""
    folder = cache_folder() / "packages" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            part = folder.with_name(f"{name}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            make(part)
            part.rename(folder)
    return folder


def jars(folder: Path, *coordinates: str) -> None:
    """Copies Java artifacts, ``group:name:version``, and all that they need at run time."""
    pom = folder / "pom.xml"
    pom.write_text(POM.format("".join(DEPENDENCY.format(*c.split(":")) for c in coordinates)))
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime"]
    _run([*_maven(), "-f", str(pom), *goal, f"-DoutputDirectory={folder}"], folder)


def artifact(folder: Path, coordinate: str) -> None:
    """Copies one Maven artifact, ``group:name:version:type``, without what it needs."""
    goal = ["dependency:copy", f"-Dartifact={coordinate}", f"-DoutputDirectory={folder}"]
    _run([*_maven(), *goal], folder)


def go_program(folder: Path, module: str) -> None:
    """Builds the program of a Go module, ``path@version``."""
    go = tool("go", "install Go 1.22 or newer")
    _run([go, "install", "-p", "2", module], folder, GOBIN=str(folder), GOFLAGS="")


def java(least: int = 17) -> str:
    """The `java` of this machine, of version `least` or newer."""
    found = tool("java", f"install a JDK {least} or newer")
    shown = subprocess.run([found, "-version"], capture_output=True, text=True).stderr
    version = shown.partition('"')[2].partition(".")[0].partition('"')[0]
    if not version.isdigit() or int(version) < least:
        raise Unavailable(f"java is {version or 'unknown'}, {least} or newer is needed")
    return found


def java_home(major: int) -> Path:
    """The folder of a JDK of just this version: `JAVA_HOME`, or beside the others of the system."""
    folders = [
        Path(os.environ.get("JAVA_HOME", "/nowhere")),
        *sorted(Path("/usr/lib/jvm").glob("*")),
    ]
    for folder in folders:
        release = folder / "release"
        if release.is_file() and f'JAVA_VERSION="{major}' in release.read_text():
            return folder
    raise Unavailable(f"JDK {major} is missing here: install it, or let JAVA_HOME name it")


def npm_packages(folder: Path, *packages: str) -> None:
    """Installs packages of npm, ``name@version``, and runs no script of theirs."""
    npm = tool("npm", "install Node.js 20 or newer")
    _run([npm, "install", "--no-fund", "--no-audit", "--ignore-scripts", *packages], folder)


def virtual_environment(folder: Path, *requirements: str) -> None:
    """Makes an environment of this Python with packages from PyPI; it may be moved."""
    uv = Path(sys.executable).with_name("uv")
    found = str(uv) if uv.exists() else tool("uv", "install uv")
    _run(
        [found, "venv", "-q", "--relocatable", "--python", sys.executable, str(folder)],
        folder.parent,
    )
    python = str(folder / "bin/python")
    _run([found, "pip", "install", "-q", "--python", python, *requirements], folder.parent)


def unzip(archive: Path, folder: Path, top: str = "") -> None:
    """Unpacks an archive, removes it, and lifts what is in its folder `top`."""
    _run([tool("unzip", "install unzip"), "-q", str(archive), "-d", str(folder)], folder)
    archive.unlink()
    if top:
        for one in (folder / top).iterdir():
            one.rename(folder / one.name)
        (folder / top).rmdir()


def debian(folder: Path, *packages: str) -> None:
    """Unpacks Debian packages, and those that they need and the machine lacks; installs nothing."""
    apt = tool("apt-get", "on Debian or Ubuntu only")
    listed = [apt, "install", "--print-uris", "-qq", "--no-install-recommends", *packages]
    try:
        lines = _run(listed, folder)
    except Unavailable:
        _run([apt, "update", "-qq"], folder)
        lines = _run(listed, folder)
    names = {line.split()[1].split("_")[0] for line in lines.splitlines() if line.startswith("'")}
    _run([apt, "download", "-qq", *sorted(names | set(packages))], folder)
    for deb in sorted(folder.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(deb), str(folder)], folder)
        deb.unlink()


def library_path(folder: Path) -> str:
    """LD_LIBRARY_PATH for programs that `debian` unpacked."""
    found = [folder / "usr/lib/x86_64-linux-gnu", folder / "lib/x86_64-linux-gnu"]
    return ":".join([*map(str, found), os.environ.get("LD_LIBRARY_PATH", "")]).rstrip(":")


def tool(name: str, remedy: str) -> str:
    """The path of a program; Unavailable with the remedy where there is none."""
    found = shutil.which(name)
    if found is None:
        raise Unavailable(f"{name} is missing here: {remedy}")
    return found


def _maven() -> list[str]:
    return [tool("mvn", "install Maven"), "-B", "-q", "-ntp"]


def _run(command: list[str], folder: Path, **environment: str) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
        )
    except subprocess.TimeoutExpired as e:
        raise Unavailable(f"{command[0]} took more than {INSTALL_SECONDS} s") from e
    if done.returncode:
        shown = (done.stderr or done.stdout).strip()[-500:]
        raise Unavailable(f"{' '.join(command[:4])} … failed: {shown}")
    return done.stdout
