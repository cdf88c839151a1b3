"""All completions of a prompt, and all groups of them, as batches that a loss can be called on."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlnet.compare.completions import Completions
from rlnet.data.rollout import Rollout


@dataclass(frozen=True)
class Texts:
    """All Y completions of a prompt, step by step."""

    state: np.ndarray  # int64 [Y, T]; behind the end the first one
    action: np.ndarray  # int64 [Y, T]
    valid: np.ndarray  # bool [Y, T]
    reward: np.ndarray  # [Y]
    share: np.ndarray  # [Y], the probability of its prompt among these

    @classmethod
    def of(cls, known: Completions, prompt: int) -> "Texts":
        """Those of a prompt, from the tree."""
        first, symbols = prompt * known.each, known.symbols
        place, action = np.nonzero(known.ends[prompt])
        state = np.full((len(place), known.length), first, np.int64)
        taken, valid = np.zeros_like(state), np.zeros(state.shape, bool)
        for y, (own, last) in enumerate(zip(place.tolist(), action.tolist(), strict=True)):
            steps = [(own, last)]
            while own > 0:
                own, symbol = divmod(own - 1, symbols)
                steps.append((own, symbol))
            for t, (at, chosen) in enumerate(reversed(steps)):
                state[y, t], taken[y, t], valid[y, t] = first + at, chosen, True
        return cls(state, taken, valid, known.reward[prompt][known.ends[prompt]], np.ones(len(state)))

    @classmethod
    def joined(cls, parts: Sequence["Texts"]) -> "Texts":
        """Those of several prompts that are equally likely."""
        state, action, valid, reward = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("state", "action", "valid", "reward")
        )
        return cls(state, action, valid, reward, np.full(len(state), 1 / len(parts)))

    def probability(self, policy: np.ndarray) -> np.ndarray:
        """Of every completion under a policy [S, A]: [Y], sums to 1."""
        return self.share * np.where(self.valid, policy[self.state, self.action], 1.0).prod(1)

    def log_probability(self, log_pi: Tensor) -> Tensor:
        """log π(y) of every completion y given its prompt, from log π [S, A]: [Y]."""
        taken = log_pi[torch.from_numpy(self.state), torch.from_numpy(self.action)]
        return (taken * torch.from_numpy(self.valid)).sum(1)

    def rollout(self, which: np.ndarray, rows: float = 1.0) -> Rollout:
        """The completions which [M, N] as a rollout [T, M, N] of M members, in double precision.

        Args:
            which: numbers of completions.
            rows: a row weighs 1/(N·rows): 1 where a loss is a sum over an episode.
        """

        def steps(x: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x[which], -1, 0)))

        valid = steps(self.valid)
        last = self.valid & (np.cumsum(self.valid[:, ::-1], 1)[:, ::-1] == 1)
        zeros = torch.zeros_like(valid)
        return Rollout(
            obs=steps(self.state),
            action=steps(self.action),
            reward=steps(last * self.reward[:, None]),
            next_obs=steps(np.roll(self.state, -1, 1)),
            terminated=steps(last),
            truncated=zeros,
            valid=valid,
            weight=valid.double() / (which.shape[1] * rows),
            start_discount=torch.ones(valid.shape, dtype=torch.float64),
        )


def multisets(kinds: int, size: int, chunk: int) -> Iterator[np.ndarray]:
    """All multisets of `size` numbers below `kinds`, int64 [≤ chunk, size] at a time."""
    every = itertools.combinations_with_replacement(range(kinds), size)
    while part := list(itertools.islice(every, max(chunk, 1))):
        yield np.array(part, np.int64)


def probability_of(which: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """The probability of multisets [M, G] of independent draws: G!/Π k_i!·Π p."""
    count, size = which.shape
    ways, run = np.full(count, float(math.factorial(size))), np.ones(count)
    for place in range(1, size):
        run = np.where(which[:, place] == which[:, place - 1], run + 1, 1.0)
        ways /= run
    return ways * probability[which].prod(1)
