"""Failures of single members (divergence, values out of range, ...), reported beside the means over all."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlnet.compare.scores import Truth
from rlnet.mdp import ImproperPolicyError, ToleranceWarning, UnboundedValueError, solve

FACTOR = 10.0  # learned values above so many times the largest possible one count as divergence
LEAST = 1.0  # what the values of a fresh network may be, whatever the rewards are
MOST_NAMED = 6  # members of one kind that are named one by one


@dataclass(frozen=True)
class Mishap:
    """Failures of one member; empty texts where there are none."""

    diverged: str = ""  # the sign of divergence, in words
    endless: bool = False  # at γ = 1, the judged policy may never come to an end, and that costs without bound
    idle: bool = False  # its learning rate is 0

    @property
    def sound(self) -> bool:
        return not (self.diverged or self.endless or self.idle)


def largest_value(truth: Truth) -> tuple[float, str]:
    """The largest possible |v(s)| in a reachable state, and what it is in words.

    The larger one of |V*| and |V*| of the problem with rewards −r, the values of the worst policy. Where those are not
    finite (γ = 1), n·max|r| (n reachable states) and |J| of the random policy take their place. In a game: V* where
    rewards are |r|.
    """
    mdp, optimal = truth.mdp, truth.optimal
    states = truth.reach & ~mdp.terminal
    size = float(np.abs(optimal.v[states]).max(initial=0.0))
    if mdp.sign is not None:
        most = solve(replace(mdp, reward=np.abs(mdp.reward), sign=None), optimal.gamma).v
        return max(size, float(most[states].max(initial=0.0))), "no play adds up to more than"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ToleranceWarning)
            worst = solve(replace(mdp, reward=-np.asarray(mdp.reward)), optimal.gamma).v
        return max(size, float(np.abs(worst[states]).max(initial=0.0))), "no policy is worth more than"
    except (ImproperPolicyError, UnboundedValueError):
        walk = float(states.sum() * np.abs(mdp.reward).max(initial=0.0))
        random = abs(truth.random_value) if math.isfinite(truth.random_value) else 0.0
        return max(size, walk, random), "a walk through all states collects no more than"


def out_of_range(truth: Truth, v: np.ndarray | None, q: np.ndarray | None, initial: float = 0.0) -> str:
    """How far the learned values exceed the possible range, in words; empty where they do not.

    Args:
        truth: the model and its solution.
        v, q: [S] and [S, A] as learned; states that cannot be reached do not count.
        initial: the size of the first values, where they were set on purpose.
    """
    mdp = truth.mdp
    states = truth.reach & ~mdp.terminal
    parts = [] if v is None else [v[states]]
    parts += [] if q is None else [q[states[:, None] & mdp.available]]
    largest = max((float(np.abs(part).max(initial=0.0)) for part in parts), default=0.0)
    least = max(float(np.abs(truth.optimal.v[states]).max(initial=0.0)), initial, LEAST)
    if largest <= FACTOR * least:  # the usual case, which needs no worst policy
        return ""
    possible, what = largest_value(truth)
    if largest <= FACTOR * max(possible, least):
        return ""
    found = "are not finite" if not math.isfinite(largest) or largest > 1e38 else f"reach {largest:.3g} in size"
    return f"learned values {found}, where {what} {possible:.3g}"


def told(mishaps: Sequence[Mishap], seeds: Sequence[int], policy: str) -> list[str]:
    """One sentence for each kind of failure, the worst kind first, with the seeds of the members concerned.

    Args:
        mishaps: of each member [n].
        seeds: [n].
        policy: what the judged policy is called, e.g. "the greedy policy".
    """
    said = []
    diverged = [k for k, mishap in enumerate(mishaps) if mishap.diverged]
    if diverged:
        whom, _ = _whom(diverged, seeds)
        worst = mishaps[diverged[0]].diverged
        more = "" if len({mishaps[k].diverged for k in diverged}) == 1 else f" (seed {seeds[diverged[0]]})"
        said.append(f"{whom} diverged: {worst}{more}")
    endless = [k for k, mishap in enumerate(mishaps) if mishap.endless]
    if endless:
        whom, of = _whom(endless, seeds)
        said.append(f"{policy}{of} may go on for ever, at an infinite cost")
    idle = [k for k, mishap in enumerate(mishaps) if mishap.idle]
    if idle:
        whom, _ = _whom(idle, seeds)
        said.append(f"{whom} learned nothing: the learning rate is 0")
    return said


def _whom(which: Sequence[int], seeds: Sequence[int]) -> tuple[str, str]:
    """("seeds 1 and 3", " of seeds 1 and 3"); "the learner" and nothing where there is one member alone."""
    if len(seeds) == 1:
        return "the learner", ""
    if len(which) == len(seeds):
        return f"all {len(seeds)} seeds", f" of all {len(seeds)} seeds"
    names = [str(seeds[k]) for k in which[:MOST_NAMED]]
    if len(which) > MOST_NAMED:
        names.append(f"{len(which) - MOST_NAMED} others")
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    name = f"seed{'s' if len(names) > 1 else ''} {listed}"
    return name, f" of {name}"
