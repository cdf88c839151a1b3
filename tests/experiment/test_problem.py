"""From config to problem: masks, the policy to be predicted, the truth at the right γ."""

import numpy as np
import pytest
import torch
from support import composed, random_mdp

from rlnet.config import ConfigError
from rlnet.experiment.networks import available_actions
from rlnet.experiment.problem import build
from rlnet.mdp import solve


def test_actions_are_masked_where_they_are_not_available_and_nowhere_in_terminal_states():
    mdp = random_mdp(0)
    mask = available_actions(mdp, torch.device("cpu"))
    np.testing.assert_array_equal(mask.numpy()[~mdp.terminal], mdp.available[~mdp.terminal])
    assert mask[torch.as_tensor(mdp.terminal.copy())].all()
    assert available_actions(random_mdp(0, masked=False), torch.device("cpu")) is None


def test_the_truth_is_that_of_the_runs_gamma():
    for gamma in (0.5, 0.9):
        problem = build(composed("env=gridworld", f"gamma={gamma}"))
        np.testing.assert_allclose(problem.solutions[0].v, solve(problem.environment.mdp, gamma).v)


def test_the_given_policy(tmp_path):
    uniform = build(composed("env=gridworld", "algo=td0")).context.given_policy[0]
    mdp = build(composed("env=gridworld")).environment.mdp
    assert (uniform[torch.as_tensor(~mdp.terminal)] == 0.25).all()
    problem = build(composed("env=gridworld", "algo=mc", "algo.policy=optimal"))
    np.testing.assert_allclose(problem.context.given_policy[0].numpy(), problem.solutions[0].policy, atol=1e-7)
    saved = np.roll(problem.solutions[0].policy, 1, axis=1)
    np.savez(tmp_path / "values.npz", pi=saved[None])
    problem = build(composed("env=gridworld", "algo=td0", f"algo.policy={tmp_path}/values.npz"))
    np.testing.assert_allclose(problem.context.given_policy[0].numpy(), saved, atol=1e-7)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"v": np.zeros(3)}, "holds no policy"),
        ({"policy": np.ones((2, 2)) / 2}, r"holds a policy of shape \(2, 2\), not"),
        ({"policy": np.ones((37, 4))}, "is not a policy of env=gridworld"),
    ],
)
def test_a_file_that_holds_no_policy_for_the_environment_is_refused(arrays, message, tmp_path):
    mdp = build(composed("env=gridworld")).environment.mdp
    if arrays.get("policy", np.zeros(0)).shape == (37, 4):
        arrays = {"policy": np.ones((mdp.n_states, mdp.n_actions))}
    np.savez(tmp_path / "policy.npz", **arrays)
    with pytest.raises(ConfigError, match=message):
        build(composed("env=gridworld", "algo=td0", f"algo.policy={tmp_path}/policy.npz"))


def test_rewards_that_float32_cannot_hold_are_refused():
    with pytest.raises(
        ConfigError, match=r"^env=gridworld: a reward of its model has the size 1e\+39, which float32, "
    ):
        build(composed("env=gridworld", "env.step_reward=-1e39"))


@pytest.mark.parametrize("algo", ["q_learning", "dqn", "td0"])
def test_what_needs_discrete_actions_refuses_a_box(algo):
    with pytest.raises(ConfigError, match=f"env=pendulum: algo={algo} needs actions that are Discrete, .* use one of"):
        build(composed("env=pendulum", f"algo={algo}"))


def test_a_table_refuses_real_observations():
    with pytest.raises(ConfigError, match="network=tabular: env=pendulum has no countable states"):
        build(composed("env=pendulum", "algo=ppo", "network=tabular"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("env=cartpole", "env.id=Acrobot-v1", "network=tabular"), "env.id=Acrobot-v1 has no countable states"),
        (("env=cartpole", "env.id=MountainCar-v0", "algo=td0"), "needs a finite model"),
        (("env=frozen_lake", "env.id=MountainCarContinuous-v0"), "env.id=MountainCarContinuous-v0: algo=q_learning"),
        (("env=taxi", "env.id=MountainCar-v0", "exploration=count_bonus"), "env.id=MountainCar-v0 has no countable"),
        (("env=cartpole", "network=tabular"), "env=cartpole has no countable states"),
        (("env=frozen_lake", "env.kwargs.is_slippery=false", "algo=sac"), "env=frozen_lake: algo=sac needs actions"),
    ],
)
def test_messages_name_the_environment_as_the_user_did(options, message):
    with pytest.raises(ConfigError) as refused:
        build(composed(*options))
    assert message in str(refused.value)
    if "env.id" in " ".join(options):
        assert options[0] not in str(refused.value)
