"""Regret by state, coverage of the data, and error against visits."""

import numpy as np
from scipy.stats import spearmanr

from rlnet.compare import reachable
from rlnet.diagnosis.targets import NotDefined, Units
from rlnet.mdp import FiniteMDP, ImproperPolicyError, Solution, occupancy


def discounted_visits(mdp: FiniteMDP, policy: np.ndarray, gamma: float) -> np.ndarray:
    """Discounted visits η(s) = Σ_t γ^t·Pr(S_t = s | S_0 ~ start, π), not scaled: [S].

    Raises:
        NotDefined: γ = 1 and the policy may never end.
    """
    try:
        share = occupancy(mdp, policy, gamma)
    except ImproperPolicyError as error:
        raise NotDefined("the policy may never end, so its expected visits are infinite at gamma=1") from error
    # η solves η = start + γ·P_πᵀ·η, so its total is the mass of the start over what a unit of it loses in a step.
    mix = policy[mdp.pair_state, mdp.pair_action] * share[mdp.pair_state]
    kept = gamma * (mdp.transition.T @ mix).sum()
    return share * mdp.start[~mdp.terminal].sum() / (share.sum() - kept)


def regret_by_state(mdp: FiniteMDP, policy: np.ndarray, optimal: Solution) -> np.ndarray:
    """Contribution of each state to J* − J(π), [S]: η(s)·Σ_a π(a|s)·(V*(s) − Q*(s, a)); the sum is exact.

    The performance difference lemma (Kakade & Langford 2002, lemma 6.1). A state that is entered although a better
    way avoids it has no part in the loss; the state in which the wrong turn is taken has.

    Raises:
        NotDefined: see `discounted_visits`.
    """
    loss = np.where(mdp.available, optimal.v[:, None] - optimal.q, 0.0)
    return discounted_visits(mdp, policy, optimal.gamma) * (policy * loss).sum(1)


def coverage(mdp: FiniteMDP, visits: np.ndarray, policy: np.ndarray) -> dict[str, float]:
    """Coverage of the reachable (s, a), and of those that the policy [S, A] takes, by the visits [S, A] of a run."""
    pairs = mdp.available & reachable(mdp)[:, None]
    counts = visits[pairs]
    used = pairs & (policy > 0) & reachable(mdp, policy)[:, None]
    return {
        "pairs": int(pairs.sum()),
        "tried": int((counts > 0).sum()),
        "tried_by_policy": float((visits[used] > 0).mean()) if used.any() else 1.0,
        "median_visits": float(np.median(counts)) if len(counts) else 0.0,
        "least_visits": int(counts.min()) if len(counts) else 0,
    }


def error_by_visits(units: Units, error: np.ndarray, visits: np.ndarray) -> dict[str, object]:
    """Error [n] against visits: root mean squares by powers of ten, and the rank correlation.

    Args:
        visits: [S, A].
    """
    count = units.pick(visits.sum(1) if units.action is None else visits)
    size = np.abs(error)
    decade = np.where(count > 0, np.floor(np.log10(np.maximum(count, 1))).astype(int), -1)
    rows = []
    for k in np.unique(decade):
        inside = size[decade == k]
        least, most = (0, 0) if k < 0 else (10**k, 10 ** (k + 1) - 1)
        rows.append(
            {"least": int(least), "most": int(most), "units": len(inside), "mean": inside.mean(), "max": inside.max()}
        )
    varied = len(np.unique(count)) > 1 and len(np.unique(size)) > 1
    return {"rows": rows, "rank_correlation": float(spearmanr(count, size).statistic) if varied else None}
