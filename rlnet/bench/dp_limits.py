"""What the machine is, and how near the kernels of exact DP come to its limit: reading memory."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import numpy as np
from numba import njit

from rlnet.bench import dp_problems
from rlnet.mdp import FiniteMDP
from rlnet.mdp.packed import PackedSweeps, in_parts, threads


@njit(nogil=True, fastmath=True)
def _read(lo: int, hi: int, block: np.ndarray) -> float:
    total = 0.0
    for i in range(lo, hi):
        total += block[i]
    return total


def machine() -> str:
    """One line: processor, cores, memory, Python, numpy."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{names[0] if names else platform.processor()}, {threads()} cores, {memory:.0f} GiB; load {load:.1f}; "
        f"Python {platform.python_version()}, numpy {np.__version__}"
    )


def bandwidth(side: int = 1000, rounds: int = 25) -> dict[str, float]:
    """Bytes that one backup of all states must move, over the rate at which the same threads read memory.

    Both are the best of `rounds` turns, taken alternately. Keys: threads, moved_mb, sweep_ms, sweep_gb_s, read_gb_s,
    fraction.
    """
    data = dp_problems.lake(side)
    columns = (data[k] for k in ("state", "action", "next_state", "probability", "reward", "terminated"))
    sweeps = PackedSweeps(FiniteMDP.from_coo(*columns, n_states=side * side, n_actions=4), 0.99)
    arrays = (sweeps.pair_ptr, sweeps.reward, sweeps.successor, sweeps.chance, sweeps.v, sweeps.other, sweeps.choice)
    moved, block = sum(a.nbytes for a in arrays), np.ones(30_000_000)
    calls = (sweeps.backup, lambda: in_parts(lambda lo, hi: _read(lo, hi, block), len(block)))
    best = [np.inf, np.inf]
    for k in range(rounds + 1):
        for i, call in enumerate(calls):
            began = time.perf_counter()
            call()
            best[i] = min(best[i], time.perf_counter() - began) if k else np.inf  # the first turn compiles
    sweep, read = moved / best[0], block.nbytes / best[1]
    return {
        "threads": threads(),
        "moved_mb": moved / 1e6,
        "sweep_ms": 1e3 * best[0],
        "sweep_gb_s": sweep / 1e9,
        "read_gb_s": read / 1e9,
        "fraction": sweep / read,
    }
