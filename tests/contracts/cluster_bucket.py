"""A bucket of a real S3 server, for the rejects of jobs whose workers are elsewhere."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

from tests.services.cluster import worker_environment
from tests.services.install import Unavailable, package
from tests.services.server import running
from tests.services.versitygw import ACCESS_KEY, REGION, SECRET_KEY, Versitygw


def new_folder() -> str:
    """A new folder in the bucket."""
    return f"s3://{Versitygw.bucket}/rejects-{uuid.uuid4().hex[:8]}"


S3FS = "2026.9.0"


def driver() -> Path:
    """A folder with s3fs, which fsspec needs, and an older botocore than boto3 has here."""
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return package(f"s3fs-{S3FS}-python{python}", _install)


def _install(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--target", str(folder)]
    done = subprocess.run([*pip, f"s3fs=={S3FS}"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"pip install s3fs failed: {done.stderr[-500:]}")


def keys() -> dict[str, str]:
    """What the client and each worker must have in their environment to get there."""
    return {
        "PYTHONPATH": f"{worker_environment()['PYTHONPATH']}:{driver()}",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": running(Versitygw).url,
    }


def objects(url: str) -> dict[str, str]:
    """The text of all that is in a folder of the bucket, by the path from there."""
    client, prefix = running(Versitygw).client(), url.partition(f"{Versitygw.bucket}/")[2] + "/"
    found = client.list_objects_v2(Bucket=Versitygw.bucket, Prefix=prefix).get("Contents", ())
    return {
        one["Key"].removeprefix(prefix): client.get_object(Bucket=Versitygw.bucket, Key=one["Key"])[
            "Body"
        ]
        .read()
        .decode()
        for one in found
    }
