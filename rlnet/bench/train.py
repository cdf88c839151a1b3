"""Benchmark of training speed: every learner in a process of its own, warmed up, measured in interleaved turns.

Parts (`only`): ppo, dqn, lake, grid (steps per second against M), whole (compilation included), solve (time to 475 on
CartPole), shares (where the time goes, distance to the arithmetic), start (time to the first update), compare (cost of
the live comparison). Each is written into train.json when it is done; those measured before are kept.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlnet.bench.train_process import (
    LEARNS,
    NAMES,
    NUMBERS,
    OURS,
    ROOT,
    SOLVE,
    SOLVERS,
    Failed,
    Process,
    complaint,
    installed,
    python_of,
)
from rlnet.bench.train_tables import plot, show

Row = dict[str, Any]
WHOLE_STEPS, WHOLE_MEMBERS = 1_300_000, 64
SOLVE_LIMIT = 60.0  # seconds granted to a learner to reach 475
LEARNERS = (OURS, *LEARNS)


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    peers: str  # the Python in which the other learners are installed
    rounds: int  # interleaved turns; medians over them
    members: tuple[int, ...]
    seconds: float  # of a turn
    seeds: int  # of the time to 475
    learners: tuple[str, ...]  # rlnet_run and peers


def run(plan: Plan, out: str, only: str) -> dict[str, list[Row]]:
    """Measure, print tables and whether goals are met; write train.json and train.png into `out` if given."""
    target = Path(out or tempfile.mkdtemp()) / "train.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[Row]] = json.loads(target.read_text()) if target.exists() else {}
    measures = {**dict.fromkeys(NAMES, rates), "whole": whole, "solve": solve, "shares": shares}
    measures |= {"start": start, "compare": compare}
    asked = only.split(",") if only else list(measures)
    if unknown := [name for name in asked if name not in measures]:
        raise SystemExit(f"--only {unknown[0]}: allowed are {', '.join(measures)}")
    print(machine())
    for name in asked:
        began = time.perf_counter()
        measure: Callable[[str, Plan], list[Row]] = measures[name]
        parts[name] = [row | {"machine": machine()} for row in measure(name, plan)]
        target.write_text(json.dumps(parts, indent=1))
        print(f"\n{name}, measured in {time.perf_counter() - began:.0f} s", flush=True)
        show(name, parts)
    if out:
        plot(parts, target.with_suffix(".png"))
    return parts


def machine() -> str:
    """The machine in words."""
    processor = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), "")
    return f"{platform.platform()}, {processor.partition(': ')[2]}, {len(os.sched_getaffinity(0))} cores"


def cores_used() -> list[set[int]]:
    """One core, and all of them where there are more."""
    mine = os.sched_getaffinity(0)
    return [{max(mine)}, mine] if len(mine) > 1 else [mine]


def rates(kind: str, plan: Plan) -> list[Row]:
    """Environment steps per second, learning included, of all members together; one core, then all of them.

    All cores: of the populations that of 1, of 64, and the largest.
    """
    rows: list[Row] = []
    for cores in cores_used():
        sizes = [m for m in plan.members if len(cores) == 1 or m in (1, 64, max(plan.members))]
        wanted = [(OURS, m) for m in sizes] if OURS in plan.learners else []
        for peer in [peer for peer in plan.learners if kind in LEARNS.get(peer, {})]:
            wanted += [(peer, m) for m in (sizes if LEARNS[peer][kind] == "many" else [1])]
        rows += _interleaved(kind, wanted, cores, plan)
    return rows


def _interleaved(kind: str, wanted: list[tuple[str, int]], cores: set[int], plan: Plan) -> list[Row]:
    everywhere = sorted(os.sched_getaffinity(0))
    started: list[Process] = []
    rows: list[Row] = []
    for k, (name, members) in enumerate(wanted):  # they get ready on all cores at once
        first = cores if len(cores) > 1 else {everywhere[k % len(everywhere)]}
        spec = {"learner": name, "kind": kind, "members": members, "mode": "turns", "seconds": plan.seconds}
        started.append(Process(python_of(name, plan.peers), len(cores), first, **spec))
    try:
        ready = []
        for process in started:
            row = {"kind": kind, "learner": process.spec["learner"], "members": process.spec["members"]}
            row |= {"cores": len(cores)}
            try:
                row["ready"] = process.answer()["ready"]
                process.pin(cores)
                ready.append((process, row, []))
            except Failed as error:
                row["failed"] = str(error)
            rows.append(row)
        for _ in range(plan.rounds):
            for process, row, turns in ready:
                if "failed" not in row:
                    try:
                        turns.append(process.turn())
                    except Failed as error:
                        row["failed"] = str(error)
    finally:
        for process in started:
            process.close()
    for _, row, turns in [entry for entry in ready if "failed" not in entry[1]]:
        # On one core by processor time, which is that of the clock unless somebody else computes there too.
        speeds = [done["steps"] / done["processor" if len(cores) == 1 else "seconds"] for done in turns]
        row |= {"steps_per_second": statistics.median(speeds), "least": min(speeds), "most": max(speeds)}
        row |= {"share": statistics.median(done["processor"] / done["seconds"] for done in turns)}
    return rows


def whole(_: str, plan: Plan) -> list[Row]:
    """64 members of PPO for 1.3 million steps in total, from building the learner on: compilation is included."""
    cores, rows = cores_used()[0], []
    names = [name for name in plan.learners if name == OURS or LEARNS.get(name, {}).get("ppo") == "many"]
    for number in range(min(plan.rounds, 3)):
        for name in names:
            spec = {"learner": name, "kind": "ppo", "members": WHOLE_MEMBERS, "mode": "whole", "steps": WHOLE_STEPS}
            rows.append(_once(plan, cores, spec) | {"round": number, "cores": len(cores)})
    return rows


def solve(_: str, plan: Plan) -> list[Row]:
    """Seconds from the start of the process to a mean return of 475 in 20 greedy episodes of CartPole."""
    rows, cores = [], os.sched_getaffinity(0)
    for seed in range(plan.seeds):
        for name in [name for name in SOLVERS if name in plan.learners]:
            spec = {"learner": name, "kind": "ppo", "members": 1, "mode": "solve", "seed": seed}
            rows.append(_once(plan, cores, spec | {"numbers": SOLVE, "limit": SOLVE_LIMIT}) | {"seed": seed})
    return rows


def _once(plan: Plan, cores: set[int], spec: dict[str, Any]) -> Row:
    process = Process(python_of(spec["learner"], plan.peers), 1, cores, **spec)
    try:
        return {"learner": spec["learner"], "members": spec["members"], **process.answer()}
    except Failed as error:
        return {"learner": spec["learner"], "members": spec["members"], "failed": str(error)}
    finally:
        process.close()


def shares(_: str, plan: Plan) -> list[Row]:
    """Where the time of rlnet goes with one member and with 64, on one core."""
    seconds = str(min(4.0, 5 * plan.seconds))
    sizes = [m for m in (1, 64) if m <= max(plan.members)]
    return [_script("train_shares", kind, str(m), seconds, cores=cores_used()[0]) for kind in NUMBERS for m in sizes]


def start(_: str, plan: Plan) -> list[Row]:
    """Seconds from the start of `python scripts/train.py ...` to its first update."""
    rows = []
    for _ in range(plan.rounds):
        for command in (["env=gridworld"], ["env=cartpole", "algo=ppo"]):
            with tempfile.TemporaryDirectory() as folder:
                where = f"hydra.run.dir={folder}/run"
                row = _script("train_start", str(time.time()), *command, where, cores=os.sched_getaffinity(0))
            rows.append({"command": " ".join(command), **row})
    return rows


def compare(_: str, plan: Plan) -> list[Row]:
    """The share of comparing at the default cadence in runs on problems of about 500 states, were it not limited."""
    steps = int(20_000 * min(plan.rounds, 5))
    return [_script("train_compare", algo, str(steps), cores=cores_used()[0]) for algo in ("q_learning", "dqn")]


def _script(name: str, *arguments: str, cores: set[int]) -> Row:
    """The last line of a script of this folder, as JSON."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        command = [sys.executable, "-m", f"rlnet.bench.{name}", *arguments]
        environment = installed() | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    finally:
        os.sched_setaffinity(0, before)
    if done.returncode:
        return {"failed": complaint(done.stderr) or f"exit code {done.returncode}"}
    return json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{")))
