"""Policy iteration for small deterministic models, in which policies are paths."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rlnet.mdp.operators.bellman import System, max_norm
from rlnet.mdp.solvers.value_iteration import Progress

MAX_IMPROVEMENTS = 10_000
KEPT_REWARDS = 100_000  # of the shortest ways to an end, step by step, that are kept
NEAR_ROUNDING = 64.0  # times the rounding error of a backup: below, no improvement is left


class Paths:
    """Deterministic pairs of m states, flat [A m]: state s of choice a is a m + s."""

    def __init__(self, reward: np.ndarray, to: np.ndarray, steps: np.ndarray) -> None:
        """`reward` and `to` [A m], where a pair goes (m: it ends); `steps` [m + 1], the fewest to an end, 0 at one."""
        self.m = m = len(steps) - 1
        self.reward, self.to, self.columns = reward, to, np.arange(m)
        self.ended = np.full(m + 1, m).tobytes()
        self.stuck = bool(np.isinf(steps).any())  # some states never end
        nearest = steps[to].reshape(-1, m).argmin(0)
        self.way_reward, self.way = self._of(nearest * m + self.columns)
        longest = 0 if self.stuck else int(steps.max())
        self.gamma = -1.0  # that `first` belongs to
        self.step_rewards = None  # [m + 1, steps], of the shortest ways
        if 0 < longest * (m + 1) <= KEPT_REWARDS:
            self.step_rewards, at = np.empty((m + 1, longest)), np.arange(m + 1)
            for k in range(longest):
                self.step_rewards[:, k] = self.way_reward[at]
                at = self.way[at]

    def _of(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(reward [m + 1], successor int [m + 1]) of a policy; the last place stands for what has ended."""
        reward, to = np.zeros(self.m + 1), np.full(self.m + 1, self.m)
        reward[:-1], to[:-1] = self.reward.take(at), self.to.take(at)
        return reward, to

    def solve(
        self, gamma: float, goal: float, system: System, progress: Progress
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Policy iteration from the shortest ways to an end, until no backup changes a value by more than `goal` or
        what rounding explains: (v [m], q flat [A m], its maximum [m], the largest change)."""
        m = self.m
        if gamma != self.gamma:
            self.gamma, self.first = gamma, self._first(gamma)
        total = self.first.copy()
        for _ in range(MAX_IMPROVEMENTS):
            progress.sweeps += 1
            x, q = total[:m], (gamma * total).take(self.to)
            q += self.reward
            by_action = q.reshape(-1, m)
            top = np.maximum.reduce(by_action, 0)
            change = max_norm(top - x)
            if change <= goal or progress.exhausted or change <= NEAR_ROUNDING * system.rounding(x):
                break
            total = self._values(*self._of(by_action.argmax(0) * m + self.columns), gamma)
        return x, q, top, change

    def _first(self, gamma: float) -> np.ndarray:
        """The values of the shortest ways to an end, [m + 1]."""
        if self.step_rewards is None:
            return self._values(self.way_reward.copy(), self.way, gamma)
        return self.step_rewards.dot(gamma ** np.arange(self.step_rewards.shape[1], dtype=float))

    def _values(self, total: np.ndarray, to: np.ndarray, gamma: float) -> np.ndarray:
        """Discounted rewards along paths: to those of the first 2^k steps, every round adds the next 2^k."""
        for after in _doubled(to, self.ended):
            following = total.take(after)
            following *= gamma
            total += following
            gamma *= gamma
            if gamma < 1e-20:
                break
        return total


def _doubled(to: np.ndarray, ended: bytes) -> Iterator[np.ndarray]:
    """Where paths are after 1, 2, 4, ... steps, until all have ended; for ever if some do not."""
    while to.tobytes() != ended:
        yield to
        to = to.take(to)
