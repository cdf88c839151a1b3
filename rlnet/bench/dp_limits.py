"""Memory bandwidth of the compiled DP sweeps, as a share of what the machine can read; and the machine in words."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import numpy as np

from rlnet.bench import dp_problems
from rlnet.mdp import FiniteMDP
from rlnet.mdp.solvers.compiled.sweeps import PackedSweeps
from rlnet.mdp.solvers.compiled.threading import in_parts, threads

ROUNDS = 25


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


def bandwidth(side: int = 1000) -> list[dict[str, float]]:
    """How much of the rate at which threads read memory a backup of all states of a lake reaches, for 1 and for all.

    One backup must read, for each of K outcomes, a successor (4 bytes) and a probability (8); for each of P pairs its
    reward (8) and where its outcomes begin (4); for each of S states its value (8), where its pairs begin (4) and its
    choice (4); it writes a value (8) and a choice (4): 12 K + 12 P + 28 S bytes. The reader reads as
    many, since the caches of some machines hold a part of that, and takes turns with the backup; of each the best of
    25 counts. Keys: threads, moved_mb, sweep_ms, sweep_gb_s, read_gb_s, fraction.
    """
    data = dp_problems.lake(side)
    columns = (data[k] for k in ("state", "action", "next_state", "probability", "reward", "terminated"))
    mdp = FiniteMDP.from_coo(*columns, n_states=side * side, n_actions=4)
    sweeps, moved = PackedSweeps(mdp, 0.99), 12 * mdp.n_outcomes + 12 * mdp.n_pairs + 28 * mdp.n_states
    block = np.ones(moved // 8)
    arrays = (*sweeps.model, sweeps.gamma, 0.0, sweeps.v, sweeps.other, sweeps.choice, np.empty(0))
    calls = (
        (lambda lo, hi: sweeps.run.backup(lo, hi, *arrays), sweeps.n, moved),
        (lambda lo, hi: block[lo:hi].max(), len(block), block.nbytes),  # a sum waits for its additions
    )
    return [_fraction(count, calls) for count in sorted({1, threads()})]


def _fraction(count: int, calls: tuple) -> dict[str, float]:
    """`calls`: (what works on lo..hi−1, how long that is, bytes) of the backup and of the reader."""
    best = [np.inf, np.inf]
    for turn in range(ROUNDS + 1):
        for i, (call, length, _) in enumerate(calls):
            began = time.perf_counter()
            in_parts(call, length, count)
            best[i] = min(best[i], time.perf_counter() - began) if turn else np.inf  # the first turn compiles
    moved, read = calls[0][2], calls[1][2]
    return {
        "threads": count,
        "moved_mb": moved / 1e6,
        "sweep_ms": 1e3 * best[0],
        "sweep_gb_s": moved / best[0] / 1e9,
        "read_gb_s": read / best[1] / 1e9,
        "fraction": moved / best[0] / (read / best[1]),
    }
