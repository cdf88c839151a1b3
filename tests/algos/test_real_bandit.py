"""Policies over real actions on problems of one step, −scale·Σ(a − best)² + offset: they find the best and keep it."""

import numpy as np
import pytest
import torch
from support import FULL, finish, make_run, update

from rlnet.data.collector import Collector
from rlnet.data.rollout import Observation
from rlnet.envs.simulate import Step
from rlnet.learning.training_state import TrainingState
from rlnet.numerics.loss_derivatives import held
from rlnet.policies.distributions import Gaussian


class Bandit:
    """M × N environments whose episodes have one step."""

    mask = None

    def __init__(self, members: int, envs: int, low, high, best, scale: float, offset: float) -> None:
        self.low, self.high, self.best = (np.array(x, np.float32) for x in (low, high, best))
        self.scale, self.offset = scale, offset
        self.obs, self.yes = np.zeros((members, envs, 1), np.float32), np.ones((members, envs), bool)

    def reset(self, seeds=None):
        return self.obs

    def step(self, action):
        missed = np.square(np.clip(action, self.low, self.high) - self.best).sum(-1)
        reward = (self.offset - self.scale * missed).astype(np.float32)
        return Step(self.obs, reward, self.yes, ~self.yes, self.yes, self.obs)


def bandit_run(algo: str, *more: str, low=(-1.0,), high=(1.0,), best=(0.5,), scale=1.0, offset=0.0) -> TrainingState:
    bounds = [
        "env=lqr",
        "+env.kwargs.a=[[0.0]]",
        f"+env.kwargs.b={np.ones((1, len(low))).tolist()}",
    ]
    bounds += ["+env.kwargs.state_cost=[[1.0]]", f"+env.kwargs.action_cost={np.eye(len(low)).tolist()}"]
    run = make_run(*bounds, "env.kwargs.max_action=1.0", f"algo={algo}", *more)
    actions = Gaussian(torch.tensor(low), torch.tensor(high))
    object.__setattr__(run.problem.context, "actions", actions)
    config = run.config
    run.collector = Collector(
        Bandit(len(run.steps), config.algo.envs, low, high, best, scale, offset), config.member_seeds, config.algo.envs,
        config.algo.rollout, run.gamma, actions, whole_episodes=run.problem.algorithm.data.whole_episodes,
    )  # fmt: skip
    return run


def missed(run: TrainingState, best) -> torch.Tensor:
    """How far the mean action of each member is from the best one, in half widths of the range: [M]."""
    with torch.no_grad():
        actions = run.problem.context.actions
        mean, _ = run.problem.context.policy(
            run.learner.params, Observation(torch.zeros(1, len(run.steps), 1, 1))
        ).chunk(2, -1)
    return (mean[0, :, 0] - (torch.tensor(best) - actions.centre) / actions.half).abs().amax(-1)


@pytest.mark.slow
def test_ppo_finds_the_best_action_and_keeps_it():
    run = finish(bandit_run("ppo", "seeds=4", "steps=20000", "network.hidden=[16,16]"))
    assert (missed(run, [0.5]) < 0.02).all()


PLANE = {"low": (-1.0, 0.0), "high": (3.0, 0.5), "best": (1.5, 0.1)}


CASES = {
    "plain": {},
    "near a bound": {"best": (0.9,)},
    "large": {"scale": 100.0},
    "small": {"scale": 0.01},
    "two dimensions": PLANE,
    "far from zero": {"offset": 1000.0},
}
EVERY = [(algo, case) for algo in ("ppo", "a2c", "actor_critic", "reinforce") for case in CASES]
LONG = [("reinforce", case) for case in CASES if case not in ("large", "two dimensions")]  # half a minute each


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "name"), EVERY if FULL else [one for one in EVERY if one not in LONG])
def test_nearly_all_members_end_within_2_percent_at_defaults(algo, name):
    case = CASES[name]
    run = finish(bandit_run(algo, "seeds=16", "steps=40000", "network.hidden=[16,16]", **case))
    # Without PPO's clip there is no margin in two dimensions: 14 or 15, by the random numbers.
    least = 14 if name == "two dimensions" and algo != "ppo" else 15
    assert (missed(run, case.get("best", (0.5,))) < 0.02).sum() >= least


def test_a_gradient_passes_a_bound_only_inwards():
    x = torch.tensor([-3.0, -3.0, 0.5, 3.0, 3.0], requires_grad=True)
    y = held(x, -1.0, 1.0)
    assert y.tolist() == [-1.0, -1.0, 0.5, 1.0, 1.0]
    (gradient,) = torch.autograd.grad(y, x, torch.tensor([1.0, -1.0, 2.0, 1.0, -1.0]))
    assert gradient.tolist() == [0.0, -1.0, 2.0, 1.0, 0.0]


def test_the_length_of_a_change_is_the_divergence_to_second_order():
    """KL(N(μ, σ²) ‖ N(μ', σ'²)) = log(σ'/σ) + (σ² + (μ − μ')²)/(2σ'²) − ½, summed over components."""
    actions = Gaussian(torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0]))
    before = torch.tensor([0.1, -0.3, -1.0, -2.0], dtype=torch.float64)
    after = before + 1e-4 * torch.tensor([1.0, -2.0, 3.0, 1.0], dtype=torch.float64)
    (m, s), (m2, s2) = (pi.chunk(2) for pi in (before, after))
    exact = ((s2 - s) + ((2 * s).exp() + (m - m2) ** 2) / (2 * (2 * s2).exp()) - 0.5).sum()
    assert actions.change(before, after).item() == pytest.approx(exact.item(), rel=2e-3)


def test_no_step_changes_a_narrow_policy_by_more_than_max_kl():
    run = bandit_run("a2c", "seeds=3", "network.hidden=[16,16]", "optimizer.max_kl=0.01")
    run.learner.params["pi"]["bias2"].copy_(torch.tensor([0.0, -3.9]))
    zero = Observation(torch.zeros(1, 3, 1, 1))
    for _ in range(5):
        with torch.no_grad():
            before = run.problem.context.policy(run.learner.params, zero)
        update(run)
        with torch.no_grad():
            change = run.problem.context.actions.change(before, run.problem.context.policy(run.learner.params, zero))
        assert (change < 0.015).all()
        assert (change > 0).all()


@pytest.mark.parametrize("algo", ["a2c", "reinforce"])
def test_the_entropy_bonus_of_real_actions_is_counted_in_the_advantages(algo):
    """With advantages 100 times as large a gradient step, its bonus included, is 100 times as long."""

    def change(scale: float) -> torch.Tensor:
        own = ["algo.hyper.value_coefficient=0", "algo.hyper.entropy_coefficient=0.5", "optimizer=sgd"]
        run = bandit_run(algo, "seeds=2", "network=linear", "optimizer.learning_rate=1e-3", *own, scale=scale)
        for values in run.learner.params["v"].values():
            values.zero_()
        before = run.learner.theta.clone()
        run.learner.step(run.collect(), run.hyper(), torch.full((2, 1), 1e-3))
        return run.learner.theta - before

    small, large = change(1.0), change(100.0)
    assert small.abs().max() > 1e-5
    torch.testing.assert_close(large, 100 * small, rtol=1e-3, atol=1e-5)
