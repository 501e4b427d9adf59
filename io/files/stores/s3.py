"""Buckets that speak S3, Alibaba Cloud's OSS among them, by boto3.

pyarrow's client would do without an extra. But its listings have no entity tags, and it can't ask
for one version of an object. On Linux it waits for an answer without a limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vecferry.errors import FatalError, JobError, TransientError, shorten
from vecferry.io.common.reach import readable_ca
from vecferry.io.files.stores.base import NO_BUCKET, FileInfo, Listed
from vecferry.io.files.stores.remote import (
    CONNECT_SECONDS,
    READ_SECONDS,
    Changed,
    RemoteStore,
    broken_off,
    may_not_write,
    require_whole,
    seconds_between,
    unreachable,
)
from vecferry.process import PROCESS

PAGE_SIZE = 1000
POOL_SIZE = 64

_KEY_CODES = {
    "InvalidAccessKeyId": "accessKeyId is not known there",
    "SignatureDoesNotMatch": "accessKeySecret does not belong to accessKeyId",
    "InvalidToken": "the security token is not valid",
    "InvalidSecurityToken": "the security token is not valid",
    "ExpiredToken": "the security token has expired",
    "SecurityTokenExpired": "the security token has expired",
}
_PLACE_CODES = {
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "InvalidRegion",
    "301",
    "307",
}
_EXISTS_CODES = {"412", "PreconditionFailed", "FileAlreadyExists"}
"""What S3 and OSS answer to the creation of an object that exists."""

_TRANSIENT_CODES = {
    "RequestTimeout",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequests",
    "InternalError",
    "ServiceUnavailable",
}


@dataclass(frozen=True, kw_only=True)
class S3Access:
    """How a bucket is reached; `kind` is the data source's type, `folder` the part of the bucket.

    Without an `endpoint` it is Amazon's, without keys boto3 looks for them in its own places.
    """

    kind: str
    bucket: str
    folder: str
    endpoint: str | None
    region: str
    key_id: str | None
    key: str | None
    token: str | None
    path_style: bool
    ca_cert: str | None


class S3Store(RemoteStore):
    """A folder of a bucket. A version is an entity tag, and a read asks for that one."""

    schemes = ("oss", "s3", "s3a", "s3n")
    reads_one_version = True
    keeps_empty_folders = False

    def __init__(self, access: S3Access, retry_seconds: float | None) -> None:
        self._access, self._bucket = access, access.bucket
        name = f"{access.kind}://{access.bucket}"
        super().__init__(access, access.folder, name, retry_seconds)
        self._prefix = f"{access.folder}/" if access.folder else ""

    @property
    def _client(self) -> Any:
        return PROCESS.get(("files", "client", self._access), lambda: _client(self._access))

    def _is_here(self, authority: str) -> bool:
        return authority == self._bucket

    def _list(self, folder: str, head: str, deep: bool) -> Iterator[Listed]:
        base = f"{folder}/" if folder else ""
        ask = {
            "Bucket": self._bucket,
            "Prefix": f"{self._prefix}{base}{head}",
            "MaxKeys": PAGE_SIZE,
        }
        if not deep:
            ask["Delimiter"] = "/"
        cut = len(self._prefix) + len(base)
        while True:
            page = self._call(folder, lambda: self._client.list_objects_v2(**ask))
            for entry in page.get("CommonPrefixes", ()):
                yield entry["Prefix"][cut:-1], None
            for entry in page.get("Contents", ()):
                name = entry["Key"][cut:]
                if name and not name.endswith("/"):  # else it marks a folder
                    yield name, _info(base + name, entry["Size"], entry)
            if not page.get("IsTruncated"):
                return
            ask["ContinuationToken"] = page["NextContinuationToken"]

    def _stat(self, path: str) -> FileInfo:
        from botocore.exceptions import ClientError

        key = self._prefix + path
        try:
            found = self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as e:
            if e.response["Error"]["Code"] not in ("404", "NoSuchKey", "NotFound"):
                if e.response["Error"]["Code"] in ("400", "403"):  # an answer to HEAD has no words
                    self._client.get_object(Bucket=self._bucket, Key=key, Range="bytes=0-0")
                raise
            if self._any(f"{key}/"):
                raise IsADirectoryError(path) from e
            raise FileNotFoundError(path) from e
        return _info(path, found["ContentLength"], found)

    def _fetch(self, file: FileInfo, start: int, end: int) -> bytes:
        from botocore.exceptions import ClientError

        ask = {"Bucket": self._bucket, "Key": self._prefix + file.path}
        if file.version.startswith('"'):
            ask["IfMatch"] = file.version
        try:
            answer = self._client.get_object(Range=f"bytes={start}-{end - 1}", **ask)
        except ClientError as e:
            code = e.response["Error"]["Code"]
            if code == "NoSuchKey":
                raise FileNotFoundError(file.path) from e
            if code in ("412", "PreconditionFailed", "InvalidRange", "416"):
                raise Changed from e
            raise
        with answer["Body"] as body:
            if _version(answer) != file.version:
                raise Changed
            return require_whole(body.read(), start, end)

    def _create(self, path: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        ask: dict[str, Any] = {"Bucket": self._bucket, "Key": self._prefix + path, "Body": data}
        if self._access.kind != "oss":  # OSS has a header of its own, and refuses this one
            ask["IfNoneMatch"] = "*"
        try:
            self._client.put_object(**ask)
        except ClientError as e:
            told = e.response["Error"]
            code, said = told.get("Code", ""), shorten(told.get("Message", ""))
            if code in _EXISTS_CODES:
                return False
            if code in ("ConditionalRequestConflict", "OperationAborted"):
                raise TransientError(f"others write there at this moment ({said})") from e
            if code == "NotImplemented":
                raise FatalError(
                    f"the service can't create an object without overwriting ({said}); use one "
                    "that takes If-None-Match"
                ) from e
            if code == "AccessDenied":
                raise may_not_write("the writing and removing of objects", said) from e
            raise
        return True

    def _remove(self, path: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=self._prefix + path)

    def _age(self, path: str) -> float:
        from botocore.exceptions import ClientError

        try:
            found = self._client.head_object(Bucket=self._bucket, Key=self._prefix + path)
        except ClientError as e:
            if e.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
                raise FileNotFoundError(path) from e
            raise
        date = found["ResponseMetadata"]["HTTPHeaders"].get("date")
        return seconds_between(found["LastModified"].timestamp(), date)

    def _has_root(self) -> bool:
        return self._any(self._prefix) or not self._prefix

    def _any(self, prefix: str) -> bool:
        found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, MaxKeys=1)
        return bool(found.get("KeyCount") or found.get("Contents"))

    def classify(self, error: Exception) -> Exception:
        """What to do about an error of boto3, or of the network."""
        from botocore import exceptions as boto
        from botocore.parsers import ResponseParserError

        endpoint = self._access.endpoint or "Amazon S3"
        if isinstance(error, boto.ClientError):
            return self._refused(error)
        if isinstance(error, boto.SSLError):
            return FatalError(
                f"the certificate of {endpoint} is not trusted ({shorten(error)}): name its "
                "authority's file as `caCert`, or correct the endpoint"
            )
        if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
            return FatalError(
                "no keys were found: give accessKeyId and accessKeySecret in the data source"
            )
        if isinstance(error, ResponseParserError):
            return FatalError(f"{endpoint} does not speak S3: correct the endpoint")
        passing = (boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError)
        if isinstance(error, passing) or broken_off(error):
            return unreachable(endpoint, error)
        return FatalError(f"{type(error).__name__}: {shorten(error)}")

    def _refused(self, error: Any) -> Exception:
        """The error for an answer that is none of 2xx."""
        told = error.response["Error"]
        code, status = told.get("Code", ""), error.response["ResponseMetadata"]["HTTPStatusCode"]
        said = shorten(f"{code}: {told.get('Message', '')}".rstrip(": "))
        if code in _KEY_CODES:
            return FatalError(f"{_KEY_CODES[code]}: correct the keys of the data source ({said})")
        if "access key" in said.lower() and code != "AccessDenied":
            words = _KEY_CODES["InvalidAccessKeyId"]
            return FatalError(f"{words}: correct the keys of the data source ({said})")
        if code == "RequestTimeTooSkewed":
            return FatalError(f"this machine's clock is wrong: set it ({said})")
        if code == "NoSuchBucket":
            return FatalError(
                f"the bucket {self._bucket!r} does not exist; correct `bucket` ({said})", NO_BUCKET
            )
        if code in _PLACE_CODES:
            region = told.get("Region") or told.get("Endpoint")
            hint = f" to {region}" if region else ""
            return FatalError(f"the bucket is elsewhere: correct endpoint or region{hint} ({said})")
        if code == "InvalidObjectState":
            return FatalError(f"the object is archived: restore it first ({said})")
        if code in _TRANSIENT_CODES or status >= 500 or status == 429:
            return TransientError(f"the service is busy or broken ({said})")
        if status in (401, 403):
            return FatalError(
                "it may not be read with these keys: grant them the reading of objects and the "
                f"listing of the bucket ({said})"
            )
        return FatalError(f"the service refuses ({said}): correct endpoint and bucket")


def _client(access: S3Access) -> Any:
    try:
        from boto3.session import Session
        from botocore.config import Config
    except ImportError as e:
        raise JobError(
            f"a data source of type {access.kind!r} needs boto3: pip install 'vecferry[s3]'"
        ) from e
    if access.ca_cert is not None:
        readable_ca(access.ca_cert, f"{access.kind}://{access.bucket}")
    style = "path" if access.path_style else "virtual"
    keys = {
        "aws_access_key_id": access.key_id,
        "aws_secret_access_key": access.key,
        "aws_session_token": access.token,
    }
    made = Session().client(
        "s3",
        endpoint_url=access.endpoint,
        region_name=access.region,
        verify=access.ca_cert,
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            max_pool_connections=POOL_SIZE,
            retries={"total_max_attempts": 1},  # calls are repeated by the store
            s3={"addressing_style": style},
            signature_version="s3v4",
            # Services other than Amazon's don't know the checksums that it has added since.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
        **{name: str.__str__(key) for name, key in keys.items() if key is not None},
    )
    if access.kind == "oss":
        made.meta.events.register("before-sign.s3.PutObject", _forbid_overwrite)
    return made


def _forbid_overwrite(request: Any, **_: object) -> None:
    """What OSS has in place of If-None-Match; its S3 API refuses that with 501."""
    request.headers["x-oss-forbid-overwrite"] = "true"


def _info(path: str, size: int, found: dict[str, Any]) -> FileInfo:
    changed = found.get("LastModified")
    modified = None if changed is None else changed.timestamp()
    return FileInfo(path, size, _version(found), modified, _changed(found))


def _version(found: dict[str, Any]) -> str:
    """The entity tag in quotes, as If-Match takes it; without one the time of change, in seconds.

    Some services leave the quotes out of listings, or tell fractions of seconds there only.
    """
    tag = (found.get("ETag") or "").strip('"')
    return f'"{tag}"' if tag else _changed(found)


def _changed(found: dict[str, Any]) -> str:
    """The time of change in seconds: an object with its former bytes has its former tag again."""
    return str(found["LastModified"].replace(microsecond=0))
