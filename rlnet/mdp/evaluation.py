"""Policy evaluation: V^π, Q^π and the occupancy of a policy (S&B ch. 4.1)."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import scipy as sp

from rlnet.mdp.certificates.extended_precision import verified_chain
from rlnet.mdp.errors import ImproperPolicyError, name_states
from rlnet.mdp.games.solving import evaluate_game, require_plain
from rlnet.mdp.model.builders import as_numbers
from rlnet.mdp.model.finite_mdp import FiniteMDP, require_model
from rlnet.mdp.model.validation import check_count, check_gamma, check_temperature, check_tolerance
from rlnet.mdp.operators.bellman import System, system_of
from rlnet.mdp.operators.entropy import entropy
from rlnet.mdp.operators.linear_systems import NEVER_ENDS, DiscountedSystem, discounted_visits, fills_up
from rlnet.mdp.operators.markov_chain import Chain, chain_of, chain_values, part, reachable
from rlnet.mdp.solution import Solution, report_tolerance
from rlnet.mdp.solvers.finite_horizon import finite_horizon
from rlnet.mdp.solvers.value_iteration import Progress, certify, discounted

LU_STATES = 20_000
POLICY_TOLERANCE = 1e-5  # of a row's sum: policies come from float32 networks; rows are rescaled to sum to 1


def policy_matrix(mdp: FiniteMDP, policy: np.ndarray) -> np.ndarray:
    """A policy as probabilities float64 [S, A], from the same or from one action per state, int [S].

    Rows that sum to 1 within 1e-5, as those of float32 networks do, are rescaled. Rows of terminal states are not read.

    Raises:
        ValueError: another shape, a row that is no distribution, or a probability for an action that is not available;
            names the state, the action and the number.
    """
    require_model(mdp)
    policy = np.asarray(policy)
    acts = ~mdp.terminal
    if policy.shape == (mdp.n_states,) and policy.dtype.kind in "iu":
        wrong = acts & ((policy < 0) | (policy >= mdp.n_actions))
        wrong |= acts & ~mdp.available[np.arange(mdp.n_states), np.where(wrong, 0, policy) * acts]
        if wrong.any():
            s = int(wrong.argmax())
            raise ValueError(f"policy: action {policy[s]} is not available in state {s}")
        matrix = np.zeros((mdp.n_states, mdp.n_actions))
        matrix[np.flatnonzero(acts), policy[acts]] = 1.0
        return matrix
    if policy.shape != (mdp.n_states, mdp.n_actions):
        raise ValueError(
            f"policy must be float [S, A] = ({mdp.n_states}, {mdp.n_actions}) or int [S], "
            f"not {policy.dtype} {policy.shape}"
        )
    matrix = np.where(acts[:, None], as_numbers(policy, "policy"), 0.0)
    bad = ~(matrix >= 0) | (~mdp.available & (matrix != 0))
    if bad.any():
        s, a = np.argwhere(bad)[0]
        what = "negative or not a number" if mdp.available[s, a] else "given to an action that is not available"
        raise ValueError(f"policy: state {s}, action {a}: probability {matrix[s, a]} is {what}")
    total = matrix.sum(axis=1)
    off = acts & ~(np.abs(total - 1.0) <= POLICY_TOLERANCE)
    if off.any():
        s = int(off.argmax())
        raise ValueError(f"policy: probabilities in state {s} sum to {total[s]:.9g}, not 1")
    matrix /= np.where(acts, total, 1.0)[:, None]
    return matrix


def evaluate(
    mdp: FiniteMDP,
    policy: np.ndarray,
    gamma: float,
    *,
    tol: float = 1e-8,
    temperature: float = 0.0,
    horizon: int | None = None,
    verify: bool = False,
    callback: Callable[[int, float, float], None] | None = None,
) -> Solution:
    """Evaluate a policy, float [S, A] or int [S]: V^π and Q^π, v = r_π + γ P_π v (S&B eq. 4.3-4.4).

    By an LU solve up to 20,000 states, by compiled sweeps beyond, and where the factors would be dense. The other
    options are those of `solve`: `temperature` τ adds τ H(π(·|s)) to every reward; with a `horizon` H the policy may
    also be [H, S, A] or int [H, S].

    In a two-player zero-sum game (a model with a `sign`) the policy plays both sides: values of self-play.

    At γ = 1 a policy that goes on for ever in states without reward is worth 0 there. Warns (ToleranceWarning) where
    `error_bound` exceeds `tol`.

    Raises:
        ImproperPolicyError: γ = 1, and the policy never ends while it collects reward; names the states.
        ValueError: an option out of its range, or not a policy of this model.
        ArithmeticError: `verify` contradicts the bound.
    """
    began = time.perf_counter()
    gamma = check_gamma(gamma)
    check_tolerance(tol)
    check_temperature(temperature)
    if horizon is not None:
        horizon = check_count("horizon", horizon, 0)
        if verify:
            raise ValueError("verify is not available with a horizon: leave it at its default")
        matrices = _policies_in_time(mdp, policy, horizon)
        return finite_horizon(mdp, gamma, horizon, temperature, matrices, tol, began)
    matrix = policy_matrix(mdp, policy)
    if mdp.sign is not None:
        require_plain(temperature, verify=verify)
        return evaluate_game(mdp, matrix, gamma, tol, Progress(callback, began))
    system = system_of(mdp)
    chain = chain_of(mdp, matrix)
    r = chain.r if temperature == 0.0 else chain.r + temperature * entropy(matrix)
    live = None if gamma < 1.0 else _settles(r, chain, mdp)
    progress = Progress(callback, began)
    v, bound, done = _chain_values(mdp, system, r, chain, matrix, gamma, live, tol, progress)
    q = np.full((mdp.n_states, mdp.n_actions), -np.inf)
    q[mdp.pair_state, mdp.pair_action] = system.q(v, gamma)
    if verify:
        verified_chain(mdp, matrix, v, gamma, bound, temperature * entropy(matrix))
    met = report_tolerance(bound, tol, progress.interrupted)
    seconds = time.perf_counter() - began
    stopped = progress.interrupted
    return Solution(v, q, matrix, float(bound), progress.sweeps, seconds, done, gamma, met, stopped, temperature)


def _policies_in_time(mdp: FiniteMDP, policy: np.ndarray, horizon: int) -> np.ndarray:
    policy = np.asarray(policy)
    deterministic = policy.dtype.kind in "iu"
    if policy.ndim == (1 if deterministic else 2):
        return np.broadcast_to(policy_matrix(mdp, policy), (horizon, mdp.n_states, mdp.n_actions))
    if policy.ndim != (2 if deterministic else 3) or len(policy) != horizon:
        raise ValueError(f"policy must be [S, A], [S], [H, S, A] or int [H, S] with H = {horizon}, not {policy.shape}")
    return np.array([policy_matrix(mdp, at) for at in policy]).reshape(horizon, mdp.n_states, mdp.n_actions)


def _chain_values(
    mdp: FiniteMDP,
    system: System,
    r: np.ndarray,
    chain: Chain,
    matrix: np.ndarray,
    gamma: float,
    live: np.ndarray | None,
    tol: float,
    progress: Progress,
) -> tuple[np.ndarray, float, str]:
    """Solve v = r + γ P_π v by LU, or by sweeps where that is cheaper: values, error bound and method."""
    if _costly_factors(chain):
        return _swept_chain(system, r, chain, gamma, live, tol, progress)
    used = matrix[mdp.pair_state, mdp.pair_action] > 0.0
    largest = float(system.magnitude[used].max(initial=0.0))  # rewards of actions that are never taken do not count
    v, bound, dense = chain_values(r, chain, gamma, live, lambda values: system.rounding(values, largest))
    if not np.isfinite(v).all() or (gamma == 1.0 and not np.isfinite(bound)):
        raise ImproperPolicyError(NEVER_ENDS)
    progress.sweeps = 1
    return v, bound, "dense LU" if dense else "sparse LU"


def _costly_factors(chain: Chain) -> bool:
    """Whether iterations are tried before the LU factors of a chain."""
    return chain.p.shape[0] > LU_STATES or fills_up(chain.p)


def _swept_chain(
    system: System,
    r: np.ndarray,
    chain: Chain,
    gamma: float,
    live: np.ndarray | None,
    tol: float,
    progress: Progress,
) -> tuple[np.ndarray, float, str]:
    """`_chain_values` by sweeps over the chain as a model with one action per state."""
    from rlnet.mdp.solvers.compiled.sweeps import PackedSweeps
    from rlnet.mdp.solvers.undiscounted import reached, undiscounted

    index = np.arange(len(r)) if live is None else np.flatnonzero(live)
    p, ends = sp.sparse.csr_matrix(chain.p), chain.ends
    inner = p[index][:, index]
    leaks = ends[index] | (np.diff(inner.indptr) < np.diff(p[index].indptr))
    size = np.full(len(index), float(system.magnitude.max(initial=0.0)) + float(np.abs(r).max(initial=0.0)))
    one = System(np.arange(len(index)), r[index], size, inner, leaks, system.terms + int(np.diff(p.indptr).max()))
    v, sweeps = np.zeros(len(r)), PackedSweeps(one, gamma)
    try:
        if gamma < 1.0:
            bound, done = discounted(sweeps, tol, "modified_policy_iteration", progress)
        else:
            bound, done = undiscounted(sweeps, tol, "modified_policy_iteration", progress, np.arange(len(index)), 1000)
    except KeyboardInterrupt:
        progress.interrupted = True
        bound, done = certify(sweeps) if gamma < 1.0 else reached(sweeps, progress), "interrupted"
    v[index] = sweeps.values()
    return v, bound, done.replace("modified_policy_iteration", "sweeps")


def occupancy(mdp: FiniteMDP, policy: np.ndarray, gamma: float) -> np.ndarray:
    """Discounted state occupancy of a policy, float64 [S]: Σ_t γ^t Pr(S_t = s | S_0 ~ start, π), scaled to sum to 1.

    At γ = 1: the expected visits until the end. Terminal states weigh 0. (S&B p. 199, with discounting as in ch. 13.)

    Raises:
        ImproperPolicyError: γ = 1, and from some reachable state the policy never ends.
        ValueError: γ out of its range, a policy that is none, or every episode starts in a terminal state.
    """
    gamma = check_gamma(gamma)
    matrix = policy_matrix(mdp, policy)
    begin = np.where(mdp.terminal, 0.0, mdp.start)
    if begin.sum() == 0.0:
        raise ValueError("occupancy: every episode starts in a terminal state")
    chain = chain_of(mdp, matrix)
    reached = reachable(chain.p, begin > 0) & ~mdp.terminal
    visits = np.zeros(mdp.n_states)
    if gamma < 1.0:
        found = discounted_visits(chain.p, begin, gamma) if _costly_factors(chain) else None
        visits[:] = chain.solver(gamma).solve(begin, transposed=True) if found is None else found
        visits[~reached] = 0.0
    else:
        live = np.flatnonzero(reached)
        p = part(chain.p, live)
        stuck = ~reachable(p, chain.ends[live], backward=True)
        if stuck.any():
            names = name_states(live[stuck], mdp.labels)
            raise ImproperPolicyError(f"occupancy at gamma=1: the policy never ends from states {names}")
        visits[live] = DiscountedSystem(p, gamma).solve(begin[live], transposed=True)
    visits = np.maximum(visits, 0.0)
    total = visits.sum()
    if not 0.0 < total < np.inf:
        raise ImproperPolicyError(NEVER_ENDS)
    return visits / total


def _settles(r: np.ndarray, chain: Chain, mdp: FiniteMDP) -> np.ndarray:
    """bool [S]: the states outside the free loops (v = 0 there). ImproperPolicyError where a loop collects reward."""
    stuck = ~reachable(chain.p, chain.ends, backward=True) & ~mdp.terminal
    if not stuck.any():
        return ~mdp.terminal
    p = sp.sparse.csr_matrix(chain.p)
    # Inside `stuck`, which is closed, the classes without a way out are the loops that go on for ever.
    _, label = sp.sparse.csgraph.connected_components(p, connection="strong")
    source = np.repeat(np.arange(len(r)), np.diff(p.indptr))
    leaves = np.zeros(label.max() + 1, dtype=bool)
    leaves[label[source[label[source] != label[p.indices]]]] = True
    loop = stuck & ~leaves[label]
    costly = np.zeros(label.max() + 1, dtype=bool)
    costly[label[loop & (r != 0)]] = True
    bad = loop & costly[label]
    if bad.any():
        lost = np.flatnonzero(reachable(p, bad, backward=True))
        raise ImproperPolicyError(
            f"gamma=1: the policy goes round states {name_states(np.flatnonzero(bad), mdp.labels)} for ever and "
            f"collects reward there, so it has no value in states {name_states(lost, mdp.labels)}"
        )
    return ~mdp.terminal & ~loop
