"""Steps per second of highway-env: through rlnet's adapter beside Stable-Baselines3 with its defaults, in turns.

    python -m rlnet.bench.driving [TURNS] [SECONDS]

Stepping is by actions at random; learning is DQN with the defaults of each library, from its first update on. SB3 steps
one environment in its own process (`DummyVecEnv`), rlnet eight in processes of their own, or those of eight seeds. Two
processes that step one environment each and wait for nobody show what two cores of the machine can give.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from multiprocessing import get_context
from statistics import median
from typing import Any

import gymnasium
import numpy as np
from scipy import stats

from rlnet.commands.api import composed
from rlnet.config.optional import needed
from rlnet.envs import make
from rlnet.experiment.problem import build
from rlnet.learning.training_state import TrainingState
from rlnet.learning.updates import learn

ID, ENVS, WARM = "highway_env:highway-fast-v0", 8, 100  # WARM: steps before learning begins


def run(rounds: int, seconds: float) -> None:
    """Print the steps per second of each turn, the medians, and the ratio to SB3 within turns with its 95 % interval.

    Args:
        rounds: turns of each way of stepping or learning.
        seconds: of a turn, at least.
    """
    ways: dict[str, Callable[[float], float]] = {}
    with ExitStack() as stack:
        ways["SB3 stepping"] = _sb3_stepping()
        ways["two processes stepping"] = _two_processes(stack)
        ways["rlnet stepping"] = _stepping(stack)
        ways["rlnet stepping, 8 seeds"] = _stepping(stack, f"seeds={ENVS}", "algo.envs=1")
        ways["SB3 DQN"] = _sb3_learning()
        ways["rlnet DQN"] = _learning(stack)
        found: dict[str, list[float]] = {name: [] for name in ways}
        for k in range(rounds):
            for name, way in ways.items():
                found[name].append(way(seconds))
            said = ", ".join(f"{name} {rates[-1]:.1f}" for name, rates in found.items())
            print(f"turn {k + 1}, steps/s: {said}", file=sys.stderr, flush=True)
    for name, rates in found.items():
        peer = "SB3 DQN" if "DQN" in name else "SB3 stepping"
        said = "" if name == peer else f", {_times(rates, found[peer])} times {peer}"
        print(f"{name}: {median(rates):.1f} steps/s{said}")


def _times(rates: list[float], peers: list[float]) -> str:
    """The geometric mean of ratios within turns, since a machine that is shared changes from turn to turn."""
    logs = np.log(np.divide(rates, peers))
    if len(logs) == 1:
        return f"{np.exp(logs[0]):.2f}"
    half = stats.t.ppf(0.975, len(logs) - 1) * stats.sem(logs)
    middle, low, high = np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def _rate(seconds: float, steps: int, step: Callable[[], Any]) -> float:
    """Environment steps per second of calls that take `steps` each."""
    start, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds:
        step()
        count += steps
    return count / passed


def _sb3_stepping() -> Callable[[float], float]:
    env = _sb3("common.env_util").make_vec_env(ID, seed=0)
    env.reset()
    return lambda seconds: _rate(seconds, 1, lambda: env.step(np.array([env.action_space.sample()])))


def _sb3_learning() -> Callable[[float], float]:
    agent = _sb3("").DQN("MlpPolicy", ID, learning_starts=WARM, seed=0)
    agent.learn(WARM)

    def learned(seconds: float) -> float:
        late, start, before = time.perf_counter() + seconds, time.perf_counter(), agent.num_timesteps
        agent.learn(10**9, lambda *_: time.perf_counter() < late, reset_num_timesteps=False)
        return (agent.num_timesteps - before) / (time.perf_counter() - start)

    return learned


def _sb3(module: str) -> Any:
    return needed(f"stable_baselines3.{module}".rstrip("."), "bench", "the peer of this benchmark")


_alone: Any = None  # the environment of a process that steps alone


def _two_processes(stack: ExitStack) -> Callable[[float], float]:
    pool = stack.enter_context(ProcessPoolExecutor(2, get_context("spawn"), _make_alone))

    def stepped(seconds: float) -> float:
        return sum(pool.map(_step_alone, [seconds] * 2))

    stepped(0.1)  # both processes have begun
    return stepped


def _make_alone() -> None:
    global _alone
    _alone = gymnasium.make(ID)
    _alone.reset(seed=os.getpid())


def _step_alone(seconds: float) -> float:
    def step() -> None:
        _, _, terminated, truncated, _ = _alone.step(_alone.action_space.sample())
        if terminated or truncated:
            _alone.reset()

    return _rate(seconds, 1, step)


def _stepping(stack: ExitStack, *settings: str) -> Callable[[float], float]:
    config = composed("env=highway_env", f"env.id={ID}", "algo=dqn", f"algo.envs={ENVS}", *settings)
    grid = len(config.member_seeds), config.algo.envs
    simulation: Any = stack.enter_context(closing(make(config.env).simulate(config.member_seeds, grid[1])))
    simulation.reset()
    rng = np.random.default_rng(0)
    return lambda seconds: _rate(seconds, grid[0] * grid[1], lambda: simulation.step(rng.integers(5, size=grid)))


def _learning(stack: ExitStack) -> Callable[[float], float]:
    config = composed(
        "env=highway_env",
        f"env.id={ID}",
        "algo=dqn",
        f"algo.envs={ENVS}",
        f"algo.learning_starts={WARM}",
        "logger=none",
    )
    state = TrainingState(config, build(config))
    stack.enter_context(closing(state.collector))
    while int(state.steps.min()) < WARM:
        learn(state, state.collect())
    return lambda seconds: _rate(seconds, ENVS * config.algo.rollout, lambda: learn(state, state.collect()))


if __name__ == "__main__":
    turns, of_a_turn = (sys.argv[1:] + ["5", "5"][len(sys.argv) - 1 :])[:2]
    run(int(turns), float(of_a_turn))
