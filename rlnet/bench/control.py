"""Returns on Gymnasium's control tasks, beside what CleanRL and RL Baselines3 Zoo publish.

Every row is a population of seeds with the tuned settings of its task, evaluated at its end by its greedy policy in an
environment of its own: interquartile mean over members, with its bootstrap interval (Agarwal et al. 2021).

What others publish: CleanRL, the mean return of training episodes over three seeds, ± their deviation
(https://docs.cleanrl.dev/rl-algorithms/overview/); RL Baselines3 Zoo, the return of the deterministic policy of one
trained agent, ± the deviation of episodes (its benchmark.md), "not a quantitative benchmark", as it says itself.
"""

import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import rlnet
from rlnet.commands.api import composed
from rlnet.config import ConfigError
from rlnet.numerics.statistics import INTERQUARTILE, interval, iqm, mean

COLUMNS = "task", "steps", "seeds", "interquartile mean", "95 %", "members", "CleanRL", "Zoo", "minutes"


@dataclass(frozen=True)
class Row:
    """How a task is learned, and what others publish: mean ± deviation (environment steps)."""

    tuned: str  # configs/tuned/NAME.yaml; environment steps of each member among it
    cleanrl: str = "–"
    zoo: str = "–"
    seeds: int = 10  # members, where nothing else is said
    episodes: int = 100  # of each member, at its end


ROWS = {
    "CartPole-v1 dqn": Row("cartpole_dqn", "488.7 ± 16.1 (500k)", "500 ± 0 (50k)"),
    "CartPole-v1 ppo": Row("cartpole_ppo", "490.0 ± 6.1 (500k)", "500 ± 0 (100k)"),
    "Acrobot-v1 dqn": Row("acrobot_dqn", "−91.5 ± 7.2 (500k)", "−76.6 ± 11.8 (100k)"),
    "Acrobot-v1 ppo": Row("acrobot_ppo", "−86.4 ± 1.3 (500k)", "−73.5 ± 18.2 (1M)"),
    "MountainCar-v0 dqn": Row("mountain_car_dqn", "−195.0 ± 8.5 (500k)", "−100.8 ± 9.9 (120k)"),
    "MountainCar-v0 ppo": Row("mountain_car_ppo", "−200 ± 0 (500k)", "−110.4 ± 19.5 (1M)"),
    "LunarLander-v3 dqn": Row("lunar_lander_dqn", zoo="154.4 ± 79.2 (v2, 100k)"),
    "LunarLander-v3 ppo": Row("lunar_lander_ppo", zoo="242.1 ± 31.8 (v2, 1M)"),
    "Hopper-v5 sac": Row("hopper_sac", zoo="2325.5 ± 1129.7 (v3, 1M)", seeds=5),
    "PongNoFrameskip-v4 double_dqn": Row(
        "pong_double_dqn", "20.25 ± 0.41 (10M)", "20.60 ± 0.61 (10M)", seeds=1, episodes=20
    ),
    "Pendulum-v1 sac": Row("pendulum_sac", zoo="−157.0 ± 88.7 (20k)"),
}


def run(seeds: int | None, steps: int | None, out: str, only: str) -> bool:
    """Train and evaluate the rows, and print a line of a table for each; with `out`, control.json too.

    Args:
        seeds: members of each population; None: those of the row.
        steps: environment steps of each member; None: those of the tuned settings.
        out: a folder for the numbers; "": none.
        only: parts of names of rows or of their tuned settings, separated by commas; "": all of them.

    Returns:
        Whether every row could be measured. One whose environment is not installed is left out with a sentence.

    Raises:
        ConfigError: no row has such a part in its name, a number is below 1, or `out` is no folder to write to.
    """
    for key, value in (("seeds", seeds), ("steps", steps)):
        if value is not None and value < 1:
            raise ConfigError(f"--{key} {value}: must be at least 1")
    chosen = _chosen(only)
    if out:
        _make_folder(out)
    print(f"| {' | '.join(COLUMNS)} |\n" + "|---" * len(COLUMNS) + "|")
    found = {}
    for name, row in chosen.items():
        try:
            found[name] = _measure(name, row, seeds or row.seeds, steps)
        except ConfigError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            continue
        if out:
            (Path(out) / "control.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return len(found) == len(chosen)


def _chosen(only: str) -> dict[str, Row]:
    """The rows with one of these parts, separated by commas, in their name or that of their tuned settings."""
    if not only:
        return ROWS
    parts = [part.strip().casefold() for part in only.split(",")]
    known = {name: f"{name} {row.tuned}".casefold() for name, row in ROWS.items()}
    for part in parts:
        if not part or not any(part in name for name in known.values()):
            raise ConfigError(f"--only {only}: must be parts of the names {', '.join(ROWS)}")
    return {name: row for name, row in ROWS.items() if any(part in known[name] for part in parts)}


def _make_folder(out: str) -> None:
    """Make a folder before anything is measured that it could not take."""
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: must be a folder, which cannot be made: {error.strerror}") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise ConfigError(f"--out {out}: must be a folder that can be written to")


def _measure(name: str, row: Row, seeds: int, steps: int | None) -> dict[str, object]:
    """Train and evaluate one row, and print its line."""
    began = time.perf_counter()
    count = steps or composed(f"tuned={row.tuned}").steps
    returns = _returns(row, count, seeds)
    middle, (low, high) = _summary(returns)
    minutes = (time.perf_counter() - began) / 60
    members = ", ".join(f"{x:.4g}" for x in sorted(returns))
    ends = "–" if np.isnan(low) else f"{low:.4g} to {high:.4g}"
    cells = name, f"{count:,}", seeds, f"{middle:.4g}", ends, members, row.cleanrl, row.zoo, f"{minutes:.1f}"
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    known = None if np.isnan(low) else [low, high]  # JSON has no NaN
    return {"steps": count, "returns": returns.tolist(), "iqm": middle, "interval": known}


def _returns(row: Row, steps: int, seeds: int) -> np.ndarray:
    """Mean undiscounted returns of the greedy policy of each member, [seeds]."""
    often = (f"log_every={max(1, steps // 10)}", f"checkpoint_every={steps}", f"evaluation.every={steps}")
    more = ("evaluation.episodes=2", "evaluation.policy=greedy", f"evaluation.final_episodes={row.episodes}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        result = rlnet.train(f"tuned={row.tuned}", *often, *more, folder=place, steps=steps, seeds=seeds)
        return result.scalars["evaluation/return"]


def _summary(returns: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Interquartile mean (of few members the mean) and its bootstrap interval, NaN for fewer than three."""
    statistic = iqm if len(returns) >= INTERQUARTILE else mean
    low, high = interval([returns], statistic)
    return float(statistic(returns)), (float(low), float(high))
