"""n-step and off-policy targets: exact expectations over all trajectories of a small model, and reductions."""

import itertools

import numpy as np
import pytest
import torch
from support import random_mdp

from rlnet.algos import returns
from rlnet.mdp import evaluate, solve

GAMMA, LENGTH = 0.8, 3


def trajectories(mdp, behaviour, state: int, action: int | None):
    """All paths of LENGTH steps from a state (and first action) with their probabilities, as [T, 1, n] tensors.

    After a termination the path goes on with rows that count for nothing.
    """
    paths = [([], 1.0, state, False)]
    for t in range(LENGTH):
        longer = []
        for rows, weight, s, over in paths:
            if over:
                longer.append((rows + [rows[-1][:2] + (0.0, s, True)], weight, s, True))
                continue
            for pair in range(mdp.pair_ptr[s], mdp.pair_ptr[s + 1]):
                a = int(mdp.pair_action[pair])
                chance = behaviour[s, a] if (t or action is None) else float(a == action)
                for k in range(mdp.outcome_ptr[pair], mdp.outcome_ptr[pair + 1]):
                    p, s2 = chance * mdp.probability[k], int(mdp.next_state[k])
                    if p > 0:
                        row = (s, a, mdp.reward[k], s2, bool(mdp.terminated[k]))
                        longer.append((rows + [row], weight * p, s2, row[-1]))
        paths = longer
    columns = list(zip(*(list(zip(*rows, strict=True)) for rows, *_ in paths), strict=True))
    tensors = [torch.tensor(np.array(column).T[:, None]) for column in columns]
    return (*tensors, torch.tensor([weight for _, weight, *_ in paths]))


def policies(mdp, seed):
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(2):
        x = rng.random((mdp.n_states, mdp.n_actions)) * mdp.available
        made.append(x / x.sum(1, keepdims=True).clip(1e-9))
    return made


def numbers(mdp, rows, lambda_=1.0):
    _, _, reward, _, terminated, _ = rows
    flags = torch.zeros_like(terminated)
    gamma = torch.full((1, 1), GAMMA, dtype=torch.float64)
    discount, trace = returns.boundaries(gamma, gamma * 0 + lambda_, terminated, flags, ~flags)
    return reward.double(), discount, trace


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("n", [1, 2, 3])
def test_n_step_is_the_bellman_operator_applied_n_times(seed, n):
    mdp = random_mdp(seed, states=4, actions=2)
    policy = policies(mdp, seed)[0]
    values = [np.random.default_rng(seed).normal(size=mdp.n_states) * ~mdp.terminal]
    for _ in range(n):
        q = np.zeros((mdp.n_states, mdp.n_actions))
        q[mdp.pair_state, mdp.pair_action] = mdp.expected_reward + GAMMA * (mdp.transition @ values[-1])
        values.append((policy * q).sum(1))
    for s in np.flatnonzero(~mdp.terminal):
        rows = trajectories(mdp, policy, int(s), None)
        reward, discount, trace = numbers(mdp, rows)
        target = returns.n_step_return(reward, discount, trace, torch.tensor(values[0])[rows[3]], n)
        assert (rows[-1] * target[0, 0]).sum().item() == pytest.approx(values[n][s], abs=1e-9)


COEFFICIENTS = {
    "tree_backup": returns.tree_backup,
    "retrace": returns.retrace,
    "importance_sampling": returns.importance_sampling,
    "q_lambda": lambda target, behaviour: torch.ones_like(target),
}


@pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("name", COEFFICIENTS)
def test_the_expected_off_policy_target_at_q_pi_is_q_pi(name, lambda_):
    """Its fixed point, for any behaviour (Munos et al. 2016, theorem 1)."""
    mdp = random_mdp(5, states=4, actions=3)
    target, behaviour = policies(mdp, 5)
    q = evaluate(mdp, target, GAMMA).q
    for s, a in itertools.product(range(mdp.n_states), range(mdp.n_actions)):
        if mdp.available[s, a]:
            out, weight = expected_target(mdp, target, behaviour, q, s, a, COEFFICIENTS[name], lambda_)
            assert (weight * out).sum().item() == pytest.approx(q[s, a], abs=1e-9)


def expected_target(mdp, target, behaviour, q, s, a, coefficient, lambda_):
    rows = trajectories(mdp, behaviour, s, a)
    state, action, *_, weight = rows
    reward, discount, trace = numbers(mdp, rows, lambda_)
    finite = torch.tensor(np.where(mdp.available, q, 0.0))
    pi, b = torch.tensor(target)[state, action], torch.tensor(behaviour)[state, action].clamp(min=1e-12)
    expected = (torch.tensor(target) * finite).sum(1)[rows[3]]
    out = returns.corrected_q_return(reward, discount, trace, finite[state, action], expected, coefficient(pi, b))
    return out[0, 0], weight


def test_importance_sampled_corrections_apply_the_bellman_operator_t_times():
    """Away from the fixed point too, on-policy and off-policy: the corrections telescope."""
    mdp = random_mdp(6, states=4, actions=2)
    target, behaviour = policies(mdp, 6)
    q = [np.random.default_rng(6).normal(size=target.shape) * mdp.available]
    s, a = int(mdp.pair_state[0]), int(mdp.pair_action[0])
    out, weight = expected_target(mdp, target, target, q[0], s, a, returns.importance_sampling, 1.0)
    for _ in range(LENGTH):
        v = (target * q[-1]).sum(1)
        backed = np.zeros_like(q[0])
        backed[mdp.pair_state, mdp.pair_action] = mdp.expected_reward + GAMMA * (mdp.transition @ v)
        q.append(backed)
    assert (weight * out).sum().item() == pytest.approx(q[LENGTH][s, a], abs=1e-9)
    off, weight = expected_target(mdp, target, behaviour, q[0], s, a, returns.importance_sampling, 1.0)
    assert (weight * off).sum().item() == pytest.approx(q[LENGTH][s, a], abs=1e-9)


def test_watkins_q_lambda_stays_at_q_star():
    mdp = random_mdp(7, states=4, actions=3)
    behaviour = policies(mdp, 7)[1]
    best = solve(mdp, GAMMA)
    for s, a in itertools.product(range(mdp.n_states), range(mdp.n_actions)):
        if mdp.available[s, a]:
            greedy = lambda pi, b: (pi > 0).double()  # noqa: E731
            out, weight = expected_target(mdp, best.policy, behaviour, best.q, s, a, greedy, 0.9)
            assert (weight * out).sum().item() == pytest.approx(best.q[s, a], abs=1e-9)


@pytest.mark.parametrize("lambda_", [0.5, 1.0])
def test_v_trace_without_truncation_and_importance_sampling_stay_at_v_pi(lambda_):
    mdp = random_mdp(8, states=4, actions=3)
    target, behaviour = policies(mdp, 8)
    v = evaluate(mdp, target, GAMMA).v
    for s in np.flatnonzero(~mdp.terminal):
        rows = trajectories(mdp, behaviour, int(s), None)
        state, action, _, after, _, weight = rows
        reward, discount, trace = numbers(mdp, rows, lambda_)
        ratio = torch.tensor(target)[state, action] / torch.tensor(behaviour)[state, action].clamp(min=1e-12)
        value, next_value = torch.tensor(v)[state], torch.tensor(v)[after]
        out = returns.v_trace(reward, discount, trace, value, next_value, ratio, 1e9, 1e9)
        assert (weight * out[0, 0]).sum().item() == pytest.approx(v[s], abs=1e-9)
        sampled = returns.importance_sampled_return(reward, discount, trace, next_value, ratio)
        assert (weight * sampled[0, 0]).sum().item() == pytest.approx(v[s], abs=1e-9)


def test_v_trace_with_truncation_converges_to_its_own_policy():
    """π_ρ̄ ∝ min(ρ̄·b, π) (Espeholt et al. 2018, eq. 5): its value is the fixed point."""
    mdp = random_mdp(9, states=4, actions=3)
    target, behaviour = policies(mdp, 9)
    clipped = np.minimum(behaviour, target)
    clipped /= clipped.sum(1, keepdims=True).clip(1e-9)
    v = evaluate(mdp, clipped, GAMMA).v
    for s in np.flatnonzero(~mdp.terminal):
        rows = trajectories(mdp, behaviour, int(s), None)
        state, action, _, after, _, weight = rows
        reward, discount, trace = numbers(mdp, rows)
        ratio = torch.tensor(target)[state, action] / torch.tensor(behaviour)[state, action].clamp(min=1e-12)
        out = returns.v_trace(reward, discount, trace, torch.tensor(v)[state], torch.tensor(v)[after], ratio)
        assert (weight * out[0, 0]).sum().item() == pytest.approx(v[s], abs=1e-9)


def rollout(seed=0, steps=10):
    generator = torch.Generator().manual_seed(seed)
    shape = (steps, 2, 30)
    reward, value = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    terminated = torch.rand(shape, generator=generator) < 0.1
    truncated = (torch.rand(shape, generator=generator) < 0.1) & ~terminated
    next_value = torch.cat((value[1:], torch.randn(1, 2, 30, generator=generator, dtype=torch.float64)))
    next_value = torch.where(truncated, torch.randn(shape, generator=generator, dtype=torch.float64), next_value)
    gamma = torch.tensor([[0.9], [1.0]], dtype=torch.float64)
    return reward, value, next_value, terminated, truncated, gamma


def test_reductions():
    """Every special case of a general function is a free test."""
    reward, value, next_value, terminated, truncated, gamma = rollout()
    valid = torch.ones_like(terminated)
    discount, one = returns.boundaries(gamma, gamma * 0 + 1, terminated, truncated, valid)
    _, some = returns.boundaries(gamma, gamma * 0 + 0.7, terminated, truncated, valid)
    ratio = torch.ones_like(reward)
    close = torch.testing.assert_close
    lambda_return = returns.lambda_return(reward, discount, some, next_value)
    full = returns.lambda_return(reward, discount, one, next_value)
    close(returns.gae(reward, discount, some, value, next_value) + value, lambda_return)
    close(returns.v_trace(reward, discount, some, value, next_value, ratio), lambda_return)
    close(returns.n_step_return(reward, discount, one, next_value, len(reward)), full)
    close(returns.n_step_return(reward, discount, one, next_value, 1), returns.td_target(reward, discount, next_value))
    close(returns.importance_sampled_return(reward, discount, one, next_value, ratio), full)
    close(returns.corrected_q_return(reward, discount, some, value, next_value, ratio), lambda_return)
    mixed = sum(0.3 * 0.7**k * returns.n_step_return(reward, discount, one, next_value, k + 1) for k in range(9))
    close(mixed + 0.7**9 * full, lambda_return)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 12])
def test_n_step_returns_against_their_definition(n):
    reward, _, next_value, terminated, truncated, gamma = rollout(seed=3)
    discount, trace = returns.boundaries(gamma, gamma * 0 + 1, terminated, truncated, torch.ones_like(terminated))
    out = returns.n_step_return(reward, discount, trace, next_value, n)
    for m, g in enumerate(gamma.flatten().tolist()):
        for e in range(reward.shape[2]):
            for t in range(len(reward)):
                total, weight = 0.0, 1.0
                for k in range(t, min(t + n, len(reward))):
                    total, weight = total + weight * float(reward[k, m, e]), weight * g
                    if terminated[k, m, e]:
                        weight = 0.0
                    if terminated[k, m, e] or truncated[k, m, e]:
                        break
                assert out[t, m, e].item() == pytest.approx(total + weight * float(next_value[k, m, e]), abs=1e-12)


def test_first_visits_against_their_definition():
    key = torch.randint(4, (12, 2, 5), generator=torch.Generator().manual_seed(0))
    first = returns.first_visits(key)
    for m in range(2):
        for e in range(5):
            column = key[:, m, e].tolist()
            assert first[:, m, e].tolist() == [column.index(x) == t for t, x in enumerate(column)]


def test_n_must_be_positive():
    zeros = torch.zeros(3, 1, 1)
    with pytest.raises(ValueError, match="n=0: must be at least 1"):
        returns.n_step_return(zeros, zeros, zeros, zeros, 0)
