"""Expected targets of algorithms as operators x → T x on the model, without sampling or function class.

x holds the values of *units*: of the states for V, of the pairs (s, a) for Q; those that can be reached and go on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu
from scipy.special import logsumexp

from rlnet.algos.loss_terms import COMPLETE
from rlnet.compare import reachable
from rlnet.config import AlgoConfig, Config, ReplayConfig
from rlnet.experiment.problem import Problem
from rlnet.mdp import FiniteMDP, ImproperPolicyError, occupancy


class NotDefined(Exception):
    """A part of the diagnosis is not defined for this run. The message is one clause that says why."""


@dataclass(frozen=True)
class Units:
    """The domain of a value function: n states, or n pairs (s, a)."""

    kind: str  # V or Q
    state: np.ndarray  # int [n]
    action: np.ndarray | None  # int [n] for Q

    def pick(self, table: np.ndarray) -> np.ndarray:
        """The entries of [..., S] or [..., S, A]: [..., n]."""
        return table[..., self.state] if self.action is None else table[..., self.state, self.action]

    def spread(self, weights: np.ndarray, policy: np.ndarray | None, available: np.ndarray) -> np.ndarray:
        """Spread weights per state [S] over units [n]: to actions by `policy` [S, A], or evenly over A(s)."""
        if self.action is None:
            return weights[self.state]
        share = available / np.maximum(available.sum(1, keepdims=True), 1) if policy is None else policy
        return weights[self.state] * share[self.state, self.action]


def units_of(mdp: FiniteMDP, kind: str) -> Units:
    """The reachable units that are not terminal."""
    alive = reachable(mdp) & ~mdp.terminal
    if kind == "V":
        return Units("V", np.flatnonzero(alive), None)
    pairs = np.flatnonzero(alive[mdp.pair_state])
    return Units("Q", np.asarray(mdp.pair_state)[pairs], np.asarray(mdp.pair_action)[pairs])


# ---------------------------------------------------------------------------------------------- operators


Operator = Callable[[np.ndarray], np.ndarray]  # [n] or [n, k] (columns alike) → the same


def policy_operator(
    mdp: FiniteMDP, units: Units, policy: np.ndarray, gamma: float, lambda_: float, steps: range | None
) -> Operator:
    """The expected λ-return of a policy, an affine map: G_0 = x, G_h = r + γ·P·((1 − λ)·x + λ·G_{h−1}).

    Args:
        policy: [S, A].
        lambda_: λ; 0 is the one-step target.
        steps: h; over several the mean is taken (a rollout's rows look ahead by different numbers of steps). None:
            h = ∞, up to the end of the episode.
    """
    mix = sp.csr_matrix(
        (policy[mdp.pair_state, mdp.pair_action], (mdp.pair_state, np.arange(mdp.n_pairs))),
        shape=(mdp.n_states, mdp.n_pairs),
    )
    if units.action is None:
        mix = mix[units.state]
        p, r = (mix @ mdp.transition)[:, units.state].tocsr(), mix @ mdp.expected_reward
    else:
        pairs = mdp.pair_index[units.state, units.action]
        p, r = (mdp.transition[pairs] @ mix[:, pairs]).tocsr(), mdp.expected_reward[pairs]
    p = gamma * p
    factors: Any = None if steps is not None else splu(sp.csc_matrix(sp.identity(len(r)) - lambda_ * p))

    def apply(x: np.ndarray) -> np.ndarray:
        reward = r if x.ndim == 1 else r[:, None]
        if steps is None:
            return factors.solve(reward + (1 - lambda_) * (p @ x))
        ahead, total = x, np.zeros_like(x)
        for h in range(1, steps[-1] + 1):
            ahead = reward + p @ ((1 - lambda_) * x + lambda_ * ahead)
            total = total + ahead * (h in steps)
        return total / len(steps)

    return apply


def optimal_operator(mdp: FiniteMDP, units: Units, gamma: float, temperature: float = 0.0) -> Operator:
    """Optimality operator r + γ·P·max_a x, with τ > 0 the soft maximum τ·log Σ_a exp(x/τ): one column only."""
    pairs = mdp.pair_index[units.state, units.action]
    p, r = mdp.transition[pairs], mdp.expected_reward[pairs]

    def apply(x: np.ndarray) -> np.ndarray:
        q = np.full((mdp.n_states, mdp.n_actions), -np.inf)
        q[units.state, units.action] = x
        best = q.max(1) if temperature == 0 else temperature * logsumexp(q / temperature, axis=1)
        return r + gamma * (p @ np.where(np.isfinite(best), best, 0.0))

    return apply


ONE_STEP = ("td0", "actor_critic", "sarsa", "expected_sarsa")
OPTIMAL = ("q_learning", "double_q_learning", "dqn", "double_dqn", "soft_q")
MONTE_CARLO = ("mc", "mc_control", "reinforce")
N_STEP = ("n_step_td", "n_step_sarsa")
EPISODE_LAMBDA = ("lambda_return", "td_lambda", "true_online_td_lambda", "sarsa_lambda")
ROLLOUT_LAMBDA = ("a2c", "ppo")


@dataclass(frozen=True)
class Target:
    """The expected target of an algorithm."""

    name: str  # as sentences name it
    operator: Operator | None  # None: the exact values themselves (Monte Carlo), nothing bootstraps
    affine: bool = True

    @property
    def apply(self) -> Operator:
        """`operator`; NotDefined where there is none."""
        if self.operator is None:
            raise NotDefined(f"{self.name} do not bootstrap")
        return self.operator


def target_of(config: Config, problem: Problem, units: Units, policy: np.ndarray) -> Target:
    """The target of the run's algorithm for the judged policy [S, A], which stays as it is.

    That a time limit cuts targets of several steps short is neglected.

    Raises:
        NotDefined: there is no such operator for the algorithm.
    """
    mdp, algo, name, gamma = problem.mdp, config.algo, config.algo.name, config.gamma
    lambda_: float
    steps: range | None
    _check_weights(algo)
    if name in MONTE_CARLO:
        _check_complete(mdp, policy, gamma, _limit(config, problem))
        return Target("complete returns", None)
    if name in OPTIMAL:
        if isinstance(algo, ReplayConfig) and algo.n_step > 1:
            raise NotDefined(f"algo.n_step={algo.n_step} without correction has a target that depends on the data")
        temperature = problem.algorithm.temperature(algo.hyper) if problem.algorithm.temperature else 0.0
        text = "r + γ·max Q" if temperature == 0 else "r + γ·τ·log Σ exp(Q/τ)"
        return Target(text, optimal_operator(mdp, units, gamma, temperature), affine=False)
    if name in ONE_STEP:
        lambda_, steps, text = 0.0, range(1, 2), "r + γ·E_π"
    elif name in N_STEP:
        n = algo.options["n_step"]
        lambda_, steps, text = 1.0, range(n, n + 1), f"{n} rewards and the bootstrap"
    elif name in EPISODE_LAMBDA:
        lambda_, steps, text = algo.hyper["lambda_"], None, "the λ-return"
    elif name in ROLLOUT_LAMBDA:
        lambda_, steps = algo.hyper["lambda_"], range(1, algo.rollout + 1)
        text = f"λ-returns of 1 to {algo.rollout} steps"
    else:
        raise NotDefined(f"no expected target is implemented for algo={name}")
    return Target(text, policy_operator(mdp, units, policy, gamma, lambda_, steps))


def _check_weights(algo: AlgoConfig) -> None:
    """Refuse what weighs the visits of a state, or its errors, otherwise than evenly."""
    if algo.options.get("visits") == "first":
        raise NotDefined("algo.options.visits=first does not learn from every visit of a state")
    if algo.options.get("traces") == "replacing":
        raise NotDefined("algo.options.traces=replacing makes the trace depend on later visits")
    if algo.hyper.get("huber", np.inf) < np.inf:
        raise NotDefined(
            f"algo.hyper.huber={algo.hyper['huber']} weighs large errors less, so its target is not an expectation"
        )


def _limit(config: Config, problem: Problem) -> int | None:
    limits = [problem.environment.max_steps, config.algo.rollout if problem.algorithm.data.whole_episodes else None]
    return min((limit for limit in limits if limit is not None), default=None)


def _check_complete(mdp: FiniteMDP, policy: np.ndarray, gamma: float, limit: int | None) -> None:
    """Returns that a limit cuts are not learned from, which favours short episodes: no operator says how much."""
    if limit is None or gamma**limit <= COMPLETE:
        return
    left = float(_visits(mdp, policy, limit, last=True).sum())
    if left > 0.01:
        raise NotDefined(f"{100 * left:.0f} % of the episodes are cut after {limit} steps and not learned from")


def _visits(mdp: FiniteMDP, policy: np.ndarray, limit: int, last: bool = False) -> np.ndarray:
    """Σ_{t<limit} Pr(S_t = s) [S], or only Pr(S_limit = s)."""
    mix = policy[mdp.pair_state, mdp.pair_action]
    p = sp.csr_matrix(sp.diags(mix) @ mdp.transition)
    group = sp.csr_matrix((np.ones(mdp.n_pairs), (mdp.pair_state, np.arange(mdp.n_pairs))), (mdp.n_states, mdp.n_pairs))
    step = (group @ p).T.tocsr()
    at, total = np.where(mdp.terminal, 0.0, mdp.start), np.zeros(mdp.n_states)
    for _ in range(limit):
        total += at
        at = step @ at
    return at if last else total


def data_weights(
    config: Config, problem: Problem, units: Units, policy: np.ndarray, visits: np.ndarray
) -> tuple[np.ndarray, str]:
    """The data distribution over units [n], and its source in words.

    On-policy: where the judged policy goes between its restarts, without discount, from the model. Where another
    policy acted, or episodes never end: the counts of the run itself.
    """
    mdp, limit = problem.mdp, _limit(config, problem)
    states = None
    if problem.algorithm.judged in ("given", "behaviour"):
        try:
            states = occupancy(mdp, policy, 1.0) if limit is None else _visits(mdp, policy, limit)
        except ImproperPolicyError:  # no end and no limit: the counts say it
            states = None
    if states is not None:
        return _scaled(units.spread(states, policy, mdp.available)), "where the judged policy goes"
    rows = problem.environment.states
    if rows is not None and len(rows.rows) < mdp.n_states:
        raise NotDefined("some states look alike, and the visits of the run cannot be told apart there")
    counts = visits.sum(1) if units.action is None else visits
    return _scaled(units.pick(counts).astype(float)), "the visits of the run"


FLOOR = 1e-6  # of all weight goes evenly to all units: where nothing was seen a fit is unique all the same


def _scaled(weights: np.ndarray) -> np.ndarray:
    total = weights.sum()
    if not total > 0:
        raise NotDefined("nothing was visited")
    return weights / total


def floored(weights: np.ndarray, share: float = FLOOR) -> np.ndarray:
    """Weights [n] mixed with a share of uniform ones."""
    return (1 - share) * weights + share / len(weights)
