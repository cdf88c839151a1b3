"""Exact evaluation of policies for a comparison: values, visitation, optima under time limits."""

import warnings
from dataclasses import dataclass

import numpy as np
import scipy as sp

from rlnet.mdp import FiniteMDP, ImproperPolicyError, Solution, ToleranceWarning, evaluate, occupancy, solve
from rlnet.mdp.limited import limited_values


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
    try:
        exact = evaluate_quietly(mdp, policy, gamma, temperature)
    except ImproperPolicyError:
        reached = reachable(mdp, policy)
        policy = np.where(reached[:, None], policy, optimal.policy)
        try:
            exact = evaluate_quietly(mdp, policy, gamma, temperature)
        except ImproperPolicyError:
            # Were it the other way round, J* would be infinite too and `solve` would have refused the problem.
            bound, weights = optimal.error_bound, uniform_over(reached & ~mdp.terminal)
            return Judged(policy, optimal.v, optimal.q, -np.inf, bound, weights)
    try:
        weights = occupancy(mdp, policy, gamma)
    except ImproperPolicyError:  # at γ = 1, a loop without reward: a value, but no limit to the visits
        weights = uniform_over(reachable(mdp, policy) & ~mdp.terminal)
    return Judged(policy, exact.v, exact.q, float(mdp.start @ exact.v), exact.error_bound, weights)


def evaluate_quietly(mdp: FiniteMDP, policy: np.ndarray, gamma: float, temperature: float = 0.0) -> Solution:
    """V^π and Q^π to the attainable precision, which `error_bound` says; no warning where it is not that of `tol`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ToleranceWarning)
        return evaluate(mdp, policy, gamma, temperature=temperature)


def solve_quietly(mdp: FiniteMDP, gamma: float) -> Solution:
    """The optimum to the attainable precision, which `error_bound` says; no warning where it is not that of `tol`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ToleranceWarning)
        return solve(mdp, gamma)


def uniform_over(states: np.ndarray) -> np.ndarray:
    """The uniform distribution over a set of states, bool [S] → float [S]."""
    return states / max(states.sum(), 1)


def uniform_policy(mdp: FiniteMDP) -> np.ndarray:
    """The uniformly random policy [S, A]; rows of terminal states are 0."""
    return mdp.available / np.maximum(mdp.available.sum(1, keepdims=True), 1)


def greedy_policy(mdp: FiniteMDP, q: np.ndarray, temperature: float = 0.0) -> np.ndarray:
    """The policy [S, A] that takes the available actions of largest q [S, A], ties alike; with τ > 0 softmax(q/τ).

    Rows of terminal states are 0.
    """
    values = np.where(mdp.available, q, -np.inf)
    top = np.where(mdp.terminal[:, None], 0.0, values.max(1, keepdims=True))
    weight = np.exp((values - top) / temperature) if temperature > 0 else (values == top) * mdp.available
    return weight / np.where(mdp.terminal, 1.0, weight.sum(1))[:, None]


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
    graph = sp.sparse.csr_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(n + 1, n + 1))
    found = np.zeros(n + 1, bool)
    found[sp.sparse.csgraph.breadth_first_order(graph, n, return_predecessors=False)] = True
    return found[:n]


@dataclass(frozen=True)
class TimeLimit:
    """Optimum under a time limit of `steps` steps, over policies that know how many are left."""

    steps: int  # H
    v: np.ndarray  # [S] with all H steps ahead, at the run's γ and temperature
    value: float  # J*_H of them
    episode: float  # the best mean return of an episode: rewards alone, without discount


def time_limit(mdp: FiniteMDP, gamma: float, steps: int, temperature: float = 0.0) -> TimeLimit:
    """The optimum under a time limit of `steps` steps, at discount γ and temperature τ."""
    v = limited_values(mdp, gamma, steps, temperature=temperature)
    return TimeLimit(steps, v, float(mdp.start @ v), float(mdp.start @ limited_values(mdp, 1.0, steps)))
