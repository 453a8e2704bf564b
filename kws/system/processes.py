"""Processor cores, and threads and Python processes of our own to use them all."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

_Item = TypeVar("_Item")
_T = TypeVar("_T")
_Answer = TypeVar("_Answer")


def usable_cores() -> int:
    """Return how many cores this process may use; in a container fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(work: Callable[[_Item], _Answer], items: Sequence[_Item]) -> Iterator[_Answer]:
    """Yield `work(item)` in the order of the items, from threads, never far ahead of the reader.

    Threads do: decoding releases the interpreter's lock, and reading small WAV files is I/O.
    """
    # Loaded here, since it loads `logging`, and many who use this file share nothing among threads.
    from concurrent.futures import ThreadPoolExecutor

    workers = usable_cores()
    pending: deque[Future[_Answer]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def child_environment() -> dict[str, str]:
    """Return the environment in which a Python process finds this package, and no impostors."""
    environment = dict(os.environ)
    home = str(Path(__file__).resolve().parents[2])
    paths = [home, *environment.get("PYTHONPATH", "").split(os.pathsep)]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    # Else a numpy.py in the folder where somebody stands would be taken for NumPy (Python 3.11+).
    environment["PYTHONSAFEPATH"] = "1"
    return environment


def start_worker(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a Python process that finds this package, with pipes for its input and output.

    A plain child instead of `multiprocessing`: it needs no guard in the caller's main module,
    copies no threads of TensorFlow, prints no traceback when Ctrl-C comes while it starts, and a
    crash in a C library is seen as one. Ctrl-C reaches the caller alone, which ends its workers.

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


def share_out(
    order: Sequence[int],
    ask: Callable[[subprocess.Popen[bytes], int], _Answer],
    *,
    workers: int,
    code: str,
    arguments: Sequence[str],
) -> Generator[tuple[int, _Answer], None, None]:
    """Have tasks done by worker processes; a thread for each hands them over and takes answers.

    Args:
        order: the tasks' numbers, in the order in which they are begun.
        ask: gives a worker the task of this number and returns its answer.
        workers: how many processes.
        code: what each runs, as for `start_worker`.
        arguments: its ``sys.argv[1:]``.

    Yields:
        A task's number and its answer, as they become ready.

    Raises:
        Whatever `ask` raises; the workers are gone by then, as they are when the caller stops.
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
                    # What a worker that died never took would else be written once more.
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
    """Return the next item; Ctrl-C interrupts the wait on Windows too, which an endless one not."""
    while True:
        with suppress(queue.Empty):
            return waiting.get(timeout=0.5)
