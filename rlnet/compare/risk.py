"""Exact risk: the probability of a model's events under policies, and what return it takes to avoid them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from rlnet.compare.judge import evaluate_quietly, solve_quietly
from rlnet.mdp import FiniteMDP, ImproperPolicyError, Solution, event_model, solve
from rlnet.mdp.events import paid_probability
from rlnet.mdp.limited import limited_values
from rlnet.numerics.statistics import wilson

SAME = 1e-9  # probabilities that differ by less, as by rounding, are equal
PENALTIES = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # of an event, in the size of the largest |V*|


@dataclass(frozen=True)
class Risk:
    """An event of a model: how probable it is from the start, under the optimal policy and at the least."""

    mdp: FiniteMDP
    event: str
    optimal: Solution
    horizon: int | None  # steps of an episode; None: no limit

    def of(self, policy: np.ndarray) -> float:
        """Its probability in an episode under a policy [S, A]."""
        return float(self.mdp.start @ paid_probability(self._model, policy, self.horizon))

    @cached_property
    def _model(self) -> FiniteMDP:
        return event_model(self.mdp, self.event)

    @cached_property
    def of_optimal(self) -> float:
        """Its probability under the optimal policy."""
        return self.of(self.optimal.policy)

    @cached_property
    def avoided(self) -> FiniteMDP:
        """The model in which the event costs 1 and ends the episode, and nothing else costs or pays."""
        return replace(self._model, reward=-self._model.reward)

    @cached_property
    def least(self) -> float:
        """The least probability that any policy attains, one that knows the time left included."""
        model = self.avoided
        v = solve(model, 1.0).v if self.horizon is None else limited_values(model, 1.0, self.horizon)
        return max(0.0, -float(self.mdp.start @ v))

    def scores(self, policy: np.ndarray) -> dict[str, float]:
        """The scalars of a judged policy."""
        name = f"exact/{self.event}_probability"
        return {name: self.of(policy), f"{name}_optimal": self.of_optimal, f"{name}_least": self.least}


def risks_of(mdp: FiniteMDP, optimal: Solution, horizon: int | None) -> list[Risk]:
    """The events of a model, in episodes of at most `horizon` steps."""
    return [Risk(mdp, event, optimal, horizon) for event in mdp.events or ()]


@dataclass(frozen=True)
class Point:
    """A policy by its return and its risk."""

    penalty: float  # cost of the event at which this policy is optimal; NaN: a policy that is not from the frontier
    ret: float  # expected discounted return from the start, without what an event pays or costs that ends the episode
    probability: float  # of the event in an episode


def risk_frontier(risk: Risk, penalties: Sequence[float] = PENALTIES) -> list[Point]:
    """The optimal policies as the event costs more and more: the best return at each risk.

    Every point is the exact optimum of R − penalty·1[event], the Lagrangian of a constraint on the discounted number of
    events: no policy has more return at the same number. Between neighbouring points lie mixtures of the two. What the
    event pays by itself where it ends the episode is no part of R: there the penalty takes its place.

    Args:
        risk: the event.
        penalties: in units of the largest |V*|.
    """
    unit = max(float(np.abs(risk.optimal.v).max(initial=0.0)), 1e-12)
    found = []
    for penalty in penalties:
        model = _penalised(risk, penalty * unit)
        policy = solve_quietly(model, risk.optimal.gamma).policy
        found.append(replace(point_of(risk, policy), penalty=penalty * unit))
    return found


def point_of(risk: Risk, policy: np.ndarray) -> Point:
    """A policy's place beside the frontier; its return is −inf where it goes on for ever at a cost."""
    try:
        ret = float(risk.mdp.start @ evaluate_quietly(_penalised(risk, 0.0), policy, risk.optimal.gamma).v)
    except ImproperPolicyError:  # were it no cost, J* would be infinite too and `solve` would have refused the problem
        ret = -np.inf
    return Point(float("nan"), ret, risk.of(policy))


def _penalised(risk: Risk, penalty: float) -> FiniteMDP:
    mdp, event = risk.mdp, (risk.mdp.events or {})[risk.event]
    own = np.where(event & mdp.terminated, 0.0, mdp.reward)  # where play goes on, its own reward stays: steps cost
    return replace(mdp, reward=own - penalty * event, entry=None)


def seen_in(probability: float, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval for the probability of an event at its expected count in `trials` test episodes."""
    low, high = wilson(round(probability * trials), trials)
    return float(low), float(high)


def trials_to_tell(probability: float, other: float) -> float:
    """Test episodes of each of two policies after which their difference is seen: at 5 % significance with power 80 %
    (two proportions, Fleiss, Levin & Paik 2003, eq. 4.14); inf where they are the same."""
    if abs(probability - other) <= SAME:
        return float("inf")
    mean = (probability + other) / 2
    spread = 1.959964 * np.sqrt(2 * mean * (1 - mean))
    spread += 0.841621 * np.sqrt(probability * (1 - probability) + other * (1 - other))
    return float(np.ceil((spread / (probability - other)) ** 2))
