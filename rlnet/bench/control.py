"""Returns on Gymnasium's control tasks, beside what CleanRL and RL Baselines3 Zoo publish.

Every row is a population of seeds, evaluated at its end by its greedy policy in 100 episodes of each member, in an
environment of its own: interquartile mean over members, with its bootstrap interval (Agarwal et al. 2021).
"""

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import rlnet
from rlnet.numerics.statistics import INTERQUARTILE, interval, iqm, mean

EPISODES = 100  # of each member, at its end
ZOO_DQN = ("algo=dqn", "network.hidden=[256,256]", "algo.batch=128", "algo.envs=8", "algo.hyper.huber=1.0")
ZOO_DQN += ("optimizer.max_grad_norm=10.0",)


@dataclass(frozen=True)
class Row:
    """A task, how it is learned, and what others publish: mean ± deviation (environment steps)."""

    settings: tuple[str, ...]
    steps: int
    cleanrl: str = "–"
    zoo: str = "–"


ROWS = {
    "CartPole-v1 ppo": Row(("tuned=cartpole_ppo",), 40_000, "490.0 ± 6.1 (500k)", "500 ± 0 (100k)"),
    "CartPole-v1 dqn": Row(("tuned=cartpole_dqn",), 50_000, "488.7 ± 16.1 (500k)", "500 ± 0 (50k)"),
    "Acrobot-v1 ppo": Row(
        ("env=gymnasium", "env.id=Acrobot-v1", "algo=ppo", "algo.envs=16", "algo.rollout=64", "algo.epochs=4"),
        70_000,
        "−86.4 ± 1.3 (500k)",
        "−73.5 ± 18.2 (1M)",
    ),
    "Acrobot-v1 dqn": Row(
        ("env=gymnasium", "env.id=Acrobot-v1", *ZOO_DQN, "algo.rollout=4", "algo.updates=8", "algo.capacity=50_000")
        + ("algo.target_every=250", "schedule.fraction=0.12", "schedule.end=0.1", "optimizer.learning_rate=6.3e-4"),
        100_000,
        "−91.5 ± 7.2 (500k)",
        "−76.6 ± 11.8 (100k)",
    ),
    "MountainCar-v0 dqn": Row(
        ("env=gymnasium", "env.id=MountainCar-v0", "gamma=0.98", *ZOO_DQN, "algo.rollout=2", "algo.updates=8")
        + ("algo.capacity=10_000", "algo.target_every=600", "schedule.fraction=0.2", "schedule.end=0.07")
        + ("optimizer.learning_rate=4e-3",),
        120_000,
        "−195.0 ± 8.5 (500k)",
        "−100.8 ± 9.9 (120k)",
    ),
    "Pendulum-v1 sac": Row(("env=pendulum", "algo=sac", "gamma=0.99"), 20_000),
}


def run(seeds: int, steps: int | None, out: str, only: str) -> None:
    """Train and evaluate the rows, and print a line of a table for each; with `out`, control.json too.

    Args:
        seeds: members of each population.
        steps: environment steps of each member; None: those of the row.
        out: a folder for the numbers; "": none.
        only: parts of names of rows, separated by commas; "": all of them.
    """
    print(
        "| task | steps | seeds | interquartile mean | 95 % | members | CleanRL | Zoo | minutes |\n" + "|---" * 9 + "|"
    )
    found = {}
    for name, row in ROWS.items():
        if only and not any(part in name for part in only.split(",")):
            continue
        began, count = time.perf_counter(), steps or row.steps
        returns = _returns(row.settings, count, seeds)
        middle, (low, high) = _summary(returns)
        minutes = (time.perf_counter() - began) / 60
        found[name] = {"steps": count, "returns": returns.tolist(), "iqm": middle, "interval": [low, high]}
        members = ", ".join(f"{x:.4g}" for x in sorted(returns))
        ends = "–" if np.isnan(low) else f"{low:.4g} to {high:.4g}"
        cells = name, f"{count:,}", seeds, f"{middle:.4g}", ends, members, row.cleanrl, row.zoo, f"{minutes:.1f}"
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        if out:
            Path(out).mkdir(parents=True, exist_ok=True)
            (Path(out) / "control.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _returns(settings: tuple[str, ...], steps: int, seeds: int) -> np.ndarray:
    """Mean undiscounted returns of the greedy policy of each member, [seeds]."""
    often = (f"log_every={max(1, steps // 10)}", f"checkpoint_every={steps}", f"evaluation.every={steps}")
    more = (*often, "evaluation.policy=greedy", f"evaluation.final_episodes={EPISODES}")
    with tempfile.TemporaryDirectory() as folder:
        result = rlnet.train(*settings, *more, folder=Path(folder) / "run", steps=steps, seeds=seeds)
        return result.scalars["evaluation/return"]


def _summary(returns: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Interquartile mean (of few members the mean) and its bootstrap interval, NaN for fewer than three."""
    statistic = iqm if len(returns) >= INTERQUARTILE else mean
    low, high = interval([returns], statistic)
    return float(statistic(returns)), (float(low), float(high))
