"""Every method on random small problems, against solutions that share no code with them, within the stated bounds."""

import itertools
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from mdp_problems import dense, random_mdp
from support import share

from rlnet.mdp import ImproperPolicyError, ToleranceWarning, UnboundedValueError, evaluate, solve

METHODS = (
    "auto",
    "policy_iteration",
    "modified_policy_iteration",
    "value_iteration",
    "gauss_seidel",
    "linear_programming",
)
GAMMAS = (0.0, 0.3, 0.9, 0.99, 1.0)


def refined(matrix, b):
    """x with matrix x = b, dense, refined in extended precision."""
    matrix, b = matrix.astype(np.longdouble), b.astype(np.longdouble)
    x = np.zeros(len(b), dtype=np.longdouble)
    for _ in range(6):
        x = x + np.linalg.solve(matrix.astype(float), (b - matrix @ x).astype(float))
    return x


def discounted_truth(mdp, gamma):
    """v*: policy iteration on dense arrays, in extended precision."""
    transition, reward = dense(mdp)
    available = np.zeros((mdp.n_states, mdp.n_actions), dtype=bool)
    available[mdp.pair_state, mdp.pair_action] = True
    acts = available.any(axis=1)
    policy, index = available.argmax(axis=1), np.arange(mdp.n_states)
    for _ in range(200):
        p = np.where(acts[:, None], transition[index, policy], 0.0)
        v = refined(np.eye(mdp.n_states) - gamma * p, np.where(acts, reward[index, policy], 0.0))
        q = np.where(available, reward + gamma * (transition.astype(np.longdouble) @ v), -np.inf)
        better = acts & (q.max(axis=1) > q[index, policy] + 1e-16 * (1 + np.abs(v).max()))
        if not better.any():
            return v
        policy = np.where(better, q.argmax(axis=1), policy)
    raise AssertionError("the reference did not settle")


def undiscounted_truth(mdp):
    """v* at γ = 1 by trying every deterministic policy: an error's class, or values.

    A recurrent class that never ends is worth 0 if it is free, and makes a policy inadmissible if not; if its mean
    reward is positive the problem is unbounded.
    """
    transition, reward = dense(mdp)
    choices = [np.flatnonzero(mdp.available[s]) if mdp.available[s].any() else [-1] for s in range(mdp.n_states)]
    best, index = np.full(mdp.n_states, -np.inf, dtype=np.longdouble), np.arange(mdp.n_states)
    for policy in itertools.product(*choices):
        policy = np.array(policy)
        acts = policy >= 0
        p = np.where(acts[:, None], transition[index, policy], 0.0)
        r = np.where(acts, reward[index, policy], 0.0)
        reach = np.linalg.matrix_power(np.eye(mdp.n_states) + (p > 0), 2 * mdp.n_states) > 0
        closed = acts & (np.abs(p.sum(axis=1) - 1) < 1e-9)
        recurrent = np.array([closed[reach[s]].all() and reach[reach[s], s].all() for s in index])
        bad = np.zeros(mdp.n_states, dtype=bool)
        for s in np.flatnonzero(recurrent):
            members = np.flatnonzero(reach[s])
            if (np.abs(r[members]) > 1e-12).any():
                bad |= reach[:, s]
                system = np.vstack([p[np.ix_(members, members)].T - np.eye(len(members)), np.ones(len(members))])
                weight = np.linalg.lstsq(system, np.append(np.zeros(len(members)), 1.0), rcond=None)[0]
                if weight @ r[members] > 1e-9:
                    return UnboundedValueError
        keep = np.flatnonzero(~bad & ~recurrent)
        v = np.where(bad, -np.inf, 0.0).astype(np.longdouble)
        # A state that may fall among bad ones is bad itself, so what stays leads only to kept states and free loops.
        v[keep] = refined(np.eye(len(keep)) - p[np.ix_(keep, keep)], r[keep])
        best = np.maximum(best, v)
    return ImproperPolicyError if np.isneginf(best).any() else best


def check(mdp, gamma, methods):
    truth = discounted_truth(mdp, gamma) if gamma < 1 else undiscounted_truth(mdp)
    for method in methods:
        if isinstance(truth, type):
            with pytest.raises(truth):
                solve(mdp, gamma, method=method, tol=1e-6)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ToleranceWarning)
            solution = solve(mdp, gamma, method=method, tol=1e-6, verify=True)
        error = float(np.abs(solution.v - truth).max())
        scale = 1 + float(np.abs(truth).max())
        # A loop whose rewards cancel has no certificate at γ = 1; the values must be right all the same.
        assert error <= (solution.error_bound if np.isfinite(solution.error_bound) else 1e-9 * scale), method
        assert np.isfinite(solution.error_bound) or gamma == 1.0, method
        assert solution.converged or solution.error_bound > 1e-6, method
        if gamma < 1.0:
            assert solution.error_bound < 1e-6 + 1e-12 * scale / (1 - gamma) ** 2, method
    return truth


def soft_step(q, available, temperature):
    """(τ log Σ exp(q/τ) [S], softmax [S, A]) in extended precision; at τ = 0 the maximum and a greedy policy."""
    acts = available.any(axis=1)
    top = np.where(acts, np.where(available, q, -np.inf).max(axis=1, initial=-np.inf), 0)
    if temperature == 0:
        hits = available & (q == top[:, None])
        return top, hits / np.maximum(hits.sum(axis=1, keepdims=True), 1)
    weight = np.where(available, np.exp((np.where(available, q, top[:, None]) - top[:, None]) / temperature), 0)
    total = np.where(acts, weight.sum(axis=1), 1)
    return np.where(acts, top + temperature * np.log(total), 0), weight / total[:, None]


def chain_truth(transition, reward, available, policy, gamma, temperature):
    """V^π with τ H(π) paid in every state, in extended precision."""
    logs = np.log(np.where(policy > 0, policy, 1))
    r = (policy * (np.where(available, reward, 0) - temperature * logs)).sum(axis=1)
    return refined(np.eye(len(r)) - gamma * np.einsum("sa,sat->st", policy, transition), r)


def soft_truth(mdp, gamma, temperature):
    """The soft v*: soft policy iteration from the uniform policy, on dense arrays in extended precision."""
    transition, reward = (x.astype(np.longdouble) for x in dense(mdp))
    _, policy = soft_step(0 * reward, mdp.available, 1)
    for _ in range(200):
        v = chain_truth(transition, reward, mdp.available, policy, gamma, temperature)
        new, policy = soft_step(reward + gamma * (transition @ v), mdp.available, temperature)
        if np.abs(new - v).max() <= 1e-17 * (1 + np.abs(v).max()):
            return v
    return v


def some_policy(mdp, rng):
    policy = np.where(mdp.available, rng.random((mdp.n_states, mdp.n_actions)) + 1e-3, 0.0)
    return policy / np.maximum(policy.sum(axis=1, keepdims=True), 1e-9)


def check_variants(mdp, gamma, rng):
    """Soft and finite-horizon values, of the optimum and of a policy."""
    transition, reward = (x.astype(np.longdouble) for x in dense(mdp))
    policy, temperature, horizon = some_policy(mdp, rng), float(rng.choice([0.0, 0.1, 2.0])), int(rng.integers(4))
    scale = 1 + float(np.abs(reward).max())

    def right(solution, truth):
        assert np.abs(solution.v - truth).max(initial=0) <= solution.error_bound
        assert solution.error_bound < 1e-12 * scale / (1 - (gamma if gamma < 1 else 0)) ** 2

    best, own = [np.zeros(mdp.n_states)], [np.zeros(mdp.n_states)]
    paid = -temperature * np.log(np.where(policy > 0, policy, 1))
    for _ in range(horizon):
        best.append(soft_step(reward + gamma * (transition @ best[-1]), mdp.available, temperature)[0])
        own.append((policy * (reward + paid + gamma * (transition @ own[-1]))).sum(axis=1))
    right(solve(mdp, gamma, horizon=horizon, temperature=temperature), np.array(best[::-1]))
    right(evaluate(mdp, policy, gamma, horizon=horizon, temperature=temperature), np.array(own[::-1]))
    if gamma < 1:
        truth = chain_truth(transition, reward, mdp.available, policy, gamma, temperature)
        right(evaluate(mdp, policy, gamma, temperature=temperature, verify=True), truth)
        if temperature > 0:
            right(solve(mdp, gamma, temperature=temperature), soft_truth(mdp, gamma, temperature))


def some_mdp(rng, gamma):
    while True:
        mdp = random_mdp(rng)
        policies = np.prod(np.maximum(np.diff(mdp.pair_ptr), 1))
        if gamma < 1 or policies <= 64:
            return mdp


def test_every_method_agrees_on_random_problems():
    rng, kinds = np.random.default_rng(11), set()
    for k in range(40):  # thousands of them are slow
        gamma = GAMMAS[k % len(GAMMAS)]
        truth = check(some_mdp(rng, gamma), gamma, METHODS)
        kinds.add((gamma == 1.0, truth if isinstance(truth, type) else "value"))
    assert kinds >= {(False, "value"), (True, "value"), (True, ImproperPolicyError), (True, UnboundedValueError)}


def check_block(seed):
    """250 problems: every method on every tenth, auto and one other in turn on the rest; variants on every fifth."""
    rng = np.random.default_rng([12, seed])
    for k in range(250):
        gamma, other = GAMMAS[k % 5], METHODS[1 + k // 5 % 5]
        mdp = some_mdp(rng, gamma)
        check(mdp, gamma, METHODS if k // 5 % 10 == seed % 10 else ("auto", other))
        if k // 5 % 5 == seed % 5:
            check_variants(mdp, gamma, rng)


@pytest.mark.slow
def test_every_method_agrees_on_many_random_problems():
    # Processes of their own and not forks: threads may be running here.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(check_block, range(share(40))))


def test_soft_and_finite_horizon_values_agree_with_extended_precision():
    rng = np.random.default_rng(13)
    for k in range(100):
        check_variants(random_mdp(rng), GAMMAS[k % 5], rng)


def test_evaluation_agrees_with_a_dense_solve():
    rng = np.random.default_rng(13)
    for k in range(100):
        mdp, gamma = random_mdp(rng), GAMMAS[k % 4]
        policy = some_policy(mdp, rng)
        transition, reward = dense(mdp)
        p, r = np.einsum("sa,sat->st", policy, transition), (policy * reward).sum(axis=1)
        truth = refined(np.eye(mdp.n_states) - gamma * p, r)
        solution = evaluate(mdp, policy, gamma, verify=True)
        assert np.abs(solution.v - truth).max() <= solution.error_bound + 1e-12 * (1 + np.abs(truth).max())
        q = np.where(mdp.available, reward + gamma * transition @ solution.v, -np.inf)
        np.testing.assert_allclose(solution.q, q, atol=1e-9)
        np.testing.assert_allclose((policy * np.where(mdp.available, solution.q, 0)).sum(axis=1), solution.v, atol=1e-7)
