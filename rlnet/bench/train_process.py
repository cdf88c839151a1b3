"""Client of a learner process of the training benchmark."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = Path(__file__).parents[2]

DQN = {"learning_rate": 2.5e-4, "gamma": 0.99, "batch": 128, "capacity": 10_000, "starts": 1_000, "train": 10}
DQN |= {"target": 500, "epsilon": 0.05}
PPO = {"learning_rate": 2.5e-4, "gamma": 0.99, "envs": 4, "rollout": 128, "epochs": 4, "minibatches": 4}
PPO |= {"lambda": 0.95, "clip": 0.2, "entropy": 0.01}
# Those of RL Baselines3 Zoo for CartPole-v1, with a constant learning rate and clip range.
SOLVE = {"learning_rate": 1e-3, "gamma": 0.98, "envs": 8, "rollout": 32, "epochs": 20, "minibatches": 1}
SOLVE |= {"lambda": 0.8, "clip": 0.2, "entropy": 0.0}
# Of tree searches, see `rlnet.bench.games`.
GAMES = {"games": 256, "simulations": 32, "hidden": [128, 128]}
NUMBERS = {"ppo": PPO, "dqn": DQN, "lake": DQN, "grid": DQN, "table": {}, "tic_tac_toe": GAMES, "connect_four": GAMES}

NAMES = {"ppo": "PPO, CartPole", "dqn": "DQN, CartPole", "lake": "DQN, FrozenLake 8×8", "grid": "DQN, gridworld"}
NAMES["table"] = "Q-learning, gridworld, table"  # as `env=gridworld network=tabular` is by default; rlnet alone
LEARNS = {  # what each peer is asked for, and in how many members
    "sb3": {"ppo": "one", "dqn": "one", "lake": "one", "grid": "one"},
    "cleanrl": {"ppo": "one", "dqn": "one"},
    "sbx": {"ppo": "one", "dqn": "one", "lake": "one"},
    "tianshou": {"ppo": "one", "dqn": "one"},
    "purejaxrl": {"ppo": "many"},
    "rejax": {"ppo": "many", "dqn": "many"},
}
PATIENCE = 240.0  # seconds granted for getting ready, or for a turn
SOLVERS = ("rlnet_run", "sb3", "cleanrl", "sbx", "purejaxrl")
OURS = "rlnet_run"


class Failed(RuntimeError):
    """A learner ended without an answer; the message is the last line that it wrote."""


class Process:
    """A learner in a process of its own.

    Args:
        python: the interpreter.
        spec: see `rlnet.bench.peers`; learner, kind, members, mode, and what the mode needs.
        threads: what torch, OpenMP and XLA of a peer may use; rlnet decides by itself, among the cores given.
        cores: where it may run, from its start.
    """

    def __init__(self, python: str, threads: int, cores: set[int], **spec: Any) -> None:
        self.spec = {"seed": 0, "threads": threads, "cores": sorted(cores), "numbers": NUMBERS[spec["kind"]], **spec}
        own = spec["learner"].startswith("rlnet")
        roots = [str(ROOT)] if own or spec["kind"] == "grid" else []
        path = os.pathsep.join([*roots, *([os.environ.get("PYTHONPATH", "")] if own else [])])
        environment = installed() | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
        if not own:
            environment |= {"OMP_NUM_THREADS": str(threads)}
        else:
            environment.pop("OMP_NUM_THREADS", None)
        if threads == 1:
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (until close; a pipe that nobody reads would fill)
        self.spec["began"] = time.time()
        self._process = subprocess.Popen(
            [python, str(HERE / "train_peer.py"), json.dumps(self.spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=environment,
        )

    def answer(self) -> dict[str, Any]:
        """The next line of JSON.

        Raises:
            Failed: the process ended without one, or took longer than `PATIENCE` and was ended.
        """
        expired = threading.Event()
        late = threading.Timer(PATIENCE, lambda: (expired.set(), self._process.kill()))
        late.start()
        for line in self._process.stdout:
            if line.startswith("{"):
                late.cancel()
                return json.loads(line)
        late.cancel()
        if expired.is_set():
            raise Failed(f"no answer within {PATIENCE:g} s")
        self._said.seek(0)
        raise Failed(complaint(self._said.read()) or "the process ended")

    def pin(self, cores: set[int]) -> None:
        """Keep all its threads on these cores."""
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), cores)

    def turn(self) -> dict[str, Any]:
        """One turn: seconds and steps."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._said.close()


def installed() -> dict[str, str]:
    """The environment of a program under test: it may keep its bytecode, as those that are installed have theirs."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def complaint(text: str) -> str:
    """The last line of a traceback that holds a message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.split(":")[0].endswith(("Error", "Exception")) and " " not in line[:30]]
    return (errors or lines or [""])[-1]


def python_of(learner: str, peers: str) -> str:
    """The interpreter for a learner."""
    return sys.executable if learner == OURS else peers
