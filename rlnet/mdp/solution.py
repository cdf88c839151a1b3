"""What DP hands back."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from rlnet.mdp.errors import ToleranceWarning


@dataclass(frozen=True, eq=False)
class Solution:
    """Values of a model with a bound on their error. S states, A actions.

    `policy` is, from `solve`, uniform over all optimal actions: those whose q lies within twice the error bound (plus
    rounding) of the largest. At γ = 1 actions that tie but only go round inside a loop are left out, so that every
    choice among the listed ones attains v*. From `evaluate` it is the evaluated policy.
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


def report_tolerance(bound: float, tol: float, interrupted: bool = False) -> bool:
    """Whether the bound meets the tolerance; warns (ToleranceWarning) if it does not."""
    if bound <= tol:
        return True
    why = "the solve was interrupted" if interrupted else f"tolerance {tol:g} was not reached"
    warnings.warn(f"{why}: the values are certified to {bound:g}", ToleranceWarning, stacklevel=4)
    return False
