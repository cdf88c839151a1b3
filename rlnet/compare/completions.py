"""Exact scores of token policies: reward, divergence from the reference, pass rates, entropy.

The states are the prefixes of a tree, numbered as `rlnet.envs.tokens` does: a prompt after the other, i's continuation
by symbol a of c at 1 + i·c + a. Everything here is a sum over all completions.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from rlnet.mdp import FiniteMDP

TRIES = 8  # k of pass@k


def reached(pi: Any, length: int, concatenate: Callable[[list[Any], int], Any]) -> Any:
    """The probability of each step given its prompt, π(prefix)·π(a|prefix): [P, S/P, A] → the same shape.

    Args:
        pi: probabilities, an array of numpy or a tensor.
        length: L.
        concatenate: of that library, (arrays, axis) → array.
    """
    prompts, symbols = pi.shape[0], pi.shape[2] - 1
    levels, begin = [pi[:, 0, :1] * 0 + 1], 0  # the probability of every prefix, shorter ones first
    for _ in range(length - 1):
        last = levels[-1]
        after = last[..., None] * pi[:, begin : begin + last.shape[1], :symbols]
        begin += last.shape[1]
        levels.append(after.reshape(prompts, -1))
    return concatenate(levels, 1)[..., None] * pi


class Completions:
    """Exact scores of the policies of a token task.

    Args:
        mdp: the tree, deterministic, with all V actions in every state; its rewards without any regularisation.
        shape: (P prompts, c symbols, L tokens at most).
        log_reference: log π_ref [S, A]; None where there is no reference policy.
        true_reward: [S·A] of the outcomes, where the model pays a proxy.
    """

    def __init__(
        self,
        mdp: FiniteMDP,
        shape: tuple[int, int, int],
        log_reference: np.ndarray | None = None,
        true_reward: np.ndarray | None = None,
    ) -> None:
        self.prompts, self.symbols, self.length = shape
        self.each = mdp.n_states // self.prompts
        grid = (self.prompts, self.each, self.symbols + 1)
        self.reward = np.asarray(mdp.reward).reshape(grid)  # of the completion that a step finishes, else 0
        self.ends = np.asarray(mdp.terminated).reshape(grid)
        self.true = self.reward if true_reward is None else np.asarray(true_reward).reshape(grid)
        self.proxy = true_reward is not None
        self.log_reference = None if log_reference is None else log_reference.reshape(grid)

    def reached(self, policy: np.ndarray) -> np.ndarray:
        """The probability of each step given its prompt, π(prefix)·π(a|prefix): [S, A] → [P, S/P, A]."""
        return reached(policy.reshape(self.reward.shape), self.length, np.concatenate)

    @cached_property
    def best(self) -> np.ndarray:
        """The largest reward of a completion of each prompt: [P]."""
        return np.where(self.ends, self.true, -np.inf).max((1, 2))

    @cached_property
    def classes(self) -> tuple[np.ndarray, np.ndarray]:
        """Different rewards [K], and their probabilities under the reference policy [P, K]."""
        values, index = np.unique(self.reward[self.ends], return_inverse=True)
        mass = np.zeros((self.prompts, len(values)))
        which = np.broadcast_to(np.arange(self.prompts)[:, None, None], self.ends.shape)[self.ends]
        if self.log_reference is None:
            raise ValueError("there is no reference policy under which rewards could have a probability")
        np.add.at(mass, (which, index), self.reached(np.exp(self.log_reference))[self.ends])
        return values, mass / mass.sum(1, keepdims=True)

    def per_prompt(self, policy: np.ndarray) -> dict[str, np.ndarray]:
        """Exact numbers of each prompt, [P] each, of a policy [S, A]."""
        from rlnet.compare.frontier import pass_at_k

        step = self.reached(policy)
        done = step * self.ends
        solved = (done * (self.true >= self.best[:, None, None])).sum((1, 2))
        pi = policy.reshape(step.shape)
        log_pi = np.log(np.where(pi > 0, pi, 1.0))
        found = {
            "exact/reward": (done * self.reward).sum((1, 2)),
            "exact/pass@1": solved,
            f"exact/pass@{TRIES}": pass_at_k(np.minimum(solved, 1.0), TRIES),
            "exact/entropy": -(step * log_pi).sum((1, 2)),
            "exact/tokens": step.sum((1, 2)),
        }
        if self.proxy:
            found["exact/true_reward"] = (done * self.true).sum((1, 2))
        if self.log_reference is not None:
            found["exact/kl"] = (step * (log_pi - self.log_reference)).sum((1, 2))
        return found

    @cached_property
    def problem(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(reward [P, K], mass [P, K], weight [P]) as `rlnet.compare.frontier` takes them."""
        values, mass = self.classes
        return np.broadcast_to(values, mass.shape), mass, np.full(self.prompts, 1 / self.prompts)

    def frontier_gap(self, reward: float, kl: float) -> float:
        """Gap to the reward-divergence frontier: the further reward possible at the same divergence."""
        from rlnet.compare.frontier import best_reward  # loads parts of SciPy that nothing else needs

        return best_reward(*self.problem, max(kl, 0.0))[0] - reward

    def scores(self, policies: np.ndarray) -> dict[str, np.ndarray]:
        """Means over prompts of each member's policy [M, S, A]: name → [M]."""
        rows = [{name: float(x.mean()) for name, x in self.per_prompt(policy).items()} for policy in policies]
        if self.log_reference is not None:
            rows = [
                row | {"exact/frontier_gap": self.frontier_gap(row["exact/reward"], row["exact/kl"])} for row in rows
            ]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}
