"""The approximate model of a deterministic environment with few real numbers as its state: a grid of states.

A step from a grid point leads between grid points: to the corners of its cell, with the weights of multilinear
interpolation as probabilities (Kushner & Dupuis, Numerical Methods for Stochastic Control; Munos & Moore 2002).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from rlnet.mdp.errors import NoModelError
from rlnet.mdp.from_env.tested_env import RAISED, is_harmless, layers
from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.solution import Solution

# (states [n, d], action) → (next states [n, d], rewards [n], terminated [n])
Steps = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray, np.ndarray]]
Progress = Callable[[int, int], None]  # (done, all)

MOST_NUMBERS = 4  # of a state
MOST_STATES = 1_000_000
LONGEST = 2_000  # steps of an episode by which an approximation is measured
STARTS = 500  # resets from which the start distribution is taken
TRIED = 400  # steps of the environment that are compared with those from the observations
TOLERANCE = 1e-5  # of these, in shares of the range of each number: observations are float32
CHUNK = 1000  # states that are stepped between two reports of progress


@dataclass(frozen=True)
class Grid:
    """Points at equal distances in a box, in the order of `numpy.ndindex`."""

    low: np.ndarray  # float64 [d]
    high: np.ndarray  # float64 [d]
    sizes: tuple[int, ...]  # [d], points along each axis, at least 2

    @property
    def points(self) -> np.ndarray:
        """All of them, float64 [S, d]."""
        axes = [np.linspace(a, b, n) for a, b, n in zip(self.low, self.high, self.sizes, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(self.sizes))

    def _places(self, states: np.ndarray) -> np.ndarray:
        """Where states [n, d] are in units of the distances, within the box."""
        share = (states - self.low) / (self.high - self.low)
        return np.clip(share, 0, 1) * (np.array(self.sizes) - 1)

    def nearest(self, states: np.ndarray) -> np.ndarray:
        """The numbers int64 [n] of the points nearest to states [n, d]."""
        at = np.rint(self._places(states)).astype(np.int64)
        return np.ravel_multi_index(tuple(at.T), self.sizes)

    def corners(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(points int64, weights float64), [n, 2^d] each: what multilinear interpolation makes of states [n, d]."""
        place = self._places(states)
        below = np.minimum(place.astype(np.int64), np.array(self.sizes) - 2)
        share = place - below
        sides = np.array(list(product((0, 1), repeat=len(self.sizes))))  # [2^d, d]
        points = np.ravel_multi_index(tuple(np.moveaxis(below[:, None] + sides, -1, 0)), self.sizes)
        return points, np.where(sides, share[:, None], 1 - share[:, None]).prod(-1)


@dataclass(frozen=True)
class GridModel:
    """An approximate model, and what it approximates."""

    mdp: FiniteMDP
    grid: Grid
    steps: Steps
    starts: np.ndarray  # float64 [n, d], in which episodes begin

    def error(self, solution: Solution) -> str:
        """What its optimal values are worth, as a sentence: they and the returns of its policy in the environment."""
        expected = self._interpolated(solution.v, self.starts)
        returns, left = self._returns(solution)
        off = expected - returns
        grid = " × ".join(map(str, self.grid.sizes))
        cut = f" ({left} of them were cut after {LONGEST} steps)" if left else ""
        return (
            f"approximate: a grid of {grid} states, not the environment, is solved; its optimal policy is worth "
            f"{expected.mean():.4g} there, and {returns.mean():.4g} in {len(returns)} episodes of the environment "
            f"itself{cut}, a difference of {off.mean():.2g} ± {1.96 * off.std() / len(off) ** 0.5:.1g}"
        )

    def _interpolated(self, v: np.ndarray, states: np.ndarray) -> np.ndarray:
        points, weights = self.grid.corners(states)
        return (v[points] * weights).sum(1)

    def _returns(self, solution: Solution) -> tuple[np.ndarray, int]:
        """The discounted return from every start of the policy that is greedy for the values, and how many go on."""
        state, gamma, n = self.starts, solution.gamma, len(self.starts)
        returns, alive, discount = np.zeros(n), np.ones(n, bool), 1.0
        for _ in range(LONGEST):
            tried = [self.steps(state, a) for a in range(self.mdp.n_actions)]
            worth = [r + gamma * ~ended * self._interpolated(solution.v, there) for there, r, ended in tried]
            best = np.argmax(worth, axis=0)
            there, reward, ended = (np.stack(column)[best, np.arange(n)] for column in zip(*tried, strict=True))
            returns += discount * alive * reward
            discount, alive, state = discount * gamma, alive & ~ended, there
            if discount < 1e-9 or not alive.any():
                return returns, 0
        return returns, int(alive.sum())


def grid_model(env: Any, points: int, progress: Progress | None = None) -> GridModel:
    """The model of an environment on a grid of `points` along each number of its state.

    Args:
        env: with Discrete actions, a Box with bounds as observations, and its state, which an observation is, as
            `env.unwrapped.state`, which can be set.
        points: at least 2.
        progress: called with the states that were stepped, and their number.

    Raises:
        NoModelError: an environment of another kind, chance, or a state that is not what is observed.
    """
    space, count = _boxed(env)
    size = points ** space.shape[0]
    if size > MOST_STATES:
        raise NoModelError(f"{points} points along {space.shape[0]} numbers are {size} states, more than {MOST_STATES}")
    grid = Grid(space.low.astype(np.float64), space.high.astype(np.float64), (points,) * space.shape[0])
    steps = _mountain_car(env.unwrapped) or _stepping(env.unwrapped)
    starts = _tried(env, steps, grid)
    states = grid.points
    after, reward, ended = _stepped(steps, states, count, progress)
    successor, weight = grid.corners(after)
    weight[ended] = np.eye(1, weight.shape[1])[0]
    pair = np.repeat(np.arange(count * len(states)), weight.shape[1])
    kept = weight.ravel() > 0
    pair = pair[kept]
    begins, shares = grid.corners(starts)
    mdp = FiniteMDP.from_coo(
        pair // count,
        pair % count,
        successor.ravel()[kept],
        weight.ravel()[kept],
        reward[pair],
        ended[pair],
        n_states=len(states),
        n_actions=count,
        start=np.bincount(begins.ravel(), shares.ravel(), len(states)) / len(starts),
        labels=tuple(" ".join(f"{x:.4g}" for x in point) for point in states.tolist()),
        observations=states.astype(np.float32),
    )
    return GridModel(mdp, grid, steps, starts)


def _stepped(steps: Steps, states: np.ndarray, actions: int, progress: Progress | None) -> tuple[np.ndarray, ...]:
    """Where every action leads from every state, in the order of the pairs: states [S·A, d], rewards, ends."""
    each = []
    for a in range(actions):
        parts = []
        for at in range(0, len(states), CHUNK):
            parts.append(steps(states[at : at + CHUNK], a))
            if progress is not None:
                progress(a * len(states) + at, actions * len(states))
        each.append([np.concatenate(part) for part in zip(*parts, strict=True)])
    after, reward, ended = (np.stack(column, axis=1) for column in zip(*each, strict=True))
    return after.reshape(len(states) * actions, -1), reward.ravel(), ended.ravel()


def _boxed(env: Any) -> tuple[Any, int]:
    """The observation space and the number of actions of an environment that a grid suits."""
    from gymnasium import spaces

    inner, space, actions = env.unwrapped, env.observation_space, env.action_space
    name = type(inner).__name__
    for layer in layers(env)[:-1]:
        if not is_harmless(layer):
            raise NoModelError(
                f"{name}: a grid is made of what an environment itself does, not of {type(layer).__name__}"
            )
    if not isinstance(actions, spaces.Discrete):
        raise NoModelError(f"{name}: a grid needs Discrete actions, and they are {actions}")
    bounded = isinstance(space, spaces.Box) and len(space.shape) == 1 and 1 <= space.shape[0] <= MOST_NUMBERS
    # Bounds that only say "no bound", as those of velocities often do, leave no grid.
    if not bounded or not (np.abs([space.low, space.high]) < 1e6).all():
        raise NoModelError(
            f"{name}: a grid needs observations of 1 to {MOST_NUMBERS} numbers with bounds, and they are {space}"
        )
    inner.reset(seed=0)
    if not hasattr(inner, "state"):
        raise NoModelError(f"{name}: a grid needs a state that can be set, env.unwrapped.state, and there is none")
    return space, int(actions.n)


def _stepping(inner: Any) -> Steps:
    """Steps of an environment by setting its state, one by one."""

    def steps(states: np.ndarray, action: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        after, rewards, ends = np.empty_like(states), np.empty(len(states)), np.zeros(len(states), bool)
        first = int(inner.action_space.start)
        for k, state in enumerate(states):
            try:
                inner.reset(seed=0)
                inner.state = state.copy()
                observation, rewards[k], ends[k], *_ = inner.step(action + first)
                after[k] = observation
            except RAISED as error:
                said = f"{type(error).__name__}: {error}".splitlines()[0]
                raise NoModelError(f"{type(inner).__name__} cannot be stepped from {state.tolist()}: {said}") from error
        return after, rewards, ends

    return steps


def _mountain_car(inner: Any) -> Steps | None:
    """The steps of Gymnasium's MountainCar as it computes them, for many states at once; None for any other."""
    from gymnasium.envs.classic_control.mountain_car import MountainCarEnv

    if type(inner) is not MountainCarEnv:
        return None
    lowest, highest, fastest = inner.min_position, inner.max_position, inner.max_speed

    def steps(states: np.ndarray, action: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place, speed = states.T
        speed = np.clip(speed + (action - 1) * inner.force - np.cos(3 * place) * inner.gravity, -fastest, fastest)
        place = np.clip(place + speed, lowest, highest)
        speed = np.where((place == lowest) & (speed < 0), 0.0, speed)
        ends = (place >= inner.goal_position) & (speed >= inner.goal_velocity)
        return np.stack([place, speed], axis=1), np.full(len(states), -1.0), ends

    return steps


def _tried(env: Any, steps: Steps, grid: Grid) -> np.ndarray:
    """States in which episodes begin [n, d], once steps from observations were found to be those of the environment."""
    inner, rng = env.unwrapped, np.random.default_rng(0)
    name, count, first = type(inner).__name__, int(env.action_space.n), int(env.action_space.start)
    starts = np.array([np.asarray(inner.reset(seed=k)[0], np.float64) for k in range(STARTS)])
    actions, seen, wanted = rng.integers(count, size=TRIED), [], []
    there: Any = None
    for k, action in enumerate(actions.tolist()):
        here = np.asarray(inner.reset(seed=k)[0] if there is None else there, np.float64)
        there, reward, ended, truncated, _ = inner.step(action + first)
        seen.append(here)
        wanted.append((*np.asarray(there, np.float64), float(reward), float(ended)))
        there = None if ended or truncated or k % 100 == 99 else there
    for a in range(count):
        at, was = np.array(seen)[actions == a], np.array(wanted)[actions == a]
        found = np.column_stack(steps(at, a))
        ranges = np.column_stack([0 * at + grid.high - grid.low, np.abs(was[:, -2]) + 1, 0 * was[:, -1]])
        wrong = (np.abs(found - was) > TOLERANCE * ranges).any(1)
        if wrong.any():
            k = int(wrong.argmax())
            raise NoModelError(
                f"{name}: a step from env.unwrapped.state set to the observation {at[k].tolist()} led to (state, "
                f"reward, end) {found[k].tolist()}, in the environment to {was[k].tolist()}: the observation is not "
                "its state, or it acts by chance"
            )
    return starts
