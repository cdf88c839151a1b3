"""Exact DP side by side: every solver in its own process, asked in turns, to the same true error."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import numpy as np

from rlnet.bench import dp_problems
from rlnet.mdp import FiniteMDP, solve

TOLERANCE = 1e-6
PEERS = (
    "quantecon:modified_policy_iteration",
    "quantecon:policy_iteration",
    "mdpsolver:mpi",
    "pymdptoolbox:PolicyIterationModified",
    "scipy:value_iteration",
)
ABSENT = {"madupite": "needs a PETSc of its own", "stormpy": "has no discounted value: not driven here"}


class Solver:
    """A process that holds one problem; `ask` solves it once."""

    def __init__(self, python: str, name: str, problem: Path, gamma: float, limit: float) -> None:
        self.name, self.limit, self.result = name, limit, Path(f"{problem}.{name.replace(':', '.')}.npy")
        script = str(Path(__file__).with_name("dp_peer.py"))
        environment = dict(os.environ)
        if name.startswith("rlnet"):
            environment["PYTHONPATH"] = os.pathsep.join(
                [str(Path(__file__).parents[2]), environment.get("PYTHONPATH", "")]
            )
        self.process = subprocess.Popen(
            [python, script, name, str(problem), str(gamma)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.lines: Queue[str] = Queue()
        self.errors: list[str] = []
        Thread(target=self._read, args=(self.process.stdout, self.lines.put), daemon=True).start()
        Thread(target=self._read, args=(self.process.stderr, self.errors.append), daemon=True).start()
        self.build = float("nan")

    @staticmethod
    def _read(stream, put) -> None:
        for line in stream:
            put(line)
        put("")

    def answer(self) -> dict:
        """The next line of JSON. TimeoutError after `limit` seconds, RuntimeError if the process ended."""
        while True:
            try:
                line = self.lines.get(timeout=self.limit)
            except Empty:
                raise TimeoutError(f"more than {self.limit:g} s") from None
            if not line:
                last = [e.strip() for e in self.errors if e.strip()]
                raise RuntimeError(last[-1] if last else "the process ended")
            if line.startswith("{"):
                return json.loads(line)

    def ask(self, epsilon: float) -> dict:
        """Solve once: seconds, sweeps, peak memory, and the values."""
        self.process.stdin.write(f"solve {epsilon}\n")
        self.process.stdin.flush()
        return {**self.answer(), "v": np.load(self.result) if self.result.exists() else None}

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


def problems(full: bool) -> dict[str, tuple]:
    """name → (function, arguments, γ, whether the peers take part)."""
    table = {
        "FrozenLake": (dp_problems.toy_text, ("FrozenLake-v1",), 0.99, True),
        "CliffWalking": (dp_problems.toy_text, ("CliffWalking-v1",), 0.99, True),
        "Taxi": (dp_problems.toy_text, ("Taxi-v4",), 0.99, True),
        "lake 10^4": (dp_problems.lake, (100,), 0.99, True),
        "lake 10^4, γ=1": (dp_problems.lake, (100, -1.0, 0.0), 1.0, False),
        "maze 10^4": (dp_problems.maze, (100,), 0.99, True),
        "Garnet 10^4": (dp_problems.garnet, (10_000,), 0.99, True),
        "lake 10^5": (dp_problems.lake, (316,), 0.99, True),
        "maze 10^5": (dp_problems.maze, (316,), 0.99, True),
        "Garnet 10^5": (dp_problems.garnet, (100_000,), 0.99, True),
        "lake 10^6": (dp_problems.lake, (1000,), 0.99, True),
    }
    if full:
        table["lake 10^7"] = (dp_problems.lake, (3162,), 0.99, False)
    return table


def measure(name: str, spec: tuple, peers_python: str, rounds: int, limit: float, folder: Path) -> list[dict]:
    """A row per solver: medians over `rounds` turns, in which every solver is asked once."""
    make, arguments, gamma, _ = spec
    data = make(*arguments)
    path = folder / "problem.npz"
    np.savez(path, **data)
    truth = _truth(data, gamma) if len(data["state"]) < 30_000_000 else None
    with ExitStack() as stack:
        return _in_turns(name, data, spec, path, truth, (peers_python, rounds, limit), stack)


def _in_turns(name, data, spec, path, truth, options, stack: ExitStack) -> list[dict]:
    _, _, gamma, compared = spec
    peers_python, rounds, limit = options
    rows, solvers = [], []
    for solver_name in ("rlnet:auto", *(PEERS if compared else ())):
        python = sys.executable if solver_name.startswith("rlnet") else peers_python
        solver = Solver(python, solver_name, path, gamma, limit)
        stack.callback(solver.close)  # however this ends, no process is left behind
        try:
            solver.build = solver.answer()["build"]
            solvers.append((solver, _loosest(solver, truth), []))
        except (RuntimeError, TimeoutError, BrokenPipeError) as error:
            solver.close()
            rows.append({"problem": name, "solver": solver_name, "failed": str(error)})
    for _ in range(rounds):
        for solver, epsilon, answers in solvers:
            answers.append(solver.ask(epsilon))
    for solver, _, answers in solvers:
        last = answers[-1]
        rows.append(
            {
                "problem": name,
                "states": int(data["n_states"]),
                "solver": solver.name,
                "seconds": statistics.median(a["seconds"] for a in answers),
                "build": solver.build,
                "peak_mib": last["peak_mib"],
                "sweeps": last["sweeps"],
                "bound": last["bound"],
                "error": None if truth is None else float(np.abs(last["v"] - truth).max()),
                "method": last["method"],
            }
        )
    return rows


def _truth(data: dict, gamma: float) -> np.ndarray:
    columns = (data[k] for k in ("state", "action", "next_state", "probability", "reward", "terminated"))
    mdp = FiniteMDP.from_coo(*columns, n_states=int(data["n_states"]), n_actions=int(data["n_actions"]))
    return solve(mdp, gamma, tol=0.05 * TOLERANCE, verify=True).v


def _loosest(solver: Solver, truth: np.ndarray | None) -> float:
    """The tolerance to ask for: ours is met by the bound; a peer gets the loosest that its true error meets."""
    if solver.name.startswith("rlnet") or truth is None:
        solver.ask(TOLERANCE)
        return TOLERANCE
    for epsilon in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8):
        if np.abs(solver.ask(epsilon)["v"] - truth).max() <= TOLERANCE:
            return epsilon
    raise RuntimeError("its true error stays above 1e-6 at every tolerance")


def run(
    peers_python: str = sys.executable,
    rounds: int = 5,
    full: bool = False,
    limit: float = 120.0,
    out: str = "",
    only: str = "",
):
    """Measure everything, print the table, and write rows and the plot of time against S into `out` if given.

    `only`: parts of names of problems, with commas between; empty for all."""
    print(f"threads: {len(os.sched_getaffinity(0))} (rlnet uses them from {60_000} states on; solve only, compiled)")
    for name, why in ABSENT.items():
        print(f"not measured: {name} ({why})")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, spec in problems(full).items():
            if only and not any(part in name for part in only.split(",")):
                continue
            for row in measure(name, spec, peers_python, rounds, limit, Path(folder)):
                rows.append(row)
                print(_line(row, rows), flush=True)
    print(bandwidth())
    if out:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dp.json").write_text(json.dumps(rows, indent=1))
        _plot(rows, folder / "dp.png")
    return rows


def _line(row: dict, rows: list[dict]) -> str:
    if "failed" in row:
        return f"{row['problem']:15} {row['solver']:38} failed: {row['failed']}"
    ours = [r for r in rows if r["problem"] == row["problem"] and r["solver"] == "rlnet:auto" and "seconds" in r]
    ratio = f"{row['seconds'] / ours[0]['seconds']:7.2f}×" if ours else ""
    checks = "  ".join(f"{k} {row[k]:.1e}" for k in ("bound", "error") if row[k] is not None)
    return (
        f"{row['problem']:15} {row['solver']:38} {row['seconds'] * 1e3:10.3f} ms {ratio}  build {row['build']:.2f} s  "
        f"{row['peak_mib']:.0f} MiB  {row['sweeps']} sweeps  {checks}  {row['method']}"
    )


def bandwidth(side: int = 1000) -> str:
    """Bytes that one backup of all states moves, over the bandwidth of reading memory: the limit of a sweep."""
    import time

    from rlnet.mdp.packed import PackedSweeps

    data = dp_problems.lake(side)
    columns = (data[k] for k in ("state", "action", "next_state", "probability", "reward", "terminated"))
    sweeps = PackedSweeps(FiniteMDP.from_coo(*columns, n_states=side * side, n_actions=4), 0.99)
    arrays = (sweeps.pair_ptr, sweeps.reward, sweeps.successor, sweeps.chance, sweeps.v, sweeps.other, sweeps.choice)
    moved = sum(a.nbytes for a in arrays)
    block = np.ones(40_000_000)

    def best(call) -> float:
        times = []
        for _ in range(9):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        return min(times[1:])

    read = block.nbytes / best(block.sum)
    reached = moved / best(sweeps.backup)
    return (
        f"one backup of 10^6 states moves {moved / 1e6:.0f} MB: {reached / 1e9:.1f} GB/s of {read / 1e9:.1f} GB/s read "
        f"by one core = {100 * reached / read:.0f} % of the limit"
    )


def _plot(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), sharey=True)
    for axis, kind in zip(axes, ("lake", "maze", "Garnet"), strict=True):
        chosen = [r for r in rows if r["problem"].startswith(kind) and "seconds" in r and "γ=1" not in r["problem"]]
        for solver in dict.fromkeys(r["solver"] for r in chosen):
            points = sorted((r["states"], r["seconds"]) for r in chosen if r["solver"] == solver)
            axis.loglog(*zip(*points, strict=True), marker="o", label=solver)
        axis.set(title=kind, xlabel="states S")
        axis.legend(fontsize=7)
    axes[0].set_ylabel("seconds to 1e-6, solve only")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
