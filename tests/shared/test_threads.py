"""The pool of daemon threads that carries batches, requests and images."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from queue import SimpleQueue
from typing import Any

import pytest

from vecferry.threads import DaemonPool


class Task:
    """Something that waits until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def work(self, done: SimpleQueue[Any]) -> None:
        """Waits, then tells the name of its thread."""
        self.begun.set()
        assert self.go.wait(60)
        done.put(threading.current_thread().name)


def pool_of(most: int) -> tuple[DaemonPool[Task], SimpleQueue[Any]]:
    """A pool for tasks, and where they tell that they are done."""
    done: SimpleQueue[Any] = SimpleQueue()
    return DaemonPool(lambda task: task.work(done), most, "carrier"), done


def test_tasks_run_beside_each_other_up_to_the_bound() -> None:
    """With two threads the third task waits for one of the first two."""
    pool, done = pool_of(2)
    tasks = [Task() for _ in range(3)]
    for task in tasks:
        pool.put(task)
    assert tasks[0].begun.wait(60)
    assert tasks[1].begun.wait(60)
    assert not tasks[2].begun.is_set()
    tasks[1].go.set()
    assert tasks[2].begun.wait(60)
    tasks[0].go.set()
    tasks[2].go.set()
    assert [done.get(timeout=60) for _ in tasks] == ["carrier"] * 3
    pool.close()


def test_a_thread_starts_only_where_all_are_busy() -> None:
    """A pool of sixteen that gets one task after the other has one thread, or two."""
    pool, done = pool_of(16)
    for _ in range(5):
        task = Task()
        task.go.set()
        pool.put(task)
        done.get(timeout=60)
        while pool._pending:
            pass
    assert pool._threads == 1
    pool.close()


def test_what_was_put_before_the_end_is_done() -> None:
    """`close` takes no task away."""
    pool, done = pool_of(1)
    tasks = [Task() for _ in range(3)]
    for task in tasks:
        pool.put(task)
    pool.close()
    for task in tasks:
        task.go.set()
    assert [done.get(timeout=60) for _ in tasks] == ["carrier"] * 3


def test_what_nobody_has_begun_can_be_taken_back() -> None:
    """A bundle that failed sends nothing more."""
    pool, done = pool_of(1)
    tasks = [Task() for _ in range(3)]
    for task in tasks:
        pool.put(task)
    assert tasks[0].begun.wait(60)
    assert pool.drop() == tasks[1:]
    pool.close()
    tasks[0].go.set()
    assert done.get(timeout=60) == "carrier"


def test_a_task_that_raises_costs_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    """It is told in the log, and the next task is worked on."""
    done: SimpleQueue[Any] = SimpleQueue()

    def work(task: int) -> None:
        if task == 1:
            raise SystemExit("out of order")
        done.put(task)

    pool = DaemonPool(work, 1, "carrier")
    pool.put(1)
    pool.put(2)
    assert done.get(timeout=60) == 2
    assert "out of order" in caplog.text
    pool.close()


def test_a_process_without_threads_to_give_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task is not kept; with threads of its own the pool goes on with those."""
    pool, done = pool_of(2)
    first, second, third = Task(), Task(), Task()

    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            pool.put(first)
    assert pool.drop() == []
    pool.put(second)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        pool.put(third)
    second.go.set()
    third.go.set()
    assert [done.get(timeout=60) for _ in range(2)] == ["carrier"] * 2
    pool.close()


@pytest.mark.slow
def test_a_task_that_is_done_is_not_kept() -> None:
    """The last batch of a bundle does not stay in memory until the next one comes."""
    pool, done = pool_of(1)
    task = Task()
    task.go.set()
    kept = weakref.ref(task)
    pool.put(task)
    done.get(timeout=60)
    del task
    while pool._pending:
        pass
    gc.collect()
    assert kept() is None
    pool.close()


def test_threads_do_not_hold_up_the_end_of_a_process() -> None:
    """A batch that waits for a server that is away is given up with the process."""
    program = (
        "import threading\n"
        "from vecferry.threads import DaemonPool\n"
        "begun = threading.Event()\n"
        "def work(task): begun.set(); threading.Event().wait()\n"
        "DaemonPool(work, 1, 'carrier').put(1)\n"
        "begun.wait()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
