"""Ranking of settings: which is best, as far as their runs can show. Used wherever settings are compared.

Only settings of one problem are ranked: the same environment, the same γ, the same objective. Control is ranked by
J(π), in games by exploitability, prediction by the error of V: how good a given policy is says nothing about how well
its value was learned.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from rlnet.numerics.statistics import Ranking, ranking, runs_needed

ERROR = "exact/v_rmse"
REACHED = "exact/normalised_return"  # J(π), 0: as random actions, 1: optimal
EXPLOITED = "exact/nash_conv"  # of a policy that plays both sides of a game
RETURN = "exact/return"  # the same order, where nothing lies between random and optimal
SAMPLED = "return/mean"  # where there is no finite model
BEST = {
    ERROR: "comes nearest to V^π",
    REACHED: "comes nearest to the optimum",
    EXPLOITED: "can be exploited least",
    RETURN: "comes nearest to the optimum",
    SAMPLED: "earns the highest return at the end of training",
}
MOST_TOLD = 3  # settings that a sentence lists
NO_DIFFERENCE = "no difference that these runs can show"


def ranked_by(scores: Mapping[str, np.ndarray], prediction: bool) -> str:
    """The score by which the settings of one problem are ranked.

    Args:
        scores: of all their runs, by name.
        prediction: whether the value of a given policy was learned.
    """
    if prediction:
        return ERROR
    if EXPLOITED in scores:
        return EXPLOITED
    if REACHED not in scores:
        return SAMPLED
    return RETURN if np.isnan(scores[REACHED]).all() else REACHED


def less_is_better(score: str) -> bool:
    """Whether a lower score is better (errors, exploitability)."""
    return score in (ERROR, EXPLOITED)


def rank(samples: Sequence[np.ndarray], score: str) -> Ranking:
    """The `Ranking` of settings by the runs of each, [n], for one score."""
    sign = -1.0 if less_is_better(score) else 1.0
    return ranking([sign * np.asarray(sample, dtype=np.float64) for sample in samples])


def rank_sentence(found: Ranking, names: Sequence[str], score: str, runs: int) -> str:
    """What a `Ranking` of two or more named settings shows, as one sentence.

    Args:
        found: of the settings.
        names: of the settings.
        score: by which they were ranked.
        runs: of a setting with the fewest.
    """
    first, count = names[found.order[0]], len(names)
    if not found.ties:
        return f"Of {count} settings, {first} {BEST[score]}."
    needed = runs_needed(count)
    few = f"{'one run' if runs == 1 else f'{runs} runs'} of each; {needed} can show one, where it is large"
    if not found.beaten:
        advice = f" ({few})" if runs < needed else ""
        return f"Between the {count} settings there is {NO_DIFFERENCE}{advice}."
    beaten, ties = (_listed([names[k] for k in which]) for which in (found.beaten, found.ties))
    return f"Of {count} settings, {first} is better than {beaten}; from {ties} {NO_DIFFERENCE}."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_TOLD]) + (", ..." if len(names) > MOST_TOLD else "")
