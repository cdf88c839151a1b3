"""Policy-gradient estimators: the mean of many sampled gradients against the exact gradient of J, and known biases.

One update of each of 100 independent members, every one from 200 episodes, through the learner and the collector of a
run. A component of the mean must lie within 4.5 standard errors of its expectation: with some 10 components in 14 cases
a sound estimator would fail with probability 1e-3, once and for all, since seeds are fixed.
"""

import dataclasses

import numpy as np
import pytest
import torch
from support import make_run, quick, random_mdp, run_on

from rlnet.algos.a2c import advantages
from rlnet.algos.loss_terms import following_values
from rlnet.algos.ppo import clipped_value
from rlnet.algos.returns import boundaries, n_step_return
from rlnet.data.collector import Collector
from rlnet.learning.training_state import TrainingState
from rlnet.mdp import FiniteMDP, evaluate

GAMMA, MEMBERS, LONG = 0.85, 100, 120  # after LONG steps γ^t is 3e-9
MDP = random_mdp(3, states=5, actions=3)
LOGITS = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
WRONG = torch.tensor([1.0, -0.5, 0.3, 2.0, 5.0], dtype=torch.float64)  # that of the terminal state must never count


def probabilities(mdp: FiniteMDP, logits: torch.Tensor) -> torch.Tensor:
    """π [S, A]; rows of terminal states are zero."""
    masked = logits.masked_fill(~torch.as_tensor(mdp.available | mdp.terminal[:, None]), -torch.inf)
    return torch.softmax(masked, dim=1) * torch.as_tensor(mdp.available.copy())


def dense(mdp: FiniteMDP) -> tuple[torch.Tensor, torch.Tensor]:
    """P [S, A, S'] without terminated outcomes, and the expected reward [S, A]."""
    p, r = np.zeros((mdp.n_states, mdp.n_actions, mdp.n_states)), np.zeros((mdp.n_states, mdp.n_actions))
    p[mdp.pair_state, mdp.pair_action] = mdp.transition.toarray()
    r[mdp.pair_state, mdp.pair_action] = mdp.expected_reward
    return torch.from_numpy(p), torch.from_numpy(r)


def exact_gradient(mdp: FiniteMDP, logits: torch.Tensor) -> torch.Tensor:
    """∇J, J = start·(I − γ·P_π)⁻¹·r_π: autograd through the linear solve, [S, A]."""
    logits = logits.clone().requires_grad_()
    (p, r), pi = dense(mdp), probabilities(mdp, logits)
    matrix = torch.eye(mdp.n_states, dtype=torch.float64) - GAMMA * torch.einsum("sa,sat->st", pi, p)
    value = torch.linalg.solve(matrix, (pi * r).sum(1))
    return torch.autograd.grad(torch.as_tensor(np.array(mdp.start)) @ value, logits)[0]


def expected_gradient(mdp, logits, v, *, lambda_=1.0, state_discount=1.0, steps=LONG, behaviour=None) -> torch.Tensor:
    """What an estimator with this critic, λ, state weighting and cut aims at, by backward induction: [S, A].

    Σ_t γ^(κt)·Pr(S_t = s)·Σ_a ∇π(a|s)·Â_t(s, a), Â_t = r + γ·P·v − v + γλ·P·E_π[Â_{t+1}] and Â_steps = 0. With another
    `behaviour` (logits) the states and advantages are its own: the gradient of PPO's surrogate without the clip.
    """
    logits = logits.clone().requires_grad_()
    (p, r), pi = dense(mdp), probabilities(mdp, logits)
    acting = pi.detach() if behaviour is None else probabilities(mdp, behaviour)
    delta, later = r + GAMMA * p @ v - v[:, None], torch.zeros(mdp.n_states, dtype=torch.float64)
    advantages = []
    for _ in range(steps):
        advantages.append(delta + GAMMA * lambda_ * p @ later)
        later = (acting * advantages[-1]).sum(1)
    state, total = torch.as_tensor(np.array(mdp.start)), torch.zeros((), dtype=torch.float64)
    for advantage in reversed(advantages):
        total = total + state @ (pi * advantage).sum(1)
        state = GAMMA**state_discount * torch.einsum("s,sa,sat->t", state, acting, p)
    return torch.autograd.grad(total, logits)[0]


def sampled_gradients(
    mdp: FiniteMDP, name: str, logits: torch.Tensor, v: torch.Tensor, *, steps: int = LONG, moved=None, **hyper: float
) -> torch.Tensor:
    """One gradient of each member, each the mean over 200 episodes of at most `steps`: [M, S, A].

    `moved` are the logits at which the gradient is taken, where they are not those that acted.
    """
    numbers = {"entropy_coefficient": 0.0, "state_discount": 1.0, **hyper}
    run = run_on(
        mdp, f"algo={name}", "network=tabular", f"gamma={GAMMA}", f"seeds={MEMBERS}", "algo.envs=200",
        *(f"algo.hyper.{key}={value}" for key, value in numbers.items()),
    )  # fmt: skip
    run.learner.theta.copy_(torch.cat((logits.flatten(), v)).expand(MEMBERS, -1))
    run.collector = whole_episodes(run, steps)
    rollout = run.collect()
    algorithm, context = run.problem.algorithm, run.problem.context
    if algorithm.update.prepare is not None:
        with torch.no_grad():
            rollout = rollout.replace(extra=algorithm.update.prepare(context, run.learner.params, rollout, run.hyper()))
    count = logits.numel()
    if moved is not None:
        run.learner.theta[:, :count] = moved.flatten().float()
    before = run.learner.theta.clone()
    run.learner.step(rollout, run.hyper(), torch.ones(MEMBERS, 1))
    return (run.learner.theta - before)[:, :count].double().view(MEMBERS, *logits.shape)


def whole_episodes(run: TrainingState, steps: int) -> Collector:
    """One episode per environment and rollout, cut after so many steps: a loss is then a sum over an episode."""
    config, problem = run.config, run.problem
    simulation = problem.environment.simulate(config.member_seeds, config.algo.envs)
    arguments = (config.member_seeds, config.algo.envs, steps, run.gamma, problem.context.actions)
    return Collector(simulation, *arguments, whole_episodes=True)


def assert_mean(gradients: torch.Tensor, expected: torch.Tensor) -> None:
    """Every component within 4.5 standard errors, which are small against the gradient."""
    standard = gradients.std(0) / len(gradients) ** 0.5
    assert ((gradients.mean(0) - expected).abs() <= 4.5 * standard + 1e-6).all()
    assert standard.max() < 0.08 * expected.abs().max()


def true_value() -> torch.Tensor:
    return torch.from_numpy(evaluate(MDP, probabilities(MDP, LOGITS).numpy(), GAMMA).v)


def bias(**kind) -> float:
    """How far the expected gradient is from ∇J, relative to its length."""
    truth = exact_gradient(MDP, LOGITS)
    return float((expected_gradient(MDP, LOGITS, **kind) - truth).norm() / truth.norm())


def test_the_policy_gradient_theorem_holds_for_the_reference():
    """Both references agree for any critic at λ = 1, and for the true one at any λ; A(s) differs between states."""
    assert (MDP.available.sum(1)[~MDP.terminal] < 3).any()
    for kind in ({"v": WRONG}, {"v": true_value(), "lambda_": 0.0}, {"v": true_value(), "lambda_": 0.6}):
        assert bias(**kind) < 1e-7


UNBIASED = {
    "reinforce with a wrong baseline": ("reinforce", WRONG, {"baseline": 1.0}),
    "reinforce without a baseline": ("reinforce", WRONG, {"baseline": 0.0}),
    "one-step actor-critic, true V": ("actor_critic", None, {}),
    "a2c, GAE, true V": ("a2c", None, {"lambda_": 0.9}),
    "a2c, n-step to the end (λ = 1), wrong V": ("a2c", WRONG, {"lambda_": 1.0}),
    "ppo at ratio 1, true V": ("ppo", None, {"lambda_": 0.9, "normalise": 0.0}),
    "ppo at ratio 1, λ = 1, wrong V": ("ppo", WRONG, {"lambda_": 1.0, "normalise": 0.0}),
}


@pytest.mark.parametrize("case", quick(UNBIASED, list(UNBIASED)[::8]))
def test_the_mean_of_unbiased_estimators_is_the_gradient_of_j(case):
    name, v, hyper = UNBIASED[case]
    gradients = sampled_gradients(MDP, name, LOGITS, true_value() if v is None else v, **hyper)
    assert_mean(gradients, exact_gradient(MDP, LOGITS))


@pytest.mark.slow
def test_the_true_baseline_reduces_the_variance():
    """By half at least where every step pays 2 more: what the mean cannot show (S&B section 13.4)."""
    fields = {item.name: getattr(MDP, item.name) for item in dataclasses.fields(MDP) if item.init}
    rich = FiniteMDP(**{**fields, "reward": MDP.reward + 2.0})
    v = torch.from_numpy(evaluate(rich, probabilities(rich, LOGITS).numpy(), GAMMA).v)
    assert v.max() > 4.0
    with_it, without = (
        sampled_gradients(rich, "reinforce", LOGITS, v, baseline=b, steps=60).var(0).sum() for b in (1.0, 0.0)
    )
    assert with_it < 0.5 * without


# Estimator, its hyperparameters and cut, and the bias that follows: |E[g] − ∇J| / |∇J| on this model.
BIASED = {
    "states not discounted": ("reinforce", {}, {"state_discount": 0.0}, 0.701),
    "one-step actor-critic, wrong V": ("actor_critic", {}, {"lambda_": 0.0}, 1.395),
    "a2c, GAE, wrong V": ("a2c", {}, {"lambda_": 0.9}, 0.215),
    "a2c, wrong V behind a cut after 3 steps": ("a2c", {"steps": 3}, {"lambda_": 1.0}, 0.323),
    "ppo at ratio 1, GAE, wrong V": ("ppo", {}, {"lambda_": 0.9}, 0.215),
}


@pytest.mark.parametrize("case", quick(BIASED, list(BIASED)[::8]))
def test_biased_estimators_have_the_bias_that_theory_gives_them(case):
    name, cut, kind, stated = BIASED[case]
    expected = expected_gradient(MDP, LOGITS, WRONG, **cut, **kind)
    own = {key: value for key, value in kind.items() if key != "lambda_" or name in ("a2c", "ppo")}
    own |= {"normalise": 0.0} if name == "ppo" else {}
    assert_mean(sampled_gradients(MDP, name, LOGITS, WRONG, **cut, **own), expected)
    assert bias(v=WRONG, **cut, **kind) == pytest.approx(stated, abs=0.005)


@pytest.mark.slow
def test_ppo_behind_its_first_step_has_the_gradient_of_its_surrogate_and_the_clip_biases_it():
    """The policy has moved away from the one that acted. Without clip the mean is ∇Σ_s d_old(s)·Σ_a π(a|s)·A_old(s, a),
    0.147 of its length away from ∇J: states and advantages are old ones. With clip 0.1 the mean is 1.6 away: most rows
    have left the range, and those that went the wrong way are what remains."""
    moved = LOGITS + 0.5 * torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    v = true_value()
    own = {"moved": moved, "lambda_": 1.0, "normalise": 0.0}
    surrogate = expected_gradient(MDP, moved, v, behaviour=LOGITS)
    assert_mean(sampled_gradients(MDP, "ppo", LOGITS, v, clip=float("inf"), **own), surrogate)
    truth = exact_gradient(MDP, moved)
    clipped = sampled_gradients(MDP, "ppo", LOGITS, v, clip=0.1, **own)
    lost = (clipped.mean(0) - surrogate).abs() / (clipped.std(0) / MEMBERS**0.5 + 1e-12)
    assert lost.max() > 20
    assert float((surrogate - truth).norm() / truth.norm()) == pytest.approx(0.147, abs=0.005)
    assert float((clipped.mean(0) - truth).norm() / truth.norm()) == pytest.approx(1.6, abs=0.1)


def test_a2c_with_lambda_1_takes_n_step_returns_to_the_end_of_the_rollout():
    """Its value target at row t of T is the (T − t)-step return, its advantage that minus V."""
    run = run_on(MDP, "algo=a2c", "network=tabular", f"gamma={GAMMA}", "algo.hyper.lambda_=1", "algo.rollout=5")
    run.learner.theta.copy_(torch.cat((LOGITS.flatten(), WRONG)).view(1, -1))
    rollout, context, params = run.collect(), run.problem.context, run.learner.params
    advantage, target = advantages(context, params, rollout, run.hyper())
    v, next_v = context.v(params, rollout.state), context.v(params, rollout.next_state)
    discount, trace = boundaries(run.gamma, 1.0, rollout.terminated, rollout.truncated, rollout.valid)
    wanted = n_step_return(rollout.reward, discount, trace, next_v, n=5)
    torch.testing.assert_close(target, wanted)
    torch.testing.assert_close(advantage, wanted - v)


def test_the_clipped_value_is_the_estimate_that_is_further_from_the_target():
    """max((target − V)², (target − clip(V))²) with c = 0.5 around an old value of 1, member by member."""
    value = torch.tensor([0.0, 0.8, 2.0, 2.0, 0.0]).view(5, 1, 1).expand(5, 2, 1)
    target = torch.tensor([3.0, 3.0, 3.0, -1.0, -1.0]).view(5, 1, 1).expand(5, 2, 1)
    clip = torch.tensor([[0.5], [float("inf")]])
    out = clipped_value(value, torch.ones(5, 2, 1), target, clip)
    assert out[:, 0, 0].tolist() == pytest.approx([0.0, 0.8, 1.5, 2.0, 0.5])
    assert torch.equal(out[:, 1], value[:, 1])


@pytest.mark.parametrize("stepping", ["vector", "sync"])
def test_values_of_successors_are_those_of_the_network(stepping):
    """Also where a time limit cut the episode, and behind the last row; with and without rows of resets."""
    run = make_run(
        "env=cartpole", "algo=ppo", "seeds=3", f"env.stepping={stepping}", "env.max_episode_steps=13",
        "algo.envs=2", "algo.rollout=40",
    )  # fmt: skip
    context, params = run.problem.context, run.learner.params
    for _ in range(3):
        batch = run.collect()
        with torch.no_grad():
            value = context.v(params, batch.state)
            ours = following_values(context, params, batch, value)
            counts = batch.valid & ~batch.terminated
            torch.testing.assert_close(ours[counts], context.v(params, batch.next_state)[counts])
        assert (batch.truncated & batch.valid).any()
        assert (batch.terminated & batch.valid).any()
        assert batch.valid.all() == (stepping == "sync")
