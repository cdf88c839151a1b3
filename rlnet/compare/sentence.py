"""The verdict in one sentence, from the scores of one member or their means over many."""

import math
from collections.abc import Mapping

from rlnet.compare.scores import AGAINST_OPTIMAL, NOTHING


def sentence(scalars: Mapping[str, float], against: str, judged: str, blame: str = "") -> str:
    """The verdict: the error of the values, the loss of the policy, and (where it is known) the cause.

    Args:
        scalars: exact/..., as `score_member` returns them.
        against: what the values were compared with, "optimal" or "policy".
        judged: whose policy it is: as in `rlnet.algos`: "given", "greedy", "soft", or one that acts.
        blame: where most of the error comes from, e.g. "sampling".
    """
    clauses = [_values(scalars, against, judged)]
    if judged != "given":
        clauses.append(_policy(scalars, judged))
        clauses.append(_constrained(scalars))
    if blame:
        clauses.append(f"most of the error is {blame}")
    text = "; ".join(filter(None, clauses))
    return text[:1].upper() + text[1:] + "."


def _values(scalars: Mapping[str, float], against: str, judged: str) -> str:
    kind = "q" if "exact/q_rmse" in scalars else "v"
    if f"exact/{kind}_rmse" not in scalars:
        return ""
    if judged == "given" and not math.isfinite(scalars.get("exact/return", 0.0)):
        return "the given policy may go on for ever, at an infinite cost: it has no finite values to compare with"
    star = "*" if against == AGAINST_OPTIMAL else "^π"
    reference = f"{kind.upper()}{star}" + (" of the given policy" if judged == "given" else "")
    share, error = scalars[f"exact/{kind}_relative"], scalars[f"exact/{kind}_rmse"]
    if share < 1:
        clause = f"{kind.upper()} is within {percent(share)} of {reference} where the policy goes"
    else:  # of a reference that is 0 everywhere, no share can be taken
        size = f"{share:.3g} times the size of {reference}" if math.isfinite(share) else f"{error:.3g} from {reference}"
        clause = f"{kind.upper()} is off by {size} where the policy goes"
    bias = scalars.get("exact/q_bias_own", 0.0)
    if math.isfinite(bias) and abs(bias) > 0.5 * error > 0 and share > 0.03:
        clause += f" and {'over' if bias > 0 else 'under'}-estimates its own policy by {abs(bias):.3g}"
    return clause


def _policy(scalars: Mapping[str, float], judged: str) -> str:
    name = policy_name(judged)
    if not math.isfinite(scalars["exact/return"]):
        return f"{name} may go on for ever, at an infinite cost"
    optimal = scalars["exact/optimal_action_rate"]
    how_often = f"acts optimally in {percent(min(optimal, math.nextafter(1.0, 0.0)))} of its steps"
    if "exact/nash_conv" in scalars:
        gained = scalars["exact/nash_conv"]
        can = "cannot be exploited" if gained <= NOTHING else f"can be exploited by {gained:.3g}, both seats together"
        return f"{name} {can} (NashConv), and {how_often}{_searching(scalars)}"
    best, regret = scalars["exact/optimal_return"], scalars["exact/regret"]
    scale = max(abs(best), 1e-300)
    if regret <= NOTHING * max(scale, 1.0):
        how_often = "always acts optimally" if optimal > 1.0 - NOTHING else how_often
        loss = "loses nothing"
    elif regret < 10 * scale:
        loss = f"loses {percent(regret / scale)} of the optimal return (J = {best - regret:.4g}, J* = {best:.4g})"
    else:
        loss = f"loses {regret:.3g} (J = {best - regret:.4g}, J* = {best:.4g})"
    return f"{name} {how_often} and {loss}{_searching(scalars)}"


def _constrained(scalars: Mapping[str, float]) -> str:
    """A clause about a chance constraint, where there is one: the return alone, and whether the limit is kept."""
    if not math.isfinite(scalars.get("exact/constrained_return", math.inf)):
        return ""
    ret, best = scalars["exact/constrained_return"], scalars["exact/constrained_optimal_return"]
    price, excess = scalars["exact/constraint_multiplier"], scalars["exact/constraint_excess"]
    priced = f" without λ* = {price:.4g}, which J and J* charge for the event," if price > 0 else ""
    risk = "at the limit" if abs(excess) < 5e-7 else f"{abs(excess):.3g} {'above' if excess > 0 else 'below'} the limit"
    return f"its return{priced} is {ret:.4g}, under the constraint {best:.4g} can be had, and its risk is {risk}"


def _searching(scalars: Mapping[str, float]) -> str:
    """A clause about the player who searches, where there is one."""
    for name in ("exact/nash_conv_search", "exact/regret_search"):
        if name in scalars:
            lost, verb = scalars[name], "can be exploited by" if "nash" in name else "loses"
            can = "cannot be exploited" if "nash" in name else "loses nothing"
            return f"; with search it {can}" if lost <= NOTHING else f"; with search it {verb} {lost:.3g}"
    return ""


def policy_name(judged: str) -> str:
    """The name of the judged policy in a sentence."""
    names = {"greedy": "the greedy policy", "soft": "the softmax policy", "given": "the given policy"}
    return names.get(judged, "the policy")


def percent(share: float) -> str:
    """A share as a percentage of two or three digits."""
    if 0 < share < 0.0005:
        return "less than 0.1 %"
    if 0.9995 < share < 1:
        return "more than 99.9 %"
    return f"{100 * share:.3g} %" if share >= 0.1 else f"{100 * share:.2g} %"
