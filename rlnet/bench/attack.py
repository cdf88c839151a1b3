"""Kill tests: a run that is killed at a random moment and resumed must end as an uninterrupted one does.

There is a run for every data regime and every kind of state. Each is run once to its end, and then again and again:
killed by SIGKILL after a random part of its rows, sometimes once more after it was resumed, and resumed to its end.
Then metrics.csv without `time/*`, comparison.json without the seconds of the exact solution, values.npz and the last
checkpoint must be equal, bit for bit. The runs compare at their cadence (`compare_share=1`): what a cap leaves out goes
by the clock.
"""

import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from rlnet.config import VERSION_BASE, register
from rlnet.config.validation import from_hydra
from rlnet.experiment.checkpoints import NEWEST, read_checkpoint
from rlnet.experiment.run_folder import opened
from rlnet.learning.training_loop import train

CONFIGS = Path(__file__).parents[2] / "configs"

REPLAY = ("algo.learning_starts=40", "algo.capacity=400", "algo.batch=8")
WALK = ("env=random_walk", "gamma=0.9", "algo.envs=2")
SCENARIOS: dict[str, tuple[str, ...]] = {
    "rollouts": (*WALK, "algo=q_learning", "seeds=2", "steps=1600"),
    "lookback": (*WALK, "algo=n_step_sarsa", "steps=1600"),
    "whole episodes": (*WALK, "algo=reinforce", "algo.rollout=40", "steps=1200"),
    "members of different length": (*WALK, "algo=mc_control", "algo.rollout=40", "vary.gamma=[0.8,0.9]", "steps=1200"),
    "replay": (*WALK, "algo=dqn", "algo.updates=2", *REPLAY, "steps=800"),
    "prioritised replay": (*WALK, "algo=double_dqn", *REPLAY, "algo.priority=0.6", "algo.n_step=3", "steps=800"),
    "traces": (*WALK, "algo=sarsa_lambda", "optimizer=sgd", "steps=800"),
    "noisy": (*WALK, "algo=dqn", *REPLAY, "exploration=noisy", "schedule=none", "steps=800"),
    "ppo": ("env=cartpole", "algo=ppo", "algo.rollout=32", "steps=3000", "seeds=2"),
    "sac": ("env=pendulum", "algo=sac", *REPLAY, "steps=400"),
    "module network": (*WALK, "algo=q_learning", "network=module", "network.target=torch.nn.Tanh", "steps=1600"),
    "processes": (*WALK, "algo=q_learning", "seeds=3", "processes=2", "steps=1600"),
    "a module network in processes": (
        *(*WALK, "algo=dqn", "algo.updates=2", *REPLAY, "network=module", "network.target=torch.nn.Tanh"),
        *("seeds=2", "processes=2", "steps=800"),
    ),
    "whole episodes in processes": (
        *(*WALK, "algo=mc_control", "algo.rollout=40", "vary.gamma=[0.8,0.9]", "seeds=2", "processes=2", "steps=1200"),
    ),
    "an environment by its own code": ("env=cartpole", "env.id=Acrobot-v1", "algo=a2c", "steps=600"),
    "replay of an environment by its own code": (
        *("env=cartpole", "env.id=MountainCar-v0", "env.max_episode_steps=60", "algo=dqn", "algo.envs=2", *REPLAY),
        *("vary.learning_rate=[1e-3,1e-2]", "steps=600"),
    ),
    "a chance constraint": (
        *("env=highway", "env.sight=2", "env.max_speed=2", "env.traffic_speed=1", "network.input=features"),
        *("algo=ppo", "algo.envs=4", "algo.rollout=16", "seeds=2", "constraint.limit=0.1", "steps=3000"),
    ),
    "vary": (*WALK, "algo=sarsa", "vary.learning_rate=[1e-3,1e-2]", "seeds=2", "steps=1600"),
}


def attack(kills: int, seed: int, only: str = "", show: Callable[[str], None] = print) -> int:
    """Kill and resume runs, one kind after the other; returns how many did not end as uninterrupted ones.

    Args:
        kills: runs that are killed at least once.
        seed: of the moments.
        only: a part of the names of the kinds.
        show: takes a line.
    """
    torch.set_num_threads(1)  # what is forked from here may begin threads of its own
    moments, failed = random.Random(seed), 0
    chosen = {name: options for name, options in SCENARIOS.items() if only in name}
    with tempfile.TemporaryDirectory() as place:
        for k in range(kills):
            name = list(chosen)[k % len(chosen)]
            reference, folder = Path(place, name), Path(place, f"{name} {k}")
            if not reference.exists():
                _finish(chosen[name], reference)
            killed = _kill_and_finish(chosen[name], folder, len(_rows(reference)), moments)
            wrong = differences(reference, folder)
            failed += bool(wrong)
            show(f"{k + 1}/{kills} {name}, killed {', '.join(killed)}: {'; '.join(wrong) or 'equal'}")
    return failed


def _kill_and_finish(options: tuple[str, ...], folder: Path, rows: int, moments: random.Random) -> list[str]:
    """Kill a run once or twice and resume it to its end; returns the moments of the kills.

    A kill that comes too late does not count: all begins again, with an earlier one.

    Args:
        options: of the run.
        folder: of the run.
        rows: that its metrics.csv has at the end.
        moments: what draws them.
    """
    times, latest, said = moments.choice((1, 1, 2)), rows, []
    while len(said) < times:
        moment = Moment(moments.randint(0, latest), moments.random(), moments.random() < 0.25)
        if _kill(_start(options, folder), folder, moment):
            said.append(f"after {_count_rows(folder)} of {rows} rows{', writing a checkpoint' * moment.writing}")
        else:
            shutil.rmtree(folder)
            latest, said = max(moment.rows - 1, 0), []
    _finish(options, folder)
    return said


@dataclass(frozen=True)
class Moment:
    """The moment of a kill, in terms of the files that the run has written."""

    rows: int  # of metrics.csv, that are there
    late: float  # the part of the time between two rows that has passed since
    writing: bool  # instead: when the next checkpoint is being written


def _kill(process: multiprocessing.Process, folder: Path, moment: Moment) -> bool:
    """Kill a run that has just been started; returns whether it was still running.

    Raises:
        RuntimeError: it ended by itself, with an error.
    """
    before, first, seen = _starts(folder), None, (0.0, -1)  # the first and the last (time, rows)
    while process.is_alive():
        rows = _count_rows(folder) if _starts(folder) > before else -1  # what goes on has cut its rows by then
        if rows != seen[1]:
            seen = time.perf_counter(), rows
            first = first or seen
        if rows >= moment.rows and (not moment.writing or (folder / f"{NEWEST}.part").exists()):
            break
        time.sleep(0.0005)
    if not moment.writing and first is not None:
        time.sleep(moment.late * (seen[0] - first[0]) / max(seen[1] - first[1], 1))
    process.kill()
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{folder.name}: ended with exit code {process.exitcode}")
    return process.exitcode != 0


def _starts(folder: Path) -> int:
    """The number of times that the run was started and wrote its settings."""
    path = folder / ".hydra" / "commands.yaml"
    return path.read_text(encoding="utf-8").count("command: ") if path.exists() else 0


def _count_rows(folder: Path) -> int:
    """Whole lines of metrics.csv below its head."""
    path = folder / "metrics.csv"
    return max(path.read_bytes().count(b"\n") - 1, 0) if path.exists() else 0


def _finish(options: tuple[str, ...], folder: Path) -> None:
    process = _start(options, folder)
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"{folder.name}: ended with exit code {process.exitcode}")


def _start(options: tuple[str, ...], folder: Path) -> multiprocessing.Process:
    """Start the run in a process of its own; a run that the folder holds is resumed."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(options, folder))
    process.start()
    return process


def _run(options: tuple[str, ...], folder: Path) -> None:
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    steps = int(next(option for option in options if option.startswith("steps=")).removeprefix("steps="))
    cadence = [f"log_every={steps // 12}", f"compare_every={steps // 7}", f"checkpoint_every={steps // 9}"]
    more = [f"resume='{folder}'", "trust=true"] if (folder / ".hydra" / "config.yaml").exists() else []
    register()
    with initialize_config_dir(str(CONFIGS), **VERSION_BASE):
        composed = compose("train", opened([*options, *cadence, "compare_share=1", *more]))
    train(from_hydra(composed), folder)


def differences(one: Path, other: Path) -> list[str]:
    """The differences between the files of two finished runs, one line each."""
    wrong = []
    if _rows(one) != _rows(other):
        wrong.append("metrics.csv differs")
    if (one / "values.npz").exists():
        ours, theirs = (dict(np.load(folder / "values.npz")) for folder in (one, other))
        wrong += [f"values.npz: {name} differs" for name in ours if not _same(ours[name], theirs[name])]
        if _scores(one) != _scores(other):
            wrong.append("comparison.json differs")
    ours, theirs = (read_checkpoint(folder / NEWEST) for folder in (one, other))
    for state in (ours, theirs):  # equal environments may be pickled in different bytes: what they showed tells
        state["collector"]["simulation"].pop("environments", None)
    parts = ours.keys() - {"config", "record", "compare"}  # how it was started, and what goes by the clock
    return wrong + [f"{NEWEST}: {name} differs" for name in sorted(parts) if not _same(ours[name], theirs.get(name))]


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]


def _scores(folder: Path) -> Any:
    document = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    return {**document, "exact": {**document["exact"], "seconds": None}}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()
    return one.tobytes() == other.tobytes() if isinstance(one, np.ndarray) else one == other
