"""Training side by side: every learner in its own process, warmed up, and then asked for turns one after the other."""

import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

PEERS = ("sb3", "cleanrl", "purejaxrl")
LEARNS = {"sb3": ("dqn", "ppo", "lake"), "cleanrl": ("dqn", "ppo"), "purejaxrl": ("ppo",)}
MANY = ("rlnet", "purejaxrl")  # those that train more than one member in a process
STEPS = {"dqn": 2_000, "lake": 2_000, "ppo": 4_096}  # of one member, in a turn
NAMES = {"dqn": "DQN, CartPole", "ppo": "PPO, CartPole", "lake": "DQN, FrozenLake 8×8"}


class Learner:
    """A process that trains; `turn` lets it go on for a while."""

    def __init__(self, python: str, name: str, kind: str, members: int) -> None:
        self.name, self.kind, self.members = name, kind, members
        self.rates: list[float] = []
        self.ready = float("nan")
        script, root = Path(__file__).with_name("train_peer.py"), Path(__file__).parents[2]
        steps = STEPS[kind] * members
        path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]) if name == "rlnet" else ""
        self.process = subprocess.Popen(
            [python, str(script), name, kind, str(members), str(steps)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "XLA_FLAGS": ONE_THREAD},
        )

    def answer(self) -> dict:
        """The next line of JSON; RuntimeError with the last line of its complaints if the process ended."""
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        said = [line for line in self.process.stderr.read().splitlines() if line.strip()]
        raise RuntimeError(said[-1] if said else "the process ended")

    def turn(self) -> None:
        """One turn; its steps per second, of all members together, are kept."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        done = self.answer()
        self.rates.append(done["steps"] / done["seconds"])

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def run(peers_python: str, rounds: int, members: list[int], out: str, only: str) -> list[dict]:
    """Measure, print a table; write train.json and train.png into `out` if given.

    Args:
        peers_python: the Python in which the other learners are installed.
        rounds: medians over so many interleaved turns.
        members: population sizes M.
        out: a folder, or empty.
        only: of dqn, ppo, lake, with commas between; empty for all.
    """
    processor = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), "")
    print(f"{platform.platform()}, {processor.partition(': ')[2]}, {len(os.sched_getaffinity(0))} cores, one used each")
    rows: list[dict] = []
    for kind in only.split(",") if only else NAMES:
        learners = []
        for name, count in [("rlnet", m) for m in members] + [(peer, m) for peer in PEERS for m in members]:
            if name != "rlnet" and (kind not in LEARNS[name] or (count > 1 and name not in MANY)):
                continue
            learner = Learner(sys.executable if name == "rlnet" else peers_python, name, kind, count)
            try:
                learner.ready = learner.answer()["ready"]
                learners.append(learner)
            except RuntimeError as error:
                learner.close()
                print(f"{NAMES[kind]}: {name} with M = {count} not measured: {error}")
        try:
            for _ in range(rounds):
                for learner in learners:
                    learner.turn()
        finally:
            for learner in learners:
                learner.close()
        rows += _rows(learners)
        for row in rows[-len(learners) :]:
            print(_line(row), flush=True)
    if out:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "train.json").write_text(json.dumps(rows, indent=1))
        _plot(rows, folder / "train.png")
    return rows


def _rows(learners: list[Learner]) -> list[dict]:
    rows = [
        {
            "kind": learner.kind,
            "learner": learner.name,
            "members": learner.members,
            "steps_per_second": statistics.median(learner.rates),
            "least": min(learner.rates),
            "most": max(learner.rates),
            "ready": learner.ready,
        }
        for learner in learners
    ]
    single = [row["steps_per_second"] for row in rows if row["learner"] == "rlnet" and row["members"] == 1]
    return [row | {"ratio": row["steps_per_second"] / single[0] if single else None} for row in rows]


def _line(row: dict) -> str:
    ratio = "" if row["ratio"] is None else f"  {row['ratio']:6.2f} × rlnet, M = 1"
    return (
        f"{NAMES[row['kind']]:20} {row['learner']:10} M = {row['members']:3}  {row['steps_per_second']:10,.0f} steps/s "
        f"({row['least']:,.0f} to {row['most']:,.0f}){ratio}  ready after {row['ready']:.1f} s"
    )


def _plot(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    figure, axes = plt.subplots(2, len(kinds), figsize=(4.5 * len(kinds), 7), squeeze=False)
    for (above, below), kind in zip(axes.T, kinds, strict=True):
        for learner in dict.fromkeys(row["learner"] for row in rows if row["kind"] == kind):
            mine = [row for row in rows if row["kind"] == kind and row["learner"] == learner]
            members, rates = [row["members"] for row in mine], [row["steps_per_second"] for row in mine]
            above.loglog(members, rates, marker="o", label=learner)
            below.loglog(members, [1e6 / rate for rate in rates], marker="o", label=learner)
        above.set(title=NAMES[kind], ylabel="steps/s, all members")
        below.set(xlabel="members M", ylabel="µs for a step of one member")
        above.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
