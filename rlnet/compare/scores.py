"""Scores of learned values and policies against the exact solution.

Everything here is float64 numpy for one member: v [S], q [S, A] and a policy π [S, A], scored against the solution of
the same `FiniteMDP`. J(π) = Σ_s start(s)·V^π(s) is computed by dynamic programming, never sampled. Where the
solution is that of an entropy-regularised problem (its temperature τ is above 0), V^π, J(π) and the Bellman equations
count τ·H(π(·|s)) as reward too.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast

import numpy as np

from rlnet.compare.certificates import action_values, certify, state_values
from rlnet.compare.constraint import Constrained
from rlnet.compare.errors import normalised, q_errors, v_errors
from rlnet.compare.judge import (
    Judged,
    TimeLimit,
    greedy_policy,
    judge_policy,
    limited_values,
    reachable,
    uniform_over,
    uniform_policy,
)
from rlnet.compare.risk import Risk, risks_of
from rlnet.mdp import FiniteMDP, Solution, nash_conv

# Which exact values an estimate is compared with.
AGAINST_OPTIMAL = "optimal"  # V*, Q*: for methods that learn optimal control
AGAINST_POLICY = "policy"  # V^π, Q^π of the judged policy: for prediction and on-policy methods
NOTHING = 1e-9  # relative to max(|V*|, 1): a smaller loss counts as none
HIDDEN = 1e-6  # relative to the same: the most that error bounds of exact values may hide


class Scores(NamedTuple):
    """Result of `score_member`."""

    scalars: dict[str, float]  # by the names of the logs, exact/...
    v: np.ndarray | None  # [S], the learned values that were judged
    v_exact: np.ndarray  # [S], what v was compared with
    q_exact: np.ndarray  # [S, A], what q was compared with
    v_limited: np.ndarray | None  # [S], as v_exact, with the whole time limit ahead; None without a limit


def _residual(
    mdp: FiniteMDP, optimal: Solution, v: np.ndarray, q: np.ndarray | None, policy: np.ndarray | None
) -> float:
    """Largest violation of the Bellman equation by q, or by v where q is None; without a policy that of optimality."""
    gamma, temperature = optimal.gamma, optimal.temperature
    if q is not None:
        backed = action_values(mdp, state_values(mdp, q, policy, temperature), gamma)
        return float(np.abs(q[mdp.available] - backed[mdp.available]).max(initial=0.0))
    backed = state_values(mdp, action_values(mdp, v, gamma), policy, temperature)
    return float(np.abs(v - backed)[~mdp.terminal].max(initial=0.0))


@dataclass(frozen=True)
class Truth:
    """The exact solution of a problem, against which members are scored."""

    mdp: FiniteMDP
    optimal: Solution  # V*, Q* at the γ and temperature that everything is judged at
    limit: TimeLimit | None = None  # the optimum under the environment's time limit, where it has one
    # Of a run with a chance constraint the optimum under it: `mdp` then charges the event λ*.
    constrained: Constrained | None = None

    @property
    def gamma(self) -> float:
        return self.optimal.gamma

    @cached_property
    def reach(self) -> np.ndarray:
        """bool [S]: the states that can be reached from the start by any actions."""
        return reachable(self.mdp)

    @cached_property
    def risks(self) -> list[Risk]:
        """The events that the model names, in an episode under the time limit."""
        mdp = self.mdp if self.constrained is None else self.constrained.risk.mdp
        return risks_of(mdp, self.optimal, None if self.limit is None else self.limit.steps)

    @cached_property
    def random_value(self) -> float:
        """J of the uniformly random policy; −inf where it has none."""
        return judge_policy(self.mdp, uniform_policy(self.mdp), self.optimal).value


def score_member(
    truth: Truth,
    policy: np.ndarray,
    against: str,
    *,
    v: np.ndarray | None = None,
    q: np.ndarray | None = None,
    visits: np.ndarray | None = None,
) -> Scores:
    """Score one learner against the exact solution.

    Args:
        truth: the model and its solution.
        policy: π [S, A], the policy that the learner stands for.
        against: "optimal" compares v and q with V*, Q*; "policy" with V^π, Q^π.
        v: [S] learned state values; without them max_a q or Σ_a π·q (or their regularised forms) is judged.
        q: [S, A] learned action values.
        visits: [S, A] how often each pair was tried, for `exact/coverage`.

    Returns:
        The scalars (`*_rmse` weighted by the discounted visitation of π, `*_uniform` over the non-terminal states
        that can be reached at all, `*_bound` guaranteed by the Bellman residual alone) and the exact arrays.

    Raises:
        ValueError: an array has the wrong shape, or `against` is neither.
    """
    mdp, optimal = truth.mdp, truth.optimal
    _require_shapes(mdp, policy=policy, v=v, q=q)
    if against not in (AGAINST_OPTIMAL, AGAINST_POLICY):
        raise ValueError(f"against={against!r}: allowed are {AGAINST_OPTIMAL!r}, {AGAINST_POLICY!r}")
    judged = judge_policy(mdp, policy, optimal)
    use_optimal = against == AGAINST_OPTIMAL
    v_exact, q_exact = (optimal.v, optimal.q) if use_optimal else (judged.v, judged.q)
    bellman_policy = None if use_optimal else judged.policy
    reach = truth.reach & ~mdp.terminal

    scalars: dict[str, float] = {}
    if v is not None or q is not None:
        if mdp.sign is None:  # what Bellman's residual proves takes a monotone operator
            scalars |= _guarantees(truth, judged, v, q, use_optimal)
        if v is None:
            v = state_values(mdp, cast(np.ndarray, q), bellman_policy, optimal.temperature)
        v = np.where(mdp.terminal, 0.0, v)
        scalars |= _value_scores(truth, judged, v, q, v_exact, q_exact, bellman_policy)
    scalars |= _policy_scores(truth, judged, policy)
    for risk in truth.risks:
        scalars |= risk.scores(judged.policy)
    if truth.constrained is not None:
        scalars |= truth.constrained.scores(judged.policy)
    v_limited = None
    if truth.limit is not None:
        limited, v_limited = _under_limit(truth, truth.limit, judged, use_optimal)
        scalars |= limited
    if visits is not None:
        pairs = mdp.available & reach[:, None]
        scalars["exact/coverage"] = float((visits[pairs] > 0).mean()) if pairs.any() else 1.0
    return Scores(scalars, v, v_exact, q_exact, v_limited)


def _policy_scores(truth: Truth, judged: Judged, policy: np.ndarray) -> dict[str, float]:
    """Return, regret and optimal actions of the judged policy; in a game the return of self-play, and NashConv."""
    mdp, optimal = truth.mdp, truth.optimal
    best = float(mdp.start @ optimal.v)
    scalars = {
        "exact/return": judged.value,
        "exact/optimal_return": best,
        "exact/optimal_action_rate": _optimal_action_rate(policy, judged, optimal, mdp.sign is not None),
        "exact/error_bound": max(optimal.error_bound, judged.error_bound),
    }
    if mdp.sign is not None:
        return scalars | {"exact/nash_conv": nash_conv(mdp, policy, truth.gamma)}
    share = normalised(judged.value, truth.random_value, best)
    return scalars | {"exact/regret": best - judged.value, "exact/normalised_return": share}


def search_scores(truth: Truth, policy: np.ndarray) -> dict[str, float]:
    """Regret (in a game NashConv) and rate of optimal actions of the policy [S, A] of a search."""
    judged, game = judge_policy(truth.mdp, policy, truth.optimal), truth.mdp.sign is not None
    scalars = {"exact/optimal_action_rate_search": _optimal_action_rate(policy, judged, truth.optimal, game)}
    if game:
        return scalars | {"exact/nash_conv_search": nash_conv(truth.mdp, policy, truth.gamma)}
    return scalars | {"exact/regret_search": float(truth.mdp.start @ truth.optimal.v) - judged.value}


def _optimal_action_rate(policy: np.ndarray, judged: Judged, optimal: Solution, game: bool) -> float:
    """Probability that π [S, A] acts optimally where it goes; below 1 where any visited action may be suboptimal.

    An action is optimal if the solution lists it, since whatever is chosen among those attains V*, or if π itself
    attains V* in this state: at γ = 1 there are optimal policies beside the listed ones. Where the entropy counts,
    every action has a share in the optimum: how much of π agrees with it. In a game V^π is that of self-play, in which
    one player's mistake may cancel the other's: there only the listed actions count.
    """
    if optimal.temperature > 0.0:
        return float(judged.weights @ np.minimum(policy, optimal.policy).sum(1))
    right = (policy * (optimal.policy > 0)).sum(1)
    if np.isfinite(judged.value) and not game:
        scale = np.maximum(np.abs(optimal.v), 1.0)
        bounds = optimal.error_bound if optimal.bounds is None else optimal.bounds
        unsure = np.minimum(bounds + judged.error_bound, HIDDEN * scale)
        right = np.where(optimal.v - judged.v <= unsure + NOTHING * scale, 1.0, right)
    rate = float(judged.weights @ right)
    always = np.isfinite(judged.value) and (right[judged.weights > 0.0] > 1.0 - NOTHING).all()
    return rate if always else min(rate, float(np.nextafter(1.0, 0.0)))


def _require_shapes(mdp: FiniteMDP, **arrays: np.ndarray | None) -> None:
    for name, array in arrays.items():
        wanted = (mdp.n_states,) if name == "v" else (mdp.n_states, mdp.n_actions)
        if array is not None and array.shape != wanted:
            raise ValueError(f"{name} has shape {array.shape}, the model needs {wanted}")


def _value_scores(
    truth: Truth,
    judged: Judged,
    v: np.ndarray,
    q: np.ndarray | None,
    v_exact: np.ndarray,
    q_exact: np.ndarray,
    bellman_policy: np.ndarray | None,
) -> dict[str, float]:
    """Errors of v [S] and q [S, A] (or None), against what they estimate and against what their own policy is worth."""
    mdp = truth.mdp
    uniform = uniform_over(truth.reach & ~mdp.terminal)
    scalars = v_errors(v, v_exact, judged.weights, uniform)
    scalars["exact/bellman_residual"] = _residual(mdp, truth.optimal, v, q, bellman_policy)
    scalars["exact/predicted_return"] = float(mdp.start @ v)
    if q is None:
        return scalars
    scalars |= q_errors(q, q_exact, mdp, judged.weights, uniform)
    if bellman_policy is None:  # optimal control: does the greedy policy deliver what Q promises?
        finite = np.isfinite(judged.value)
        own = q_errors(q, judged.q, mdp, judged.weights, uniform) if finite else {}
        scalars["exact/q_bias_own"] = own.get("exact/q_bias", np.inf)
        scalars["exact/q_rmse_own"] = own.get("exact/q_rmse", np.inf)
    return scalars


def _guarantees(truth: Truth, judged: Judged, v: np.ndarray | None, q: np.ndarray | None, use_optimal: bool) -> dict:
    """What the Bellman residual proves, and the true loss of the greedy policy to compare with."""
    mdp, optimal, gamma, tau = truth.mdp, truth.optimal, truth.gamma, truth.optimal.temperature
    greedy = greedy_policy(mdp, action_values(mdp, cast(np.ndarray, v), gamma) if q is None else q, tau)
    of_greedy = judged if np.array_equal(greedy, judged.policy) else judge_policy(mdp, greedy, optimal)
    proved = certify(mdp, gamma, judged.policy, truth.reach, v=v, q=q, optimal=use_optimal, temperature=tau)
    lost = np.inf if of_greedy.value == -np.inf else float((optimal.v - of_greedy.v)[truth.reach].max(initial=0.0))
    scalars = {
        "exact/v_bound": proved.v,
        "exact/regret_bound": proved.regret,
        "exact/loss_max": max(lost, 0.0),
        "exact/loss_bound": proved.loss,
        "exact/greedy_return": of_greedy.value,
    }
    return scalars if q is None else scalars | {"exact/q_bound": proved.q}


def _under_limit(
    truth: Truth, limit: TimeLimit, judged: Judged, use_optimal: bool
) -> tuple[dict[str, float], np.ndarray]:
    """Returns of episodes that the time limit cuts: of the judged policy, and the best; and those values [S]."""
    mdp = truth.mdp
    v = limited_values(mdp, truth.gamma, limit.steps, judged.policy, truth.optimal.temperature)
    episode = mdp.start @ limited_values(mdp, 1.0, limit.steps, judged.policy)
    scalars = {
        "exact/limited_return": float(mdp.start @ v),
        "exact/limited_optimal_return": limit.value,
        "exact/episode_return": float(episode),
        "exact/optimal_episode_return": limit.episode,
    }
    return scalars, limit.v if use_optimal else v
