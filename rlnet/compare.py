"""Learned against exact: arrays in, scores out. Judges any learner, another library's too.

Everything here is float64 numpy for one member: v [S], q [S, A] and a policy π [S, A], scored against the solution of
the same `FiniteMDP`. J(π) = Σ_s start(s)·V^π(s) is computed by dynamic programming, never sampled. Where the
solution is that of an entropy-regularised problem (its temperature τ is above 0), V^π, J(π) and the Bellman equations
count τ·H(π(·|s)) as reward too.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order
from scipy.special import entr, logsumexp

from rlnet.mdp import FiniteMDP, ImproperPolicyError, Solution, evaluate, occupancy

# Which exact values an estimate is compared with.
AGAINST_OPTIMAL = "optimal"  # V*, Q*: for methods that learn optimal control
AGAINST_POLICY = "policy"  # V^π, Q^π of the judged policy: for prediction and on-policy methods


class Scores(NamedTuple):
    """What `score` returns."""

    scalars: dict[str, float]  # by the names of the logs, exact/...
    v: np.ndarray | None  # [S], the learned values that were judged
    v_exact: np.ndarray  # [S], what v was compared with
    q_exact: np.ndarray  # [S, A], what q was compared with


@dataclass(frozen=True)
class Judged:
    """A policy with its exact value."""

    policy: np.ndarray  # [S, A]
    v: np.ndarray  # [S]
    q: np.ndarray  # [S, A]
    value: float  # J(π); −inf where it never terminates at γ = 1
    error_bound: float  # on v, certified
    weights: np.ndarray  # [S] discounted state visitation from the start, sums to 1


def judge_policy(mdp: FiniteMDP, policy: np.ndarray, optimal: Solution) -> Judged:
    """The exact value and visitation of a policy at the optimum's γ and temperature.

    At γ = 1 a policy may never terminate from some states. Where the start does not lead to them the value of the
    start is still right: there the optimal policy takes over for the evaluation. Otherwise J(π) = −∞, the returned
    v and q are those of the optimum (nothing finite could be compared), and weights are uniform over the
    states that the policy can reach.
    """
    gamma, temperature = optimal.gamma, optimal.temperature
    reached = reachable(mdp, policy)
    try:
        exact = evaluate(mdp, policy, gamma, tol=np.inf, temperature=temperature)  # its bound is reported
    except ImproperPolicyError:
        policy = np.where(reached[:, None], policy, optimal.policy)
        try:
            exact = evaluate(mdp, policy, gamma, tol=np.inf, temperature=temperature)
        except ImproperPolicyError:
            # Were it the other way round, J* would be infinite too and `solve` would have refused the problem.
            bound, weights = optimal.error_bound, _uniform(reached & ~mdp.terminal)
            return Judged(policy, optimal.v, optimal.q, -np.inf, bound, weights)
    try:
        weights = occupancy(mdp, policy, gamma)
    except ImproperPolicyError:  # at γ = 1, a loop without reward: a value, but no limit to the visits
        weights = _uniform(reached & ~mdp.terminal)
    return Judged(policy, exact.v, exact.q, float(mdp.start @ exact.v), exact.error_bound, weights)


def _uniform(states: np.ndarray) -> np.ndarray:
    """The uniform distribution over a set of states, bool [S] → float [S]."""
    return states / max(states.sum(), 1)


def reachable(mdp: FiniteMDP, policy: np.ndarray | None = None) -> np.ndarray:
    """The states that can be reached from the start, by a policy [S, A] or (None) by any actions: bool [S].

    A state that is only named by outcomes that end the episode is not reached: nothing ever acts there.
    """
    state, n = np.asarray(mdp.pair_state), mdp.n_states
    used = np.ones(mdp.n_pairs, bool) if policy is None else policy[state, mdp.pair_action] > 0
    per_pair = np.diff(mdp.outcome_ptr)
    source = np.repeat(state, per_pair)
    edge = np.repeat(used, per_pair) & ~mdp.terminated & (mdp.probability > 0)
    start = np.flatnonzero(mdp.start > 0)
    # One more node that leads to every start state makes the search a single one.
    rows = np.concatenate([source[edge], np.full(len(start), n)])
    columns = np.concatenate([np.asarray(mdp.next_state)[edge], start])
    graph = csr_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(n + 1, n + 1))
    found = np.zeros(n + 1, bool)
    found[breadth_first_order(graph, n, return_predecessors=False)] = True
    return found[:n]


def _errors(name: str, learned: np.ndarray, exact: np.ndarray, weights: np.ndarray, uniform: np.ndarray) -> dict:
    """Weighted and uniform root mean square of a state-indexed error, and its maximum where `uniform` is positive."""
    square = (learned - exact) ** 2
    return {
        f"exact/{name}_rmse": float(np.sqrt(weights @ square)),
        f"exact/{name}_rmse_uniform": float(np.sqrt(uniform @ square)),
        f"exact/{name}_max": float(np.sqrt(square[uniform > 0].max(initial=0.0))),
    }


def _q_errors(q: np.ndarray, exact: np.ndarray, mdp: FiniteMDP, weights: np.ndarray, uniform: np.ndarray) -> dict:
    """As `_errors`; a state's error is the mean over its available actions, so that actions not taken count too."""
    error = np.where(mdp.available, q, 0.0) - np.where(mdp.available, exact, 0.0)
    count = np.maximum(mdp.available.sum(1), 1)
    square, mean = (error**2).sum(1) / count, error.sum(1) / count
    return {
        "exact/q_rmse": float(np.sqrt(weights @ square)),
        "exact/q_rmse_uniform": float(np.sqrt(uniform @ square)),
        "exact/q_max": float(np.abs(error[uniform > 0]).max(initial=0.0)),
        "exact/q_bias": float(weights @ mean),
    }


def _backup(mdp: FiniteMDP, v: np.ndarray, gamma: float) -> np.ndarray:
    """q(s, a) = Σ p·(r + γ·v(s')) [S, A], −inf where unavailable."""
    q = np.full((mdp.n_states, mdp.n_actions), -np.inf)
    q[mdp.pair_state, mdp.pair_action] = mdp.expected_reward + gamma * (mdp.transition @ v)
    return q


def _state_values(mdp: FiniteMDP, q: np.ndarray, policy: np.ndarray | None, temperature: float) -> np.ndarray:
    """max_a q, or Σ_a π·q + τ·H(π); with τ > 0 the maximum is τ·log Σ_a exp(q/τ). 0 in terminal states."""
    if policy is not None:
        best = (policy * np.where(mdp.available, q, 0.0)).sum(1) + temperature * entr(policy).sum(1)
    else:
        values = np.where(mdp.available | mdp.terminal[:, None], q, -np.inf)
        best = values.max(1) if temperature == 0 else temperature * logsumexp(values / temperature, axis=1)
    return np.where(mdp.terminal, 0.0, best)


def _residual(mdp: FiniteMDP, optimal: Solution, v: np.ndarray | None, q: np.ndarray | None, policy) -> float:
    """Largest violation of the Bellman equation by q, or else by v; optimality equation where policy is None."""
    gamma, temperature = optimal.gamma, optimal.temperature
    if q is not None:
        backed = _backup(mdp, _state_values(mdp, q, policy, temperature), gamma)
        return float(np.abs(q[mdp.available] - backed[mdp.available]).max(initial=0.0))
    backed = _state_values(mdp, _backup(mdp, v, gamma), policy, temperature)
    return float(np.abs(v - backed)[~mdp.terminal].max(initial=0.0))


def score(
    mdp: FiniteMDP,
    optimal: Solution,
    policy: np.ndarray,
    against: str,
    *,
    v: np.ndarray | None = None,
    q: np.ndarray | None = None,
    visits: np.ndarray | None = None,
) -> Scores:
    """Score one learner against the exact solution.

    Args:
        mdp: the model.
        optimal: `solve(mdp, gamma)`; its γ and temperature are those that everything is judged at.
        policy: π [S, A], the policy that the learner stands for.
        against: "optimal" compares v and q with V*, Q*; "policy" with V^π, Q^π.
        v: [S] learned state values; without them max_a q or Σ_a π·q (or their regularised forms) is judged.
        q: [S, A] learned action values.
        visits: [S, A] how often each pair was tried, for `exact/coverage`.

    Returns:
        The scalars (`*_rmse` weighted by the discounted visitation of π, `*_uniform` over the non-terminal states
        that can be reached at all) and the exact arrays.

    Raises:
        ValueError: an array has the wrong shape, or `against` is neither.
    """
    shape = (mdp.n_states, mdp.n_actions)
    for name, array, wanted in (("policy", policy, shape), ("v", v, shape[:1]), ("q", q, shape)):
        if array is not None and array.shape != wanted:
            raise ValueError(f"{name} has shape {array.shape}, the model needs {wanted}")
    if against not in (AGAINST_OPTIMAL, AGAINST_POLICY):
        raise ValueError(f"against={against!r}: allowed are {AGAINST_OPTIMAL!r}, {AGAINST_POLICY!r}")
    judged = judge_policy(mdp, policy, optimal)
    use_optimal = against == AGAINST_OPTIMAL
    v_exact, q_exact = (optimal.v, optimal.q) if use_optimal else (judged.v, judged.q)
    bellman_policy = None if use_optimal else judged.policy
    reach = reachable(mdp) & ~mdp.terminal
    uniform = _uniform(reach)

    scalars: dict[str, float] = {}
    if v is None and q is not None:
        v = _state_values(mdp, q, bellman_policy, optimal.temperature)
    if v is not None:
        v = np.where(mdp.terminal, 0.0, v)
        scalars |= _errors("v", v, v_exact, judged.weights, uniform)
        scalars["exact/bellman_residual"] = _residual(mdp, optimal, v, q, bellman_policy)
    if q is not None:
        scalars |= _q_errors(q, q_exact, mdp, judged.weights, uniform)
    best = float(mdp.start @ optimal.v)
    # Where the entropy counts, every action has a share in the optimum: how much of π agrees with it.
    right = (policy * (optimal.policy > 0) if optimal.temperature == 0 else np.minimum(policy, optimal.policy)).sum(1)
    scalars |= {
        "exact/return": judged.value,
        "exact/optimal_return": best,
        "exact/regret": best - judged.value,
        "exact/optimal_action_rate": float(judged.weights @ right),
        "exact/error_bound": max(optimal.error_bound, judged.error_bound),
    }
    if visits is not None:
        pairs = mdp.available & reach[:, None]
        scalars["exact/coverage"] = float((visits[pairs] > 0).mean()) if pairs.any() else 1.0
    return Scores(scalars, v, v_exact, q_exact)


@dataclass(frozen=True)
class Tables:
    """What a population has learned, on all states; float64."""

    policy: np.ndarray  # [M, S, A] the policy that each member stands for; rows of terminal states are 0
    v: np.ndarray | None = None  # [M, S]
    q: np.ndarray | None = None  # [M, S, A]


@dataclass(frozen=True)
class Comparison:
    """The scores of a population."""

    scalars: dict[str, np.ndarray]  # name → [M]
    v: np.ndarray | None  # [M, S], as learned, or as its q implies
    v_exact: np.ndarray  # [M, S]
    q_exact: np.ndarray  # [M, S, A]


def score_population(
    mdp: FiniteMDP, optimal: list[Solution], tables: Tables, against: str, visits: np.ndarray | None = None
) -> Comparison:
    """`score` for every member.

    Args:
        mdp: the model.
        optimal: M solutions, each at its member's γ.
        tables: what was learned.
        against: see `score`.
        visits: [M, S, A].
    """

    def pick(array: np.ndarray | None, m: int) -> np.ndarray | None:
        return None if array is None else array[m]

    scores = [
        score(
            mdp,
            solution,
            tables.policy[m],
            against,
            v=pick(tables.v, m),
            q=pick(tables.q, m),
            visits=pick(visits, m),
        )
        for m, solution in enumerate(optimal)
    ]
    scalars = {name: np.array([s.scalars[name] for s in scores]) for name in scores[0].scalars}
    v = None if scores[0].v is None else np.stack([s.v for s in scores])
    return Comparison(scalars, v, np.stack([s.v_exact for s in scores]), np.stack([s.q_exact for s in scores]))
