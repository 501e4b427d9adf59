"""HDFS by WebHDFS, or an HttpFS gateway, by requests.

fsspec has a file system for WebHDFS. Its reads do not look at the data node's status, so they take
an error page for the file's bytes. It has no timeouts.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from vecferry.durable import part_name
from vecferry.errors import FatalError, TransientError, shorten, written
from vecferry.io.common.reach import readable_ca
from vecferry.io.files.stores.base import FileInfo, Listed, NoRoot
from vecferry.io.files.stores.remote import (
    CONNECT_SECONDS,
    READ_SECONDS,
    Changed,
    RemoteStore,
    broken_off,
    require_whole,
    seconds_between,
    unreachable,
)
from vecferry.process import PROCESS

POOL_SIZE = 64


class _Refused(Exception):
    """An answer of WebHDFS that tells a failure: status, kind of exception, its words."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message


@dataclass(frozen=True, kw_only=True)
class HdfsAccess:
    """How an HDFS is reached; `folder` is the part of it.

    `endpoint` is the HTTP address of the name node, `default_fs` the name that jobs know.
    """

    folder: str
    endpoint: str
    user: str | None
    default_fs: str | None
    ca_cert: str | None


class HdfsStore(RemoteStore):
    """A folder of an HDFS. A version is the time of change in milliseconds."""

    schemes = ("hdfs", "webhdfs", "swebhdfs")

    def __init__(self, access: HdfsAccess, retry_seconds: float | None) -> None:
        self._access = access
        parts = urlsplit(access.endpoint)
        self._host = parts.hostname or ""
        name = (access.default_fs or f"hdfs://{parts.netloc}").rstrip("/")
        super().__init__(access, access.folder, name, retry_seconds)
        self._authority = urlsplit(name).netloc

    def _is_here(self, authority: str) -> bool:
        host = urlsplit(f"//{authority}").hostname or ""
        return authority in ("", self._authority) or host == self._host

    def _list(self, folder: str, head: str, deep: bool) -> Iterator[Listed]:
        base = f"{folder}/" if folder else ""
        try:
            answer = self._call(folder, lambda: self._ask("LISTSTATUS", folder).json())
        except FileNotFoundError:
            return
        for entry in answer["FileStatuses"]["FileStatus"]:
            name = entry["pathSuffix"]
            if not name:
                return  # `folder` is a file
            if entry["type"] == "FILE" and name.startswith(head):
                yield name, _info(base + name, entry)
            elif entry["type"] == "DIRECTORY" and deep:
                if name[0] not in "._":
                    for below, file in self._list(base + name, "", True):
                        yield f"{name}/{below}", file
            elif entry["type"] == "DIRECTORY" and name.startswith(head):
                yield name, None

    def _stat(self, path: str) -> FileInfo:
        entry = self._ask("GETFILESTATUS", path).json()["FileStatus"]
        if entry["type"] != "FILE":
            raise IsADirectoryError(path)
        return _info(path, entry)

    def _fetch(self, file: FileInfo, start: int, end: int) -> bytes:
        answer = self._ask("OPEN", file.path, offset=start, length=end - start)
        return require_whole(answer.content, start, end)

    def _create(self, path: str, data: bytes) -> bool:
        """Writes a file of another name, and renames it: a rename never overwrites.

        A creation under the path itself would leave a file without bytes if it broke off.
        """
        part = posixpath.join(posixpath.dirname(path), part_name())
        try:
            self._write(part, data)
            moved = self._send("PUT", "RENAME", part, destination=self._full(path)).json()
            if moved["boolean"]:
                return True
        except _Refused as e:
            if e.kind == "AccessControlException":
                user, said = self._access.user, shorten(e.message)
                raise FatalError(
                    f"user {user!r} may not write there: grant w and x on the folder ({said})"
                ) from e
            if e.kind != "FileAlreadyExistsException":
                raise
        self._remove(part)
        try:
            self._ask("GETFILESTATUS", path)
        except FileNotFoundError as e:
            raise TransientError("a file could not be renamed") from e
        return False

    def _write(self, path: str, data: bytes) -> None:
        """Writes a file in two steps: the name node says where to, a data node takes the bytes."""
        where = self._send("PUT", "CREATE", path, overwrite="false").headers["Location"]
        answer = self._session.put(
            where,
            data=data,
            headers={"Content-Type": "application/octet-stream"},
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            verify=self._session.verify,
        )
        if answer.status_code != 201:
            raise _fault(answer)

    def _remove(self, path: str) -> None:
        self._send("DELETE", "DELETE", path, recursive="false")

    def _age(self, path: str) -> float:
        answer = self._ask("GETFILESTATUS", path)
        changed = answer.json()["FileStatus"]["modificationTime"] / 1000
        return seconds_between(changed, answer.headers.get("Date"))

    def root_mark(self) -> str:
        """The number of the folder, which a rename keeps."""
        try:
            entry = self._call(".", lambda: self._ask("GETFILESTATUS", "").json())["FileStatus"]
        except FileNotFoundError as e:
            raise NoRoot(self._no_root()) from e
        return str(entry.get("fileId", ""))

    def _has_root(self) -> bool:
        try:
            entry = self._ask("GETFILESTATUS", "").json()["FileStatus"]
        except FileNotFoundError:
            return False
        return bool(entry["type"] == "DIRECTORY")

    def _ask(self, operation: str, path: str, **query: Any) -> Any:
        """A GET; redirects to data nodes are followed."""
        return self._send("GET", operation, path, **query)

    @property
    def _session(self) -> Any:
        return PROCESS.get(("files", "client", self._access), lambda: _session(self._access))

    def _full(self, path: str) -> str:
        """A path from the top of the file system."""
        return f"{self.root.rstrip('/')}/{path}" if path else self.root

    def _send(self, method: str, operation: str, path: str, **query: Any) -> Any:
        """A request without a body; only those that read follow redirects."""
        session, query = self._session, {"op": operation, **query}
        if self._access.user is not None:
            query["user.name"] = self._access.user
        answer = session.request(
            method,
            f"{self._access.endpoint}/webhdfs/v1{quote(self._full(path))}",
            params=query,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            verify=session.verify,  # else a variable of the environment would win
            allow_redirects=method == "GET",
        )
        if answer.status_code == 200 or (operation == "CREATE" and answer.status_code == 307):
            return answer
        error = _fault(answer)
        if error.kind == "FileNotFoundException":
            raise FileNotFoundError(path)
        if operation == "OPEN" and "out of the range" in error.message:
            raise Changed
        raise error

    def classify(self, error: Exception) -> Exception:
        """What to do about an answer that is none, or about an error of the network."""
        import requests

        endpoint = self._access.endpoint
        if isinstance(error, _Refused):
            return self._refused(error)
        if isinstance(error, requests.exceptions.SSLError):
            return FatalError(
                f"the certificate of {endpoint} is not trusted ({shorten(error)}): name its "
                "authority's file as `caCert`, or correct the endpoint"
            )
        if isinstance(
            error, requests.exceptions.JSONDecodeError | KeyError | TypeError | RecursionError
        ):
            return FatalError(f"{endpoint} does not speak WebHDFS: correct the endpoint")
        if isinstance(error, requests.exceptions.ConnectionError) and error.request is not None:
            asked = urlsplit(str(error.request.url))
            if f"{asked.scheme}://{asked.netloc}" != endpoint:
                return TransientError(
                    f"{unreachable(f'the data node {asked.netloc}', error)}; it must be reachable "
                    "from this machine under that name, or use an HttpFS gateway"
                )
        if broken_off(error):
            return unreachable(endpoint, error)
        return FatalError(f"{type(error).__name__}: {shorten(error)}")

    def _refused(self, error: _Refused) -> Exception:
        said = shorten(f"{error.kind}: {error.message}".strip(": "))
        user = self._access.user or "nobody in particular"
        if error.kind == "AccessControlException":
            return FatalError(f"user {user!r} may not read it: grant r, and x on folders ({said})")
        if error.kind == "StandbyException":
            return TransientError(f"the name node stands by: name the active one ({said})")
        if error.status == 401 or error.kind == "SecurityException":
            return FatalError(
                f"the cluster wants a proof of who the user is, and `user` is only a name; use an "
                f"HttpFS gateway that takes the name ({said})"
            )
        if error.kind in ("IOException", "RetriableException", "BlockMissingException"):
            return TransientError(f"the cluster can't give it now ({said})")
        if error.status >= 500 or error.status == 429:
            return TransientError(f"the service is busy or broken ({said or error.status})")
        if not error.kind:
            return FatalError(
                f"{self._access.endpoint} does not speak WebHDFS (status {error.status}): "
                "correct the endpoint; it is the name node's HTTP address"
            )
        return FatalError(f"the service refuses ({said})")


def _fault(answer: Any) -> _Refused:
    """What an answer that is none of those expected tells."""
    try:
        told = answer.json()["RemoteException"]
        return _Refused(
            answer.status_code, written(told.get("exception", "")), written(told.get("message", ""))
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _Refused(answer.status_code, "", shorten(answer.text, 100))


def _session(access: HdfsAccess) -> Any:
    import requests
    from requests.adapters import HTTPAdapter

    if access.ca_cert is not None:
        readable_ca(access.ca_cert, access.endpoint)
    session = requests.Session()
    session.verify = access.ca_cert or True
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_connections=POOL_SIZE, pool_maxsize=POOL_SIZE))
    return session


def _info(path: str, entry: dict[str, Any]) -> FileInfo:
    changed, mark = entry["modificationTime"], str(entry.get("fileId", ""))
    return FileInfo(path, entry["length"], str(changed), changed / 1000, mark)
