"""Buckets of Google Cloud Storage, by google-cloud-storage."""

from __future__ import annotations

import functools
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vecferry.errors import FatalError, JobError, TransientError, shorten
from vecferry.io.files.stores.base import NO_BUCKET, FileInfo, Listed
from vecferry.io.files.stores.remote import (
    CONNECT_SECONDS,
    READ_SECONDS,
    Changed,
    RemoteStore,
    broken_off,
    may_not_write,
    require_whole,
    unreachable,
)
from vecferry.process import PROCESS

PAGE_SIZE = 1000

_TIMEOUT: dict[str, Any] = {"timeout": (CONNECT_SECONDS, READ_SECONDS), "retry": None}
"""For each call: calls are repeated by the store."""

_FIELDS = "items(name,size,generation,updated),prefixes,nextPageToken"


@dataclass(frozen=True, kw_only=True)
class GcsAccess:
    """How a bucket is reached; `folder` is the part of the bucket.

    `credentials` are a path, the JSON of a key, or ``anonymous``. Without them Google's default
    ones are looked for, but none if there is an `endpoint`.
    """

    bucket: str
    folder: str
    endpoint: str | None
    credentials: str | None


class GcsStore(RemoteStore):
    """A folder of a bucket. A version is an object's generation, and a read asks for that one."""

    schemes = ("gs", "gcs")
    keeps_empty_folders = False

    def __init__(self, access: GcsAccess, retry_seconds: float | None) -> None:
        self._access, self._bucket_name = access, access.bucket
        super().__init__(access, access.folder, f"gs://{access.bucket}", retry_seconds)
        self._prefix = f"{access.folder}/" if access.folder else ""
        # An emulator may give any generation, whatever was asked for.
        self.reads_one_version = access.endpoint is None

    @property
    def _client(self) -> Any:
        return PROCESS.get(("files", "client", self._access), lambda: _client(self._access))

    def _is_here(self, authority: str) -> bool:
        return authority == self._bucket_name

    def _list(self, folder: str, head: str, deep: bool) -> Iterator[Listed]:
        base = f"{folder}/" if folder else ""
        prefix = f"{self._prefix}{base}{head}"
        token: str | None = None
        cut = len(self._prefix) + len(base)
        while True:
            page = functools.partial(self._page, prefix, deep, token)
            blobs, folders, token = self._call(folder, page)
            for name in sorted(folders):
                yield name[cut:-1], None
            for blob in blobs:
                name = blob.name[cut:]
                if name and not name.endswith("/"):  # else it marks a folder
                    yield name, _info(base + name, blob)
            if not token:
                return

    def _page(
        self, prefix: str, deep: bool, token: str | None, size: int = PAGE_SIZE
    ) -> tuple[list[Any], set[str], str | None]:
        found = self._client.list_blobs(
            self._bucket_name,
            prefix=prefix,
            delimiter=None if deep else "/",
            page_token=token,
            page_size=size,
            fields=_FIELDS,
            **_TIMEOUT,
        )
        page = next(found.pages, ())
        return list(page), set(found.prefixes), found.next_page_token

    def _stat(self, path: str) -> FileInfo:
        key = self._prefix + path
        blob = self._client.bucket(self._bucket_name).get_blob(key, **_TIMEOUT)
        if blob is None:
            if self._any(f"{key}/"):
                raise IsADirectoryError(path)
            raise FileNotFoundError(path)
        return _info(path, blob)

    def _fetch(self, file: FileInfo, start: int, end: int) -> bytes:
        from google.api_core import exceptions as google

        blob = self._client.bucket(self._bucket_name).blob(self._prefix + file.path)
        try:
            data = blob.download_as_bytes(
                start=start,
                end=end - 1,
                if_generation_match=int(file.version),
                raw_download=True,  # as it is stored, so that sizes hold
                checksum=None,
                **_TIMEOUT,
            )
        except google.NotFound as e:
            raise FileNotFoundError(file.path) from e
        except (google.PreconditionFailed, google.RequestRangeNotSatisfiable) as e:
            raise Changed from e
        return require_whole(data, start, end)

    def _create(self, path: str, data: bytes) -> bool:
        from google.api_core import exceptions as google

        blob = self._client.bucket(self._bucket_name).blob(self._prefix + path)
        try:
            # Generation 0 stands for an object that does not exist.
            blob.upload_from_string(data, if_generation_match=0, checksum=None, **_TIMEOUT)
        except google.PreconditionFailed:
            return False
        except (google.Unauthorized, google.Forbidden) as e:
            rights = "the role Storage Object User on the bucket"
            raise may_not_write(rights, shorten(e.message)) from e
        return True

    def _remove(self, path: str) -> None:
        from google.api_core import exceptions as google

        try:
            self._client.bucket(self._bucket_name).blob(self._prefix + path).delete(**_TIMEOUT)
        except google.NotFound as e:
            raise FileNotFoundError(path) from e

    def _age(self, path: str) -> float:
        """By an object that is made for this, as the client does not show the date of an answer.

        Whoever may only read has this machine's clock.
        """
        changed = self._changed(path)
        probe = f"probe-{uuid.uuid4().hex}"
        try:
            self._create(probe, b"")
        except FatalError:
            return time.time() - changed
        try:
            return self._changed(probe) - changed
        finally:
            self._remove(probe)

    def _changed(self, path: str) -> float:
        """When an object was changed, in seconds since 1970."""
        blob = self._client.bucket(self._bucket_name).get_blob(self._prefix + path, **_TIMEOUT)
        if blob is None:
            raise FileNotFoundError(path)
        return float(blob.updated.timestamp())

    def _has_root(self) -> bool:
        return self._any(self._prefix) or not self._prefix

    def _any(self, prefix: str) -> bool:
        blobs, _, _ = self._page(prefix, True, None, 1)
        return bool(blobs)

    def classify(self, error: Exception) -> Exception:
        """What to do about an error of Google's client, or of the network."""
        import requests
        from google.api_core import exceptions as google
        from google.auth import exceptions as auth

        endpoint = self._access.endpoint or "Google Cloud Storage"
        if isinstance(error, google.NotFound):
            return FatalError(
                f"the bucket {self._bucket_name!r} does not exist; correct `bucket` or `endpoint`",
                NO_BUCKET,
            )
        if isinstance(error, google.Unauthorized | google.Forbidden):
            return FatalError(
                "it may not be read with these credentials: grant them the role Storage Object "
                f"Viewer on the bucket ({shorten(error.message)})"
            )
        if isinstance(error, google.TooManyRequests | google.ServerError):
            return TransientError(f"the service is busy or broken ({shorten(error.message)})")
        if isinstance(error, google.GoogleAPICallError):
            return FatalError(f"the service refuses ({shorten(error.message)})")
        if isinstance(error, auth.DefaultCredentialsError):
            return FatalError(
                "no credentials were found: give a key's path as `credentials`, or 'anonymous' "
                "for a public bucket"
            )
        if isinstance(error, auth.TransportError):
            return unreachable("Google's sign-in", error)
        if isinstance(error, auth.GoogleAuthError):
            return FatalError(
                f"Google does not take the credentials: give a key that is valid ({shorten(error)})"
            )
        if isinstance(error, requests.exceptions.SSLError):
            return FatalError(f"the certificate of {endpoint} is not trusted ({shorten(error)})")
        if isinstance(error, requests.exceptions.JSONDecodeError):
            return FatalError(f"{endpoint} does not speak Google's API: correct the endpoint")
        if broken_off(error):
            return unreachable(endpoint, error)
        return FatalError(f"{type(error).__name__}: {shorten(error)}")


def _client(access: GcsAccess) -> Any:
    try:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage
    except ImportError as e:
        raise JobError(
            "a data source of type 'gcs' needs google-cloud-storage: pip install 'vecferry[gcs]'"
        ) from e
    options = {"api_endpoint": access.endpoint} if access.endpoint else None
    key = str.__str__(access.credentials) if access.credentials else None
    if key == "anonymous" or (key is None and access.endpoint):
        return storage.Client("none", AnonymousCredentials(), client_options=options)
    if key is None:
        return storage.Client(client_options=options)
    try:
        if key.lstrip().startswith("{"):
            made = storage.Client.from_service_account_info(json.loads(key), client_options=options)
        else:
            made = storage.Client.from_service_account_json(key, client_options=options)
    except (OSError, ValueError) as e:
        what = e.strerror if isinstance(e, OSError) else "it is not a key of a service account"
        raise JobError(f"the credentials of the data source can't be used: {what}") from e
    return made


def _info(path: str, blob: Any) -> FileInfo:
    changed = None if blob.updated is None else blob.updated.timestamp()
    return FileInfo(path, int(blob.size or 0), str(blob.generation), changed)
