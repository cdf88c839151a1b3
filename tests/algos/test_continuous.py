"""Policies over real actions: exact gradients by quadrature, the regulator's optimal gain, and what is refused."""

import numpy as np
import pytest
import torch
from support import composed, make_run, quick, quick_rows, trained, update

from rlnet import algos
from rlnet.config import ConfigError
from rlnet.envs import LQR
from rlnet.envs.control.lqr import CART
from rlnet.experiment.problem import build

CONTINUOUS = [name for name in algos.names() if algos.load(name).acting.continuous]


@pytest.mark.parametrize("network", quick(["mlp", "linear"], 1))
@pytest.mark.parametrize("algo", CONTINUOUS)
def test_every_algorithm_for_real_actions_trains_with_every_network_and_several_members(algo, network):
    options = ("seeds=3", "algo.envs=4", "algo.rollout=200", "env=lqr", "env.kwargs.max_action=5.0")
    run = make_run(f"algo={algo}", f"network={network}", *options)
    before = run.learner.theta.clone()
    update(run, 3)
    assert run.learner.theta.isfinite().all()
    assert ((run.learner.theta - before).abs().sum(1) > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("env=gridworld", "algo=sac"),
            "env=gridworld: algo=sac needs actions that are a Box, .* are Discrete; use",
        ),
        (("env=lqr", "algo=sac"), r"env=lqr: algo=sac needs actions between finite bounds, here they are \[-inf\]"),
        (("env=pendulum", "algo=sac_discrete"), "algo=sac_discrete needs actions that are Discrete, .* are a Box"),
    ],
)
def test_actions_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(composed(*options))


GAMMA = 0.5
GAIN, OFFSET, LOG_DEVIATION = np.array([[0.1, 0.2]]), np.array([0.6]), -0.4


def regulator_return(parameters: np.ndarray) -> float:
    """J of a linear normal policy (K [2], k, log σ) on the cart, from the Lyapunov equation."""
    lqr = LQR(**CART, noise=0.1, start=1.0)
    value = lqr.value(parameters[None, :2], GAMMA, offset=parameters[2], deviation=np.exp(parameters[3]))
    return lqr.expected_return(value)


@pytest.mark.parametrize(
    ("algo", "own"),
    quick_rows(
        [
            ("reinforce", {"baseline": 1.0}),
            ("reinforce", {"baseline": 0.0}),
            ("a2c", {"lambda_": 1.0}),
            ("ppo", {"lambda_": 1.0, "normalise": 0.0}),
        ],
        2,
    ),
)
def test_the_mean_gradient_of_normal_policies_is_that_of_the_regulators_exact_return(algo, own):
    """50 members × 1000 episodes of 20 steps at γ = ½, with a wrong critic: every component within 4.5 standard errors.

    ∇J by central differences of the exact J. What the cut after 20 steps leaves out weighs 1e-6, or γ^11 = 5e-4 where
    rows without a complete return are dropped.
    """
    numbers = {"entropy_coefficient": 0.0, "state_discount": 1.0, **own}
    run = make_run(
        "env=lqr", f"algo={algo}", "network=linear", f"gamma={GAMMA}", "seeds=50", "algo.envs=1000", "algo.rollout=20",
        "optimizer=sgd", *(f"algo.hyper.{key}={value}" for key, value in numbers.items()),
    )  # fmt: skip
    policy = torch.tensor([[GAIN[0, 0], 0.0], [GAIN[0, 1], 0.0], [OFFSET[0], LOG_DEVIATION]]).flatten()
    run.learner.theta.copy_(torch.cat((policy, torch.tensor([0.3, -0.2, -3.0]))).expand(50, -1))
    rollout = run.collect()
    algorithm, problem = run.problem.algorithm, run.problem
    weight = torch.full_like(rollout.weight, 1 / 1000)  # a sum over the one episode that each environment plays
    rollout = rollout.replace(weight=weight)
    if algorithm.update.prepare is not None:
        with torch.no_grad():
            rollout = rollout.replace(
                extra=algorithm.update.prepare(problem.context, run.learner.params, rollout, run.hyper())
            )
    before = run.learner.theta.clone()
    run.learner.step(rollout, run.hyper(), torch.ones(50, 1))
    change = (run.learner.theta - before)[:, [0, 2, 4, 5]].double()  # K, k and log σ
    here, exact = np.array([*GAIN[0], OFFSET[0], LOG_DEVIATION]), np.zeros(4)
    for k, step in enumerate(1e-5 * np.eye(4)):
        exact[k] = (regulator_return(here + step) - regulator_return(here - step)) / 2e-5
    standard = change.std(0).numpy() / 50**0.5
    assert (np.abs(change.mean(0).numpy() - exact) <= 4.5 * standard).all()
    assert standard.max() < 0.1 * np.abs(exact).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algo", "own"),
    [
        ("reinforce", ()),
        ("a2c", ("algo.hyper.lambda_=1",)),
        ("ppo", ("algo.hyper.lambda_=1", "algo.epochs=2", "algo.minibatches=2")),
    ],
)
def test_the_learned_gain_is_the_optimal_one(algo, own):
    """One state, 8 seeds: exact J within 0.06 of J* = −1.249 on average, 0.15 for each; gain within 0.25.

    Doing nothing costs 1.1 more than the best. The entropy bonus leaves the best mean as it is.
    """
    lqr = LQR(0.9, 0.5, 1.0, 0.1, noise=0.1, start=1.0)
    run = trained(
        "env=lqr", "+env.kwargs.a=[[0.9]]", "+env.kwargs.b=[[0.5]]", "+env.kwargs.state_cost=[[1.0]]",
        "+env.kwargs.action_cost=[[0.1]]", "env.max_episode_steps=24", "gamma=0.7", f"algo={algo}", "network=linear",
        "seeds=8", "algo.envs=32", "algo.rollout=24", "steps=150000", "optimizer.learning_rate=0.05",
        "algo.hyper.state_discount=1", "algo.hyper.entropy_coefficient=0.02", *own,
    )  # fmt: skip
    scores = run.learner.params["pi"]
    gains, offsets = scores["weight"][:, :, 0].double().numpy(), scores["bias"][:, 0].double().numpy()
    optimal = lqr.optimal_gain(0.7)
    best = lqr.expected_return(lqr.value(optimal, 0.7))
    assert best == pytest.approx(-1.249, abs=1e-3)
    found = [lqr.expected_return(lqr.value(k[None], 0.7, offset=b)) for k, b in zip(gains, offsets, strict=True)]
    assert (best - np.array(found)).mean() < 0.06
    assert (best - np.array(found)).max() < 0.15
    assert abs(gains.mean() - optimal[0, 0]) < 0.25
    assert best - lqr.expected_return(lqr.value(0.0 * optimal, 0.7)) > 1.0


@pytest.mark.parametrize("algo", quick(["sac", "ppo"], 1))
def test_a_resumed_run_with_real_actions_ends_where_an_uninterrupted_one_does(algo, tmp_path):
    options = ["env=pendulum", f"algo={algo}", "seeds=2", "algo.envs=2", "algo.rollout=8", "network.hidden=[8]"]
    options += ["algo.learning_starts=64", "algo.batch=16"] if algo == "sac" else []
    whole, half, resumed = (make_run(*options) for _ in range(3))
    update(half, 5)
    torch.save(half.state_dict(), tmp_path / "checkpoint.pt")
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    update(resumed, 4)
    update(whole, 9)
    assert torch.equal(whole.learner.theta, resumed.learner.theta)
    alone = make_run(*options, "seeds=1", "seed=1")
    update(alone, 9)
    torch.testing.assert_close(alone.learner.theta[0], whole.learner.theta[1], atol=1e-4, rtol=1e-3)
