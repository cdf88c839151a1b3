"""Soft actor-critic: expected steps by enumeration and quadrature, and the soft optimum that it must reach."""

import numpy as np
import pytest
import torch
from scipy import stats
from support import enumerated, finish, make_run, random_mdp, run_on

from rlnet.algos.sac_discrete import soft_target
from rlnet.data.rollout import Rollout
from rlnet.mdp import evaluate, solve

GAMMA, TAU = 0.85, 0.4


@pytest.mark.parametrize("seed", range(3))
def test_the_discrete_step_is_the_soft_bellman_error_and_the_exact_gradient_of_the_actor(seed):
    """Δq_i = w·(r + γ·P·v⁻ − q_i), v⁻ = Σ_a π·(min q⁻ − τ·log π); Δlogits = ∇Σ_s w(s)·Σ_a π·(min q − τ·log π)."""
    mdp = random_mdp(seed)
    run = run_on(mdp, "algo=sac_discrete", "network=tabular", f"gamma={GAMMA}", f"algo.hyper.temperature={TAU}")
    shape, terminal = (mdp.n_states, mdp.n_actions), torch.as_tensor(mdp.terminal.copy())
    logits, q, q2, old, old2 = torch.randn(5, *shape, generator=torch.Generator().manual_seed(seed)).double()
    run.learner.theta.copy_(torch.cat((logits, q, q2)).view(1, -1))
    run.learner.target.copy_(torch.cat((torch.zeros(shape), old, old2)).view(1, -1))
    available = torch.as_tensor(mdp.available.copy())
    behaviour = mdp.available / mdp.available.sum(1, keepdims=True).clip(1)
    weights = np.linspace(0.5, 1.5, mdp.n_states)
    before = run.learner.theta.clone()
    run.learner.step(enumerated(mdp, behaviour, weights), run.hyper(), torch.ones(1, 1))
    change = (run.learner.theta - before).view(3, *shape).double()

    logits.requires_grad_()
    log_pi = torch.log_softmax(logits.masked_fill(~(available | terminal[:, None]), -1e9), dim=1)
    pi = log_pi.exp() * available
    v = (pi * (torch.minimum(old, old2) - TAU * log_pi)).sum(1).detach().numpy()
    backed = np.zeros(shape)
    backed[mdp.pair_state, mdp.pair_action] = mdp.expected_reward + GAMMA * (mdp.transition @ v)
    for part, critic in ((1, q), (2, q2)):
        wanted = weights[:, None] * behaviour * (backed - critic.numpy()) * mdp.available
        np.testing.assert_allclose(change[part], wanted, atol=1e-5)
    gain = (torch.as_tensor(weights) * (pi * (torch.minimum(q, q2) - TAU * log_pi)).sum(1)).sum()
    torch.testing.assert_close(change[0], torch.autograd.grad(gain, logits)[0], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("ends", [True, False])
def test_with_a_table_it_reaches_the_soft_optimum(ends):
    """Random MDP with A(s), τ = 0.2, 4 seeds: soft regret below 0.6 % and Q within 5 % (rms) of the range of soft Q*.

    The best policy without entropy has eight times that regret: what is reached is the soft optimum.
    """
    mdp = random_mdp(5, ends=ends)
    run = run_on(
        mdp, "algo=sac_discrete", "network=tabular", "optimizer=adam", "optimizer.learning_rate=0.1", f"gamma={GAMMA}",
        "algo.hyper.temperature=0.2", "algo.envs=32", "algo.capacity=100000", "algo.target_rate=0.1", "steps=100000",
        "seeds=4",
    )  # fmt: skip
    scores, solution = finish(run).compare()[1].scalars, run.problem.solutions[0]
    soft = solve(mdp, GAMMA, temperature=0.2)
    np.testing.assert_allclose(solution.v, soft.v, atol=1e-6)
    span = np.ptp(soft.q[np.isfinite(soft.q)])
    assert (scores["exact/regret"] <= 0.006 * span).all()
    assert (scores["exact/q_rmse"] <= 0.05 * span).all()
    hard = evaluate(mdp, solve(mdp, GAMMA).policy, GAMMA, temperature=0.2)
    assert mdp.start @ (soft.v - hard.v) > 0.05 * span


def test_longer_soft_targets_count_the_entropy_on_the_way():
    """n = 3 steps, the second of which may end the episode, against the sum written out."""
    reward, bonus, value = (
        torch.tensor([1.0, 2.0, 4.0]),
        torch.tensor([0.1, 0.2, 0.4]),
        torch.tensor([10.0, 20.0, 40.0]),
    )
    flags = torch.zeros(3, 1, 1, dtype=torch.bool)
    g = GAMMA
    for ended, expected in (
        (None, 1 + g * 0.1 + g * (2 + g * 0.2) + g**2 * (4 + g * 40.4)),
        ("terminated", 1 + g * 0.1 + g * 2),
        ("truncated", 1 + g * 0.1 + g * (2 + g * 20.2)),
    ):
        ends = {name: flags.clone() for name in ("terminated", "truncated")}
        if ended is not None:
            ends[ended][1] = True
        rows = dict.fromkeys(("obs", "action", "next_obs", "start_discount", "weight"), flags)
        batch = Rollout(**rows, **ends, reward=reward.view(3, 1, 1), valid=~flags)
        hyper = {"gamma": torch.full((1, 1), g)}
        target = soft_target(batch, hyper, value.view(3, 1, 1), bonus.view(3, 1, 1))
        assert target[0].item() == pytest.approx(expected, rel=1e-5)


# One state s with its successor, and linear functions of (s, action): scores of the policy, two critics, their targets.
STATE, NEXT, ACTION, REWARD, HALF = 0.5, -0.8, 0.7, 1.0, 2.0
POLICY = np.array([[0.6, -0.3], [0.2, -0.5]])  # weights of mean and log deviation, their biases
CRITICS = np.array([[0.4, 1.5, -0.2], [-0.1, -0.9, 0.3]])  # weights of s and of the action in its units, bias
TARGETS = CRITICS[::-1] * 0.7
Z = np.linspace(-9.0, 9.0, 40_001)


def expected(f, scores: np.ndarray) -> float:
    """E[f(u, log π(a|s))] of a = 2·u, u = tanh(N(μ, σ²)), by the trapezoidal rule."""
    mean, deviation = scores[0], np.exp(scores[1])
    x = mean + deviation * Z
    log_prob = stats.norm.logpdf(x, mean, deviation) - np.log(HALF) + 2 * np.log(np.cosh(x))
    return float(np.trapezoid(stats.norm.pdf(Z) * f(np.tanh(x), log_prob), Z))


def least(critics: np.ndarray, state: float, u: np.ndarray) -> np.ndarray:
    return np.minimum(*(w[0] * state + w[1] * u + w[2] for w in critics))


@pytest.mark.slow
def test_the_mean_step_for_real_actions_is_that_of_quadrature():
    """400 members × 64 rows: critics, actor and temperature; every component within 4.5 standard errors."""
    members, rows = 400, 64
    run = make_run(
        "env=lqr", "+env.kwargs.a=[[0.9]]", "+env.kwargs.b=[[0.5]]", "+env.kwargs.state_cost=[[1.0]]",
        "+env.kwargs.action_cost=[[0.1]]", f"env.kwargs.max_action={HALF}", "algo=sac", "network=linear", "gamma=0.7",
        f"seeds={members}", "optimizer=sgd", "algo.hyper.temperature=0.3",
    )  # fmt: skip
    theta = np.concatenate([POLICY.ravel(), CRITICS.ravel(), [0.2]])
    run.learner.theta.copy_(torch.as_tensor(theta).expand(members, -1))
    run.learner.target.copy_(torch.as_tensor(np.concatenate([POLICY.ravel(), TARGETS.ravel(), [9.0]])))
    shape = (1, members, rows)
    flags, full = torch.zeros(shape, dtype=torch.bool), torch.ones(shape)
    batch = Rollout(
        obs=full.unsqueeze(-1) * STATE, next_obs=full.unsqueeze(-1) * NEXT, action=full.unsqueeze(-1) * ACTION,
        reward=full * REWARD, terminated=flags, truncated=flags, valid=~flags, start_discount=full, weight=full / rows,
    )  # fmt: skip
    before = run.learner.theta.clone()
    run.learner.step(batch, run.hyper(), torch.ones(members, 1))
    change = (run.learner.theta - before).double().numpy()

    tau, scores = 0.3 * np.exp(0.2), POLICY[0] * STATE + POLICY[1]
    v = expected(lambda u, log_prob: least(TARGETS, NEXT, u) - tau * log_prob, POLICY[0] * NEXT + POLICY[1])
    wanted = np.zeros_like(theta)
    for k, critic in enumerate(CRITICS):
        inputs = np.array([STATE, ACTION / HALF, 1.0])
        wanted[4 + 3 * k : 7 + 3 * k] = (REWARD + 0.7 * v - critic @ inputs) * inputs
    for k, step in enumerate(1e-4 * np.eye(2)):
        gain = [
            expected(lambda u, log_prob: least(CRITICS, STATE, u) - tau * log_prob, scores + sign * step)
            for sign in (1, -1)
        ]
        wanted[[k, 2 + k]] = np.array([STATE, 1.0]) * (gain[0] - gain[1]) / 2e-4
    wanted[10] = -(expected(lambda u, log_prob: -log_prob, scores) - (np.log(HALF) - 1.0))
    standard = change.std(0) / members**0.5
    assert (np.abs(change.mean(0) - wanted) <= 4.5 * standard).all()
    assert (standard < 0.05 * np.abs(wanted).max()).all()
