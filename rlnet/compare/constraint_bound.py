"""The best return under a chance constraint over all policies, those that know the steps left included."""

from collections.abc import Callable

import numpy as np
import scipy as sp

from rlnet.compare.risk import Risk
from rlnet.mdp.operators.bellman import system_of

MOST_WORK = 1e8  # outcomes · steps of a backward induction
LARGEST = 1e12  # a price, in the largest |V*|: what it may have grown to by the last steps


def best_of_all_policies(risk: Risk, limit: float, multiplier: float) -> float | None:
    """The largest J(π) under P(event within H steps) ≤ limit over all policies, which may know the time and be mixed.

    Of every such policy J(π) ≤ J(π) − λ·(P(π) − limit) ≤ D(λ) = max_π [J(π) − λ·P(π)] + λ·limit for any λ ≥ 0, so that
    each D(λ) is a bound, and the least of them is attained by a mixture (Altman 1999, chapter 3). A price λ at the
    start is λ·γ^−t at step t, where J counts γ^t.

    Args:
        risk: of an event within H steps; None of H, or H steps of a model that are too much work, have no bound here.
        limit: of the probability.
        multiplier: λ about which the least is looked for; at 0 the constraint does not bind.
    """
    mdp, steps = risk.mdp, risk.horizon
    if multiplier == 0.0:
        return float(mdp.start @ risk.optimal.v)
    if steps is None or mdp.sign is not None or steps * mdp.n_outcomes > MOST_WORK:
        return None
    dual = _dual(risk, steps)
    found = sp.optimize.minimize_scalar(
        lambda x: dual(multiplier * np.exp(x)) + multiplier * np.exp(x) * limit,
        bounds=(-3.0, 3.0),
        method="bounded",
        options={"xatol": 2e-3},
    )
    return float(found.fun)


def _dual(risk: Risk, steps: int) -> Callable[[float], float]:
    """λ → max_π [J(π) − λ·P(π)] by backward induction over the steps in which the event counts, then V*.

    W_t(s) = max_a Σ p·(R − λ·γ^−t·1[event] + γ·W_{t+1}(S')), with V* in the place of W after the event.
    """
    mdp, gamma, after = risk.mdp, risk.optimal.gamma, risk.optimal.v
    event, first = (mdp.events or {})[risk.event], mdp.outcome_ptr[:-1]
    goes_on = mdp.probability * gamma * ~mdp.terminated
    chance = np.add.reduceat(mdp.probability * event, first)
    own = mdp.expected_reward + np.add.reduceat(goes_on * event * after[mdp.next_state], first)
    shape = mdp.n_pairs, mdp.n_states
    onward = sp.sparse.csr_array((goes_on * ~event, mdp.next_state, mdp.outcome_ptr), shape=shape)
    states, begin = system_of(mdp).first_pairs()
    largest = LARGEST * max(float(np.abs(after).max(initial=0.0)), 1e-12)

    def value(multiplier: float) -> float:
        w = after.copy()
        for t in reversed(range(steps)):
            price = min(multiplier * np.exp(min(-t * np.log(gamma), 700.0)), largest) if gamma > 0 else largest
            w[states] = np.maximum.reduceat(own - price * chance + onward @ w, begin)
        return float(mdp.start @ w)

    return value
