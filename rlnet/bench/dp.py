"""Benchmark of exact DP solvers: each in a process of its own, in interleaved turns, to the same true error."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlnet.bench import dp_problems
from rlnet.bench.dp_limits import bandwidth, machine
from rlnet.bench.dp_solver import Solver, SolverError
from rlnet.mdp import FiniteMDP, solve

TOLERANCE = 1e-6
EPSILONS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
OURS = "rlnet:auto"
QUANTECON = "quantecon:modified_policy_iteration"
PEERS = (
    QUANTECON,
    "quantecon:policy_iteration",
    "storm:discounted",
    "storm:optimistic_value_iteration",
    "mdpsolver:mpi",
    "pymdptoolbox:PolicyIterationModified",
    "scipy:value_iteration",
)
UNDISCOUNTED = ("storm:optimistic_value_iteration",)
ABSENT = {"madupite": "no package of it is published; it needs a PETSc and an MPI of its own"}
PATIENCE = 5.0  # seconds of an answer above which a solver is not asked again


@dataclass(frozen=True)
class Problem:
    """A benchmark problem: the function that makes it, its size and discount, and the solvers that are compared."""

    kind: str  # a function of `dp_problems`
    size: str  # its argument
    states: int  # about
    gamma: float = 0.99
    peers: tuple[str, ...] = PEERS


def problems(full: bool) -> dict[str, Problem]:
    """The benchmark problems by name; small sizes of a kind come before large ones."""
    table = {
        "FrozenLake": Problem("toy_text", "FrozenLake-v1", 16),
        "CliffWalking": Problem("toy_text", "CliffWalking-v1", 48),
        "Taxi": Problem("toy_text", "Taxi-v4", 500),
        "FrozenLake, γ=1": Problem("toy_text", "FrozenLake-v1", 16, 1.0, ("storm:reachability",)),
        "lake 64": Problem("lake", "8", 64),
        "lake 81": Problem("lake", "9", 81),
        "lake 100": Problem("lake", "10", 100),
        "lake 400": Problem("lake", "20", 400),
        "lake 2500": Problem("lake", "50", 2500),
        "costly lake 100": Problem("costly_lake", "10", 100),
        "costly lake 400": Problem("costly_lake", "20", 400),
        "costly lake 2500": Problem("costly_lake", "50", 2500),
        "costly lake 100, γ=1": Problem("costly_lake", "10", 100, 1.0, UNDISCOUNTED),
        "costly lake 400, γ=1": Problem("costly_lake", "20", 400, 1.0, UNDISCOUNTED),
        "costly lake 2500, γ=1": Problem("costly_lake", "50", 2500, 1.0, UNDISCOUNTED),
        "costly lake 10^4, γ=1": Problem("costly_lake", "100", 10**4, 1.0, UNDISCOUNTED),
        "Garnet 2500": Problem("garnet", "2500", 2500),
        "lake 10^4": Problem("lake", "100", 10**4),
        "maze 10^4": Problem("maze", "100", 10**4),
        "Garnet 10^4": Problem("garnet", "10000", 10**4),
        "lake 10^5": Problem("lake", "316", 10**5),
        "maze 10^5": Problem("maze", "316", 10**5),
        "Garnet 10^5": Problem("garnet", "100000", 10**5),
        "lake 10^6": Problem("lake", "1000", 10**6),
        "maze 10^6": Problem("maze", "1000", 10**6),
    }
    if full:
        table["Garnet 10^6"] = Problem("garnet", "1000000", 10**6, peers=(QUANTECON,))
        table["lake 10^7"] = Problem("lake", "3162", 10**7, peers=())
    return table


class Bench:
    """Runs the benchmark problems; a solver that was too slow on a smaller one is skipped on a larger one."""

    def __init__(self, peers_python: str, rounds: int, limit: float, folder: Path) -> None:
        self.python, self.rounds, self.limit, self.folder = peers_python, rounds, limit, folder
        # By kind of problem, γ and solver.
        self.loosest: dict[tuple[str, float, str], float] = {}
        self.fared: dict[tuple[str, float, str], tuple[int, float, str]] = {}  # states, seconds (inf: failed), name

    def measure(self, name: str, problem: Problem) -> list[dict]:
        """Measure all solvers on one problem, in turns in which each solves it once; a row of medians for each."""
        data = getattr(dp_problems, problem.kind)(_argument(problem.size))
        source = f"{problem.kind}:{problem.size}"
        if not problem.size.isdigit():  # Gymnasium may be missing where the peers are
            source = str(self.folder / "problem.npz")
            np.savez(source, **data)
        states = int(data["n_states"])
        truth = _truth(data, problem.gamma) if problem.peers else None
        del data
        with ExitStack() as stack:
            rows, running = [], []
            for solver in (OURS, *problem.peers):
                started = self._start(name, problem, source, truth, solver, stack)
                if isinstance(started, dict):
                    rows.append(started)
                else:
                    running.append(started)
            self._take_turns(running)
        return rows + [self._row(name, problem, states, truth, *entry) for entry in running]

    def _start(self, name, problem, source, truth, solver_name: str, stack: ExitStack):
        """(solver, its build, ε, answers) of a solver that has answered well once, or the row that says why not."""
        key = problem.kind, problem.gamma, solver_name
        before = self.fared.get(key)
        if before is not None and before[1] * problem.states / before[0] > self.limit:
            why = f"skipped: {'failed' if np.isinf(before[1]) else f'{before[1]:.1f} s'} on {before[2]}"
            return {"problem": name, "solver": solver_name, "failed": why}
        python = sys.executable if solver_name == OURS else self.python
        solver = Solver(python, solver_name, source, problem.gamma, self.limit, self.folder)
        stack.callback(solver.close)  # however this ends, no process is left behind
        try:
            build = solver.answer()
            epsilon, answer = self._loosest(solver, key, truth)
        except SolverError as error:
            solver.close()
            if str(error).startswith("no answer"):
                self.fared[key] = (problem.states, np.inf, name)
            return {"problem": name, "solver": solver_name, "failed": str(error)}
        self.fared[key] = (problem.states, answer["seconds"], name)
        return solver, build, epsilon, [answer]

    def _loosest(self, solver: Solver, key: tuple, truth: np.ndarray | None) -> tuple[float, dict]:
        """The tolerance to ask for, and the answer: ours is met by the bound; a peer gets the loosest that its true
        error meets, tried from the one that it needed on a smaller problem."""
        if solver.name == OURS:
            return TOLERANCE, solver.ask(TOLERANCE)
        first = None
        for epsilon in EPSILONS:
            if epsilon > self.loosest.get(key, 1.0):
                continue
            answer = solver.ask(epsilon)
            first = answer["first"] if first is None else first
            if np.abs(answer["v"] - truth).max() <= TOLERANCE:
                self.loosest[key] = epsilon
                return epsilon, {**answer, "first": first}
        raise SolverError("its true error stays above 1e-6 at every tolerance")

    def _take_turns(self, running: list) -> None:
        stopped: set[str] = set()
        for _ in range(self.rounds):
            for solver, _, epsilon, answers in running:
                if solver.name in stopped or answers[0]["seconds"] > PATIENCE:
                    continue
                try:
                    answers.append(solver.ask(epsilon))
                except SolverError as error:  # of a machine that others use, too: what it has answered counts
                    print(f"{solver.name}, turn {len(answers)}: {error}")
                    stopped.add(solver.name)

    def _row(self, name, problem, states, truth, solver: Solver, build: dict, epsilon: float, answers: list) -> dict:
        warm, last = answers[1:] or answers, answers[-1]
        return {
            "problem": name,
            "kind": problem.kind,
            "states": states,
            "gamma": problem.gamma,
            "solver": solver.name,
            "seconds": statistics.median(a["seconds"] for a in warm),
            "first_call": answers[0]["first"],
            "turns": len(warm),
            "threads": statistics.median(a["threads"] for a in warm),
            "build": build["build"],
            "build_mib": build["build_mib"],
            "peak_mib": last["peak_mib"],
            "model_mib": last["model_mib"],
            "epsilon": epsilon,
            "sweeps": last["sweeps"],
            "bound": last["bound"],
            "error": None if truth is None else float(np.abs(last["v"] - truth).max()),
            "method": last["method"],
        }


def _argument(size: str) -> int | str:
    return int(size) if size.isdigit() else size


def _truth(data: dict, gamma: float) -> np.ndarray:
    columns = (data[k] for k in ("state", "action", "next_state", "probability", "reward", "terminated"))
    mdp = FiniteMDP.from_coo(*columns, n_states=int(data["n_states"]), n_actions=int(data["n_actions"]))
    return solve(mdp, gamma, tol=0.05 * TOLERANCE, verify=True).v


def run(
    peers_python: str = sys.executable,
    rounds: int = 5,
    full: bool = False,
    limit: float = 60.0,
    out: str = "",
    only: str = "",
) -> list[dict]:
    """Measure everything, print the table, and write rows and the plot of time against S into `out` if given.

    `only`: parts of names of problems, with commas between; empty for all."""
    began = time.perf_counter()
    print(machine())
    print(
        f"Seconds of one solve to a true error of {TOLERANCE:g}, built and compiled before; rlnet's is also proved by "
        "its bound. threads: processor time over wall time. MiB: resident at most, while building and while solving."
    )
    for name, why in ABSENT.items():
        print(f"not measured: {name} ({why})")
    limits, rows = bandwidth(), []
    for reached in limits:
        print(
            "one backup of a 10^6-state lake, {threads} threads: {moved_mb:.0f} MB in {sweep_ms:.1f} ms = "
            "{sweep_gb_s:.1f} GB/s, {fraction:.0%} of the {read_gb_s:.1f} GB/s that they read".format(**reached),
            flush=True,
        )
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(peers_python, rounds, limit, Path(folder))
        for name, problem in problems(full).items():
            if only and not any(part in name for part in only.split(",")):
                continue
            measured = bench.measure(name, problem)
            rows += measured
            for row in measured:
                print(_line(row, rows), flush=True)
    print(f"{time.perf_counter() - began:.0f} s in all")
    if out:
        target = Path(out)
        target.mkdir(parents=True, exist_ok=True)
        (target / "dp.json").write_text(json.dumps({"machine": machine(), "limits": limits, "rows": rows}, indent=1))
        _plot(rows, target / "dp.png")
    return rows


def _line(row: dict, rows: list[dict]) -> str:
    head = f"{row['problem']:21} {row['solver']:36}"
    if "failed" in row:
        return f"{head} {row['failed']}"
    ours = [r for r in rows if r["problem"] == row["problem"] and r["solver"] == OURS and "seconds" in r]
    ratio = f"{row['seconds'] / ours[0]['seconds']:7.2f}×" if ours else ""
    checks = "  ".join(f"{k} {row[k]:.1e}" for k in ("bound", "error") if row[k] is not None)
    memory = f"{row['build_mib']:.0f} / {row['peak_mib']:.0f} MiB"
    if row["model_mib"] is not None:
        memory += f" (model {row['model_mib']:.1f})"
    return (
        f"{head} {row['seconds'] * 1e3:10.3f} ms {ratio}  first {row['first_call'] * 1e3:.1f} ms  "
        f"threads {row['threads']:.1f}  build {row['build']:.2f} s  {memory}  {row['sweeps']} sweeps  {checks}  "
        f"ε {row['epsilon']:g}  {row['turns']} turns  {row['method']}"
    )


def _plot(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), sharey=True)
    lines = {}  # one colour for a solver, in all panels
    for axis, kind in zip(axes, ("lake", "maze", "garnet"), strict=True):
        chosen = [r for r in rows if r.get("kind") == kind]
        for solver in dict.fromkeys(r["solver"] for r in chosen):
            points = sorted((r["states"], r["seconds"]) for r in chosen if r["solver"] == solver)
            colour = lines[solver].get_color() if solver in lines else f"C{len(lines)}"
            (lines[solver],) = axis.loglog(*zip(*points, strict=True), marker="o", color=colour)
        axis.set(title=kind, xlabel="states S")
    axes[0].set_ylabel("seconds to 1e-6, solve only")
    figure.tight_layout()
    figure.legend(lines.values(), lines, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, fontsize=8)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
