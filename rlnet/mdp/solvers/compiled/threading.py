"""Work on ranges of states, split over threads where that pays."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise

import numpy as np

THREAD_STATES = 30_000  # states of a sweep from which a second thread repays its dispatch


@cache
def threads() -> int:
    """Number of threads for large sweeps: the cores that this process may use."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 16)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads(), thread_name_prefix="rlnet-mdp")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork: the child begins its own


def in_parts(call: Callable, n: int, count: int | None = None) -> list:
    """`call(lo, hi)` for `count` parts of 0..n, each by a thread; by default for one where n is small, else for as many
    as there are threads."""
    if count is None:
        count = threads() if n >= 2 * THREAD_STATES else 1
    edges = np.linspace(0, n, count + 1).astype(int).tolist()
    return at_once(call, list(pairwise(edges)))


def at_once(call: Callable, blocks: list[tuple[int, int]]) -> list:
    """`call(lo, hi)` for all blocks, each by a thread."""
    running = [_pool().submit(call, lo, hi) for lo, hi in blocks[1:]]
    try:
        first = call(*blocks[0])  # this thread works too
    finally:
        wait(running)  # never leave a sweep writing into values that are about to be reported
    return [first, *(future.result() for future in running)]
