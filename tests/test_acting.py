"""Acting in numpy is acting by the algorithm's own functions: the same probabilities, the same actions."""

import pytest
import torch
from support import make_run

from rlnet.acting import _in_numpy, chooser

CASES = [
    ("env=gridworld", "algo=q_learning"),
    ("env=gridworld", "algo=q_learning", "exploration=greedy", "schedule=none"),
    ("env=gridworld", "algo=sarsa", "exploration=softmax", "schedule.end=0.1"),
    ("env=cartpole", "algo=dqn", "algo.learning_starts=100", "network.activation=tanh"),
    ("env=gridworld", "algo=reinforce"),
    ("env=cartpole", "algo=ppo", "network.hidden=[7]"),
    ("env=cartpole", "algo=ppo", "network.hidden=[]"),
]


@pytest.mark.parametrize("options", CASES, ids=lambda options: " ".join(options))
@pytest.mark.parametrize("seeds", [1, 3])
def test_numpy_acts_as_torch_does(options, seeds):
    run = make_run(*options, f"seeds={seeds}", "algo.envs=200")
    run.learner.theta.mul_(5)  # policies that are not nearly uniform
    algorithm, setting, params, hyper = run.problem.algorithm, run.problem.setting, run.learner.params, run.hyper()
    obs = run.collector._obs
    for _ in range(5):
        uniform = torch.rand(seeds, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        plain = setting.actions.sample(algorithm.act(setting, params, obs, hyper), uniform)
        fast = _in_numpy(algorithm, setting, params, hyper)(obs, uniform)
        assert fast.dtype == torch.int64
        assert fast.shape == plain.shape
        # Rounding may move a boundary between two actions over a uniform number, hardly ever.
        assert (fast != plain).float().mean() <= 0.005
        obs = run.collector._simulation.step(plain).obs
    assert plain.unique().numel() > 1


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
    arguments = (run.problem.algorithm, run.problem.setting, run.learner.params, run.hyper())
    assert _in_numpy(*arguments) is None
    shape = (*run.collector._age.shape, *run.problem.setting.actions.shape)
    assert chooser(*arguments)(run.collector._obs, torch.full(shape, 0.5, dtype=torch.float64)).shape == shape
