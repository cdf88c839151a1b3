"""The exact optimum under a chance constraint: the best return at which an event stays below a probability."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from rlnet.compare.judge import judge_policy
from rlnet.compare.risk import Risk
from rlnet.mdp import FiniteMDP, evaluate, solve

NO_GAIN = 1e-7  # of the largest |V*|: two policies between which no other is better by more are neighbours
MOST = 60  # policies that are looked for between two others


@dataclass(frozen=True)
class Place:
    """An optimal policy of J(π) − λ·(discounted number of events), with its return and risk."""

    policy: np.ndarray = field(repr=False)  # [S, A]
    multiplier: float  # λ at which it is optimal
    ret: float  # J, the expected discounted return, what the event pays or costs by itself included
    count: float  # the expected discounted number of events
    probability: float  # of the event in an episode


@dataclass(frozen=True)
class Constrained:
    """The best return under a chance constraint, on the exact frontier of return against risk.

    The frontier is what maximises J(π) − λ·(discounted number of events), λ ≥ 0. Its policies are few: the optimum
    under the constraint mixes the two neighbours between whose probabilities the limit lies, one of them drawn for
    every episode.
    """

    risk: Risk  # with the optimal policy without the constraint
    limit: float
    multiplier: float  # λ*, at which both are optimal; 0 where the constraint does not bind
    safer: Place
    bolder: Place

    @property
    def share(self) -> float:
        """Probability with which the mixture draws the bolder policy for an episode."""
        apart = self.bolder.probability - self.safer.probability
        return 1.0 if apart <= 0.0 else min(1.0, (self.limit - self.safer.probability) / apart)

    @property
    def ret(self) -> float:
        """J of the optimum."""
        return self.share * self.bolder.ret + (1.0 - self.share) * self.safer.ret

    @property
    def probability(self) -> float:
        """The probability of the event under it: the limit, where the constraint binds."""
        return self.share * self.bolder.probability + (1.0 - self.share) * self.safer.probability

    @cached_property
    def model(self) -> FiniteMDP:
        """The model in which the event costs λ*."""
        return charged(self.risk, self.multiplier)

    def scores(self, policy: np.ndarray) -> dict[str, float]:
        """The scalars of a judged policy [S, A]."""
        value = judge_policy(self.risk.mdp, policy, self.risk.optimal).value
        return {
            "exact/constrained_return": value,
            "exact/constrained_optimal_return": self.ret,
            "exact/constraint_gap": self.ret - value,
            "exact/constraint_excess": self.risk.of(policy) - self.limit,
            "exact/constraint_multiplier": self.multiplier,
        }


def charged(risk: Risk, multiplier: float) -> FiniteMDP:
    """The model with the reward R − λ·1[event]."""
    if multiplier == 0.0:
        return risk.mdp
    return replace(risk.mdp, reward=risk.mdp.reward - multiplier * (risk.mdp.events or {})[risk.event], entry=None)


def constrained_optimum(risk: Risk, limit: float) -> Constrained | None:
    """The exact optimum of J(π) under P(event in an episode) ≤ limit among the frontier and its mixtures.

    At γ = 1 without a time limit, of an event that ends the episode, no policy at all is better (Altman 1999, chapter
    3). Otherwise the frontier weighs return against the discounted number of events, while the limit is on the
    probability in an episode: a policy off the frontier may do better.

    Returns:
        None where the event is more probable under every policy of the frontier.
    """
    unit = max(float(np.abs(risk.optimal.v).max(initial=0.0)), 1e-12)
    place = _places(risk)
    bolder = place(0.0)
    if bolder.probability <= limit:
        return Constrained(risk, limit, 0.0, bolder, bolder)
    for power in range(-2, 11):
        safer = place(unit * 4.0**power)
        if safer.probability <= limit:
            break
        bolder = safer
    else:
        return None
    multiplier = safer.multiplier
    for _ in range(MOST):
        if bolder.count <= safer.count:
            break
        multiplier = (bolder.ret - safer.ret) / (bolder.count - safer.count)  # at which both are worth the same
        between = place(multiplier)
        if between.ret - safer.ret - multiplier * (between.count - safer.count) <= NO_GAIN * unit:
            break
        if between.probability <= limit:
            safer = between
        else:
            bolder = between
    return Constrained(risk, limit, multiplier, safer, bolder)


def _places(risk: Risk) -> Callable[[float], Place]:
    mdp, gamma = risk.mdp, risk.optimal.gamma
    events = replace(mdp, reward=(mdp.events or {})[risk.event].astype(np.float64), entry=None)

    def place(multiplier: float) -> Place:
        policy = risk.optimal.policy if multiplier == 0.0 else solve(charged(risk, multiplier), gamma).policy
        ret, count = (float(mdp.start @ evaluate(model, policy, gamma).v) for model in (mdp, events))
        return Place(policy, multiplier, ret, count, risk.of(policy))

    return place
