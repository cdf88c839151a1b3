"""Acting in numpy is acting by the algorithm's own functions: the same probabilities, the same actions."""

import numpy as np
import pytest
import torch
from support import make_run

from rlnet.data.rollout import Observation
from rlnet.learning import acting
from rlnet.learning.acting import actor, twin_of

CASES = [
    ("env=gridworld", "algo=q_learning"),
    ("env=gridworld", "algo=q_learning", "exploration=greedy", "schedule=none"),
    ("env=gridworld", "algo=sarsa", "exploration=softmax", "schedule.end=0.1"),
    ("env=cartpole", "algo=dqn", "algo.learning_starts=100", "network.activation=tanh"),
    ("env=gridworld", "algo=reinforce"),
    ("env=cartpole", "algo=ppo", "network.hidden=[7]"),
    ("env=cartpole", "algo=ppo", "network.hidden=[]"),
    ("env=gridworld", "algo=q_learning", "network=mlp", "network.input=features"),
    ("env=highway", "env.sight=3", "algo=dqn", "algo.learning_starts=100", "network.input=features"),
    ("env=gridworld", "algo=td0", "algo.policy=uniform"),
    ("env=gridworld", "algo=off_policy_mc"),
]


@pytest.mark.parametrize("options", CASES, ids=lambda options: " ".join(options))
@pytest.mark.parametrize("seeds", [1, 3])
def test_numpy_acts_as_torch_does(options, seeds):
    run = make_run(*options, f"seeds={seeds}", "algo.envs=200")
    run.learner.theta.mul_(5)  # policies that are not nearly uniform
    run.steps += run.config.steps // 4  # explorations that are neither all nor nothing
    run.follow()
    algorithm, context, params, hyper = run.problem.algorithm, run.problem.context, run.learner.params, run.hyper()
    obs, choose = run.collector._obs, actor(algorithm, context, params)(hyper)
    assert twin_of(algorithm, context) is not None
    for _ in range(5):
        uniform = torch.rand(seeds, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        plain = context.actions.sample(
            algorithm.acting.act(context, params, Observation(torch.from_numpy(obs)), hyper), uniform
        ).numpy()
        fast = choose(obs, None, uniform.numpy())
        assert fast.dtype == np.int64
        assert fast.shape == plain.shape
        # Rounding may move a boundary between two actions over a uniform number, hardly ever.
        assert (fast != plain).mean() <= 0.005
        obs = run.collector._simulation.step(plain).obs
    assert len(np.unique(plain)) > 1


@pytest.mark.parametrize("options", CASES, ids=lambda options: " ".join(options))
def test_few_actions_are_drawn_as_many_are(options, monkeypatch):
    run = make_run(*options, "seeds=3", "algo.envs=200")
    run.learner.theta.mul_(5)
    run.steps += run.config.steps // 4
    run.follow()
    choose = actor(run.problem.algorithm, run.problem.context, run.learner.params)(run.hyper())
    uniform = np.random.default_rng(0).random((20, 3, 200))
    many = [choose(run.collector._obs, None, numbers) for numbers in uniform]
    monkeypatch.setattr(acting, "FEW", 600)
    for numbers, actions in zip(uniform, many, strict=True):
        few = choose(run.collector._obs, None, numbers)
        assert few.dtype == np.int64
        np.testing.assert_array_equal(few, actions)


@pytest.mark.parametrize("options", CASES, ids=lambda options: " ".join(options))
def test_one_environment_acts_as_many_do(options):
    """Its forward pass and its draw have ways of their own."""
    run = make_run(*options, "algo.envs=200")
    run.learner.theta.mul_(5)
    run.steps += run.config.steps // 4
    run.follow()
    choose = actor(run.problem.algorithm, run.problem.context, run.learner.params)(run.hyper())
    obs, uniform = run.collector._obs, np.random.default_rng(0).random((1, 200))
    for _ in range(5):
        many = choose(obs, None, uniform)
        one = np.concatenate([choose(obs[:, n : n + 1], None, uniform[:, n : n + 1]) for n in range(200)], 1)
        assert one.dtype == np.int64
        assert (one != many).mean() <= 0.005  # where rounding moved a boundary
        obs = run.collector._simulation.step(many).obs
    assert len(np.unique(many)) > 1


@pytest.mark.parametrize("envs", [1, 200])
@pytest.mark.parametrize("env", ["gridworld", "cartpole"])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_parameters_without_bounds_are_acted_by_without_a_warning(env, envs):
    run = make_run(f"env={env}", "algo=dqn", f"algo.envs={envs}", "algo.learning_starts=100")
    for value in (3e38, -3e38, np.inf, np.nan):
        run.learner.theta.fill_(value)
        assert run.collect().action.min() >= 0


@pytest.mark.parametrize("few", [0, 8])
def test_actions_are_drawn_also_where_the_values_are_no_numbers(few, monkeypatch):
    monkeypatch.setattr(acting, "FEW", few)
    scores = np.array([[[np.nan, np.nan], [np.inf, np.inf], [np.inf, 1.0], [3e38, -3e38], [-np.inf, 0.0]]], np.float32)
    for twin in acting.TWINS.values():
        draw = acting._drawing(twin, lambda obs: scores, np.full((1, 1), 1e-3))
        with np.errstate(over="ignore", invalid="ignore"):  # as the collector draws
            actions = draw(scores, None, np.full((1, 5), 0.9))
        assert actions.min() >= 0
        assert actions.max() <= 1
        assert actions[0, 3:].tolist() == [0, 1]


@pytest.mark.parametrize(
    "options",
    [
        ("env=gridworld", "network=linear"),
        ("env=gridworld", "network.dueling=true"),
        ("env=gridworld", "exploration=count_bonus"),
        ("env=gridworld", "network.activation=silu"),
        ("env=pendulum", "algo=ppo"),
    ],
    ids=lambda options: " ".join(options),
)
def test_what_has_no_twin_in_numpy_takes_the_plain_path(options):
    run = make_run(*options)
    assert twin_of(run.problem.algorithm, run.problem.context) is None
    shape = (*run.collector._episodes.age.shape, *run.problem.context.actions.shape)
    choose = actor(run.problem.algorithm, run.problem.context, run.learner.params)(run.hyper())
    with torch.no_grad():
        assert choose(run.collector._obs, run.collector._mask, np.full(shape, 0.5)).shape == shape
