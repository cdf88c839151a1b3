"""`Solution`: exact values, policies and error bounds."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rlnet.mdp.errors import ToleranceWarning

ROW_SUM = 1e-13  # how far from 1 the probabilities of a pair may sum, at most


@dataclass(frozen=True, eq=False)
class Solution:
    """Values of a model with a bound on their error. S states, A actions.

    From `solve`:

    - `policy` is uniform over the listed actions: those whose q lies within twice the error bound (plus rounding) of
      the largest. At γ = 1 that is not enough, since a loop of such actions may lose a little in every round, or never
      end; there actions are left out until the worst policy over the listed ones is proved to lose no more than `tol`,
      or a few times the error bound. Every row of a state that is not terminal sums to 1.
    - `policy_loss` is proved: whichever listed actions are taken, always the same ones, by turns or at random, no more
      than this is lost from any state, v*(s) − V^π(s) ≤ policy_loss. At γ < 1 it is 1/(1 − γ) times what an action may
      fall short by; infinite where nothing is proved. With a temperature, and from `evaluate`, it is infinite, too.
    - `greedy` is one deterministic policy, and `greedy_loss` the bound on its loss.

    From `evaluate`, `policy` is the evaluated policy.
    """

    v: np.ndarray  # float64 [S], 0 in terminal states
    q: np.ndarray  # float64 [S, A], −inf where the action is not available
    policy: np.ndarray  # float64 [S, A], rows of terminal states are 0
    error_bound: float  # proved: max |v − exact| ≤ error_bound, rounding included
    sweeps: int  # backups of all states; for direct methods, linear solves
    seconds: float
    method: str  # what was done, e.g. "policy_iteration (sparse LU)"
    gamma: float
    converged: bool = True  # error_bound ≤ the requested tol
    interrupted: bool = False  # KeyboardInterrupt ended the iteration early
    temperature: float = 0.0  # τ, the weight of the policy's entropy in every reward
    bounds: np.ndarray | None = None  # float64 [S], proved for each state; None: `error_bound` for all of them
    policy_loss: float = np.inf  # proved: max_s v*(s) − V^π(s) of every policy over the listed actions

    @cached_property
    def greedy(self) -> np.ndarray:
        """int64 [S], with a horizon [H, S]: the action of largest q (the first of several), −1 in terminal states.

        At γ = 1 without a horizon, of those that `policy` takes: one that only seems best may never end.
        """
        allowed = self.policy > 0.0 if self.gamma == 1.0 and self.q.ndim == 2 else self.q > -np.inf
        best = np.where(allowed, self.q, -np.inf).argmax(axis=-1)
        return np.where(allowed.any(axis=-1), best, -1)

    @cached_property
    def greedy_loss(self) -> float:
        """Proved: max_s v*(s) − V^greedy(s), v* the optimum of the same problem (its temperature included, of whose
        entropy a deterministic policy gets nothing).

        With a horizon: `policy_loss`. Otherwise at γ < 1 from the Bellman residual of v, which it takes to be exact no
        more than the bound says: v* − v ≤ max (Tv − v) / (1 − γ), v − V^greedy ≤ max (v − T_greedy v) / (1 − γ). At
        γ = 1, `policy_loss`.
        """
        acts = self.greedy >= 0
        rest = 1.0 - self.gamma * (1.0 + ROW_SUM)
        if self.q.ndim == 3 or self.gamma == 1.0 or rest <= 0.0 or not acts.any():
            return self.policy_loss if acts.any() else 0.0
        change = self.q.max(axis=1)[acts] - self.v[acts]
        entropy = self.temperature * np.log(self.q.shape[1])
        lost = max(float(change.max()) + entropy, 0.0) + max(-float(change.min()), 0.0) + 2.0 * self.error_bound
        return min(lost / rest, self.policy_loss)

    def _repr_html_(self) -> str:
        """Tables of how it was found and of its first states, for notebooks."""
        from rlnet.mdp.notebook import solution_table

        return solution_table(self)


def report_tolerance(bound: float, tol: float, interrupted: bool = False) -> bool:
    """Whether the bound meets the tolerance; warns (ToleranceWarning) if it does not."""
    if bound <= tol:
        return True
    why = "the solve was interrupted" if interrupted else f"tolerance {tol:g} was not reached"
    warnings.warn(f"{why}: the values are certified to {bound:g}", ToleranceWarning, stacklevel=4)
    return False
