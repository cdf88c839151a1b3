"""The exact optimum under a chance constraint: the best return at which an event stays below a probability."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from rlnet.compare.judge import evaluate_quietly, judge_policy, solve_quietly
from rlnet.compare.risk import Risk
from rlnet.mdp import FiniteMDP, ImproperPolicyError, UnboundedValueError

NO_GAIN = 1e-7  # of the largest |V*|: two policies between which no other is better by more are neighbours
MOST = 60  # policies of the frontier that are looked for between two others
SMALL = 20_000  # outcomes of a model that is solved in no time


@dataclass(frozen=True)
class Place:
    """An optimal policy of J(π) − λ·(discounted number of events), with its return and risk."""

    policy: np.ndarray = field(repr=False)  # [S, A]
    multiplier: float  # λ at which it is optimal
    ret: float  # J, the expected discounted return, what the event pays or costs by itself included
    count: float  # the expected discounted number of events; inf where it grows for ever
    probability: float  # of the event in an episode


@dataclass(frozen=True)
class Constrained:
    """The best return under a chance constraint, on the exact frontier of return against risk.

    The frontier is what maximises J(π) − λ·(discounted number of events), λ ≥ 0. Its policies are few: the optimum
    under the constraint mixes two of them between whose probabilities the limit lies, one drawn for every episode.
    """

    risk: Risk  # with the optimal policy without the constraint
    limit: float
    multiplier: float  # λ*, at which both are worth the same; 0 where the constraint does not bind
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
        """The scalars of a judged policy [S, A]; `..._probability_optimal` is that of the optimum here."""
        value = judge_policy(self.risk.mdp, policy, self.risk.optimal).value
        return {
            "exact/constrained_return": value,
            "exact/constrained_optimal_return": self.ret,
            "exact/constraint_gap": self.ret - value,
            "exact/constraint_excess": self.risk.of(policy) - self.limit,
            "exact/constraint_multiplier": self.multiplier,
            f"exact/{self.risk.event}_probability_optimal": self.probability,
        }


def charged(risk: Risk, multiplier: float) -> FiniteMDP:
    """The model with the reward R − λ·1[event]."""
    if multiplier == 0.0:
        return risk.mdp
    return replace(risk.mdp, reward=risk.mdp.reward - multiplier * (risk.mdp.events or {})[risk.event], entry=None)


def constrained_optimum(risk: Risk, limit: float) -> Constrained | None:
    """The best of the frontier and of its mixtures: the largest J(π) under P(event in an episode) ≤ limit.

    At γ = 1 without a time limit, of an event that ends the episode, no policy at all is better (Altman 1999, chapter
    3), and the two policies that are mixed are neighbours on the frontier. Otherwise the frontier weighs return against
    the discounted number of events, while the limit is on the probability in an episode: a policy off the frontier may
    do better, and where numbers and probabilities order its policies differently the best two need not be neighbours:
    all that were met on the way are compared, in a small model up to `MOST` more.

    Returns:
        None where the event is more probable under every policy of the frontier, and under the one that makes it
        least probable without a time limit.
    """
    unit = max(float(np.abs(risk.optimal.v).max(initial=0.0)), 1e-12)
    prices = [unit * 4.0**power for power in range(-2, 11)]
    place = _places(risk)
    seen = [place(0.0)]
    if seen[0].probability <= limit:
        return Constrained(risk, limit, 0.0, *seen, *seen)
    while prices and seen[-1].probability > limit:
        seen.append(place(prices.pop(0)))
    if seen[-1].probability > limit:
        safest = _safest(risk, seen[-1].multiplier)
        if safest is None or safest.probability > limit:
            return None
        return _best_mixture(risk, limit, [*_explored(seen, place, unit), safest])
    bolder, safer = seen[-2:]
    while len(seen) < MOST and (between := _between(bolder, safer, place, unit)) is not None:
        seen.append(between)
        bolder, safer = (bolder, between) if between.probability <= limit else (between, safer)
    neighbours = Constrained(risk, limit, _price(bolder, safer), safer, bolder)
    small = risk.mdp.n_outcomes <= SMALL
    best = _best_mixture(risk, limit, _explored([*seen, *map(place, prices)], place, unit) if small else seen)
    return best if best.ret > neighbours.ret + NO_GAIN * unit else neighbours


def _price(bolder: Place, safer: Place) -> float:
    """λ at which two policies are worth the same, at least 0; the safer one's, where both have as many events."""
    if bolder.count <= safer.count:
        return safer.multiplier
    return max(0.0, (bolder.ret - safer.ret) / (bolder.count - safer.count))


def _between(bolder: Place, safer: Place, place: Callable[[float], Place], unit: float) -> Place | None:
    """A policy that is better than two others at the λ at which those are worth the same; None where none is."""
    if not safer.count < bolder.count < np.inf:
        return None
    found = place(_price(bolder, safer))
    gain = found.ret - safer.ret - found.multiplier * (found.count - safer.count)
    return found if gain > NO_GAIN * unit else None


def _explored(seen: Sequence[Place], place: Callable[[float], Place], unit: float) -> list[Place]:
    """The policies of the frontier between those seen, up to `MOST` more, the widest gaps in return first."""
    curve = sorted(seen, key=lambda x: x.multiplier)
    gaps, found = list(pairwise(curve)), curve
    for _ in range(MOST):
        if not gaps:
            break
        bolder, safer = gaps.pop(int(np.argmax([a.ret - b.ret for a, b in gaps])))
        between = _between(bolder, safer, place, unit)
        if between is not None:
            found = [*found, between]
            gaps += [(bolder, between), (between, safer)]
    return found


def _best_mixture(risk: Risk, limit: float, places: Sequence[Place]) -> Constrained:
    """The best of some policies, and of the mixtures of two, at which the event has the probability of the limit."""
    safe, bold = ([x for x in places if (x.probability <= limit) == fits] for fits in (True, False))
    pairs = [(a, a) for a in safe] + [(a, b) for a in safe for b in bold]
    return max((Constrained(risk, limit, _price(b, a), a, b) for a, b in pairs), key=lambda x: x.ret)


def _places(risk: Risk) -> Callable[[float], Place]:
    def place(multiplier: float) -> Place:
        free = multiplier == 0.0
        best = risk.optimal if free else solve_quietly(charged(risk, multiplier), risk.optimal.gamma)
        return _place(risk, best.policy, multiplier)

    return place


def _place(risk: Risk, policy: np.ndarray, multiplier: float) -> Place:
    mdp = risk.mdp
    events = replace(mdp, reward=(mdp.events or {})[risk.event].astype(np.float64), entry=None)

    def value(model: FiniteMDP) -> float:
        return float(mdp.start @ evaluate_quietly(model, policy, risk.optimal.gamma).v)

    try:
        count = value(events)
    except (ImproperPolicyError, UnboundedValueError):  # at γ = 1, an event that happens again and again
        count = np.inf
    return Place(policy, multiplier, value(mdp), count, risk.of(policy))


def _safest(risk: Risk, multiplier: float) -> Place | None:
    """The policy with the least probability of the event ever; None where it goes on for ever at a cost."""
    policy = solve_quietly(risk.avoided, 1.0).policy
    try:
        return _place(risk, policy, multiplier)
    except ImproperPolicyError:
        return None
