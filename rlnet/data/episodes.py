"""Episode statistics: steps and returns of running episodes, sums over finished ones; in numpy, on the CPU."""

import numpy as np
import torch
from torch import Tensor


class EpisodeCounts:
    """Returns, lengths and numbers of the episodes of M × N environments.

    Args:
        grid: (M, N).
        gamma: [M, 1], for discounted returns.
        rollout: T, the most new steps at a time.
        game: whether two players move in turn; returns are then those of the player who moves first.
    """

    def __init__(self, grid: tuple[int, int], gamma: np.ndarray, rollout: int, game: bool = False) -> None:
        self._gamma, self._time = gamma, np.arange(rollout).reshape(-1, 1, 1)
        self.age = np.zeros(grid, np.int64)  # steps of the running episodes
        self.sums = np.zeros((3, *grid))  # return, discounted return, length so far
        self.finished = np.zeros((4, grid[0]))  # the same over finished episodes, and their number
        self.count = np.zeros(grid[0], np.int64)  # finished since the beginning
        self.side = np.ones(grid) if game else None  # of games: 1 where the first player moves, else −1

    def begin(self) -> None:
        """Begin new episodes everywhere."""
        self.age[:], self.sums[:] = 0, 0.0
        if self.side is not None:
            self.side[:] = 1.0

    def of_first_player(self, reward: np.ndarray, sign: np.ndarray, begins: np.ndarray) -> np.ndarray:
        """Rewards [T, M, N] of the first player from those of the mover; `begins`: a new episode follows the row."""
        gain, side = np.empty(reward.shape, reward.dtype), self.side
        assert side is not None
        for t in range(len(reward)):
            gain[t] = side * reward[t]
            side[:] = np.where(begins[t], 1.0, side * sign[t])
        return gain

    def go_on(self, reward: np.ndarray) -> np.ndarray:
        """`book` for new steps without an end of an episode: faster, same result."""
        age = self.age + self._time[: len(reward)]
        self.age = age[-1] + 1
        discount = np.power(self._gamma, age.astype(np.float32))
        self.sums[:2] += np.array((reward, reward * discount), float).sum(1)
        self.sums[2] += len(reward)
        return discount

    def book(self, reward: np.ndarray, ended: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Add new steps [T, M, N] to running and finished episodes; returns γ^t, t the step in its episode: float32."""
        time = self._time[: len(reward)]
        begins = ended | ~valid  # the next row begins an episode: an invalid row is a reset
        # The row in which the episode of row t began; −age for the one that was running before.
        first = np.where(begins[:-1], time[1:], -self.age)
        age = self.age + time
        age[1:] = time[1:] - np.maximum.accumulate(first)
        self.age = (age[-1] + 1) * ~begins[-1]
        discount = np.power(self._gamma, age.astype(np.float32))

        gains = np.array((reward * valid, reward * valid * discount, valid), float)  # [3, T, M, N]
        # Of each environment all steps until its last end are of finished episodes, the others of the running one.
        done = later(ended)
        whole = (gains * done).sum(1) + self.sums * done[0]
        self.sums += gains.sum(1) - whole
        count = ended.sum((0, 2))
        self.finished[:3] += whole.sum(-1)
        self.finished[3] += count
        self.count += count
        return discount

    def means(self) -> dict[str, Tensor]:
        """Means over the episodes that ended since the last call, [M]; NaN for a member without any."""
        names = ("return/mean", "return/discounted", "episode/length")
        sums = torch.from_numpy(self.finished)
        means = dict(zip(names, sums[:3] / sums[3], strict=True))
        means["episode/count"] = sums[3].clone()
        self.finished[:] = 0
        return means

    def counted(self) -> dict[str, np.ndarray]:
        """Views of all counters with the members in front, [M, ...], for a checkpoint."""
        counted = {"age": self.age, "sums": self.sums.swapaxes(0, 1), "finished": self.finished.T}
        counted |= {"episode_count": self.count}
        return counted if self.side is None else counted | {"side": self.side}


def later(ended: np.ndarray) -> np.ndarray:
    """Whether an episode ends at row t or a later one: bool [T, M, N]."""
    return np.logical_or.accumulate(ended[::-1])[::-1]
