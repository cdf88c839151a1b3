"""Every target against a slow, obvious reference and against exact expectations."""

import pytest
import torch
from support import enumerated, random_mdp

from rlnet.algos.returns import boundaries, lambda_return, monte_carlo_return, scan, td_target
from rlnet.mdp import evaluate

GAMMAS = torch.tensor([[0.9], [1.0], [0.0]])  # [M, 1]


def episodes(steps: int = 12, envs: int = 40, seed: int = 0):
    """Random rewards, values and ends; terminated and truncated never together. [T, M, N]"""
    generator = torch.Generator().manual_seed(seed)
    shape = (steps, len(GAMMAS), envs)
    reward, next_value = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    terminated = torch.rand(shape, generator=generator) < 0.15
    truncated = (torch.rand(shape, generator=generator) < 0.15) & ~terminated
    return reward, next_value, terminated, truncated


def reference_return(reward, next_value, terminated, truncated, gamma: float, lambda_: float, t: int) -> float:
    """G^λ_t of one environment by its forward definition: a weighted sum of n-step returns (S&B eq. 12.3)."""
    n_step, total, weight, discounted = [], 0.0, 1.0, 1.0
    collected = 0.0
    for k in range(t, len(reward)):
        collected += discounted * float(reward[k])
        discounted *= gamma
        n_step.append(collected + (0.0 if terminated[k] else discounted * float(next_value[k])))
        if terminated[k] or truncated[k]:
            break
    for value in n_step[:-1]:
        total += (1 - lambda_) * weight * value
        weight *= lambda_
    return total + weight * n_step[-1]


@pytest.mark.parametrize("lambda_", [0.0, 0.3, 0.9, 1.0])
def test_lambda_return_is_the_weighted_sum_of_n_step_returns(lambda_):
    reward, next_value, terminated, truncated = episodes()
    trace = torch.full_like(GAMMAS, lambda_)
    discount, trace = boundaries(GAMMAS, trace, terminated, truncated, torch.ones_like(terminated))
    out = lambda_return(reward, discount.double(), trace.double(), next_value)
    for m, gamma in enumerate(GAMMAS.squeeze(1).tolist()):
        for n in range(reward.shape[2]):
            for t in range(len(reward)):
                arguments = (x[:, m, n] for x in (reward, next_value, terminated, truncated))
                assert out[t, m, n] == pytest.approx(reference_return(*arguments, gamma, lambda_, t), abs=1e-6)


def test_one_step_and_monte_carlo_are_the_ends_of_lambda():
    reward, next_value, terminated, truncated = episodes(seed=1)
    valid = torch.ones_like(terminated)
    discount, none = (x.double() for x in boundaries(GAMMAS, GAMMAS * 0, terminated, truncated, valid))
    td = td_target(reward, discount, next_value)
    torch.testing.assert_close(lambda_return(reward, discount, none, next_value), td, rtol=0, atol=0)
    _, full = boundaries(GAMMAS, torch.ones_like(GAMMAS), terminated, truncated, valid)
    ret, missing = monte_carlo_return(reward, discount, full.double())
    # With V = 1 everywhere, the λ = 1 return exceeds the pure sample by exactly the missing weight.
    ones = torch.ones_like(reward)
    torch.testing.assert_close(lambda_return(reward, discount, full.double(), ones), ret + missing)


def test_missing_weight_is_zero_exactly_where_the_episode_terminates():
    reward, _, terminated, truncated = episodes(seed=2)
    discount, trace = boundaries(
        GAMMAS[:1], torch.ones(1, 1), terminated[:, :1], truncated[:, :1], torch.ones_like(terminated[:, :1])
    )
    _, missing = monte_carlo_return(reward[:, :1].float(), discount, trace)
    for n in range(reward.shape[2]):
        for t in range(len(reward)):
            ends = (terminated | truncated)[t:, 0, n].nonzero()
            complete = len(ends) > 0 and bool(terminated[t + int(ends[0]), 0, n])
            steps = (int(ends[0]) if len(ends) else len(reward) - t - 1) + 1
            assert missing[t, 0, n] == pytest.approx(0.0 if complete else 0.9**steps, rel=1e-5)


def test_an_invalid_row_cuts_the_trace_of_the_row_before_it():
    flags = torch.zeros(3, 1, 1, dtype=torch.bool)
    valid = ~flags
    valid[1] = False
    discount, trace = boundaries(torch.full((1, 1), 0.5), torch.ones(1, 1), flags, flags, valid)
    assert trace.flatten().tolist() == [0.0, 1.0, 0.0]
    assert discount.flatten().tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("seed", range(3))
def test_expected_td_target_is_the_bellman_operator(seed):
    """By enumeration of a model: E[R + γ·V(S')] = (T^π V)(s), S&B eq. 4.4, for any V."""
    mdp, gamma = random_mdp(seed), 0.8
    policy = mdp.available / mdp.available.sum(1, keepdims=True).clip(1)
    value = torch.randn(mdp.n_states, generator=torch.Generator().manual_seed(seed))
    batch = enumerated(mdp, policy, (~mdp.terminal).astype(float))
    flags = (batch.terminated, batch.truncated, batch.valid)
    discount, _ = boundaries(torch.full((1, 1), gamma), torch.zeros(1, 1), *flags)
    target = td_target(batch.reward, discount, value[batch.next_obs])
    expected = torch.zeros(mdp.n_states).index_add(0, batch.obs.flatten(), (batch.weight * target).flatten())
    reward = (policy[mdp.pair_state, mdp.pair_action] * mdp.expected_reward).astype(float)
    backed = torch.zeros(mdp.n_states, dtype=torch.float64)
    after = torch.as_tensor(mdp.transition @ value.double().numpy()) * gamma
    after *= torch.as_tensor(policy[mdp.pair_state, mdp.pair_action])
    backed.index_add_(0, torch.as_tensor(mdp.pair_state.astype("int64")), torch.as_tensor(reward) + after)
    torch.testing.assert_close(expected.double(), backed, atol=1e-5, rtol=1e-5)
    # And V^π is the operator's fixed point.
    exact = torch.as_tensor(evaluate(mdp, policy, gamma).v)
    target = td_target(batch.reward.double(), discount.double(), exact[batch.next_obs])
    fixed = torch.zeros(mdp.n_states, dtype=torch.float64)
    fixed.index_add_(0, batch.obs.flatten(), (batch.weight * target).flatten())
    torch.testing.assert_close(fixed, exact, atol=1e-5, rtol=1e-5)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        scan(torch.zeros(3, 1, 4), torch.zeros(3, 2, 4))
    with pytest.raises(ValueError, match="one shape"):
        td_target(torch.zeros(3, 1, 4), torch.zeros(3, 1, 4), torch.zeros(3, 1, 4, 1))
