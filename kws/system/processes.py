"""Processor cores, and the threads and Python processes that use them."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from kws.errors import KwsError

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_Item = TypeVar("_Item")
_T = TypeVar("_T")
_Answer = TypeVar("_Answer")


def usable_cores() -> int:
    """Return how many cores this process may use; fewer than the machine has in a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def thread_pool() -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of as many threads as usable cores.

    If the caller stops early (Ctrl-C, an error), work that has not begun is dropped.
    """
    # Imported here because it loads `logging`, which many users of this module do not need.
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(usable_cores())
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def in_threads(work: Callable[[_Item], _Answer], items: Sequence[_Item]) -> Iterator[_Answer]:
    """Yield `work(item)` for each item in order, from threads, never far ahead of the consumer.

    Threads are enough: decoding releases the interpreter lock, and reading small WAV files is I/O.
    """
    pending: deque[Future[_Answer]] = deque()
    with thread_pool() as pool:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > 2 * usable_cores():
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def child_environment() -> dict[str, str]:
    """Return an environment in which a Python process finds this package and no other numpy.py."""
    environment = dict(os.environ)
    home = str(Path(__file__).resolve().parents[2])
    paths = [home, *environment.get("PYTHONPATH", "").split(os.pathsep)]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    # Otherwise a numpy.py in the current folder would shadow NumPy (Python 3.11+).
    environment["PYTHONSAFEPATH"] = "1"
    return environment


def start_worker(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a Python process that finds this package, with pipes for its input and output.

    A plain child process instead of `multiprocessing`: it needs no guard in the caller's main
    module, copies no TensorFlow threads, prints no traceback if Ctrl-C arrives while it starts, and
    a crash in a C library is noticed. Only the caller receives Ctrl-C; it ends its workers.

    Args:
        code: what the process runs, as for ``python -c``.
        arguments: its ``sys.argv[1:]``.
    """
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment(),
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


def take_stdout() -> IO[bytes]:
    """Return the pipe to the caller of a worker; from now on, its other output goes to stderr.

    What a library prints must not end up among the worker's answers.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def send_task(process: subprocess.Popen[bytes], task: Any) -> None:
    """Send a worker a task as a line of JSON; `receive` reports one that has died."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(task).encode() + b"\n")
        process.stdin.flush()


def receive(process: subprocess.Popen[bytes], *, size: int | None = None, hint: str) -> bytes:
    """Return a line from a worker, or `size` bytes.

    Raises:
        KwsError: the worker died before (`worker_died`).
    """
    assert process.stdout is not None
    data = process.stdout.readline() if size is None else process.stdout.read(size)
    if data.endswith(b"\n") if size is None else len(data) == size:
        return data
    raise worker_died(process, hint)


def worker_died(process: subprocess.Popen[bytes], hint: str) -> KwsError:
    """Return the error for a worker that ended without an answer; `hint` says what to do."""
    return KwsError(
        "A worker process died, perhaps for lack of memory. "
        f"Received: exit status {process.wait()}. {hint}"
    )


def share_out(
    order: Sequence[int],
    ask: Callable[[subprocess.Popen[bytes], int], _Answer],
    *,
    workers: int,
    code: str,
    arguments: Sequence[str],
) -> Generator[tuple[int, _Answer], None, None]:
    """Let worker processes do tasks; a thread for each sends tasks and receives answers.

    Args:
        order: the tasks' numbers, in the order in which they are started.
        ask: gives a worker the task with this number and returns its answer.
        workers: number of processes.
        code: what each runs, as for `start_worker`.
        arguments: its ``sys.argv[1:]``.

    Yields:
        A task's number and its answer, as each is completed.

    Raises:
        Any exception from `ask`; the workers have ended by then, as they do when the caller stops.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in order:
        waiting.put(number)
    done: queue.SimpleQueue[tuple[int, _Answer] | BaseException] = queue.SimpleQueue()
    running: list[subprocess.Popen[bytes]] = []
    stopped = threading.Event()

    def keep_busy() -> None:
        try:
            with start_worker(code, *arguments) as process:
                running.append(process)
                assert process.stdin is not None
                try:
                    while not stopped.is_set():
                        number = waiting.get_nowait()
                        done.put((number, ask(process, number)))
                except queue.Empty:
                    pass
                finally:
                    process.kill()
                    # Closing would write again what a worker that died never read.
                    with suppress(BrokenPipeError):
                        process.stdin.close()
        except BaseException as error:
            done.put(error)

    threads = [threading.Thread(target=keep_busy) for _ in range(workers)]
    try:
        for thread in threads:
            thread.start()
        for _ in order:
            item = wait_for(done)
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        for process in running:
            process.kill()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


def wait_for(waiting: queue.Queue[_T] | queue.SimpleQueue[_T]) -> _T:
    """Return the next item; with a timeout, because Ctrl-C cannot interrupt get() on Windows."""
    while True:
        with suppress(queue.Empty):
            return waiting.get(timeout=0.5)
