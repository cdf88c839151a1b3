"""The best return under a chance constraint over all policies, those that know the steps left included."""

from collections.abc import Callable

import numpy as np
import scipy as sp

from rlnet.compare.risk import Risk
from rlnet.mdp.operators.bellman import system_of

MOST_WORK = 1e8  # outcomes · steps of a backward induction
SPAN, MOST = 3.0, 8  # log λ is looked for so far to both sides, so many times where the least is at an end


def best_of_all_policies(risk: Risk, limit: float, multiplier: float) -> float | None:
    """The largest J(π) under P(event within H steps) ≤ limit over all policies, which may know the time and be mixed.

    Of every such policy J(π) ≤ J(π) − λ·(P(π) − limit) ≤ D(λ) = max_π [J(π) − λ·P(π)] + λ·limit for any λ ≥ 0, so that
    each D(λ) is a bound, D(0) = J*, and the least of them is attained by a mixture (Altman 1999, chapter 3).

    Args:
        risk: of an event within H steps; None of H, or H steps of a model that are too much work, have no bound here.
        limit: of the probability.
        multiplier: λ about which the least is looked for; at 0 the constraint does not bind.
    """
    mdp, steps, found = risk.mdp, risk.horizon, float(risk.mdp.start @ risk.optimal.v)
    if multiplier == 0.0:
        return found
    if steps is None or mdp.sign is not None or steps * mdp.n_outcomes > MOST_WORK:
        return None
    dual, middle = _dual(risk, steps), float(np.log(multiplier))
    for _ in range(MOST):
        near = sp.optimize.minimize_scalar(
            lambda x: dual(np.exp(x)) + np.exp(x) * limit,
            bounds=(middle - SPAN, middle + SPAN),
            method="bounded",
            options={"xatol": 2e-3},
        )
        found, moved, middle = min(found, float(near.fun)), abs(near.x - middle), near.x
        if moved < 0.99 * SPAN:
            break
    return found


def _dual(risk: Risk, steps: int) -> Callable[[float], float]:
    """λ → max_π [J(π) − λ·P(π)] by backward induction over the steps in which the event counts, then V*.

    W_t(s) = max_a Σ p·(γ^t·R − λ·1[event] + W_{t+1}(S')), with γ^{t+1}·V* in the place of W after the event.
    """
    mdp, gamma, after = risk.mdp, risk.optimal.gamma, risk.optimal.v
    event, first = (mdp.events or {})[risk.event], mdp.outcome_ptr[:-1]
    goes_on = mdp.probability * ~mdp.terminated
    chance = np.add.reduceat(mdp.probability * event, first)
    own = mdp.expected_reward + gamma * np.add.reduceat(goes_on * event * after[mdp.next_state], first)
    shape = mdp.n_pairs, mdp.n_states
    onward = sp.sparse.csr_array((goes_on * ~event, mdp.next_state, mdp.outcome_ptr), shape=shape)
    states, begin = system_of(mdp).first_pairs()

    def value(multiplier: float) -> float:
        w = gamma**steps * after
        for t in reversed(range(steps)):
            w[states] = np.maximum.reduceat(gamma**t * own - multiplier * chance + onward @ w, begin)
        return float(mdp.start @ w)

    return value
