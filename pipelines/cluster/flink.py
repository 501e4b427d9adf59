"""Asks a Flink cluster through its REST interface, for the launcher.

Beam's job server says CANCELLED and leaves the job of Flink running. It tells no counters of a
running job, and waits five minutes for missing slots.
"""

from __future__ import annotations

import time
from typing import Any

import requests

from vecferry.errors import JobError, VecferryError, shorten

TIMEOUT = 10.0
ENDED = ("FINISHED", "CANCELED", "FAILED", "SUSPENDED")
CANCEL_SECONDS = 60.0


class FlinkError(VecferryError):
    """The JobManager gave no answer, or not the one that was asked for."""


class Flink:
    """A JobManager, by the URL of its REST interface, such as ``http://jobmanager:8081``."""

    def __init__(self, url: str) -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")

    def check(self) -> None:
        """Asks for its overview; JobError where that fails."""
        try:
            self.overview()
        except FlinkError as e:
            raise JobError(
                f"--flink_master {self.url}: {e}; name the REST address of the JobManager, "
                "by default port 8081"
            ) from None

    def overview(self) -> dict[str, Any]:
        """How many slots and jobs there are."""
        return self._get("/overview")  # type: ignore[no-any-return]

    def find(self, name: str) -> str | None:
        """The id of the latest job of this name, or None."""
        jobs = [job for job in self._get("/jobs/overview")["jobs"] if job["name"] == name]
        latest = max(jobs, key=lambda job: job["start-time"], default=None)
        return latest and str(latest["jid"])

    def state(self, job: str) -> str:
        """The state of a job as Flink calls it, such as RUNNING."""
        return str(self._get(f"/jobs/{job}")["state"])

    def failures(self, job: str) -> list[str]:
        """The stack traces of a job's failures, the latest first; Flink keeps a few."""
        told = self._get(f"/jobs/{job}/exceptions").get("exceptionHistory", {})
        return [str(entry.get("stacktrace", "")) for entry in told.get("entries", [])]

    def cancel(self, job: str) -> None:
        """Cancels a job and waits until it has ended; FlinkError where it doesn't."""
        self._ask("PATCH", f"/jobs/{job}?mode=cancel")
        end = time.monotonic() + CANCEL_SECONDS
        while self.state(job) not in ENDED:
            if time.monotonic() > end:
                raise FlinkError(f"job {job} did not end within {CANCEL_SECONDS:.0f} s")
            time.sleep(0.2)

    def job_url(self, job: str) -> str:
        """Where a job can be looked at."""
        return f"{self.url}/#/job/{job}/overview"

    def _get(self, path: str) -> Any:
        try:
            return self._ask("GET", path).json()
        except (ValueError, RecursionError) as e:
            raise FlinkError(
                f"the JobManager answers GET {path} with no JSON: {shorten(e)}"
            ) from None

    def _ask(self, method: str, path: str) -> requests.Response:
        try:
            answer = requests.request(method, self.url + path, timeout=TIMEOUT)
        except requests.RequestException as e:
            raise FlinkError(f"the JobManager can't be reached: {shorten(e)}") from None
        if answer.status_code >= 400:
            told = shorten(answer.text)
            raise FlinkError(f"the JobManager answers {method} {path} {answer.status_code}: {told}")
        return answer
