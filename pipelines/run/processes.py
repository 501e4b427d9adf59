"""The worker processes of a run on this machine, from their start to their end, as pipes tell it.

Stands apart from `vecferry.pipelines.run.workers` because it knows neither jobs nor graphs.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from typing import Any

from apache_beam.internal.cloudpickle import cloudpickle

from vecferry.beam import SPLITS_READ
from vecferry.budget import Ledger
from vecferry.errors import JobError, known_secrets, redact, shorten
from vecferry.pipelines.run.failures import root_cause
from vecferry.pipelines.run.interrupts import SIGNALS
from vecferry.pipelines.run.worker import Bootstrap, bootstrap_levels
from vecferry.run.blocks import Dealer, Gathered
from vecferry.run.link import BLOCKS, TELL_SECONDS, Connected
from vecferry.run.state import RunState
from vecferry.run.summed import SummedState
from vecferry.steps import Split

FINISH_SECONDS = 60.0
"""How long the other workers may finish what they have read, once one has failed."""
EXIT_SECONDS = 10.0
"""How long a worker that has told the last may take to close what it has open."""
_LAUNCHER = "launcher"
"""The name of what the launcher counts, beside those of the workers."""
_GONE = ("written", "deleted", "dropped", "stale", "unkept", "unfinished")
_PROGRAM = (
    "import sys; from multiprocessing.connection import Connection; "
    "pipe = Connection(int(sys.argv[1])); sys.path[:] = pipe.recv(); "
    "from vecferry.pipelines.run.worker import main; main(pipe)"
)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
"""Libraries start as many threads in each process as there are cores, unless these say."""

log = logging.getLogger(__name__)


class WorkersState(SummedState):
    """What the workers of a run on this machine have told; a stop goes to all of them."""

    def __init__(self, reject_limit: int | None = None) -> None:
        super().__init__(reject_limit)
        self.tell_workers: Callable[..., None] = lambda *message: None
        self.sketches: list[bytes] = []

    def gather(self) -> None:
        """Counts the keys that the workers have told."""
        self.count_keys(self.sketches)

    def forget_splits(self, worker: str, dealt: int, made: int) -> int:
        """Counts no split of a worker that was lost as read; gives its rows that are not written.

        Its last tally may be a moment older than its end. `dealt` rows were handed to it, and
        `made` rows it has handed over.
        """
        tally = self._tallies.get(worker, {"counts": {}, "rejects": []})
        counts = {n: v for n, v in tally["counts"].items() if n != SPLITS_READ}
        self._tallies[worker] = {**tally, "counts": counts, "in_flight": 0, "waits": []}
        taken: int = dealt + sum(counts.get(f"rows-{name}", 0) for name in ("read", "added"))
        gone: int = made + sum(counts.get(f"rows-{name}", 0) for name in _GONE)
        rejected: int = sum(n for _, _, n in tally["rejects"])
        return max(0, taken - gone - rejected)

    def request_stop(self, why: str, *, give_up: bool = False) -> None:
        """Asks the readers of all workers to stop; see `RunStatus.request_stop`."""
        super().request_stop(why, give_up=give_up)
        self.tell_workers("stop", why, give_up)


@dataclass(eq=False)
class _Worker:
    """A worker process and what is known of it; `name` is ``worker 2 of 3``, `number` from 0.

    `made` is how many rows it has handed over to be written.
    """

    name: str
    number: int
    process: subprocess.Popen[bytes]
    pipe: Connected
    sending: threading.Lock = field(default_factory=threading.Lock)
    ended: bool = False
    error: str | None = None
    made: int = 0

    def send(self, *message: Any) -> None:
        """Sends a message; a worker that is gone is told of by whoever listens to it."""
        with contextlib.suppress(OSError), self.sending:
            self.pipe.send(message)

    def close(self) -> None:
        """Closes the pipe, once nobody sends: else what is under way might go elsewhere."""
        with self.sending:
            self.pipe.close()


@dataclass(frozen=True)
class Own:
    """What the launcher does for its workers: it reads and deals, or writes what they make."""

    read: Callable[[], None] | None = None
    write: Callable[[], None] | None = None


class Workers:
    """The processes that share the splits of a run, each of which asks for the next one.

    `any_lost` says whether one of them ended without telling its end. `dealer` deals the rows that
    this process reads; None where the workers read. `gathered` are rows that this process writes.

    Args:
      run: the name of the run.
      number: how many processes.
      splits: what is to be read.
      state: takes in what the workers tell.
      ledger: holds the budget of the run.
      again: whether the launcher tries again what fails as a worker is lost.
      own: what this process counts by itself, as it reads or writes for the workers.
      dealt_by: the columns by which this process deals the rows that it reads; None where the
        workers read.

    Raises JobError where a process can't be started.
    """

    def __init__(
        self,
        run: str,
        number: int,
        splits: Sequence[Split],
        state: WorkersState,
        ledger: Ledger,
        *,
        again: bool = False,
        own: RunState,
        dealt_by: Sequence[str] | None = None,
    ) -> None:
        self._own, self._own_error = own, ""
        self._state, self._ledger, self._again = state, ledger, again
        self._splits = deque(splits)
        self._lock = threading.Lock()
        self.any_lost = False
        self._shown: dict[tuple[str, str], str] = {}
        self._spent: dict[str, tuple[int, int, int]] = {}
        self._failed_at: float | None = None
        self._workers: list[_Worker] = []
        self.gathered = Gathered()
        self.dealer: Dealer | None = None
        state.tell_workers = self._tell_all
        try:
            for n in range(number):
                self._workers.append(self._start(n, run, number))
        except OSError as e:
            self.kill()
            raise JobError(f"--workers {number}: a process can't be started: {shorten(e)}") from e
        if dealt_by is not None:
            senders = [functools.partial(worker.send, "rows") for worker in self._workers]
            self.dealer = Dealer(senders, dealt_by, BLOCKS)

    def _start(self, place: int, run: str, number: int) -> _Worker:
        name = f"worker {place + 1} of {number}"
        here, there = Pipe()
        hidden = {n: v for n, v in os.environ.items() if redact(v) != v}
        shown = {n: v for n, v in os.environ.items() if n not in hidden}
        threads = str(max(1, cores() // number))
        environment = {**dict.fromkeys(_THREADS, threads), **shown}
        command = [sys.executable, "-c", _PROGRAM, str(there.fileno()), f"vecferry {name}, {run}"]
        # A signal that comes before the worker ignores it would end it: it waits until then.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            process = subprocess.Popen(
                command,
                pass_fds=[there.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            there.close()
        worker = _Worker(name, place, process, here)
        told = Bootstrap(
            run=run,
            launcher=os.getpid(),
            reject_limit=self._state.reject_limit,
            secrets=known_secrets(),
            environment=hidden,
            levels=bootstrap_levels(),
        )
        with contextlib.suppress(OSError):  # it is gone: whoever listens to it says so
            here.send(sys.path)
            here.send(told)
        return worker

    def work(self, graph: bytes, options: Sequence[str], own: Own | None = None) -> None:
        """Runs a graph in all workers to its end, and meanwhile what this process does for them.

        Raises RuntimeError with the first failure, once all workers have ended.
        """
        own = own or Own()
        follow = [self._thread(self._follow, worker) for worker in self._workers]
        self._tell_all("graph", graph, tuple(options))
        before = [] if own.read is None else [self._thread(self._read, own.read)]
        behind = [] if own.write is None else [self._thread(self._write, own.write)]
        for thread in (*follow, *before, *behind):
            thread.start()
        self._wait_for(follow)
        self.gathered.end()
        self._wait_for([*before, *behind])
        self._tell_own()
        if behind and (keys := self._own.keys_told(0)) is not None:
            self._state.sketches.append(keys[1])
        self._ledger.take_over(self._spent.values())
        failed = [w.error for w in self._workers if w.error is not None]
        if self._own_error or failed:
            raise RuntimeError(self._state.failure or self._own_error or failed[0])

    def _wait_for(self, threads: Sequence[threading.Thread]) -> None:
        """Waits, and takes in what this process counts."""
        for thread in threads:
            while thread.is_alive():
                thread.join(TELL_SECONDS)
                self._tell_own()
                self._end_late()

    def _read(self, read: Callable[[], None]) -> None:
        """Reads and deals, to the last row."""
        assert self.dealer is not None
        try:
            try:
                read()
            finally:
                self.dealer.end()
        except Exception as e:
            self._fail_here(e)

    def _write(self, write: Callable[[], None]) -> None:
        """Writes what the workers make, to the last row."""
        try:
            write()
        except Exception as e:
            self._fail_here(e)
        finally:
            self.gathered.close()  # else workers would wait for room

    def _fail_here(self, error: Exception) -> None:
        self._own_error = self._own_error or self._own.failure or redact(root_cause(error))
        self._others_end()

    def _tell_own(self) -> None:
        """Takes in what this process has counted by itself."""
        self._take_tally(_LAUNCHER, self._own.tally())

    @staticmethod
    def _thread(work: Callable[..., None], *given: Any) -> threading.Thread:
        return threading.Thread(target=work, args=given, name="vecferry-workers", daemon=True)

    def kill(self) -> None:
        """Ends all workers at once, and waits for their ends."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
        if self.dealer is not None:
            self.dealer.close()

    def _tell_all(self, kind: str, *values: Any) -> None:
        """Tells all workers, and this process as far as it reads or writes for them."""
        if kind == "stop":
            why, give_up = values
            self._own.end(why)
            if give_up:
                self._own.giving_up.soon()
        elif kind == "over":
            self._own.over_limit = True
        for worker in self._workers:
            worker.send(kind, *values)

    def _follow(self, worker: _Worker) -> None:
        """Serves one worker to its end."""
        try:
            while not worker.ended:
                self._take(worker, *worker.pipe.recv())
        except (EOFError, OSError):
            pass  # it is gone
        except Exception as e:  # what was sent can't be read
            worker.process.kill()
            self._fail(worker, f"{worker.name}: {shorten(e)}")
        worker.close()
        status = self._status(worker)
        if not worker.ended:
            self._lost(worker, status)

    def _status(self, worker: _Worker) -> int:
        try:
            return worker.process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            return worker.process.wait()

    def _take(self, worker: _Worker, kind: str, *values: Any) -> None:
        state = self._state
        if kind == "split":
            worker.send("answer", self._next_split())
        elif kind == "grant":
            granted = self._ledger.grant(values[0])
            worker.send("answer", granted)
            if granted is None:
                self._stop("budget")
        elif kind == "tally":
            self._spent[worker.name] = tuple(values[0]["spent"])
            self._take_tally(worker.name, values[0])
        elif kind == "took":
            if self.dealer is not None:
                self.dealer.took(worker.number)
        elif kind == "made":
            packed, rows = values
            worker.made += rows
            self.gathered.put(packed, functools.partial(worker.send, "took"))
        elif kind == "log":
            self._show(worker, values[0])
        elif kind == "end":
            error, keys = values
            if keys is not None:
                state.sketches.append(keys)
            worker.ended = True
            if error is not None:
                self._fail(worker, error)

    def _take_tally(self, name: str, tally: dict[str, Any]) -> None:
        state = self._state
        was_over = state.over_limit
        state.take({name: tally})
        if state.over_limit and not was_over:
            self._tell_all("over")
        if state.failure and self._failed_at is None:
            self._others_end()
        elif tally["stopped_by"]:
            self._stop(tally["stopped_by"])

    def _next_split(self) -> bytes | None:
        with self._lock:
            if self._state.stop.is_set() or not self._splits:
                return None
            split = self._splits.popleft()
        packed: bytes = cloudpickle.dumps(split)  # its class may be of the program itself
        return packed

    def _stop(self, why: str) -> None:
        if not self._state.stop.is_set():
            self._state.request_stop(why)

    def _show(self, worker: _Worker, told: dict[str, Any]) -> None:
        """Logs what a worker has logged; not what another one has said in the same words."""
        record = logging.makeLogRecord(told)
        first = self._shown.setdefault((record.name, record.msg), worker.name)
        logger = logging.getLogger(record.name)
        if first == worker.name and logger.isEnabledFor(record.levelno):
            logger.handle(record)

    def _fail(self, worker: _Worker, error: str) -> None:
        worker.error = error
        if self.dealer is not None:
            self.dealer.lose(worker.number)
        self._others_end()

    def _lost(self, worker: _Worker, status: int) -> None:
        """A worker ended without a word: what it told last is all that is known of it."""
        self.any_lost = True
        dealt = 0 if self.dealer is None else self.dealer.dealt[worker.number]
        unwritten = self._state.forget_splits(worker.name, dealt, worker.made)
        words = (
            f"{worker.name} {_how(status)}; as far as it told, {unwritten:,} rows that it had read "
            "are not written; run the job again, which writes all rows"
        )
        self._state.fail(words, passing=self._again)
        self._fail(worker, words)

    def _others_end(self) -> None:
        """Lets the other workers finish what they have read, and wait for no server."""
        with self._lock:
            if self._failed_at is not None:
                return
            self._failed_at = time.monotonic()
            self._splits.clear()
        self._tell_all("stop", "failure", True)

    def _end_late(self) -> None:
        if self._failed_at is None or time.monotonic() < self._failed_at + FINISH_SECONDS:
            return
        for worker in self._workers:
            if not worker.ended and worker.process.poll() is None:
                log.warning("%s does not end, and is killed", worker.name)
                worker.process.kill()


def _how(status: int) -> str:
    if status == -signal.SIGKILL:
        return "was killed (SIGKILL), as the system does where memory is short"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"


def cores() -> int:
    """How many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
