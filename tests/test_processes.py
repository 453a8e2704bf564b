"""Threads that do work for a caller who may stop."""

from __future__ import annotations

import threading

import pytest

from kws.system.processes import in_threads, thread_pool, usable_cores


def test_answers_come_in_the_order_of_the_work() -> None:
    assert list(in_threads(lambda n: n * n, range(50))) == [n * n for n in range(50)]


def test_work_that_has_not_begun_is_dropped_when_the_caller_stops() -> None:
    begun: list[int] = []
    free = threading.Event()

    def work(n: int) -> None:
        begun.append(n)
        free.wait(10)

    with pytest.raises(KeyboardInterrupt), thread_pool() as pool:
        jobs = [pool.submit(work, n) for n in range(usable_cores() + 20)]
        threading.Timer(0.2, free.set).start()
        raise KeyboardInterrupt
    assert len(begun) <= usable_cores()
    assert all(job.cancelled() for job in jobs[usable_cores() :])
