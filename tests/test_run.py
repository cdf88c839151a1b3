"""The state of a run: schedules by each member's own steps, who acts, what is counted, which policy is judged."""

import numpy as np
import pytest
import torch
from support import make_run, update

from rlnet.config import ConfigError
from rlnet.data import rows_in_order

RAMP = ("schedule.start=1.0", "schedule.end=0.2", "schedule.fraction=0.5", "steps=1000", "env=random_walk", "gamma=0.9")


def test_schedules_follow_each_members_own_share_of_the_run():
    run = make_run(*RAMP, "seeds=4", "optimizer.learning_rate=0.01")
    run.steps = torch.tensor([0, 250, 999, 1500])
    assert run.explore.flatten().tolist() == pytest.approx([1.0, 0.6, 0.2, 0.2])
    # The learning rate falls to zero over the whole run, and is zero once a member has done its steps.
    assert run.learning_rate.flatten().tolist() == pytest.approx([0.01, 0.0075, 0.00001, 0.0], rel=1e-4)
    assert torch.equal(run.hyper()["explore"], run.explore)
    assert run.hyper()["gamma"].flatten().tolist() == pytest.approx([0.9] * 4)


def test_a_member_that_has_done_its_steps_is_left_alone():
    constant = ("schedule@optimizer.schedule=constant", "optimizer.schedule.value=1")
    run = make_run(*RAMP, *constant, "seeds=2")
    run.steps = torch.tensor([1000, 0])
    before = run.learner.theta.clone()
    update(run)
    assert torch.equal(run.learner.theta[0], before[0])
    assert not torch.equal(run.learner.theta[1], before[1])


@pytest.mark.parametrize(("epsilon", "share"), [(0.0, 1.0), (1.0, 0.5), (0.4, 0.8)])
def test_who_acts_explores_as_much_as_the_schedule_says(epsilon, share):
    run = make_run(
        "env=random_walk", "gamma=0.9", "schedule=constant", f"schedule.value={epsilon}", "network=tabular",
        "algo.envs=400", "algo.rollout=20",
    )  # fmt: skip
    run.learner.theta.view(1, -1, 2)[..., 1] = 1.0  # the greedy action is 1 everywhere
    actions = run.collect().action.float()
    assert actions.mean().item() == pytest.approx(
        share, abs=4.5 * (share * (1 - share) / actions.numel()) ** 0.5 + 1e-9
    )


@pytest.mark.parametrize("algo", ["q_learning", "sarsa"])
def test_steps_and_visits_count_each_transition_once(algo):
    run = make_run("env=random_walk", "gamma=0.9", f"algo={algo}", "algo.rollout=3", "algo.envs=4", "seeds=2")
    counted = np.zeros(tuple(run.visits.shape), np.int64)
    for _ in range(15):
        rollout = run.collect()
        lookback = run.collector.lookback
        for t in range(lookback, len(rollout.obs)):
            for m in range(2):
                for n in range(4):
                    counted[m, rollout.obs[t, m, n], rollout.action[t, m, n]] += 1
        run.learner.step(rollout, run.hyper(), run.learning_rate)
        run.count(rollout)
    assert run.steps.tolist() == [15 * 3 * 4] * 2
    np.testing.assert_array_equal(run.visits.numpy(), counted)


def test_rows_that_are_no_transitions_are_not_counted():
    run = make_run("env=random_walk", "gamma=0.9", "algo.envs=4")
    rollout = run.collect()
    rollout.valid.logical_and_(torch.tensor([True, False, True, False]))
    run.count(rollout)
    assert run.steps.tolist() == [2]
    assert run.visits.sum() == 2


@pytest.mark.parametrize(
    ("algo", "expected"),
    [("q_learning", [0.0, 1.0]), ("sarsa", [0.15, 0.85]), ("expected_sarsa", [0.15, 0.85]), ("dqn", [0.0, 1.0])],
)
def test_the_judged_policy_is_greedy_for_optimal_control_and_the_acting_one_on_policy(algo, expected):
    options = ("env=random_walk", "gamma=0.9", f"algo={algo}", "network=tabular", "schedule=constant")
    run = make_run(*options, "schedule.value=0.3")
    run.learner.theta.view(1, -1, 2)[..., 1] = 1.0
    tables, mdp = run.tables(), run.problem.environment.mdp
    np.testing.assert_allclose(tables.policy[0][~mdp.terminal], [expected] * (~mdp.terminal).sum(), atol=1e-6)
    assert (tables.policy[0][mdp.terminal] == 0).all()
    np.testing.assert_allclose(tables.q[0][~mdp.terminal], [[0.0, 1.0]] * (~mdp.terminal).sum())


def test_the_judged_policy_of_a_prediction_is_the_given_one():
    run = make_run("env=random_walk", "algo=td0", "algo.policy=optimal")
    np.testing.assert_allclose(run.tables().policy[0], run.problem.solutions[0].policy)


def test_rows_one_by_one_are_those_that_are_due_each_with_the_rows_that_its_target_needs():
    run = make_run("env=random_walk", "gamma=0.9", "algo=n_step_td", "algo.options.n_step=3", "algo.envs=4", "seeds=2")
    for _ in range(8):
        rollout = run.collect()
    rows = list(rows_in_order(rollout, 2))
    assert all(len(row.weight) <= 3 for row in rows)
    assert all((row.weight[1:] == 0).all() for row in rows)
    total = sum(row.weight[0] for row in rows)
    torch.testing.assert_close(total, (rollout.weight > 0).sum(0) / 4.0)
    assert torch.equal(rows[0].next_obs, rollout.next_obs[:3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("algo.options.n_step=0",), "algo.options.n_step=0: allowed are integers from 1"),
        (("algo.options.n_step=two",), "algo.options.n_step=two: allowed are integers from 1"),
        (("algo.options.one_by_one=2",), "algo.options.one_by_one=2: allowed are false, true"),
        (("+algo.options.steps=2",), "algo.options.steps=2: algo=n_step_td has no such option: n_step, one_by_one"),
        (("algo.options.one_by_one=true", "algo.rollout=90"), "optimizer=adam: algo=n_step_td takes a step for every"),
        (("algo.options.one_by_one=true",), "algo.rollout=1: must be at least 2: algo=n_step_td learns from whole"),
    ],
)
def test_options_that_cannot_be_used_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        make_run("env=random_walk", "algo=n_step_td", *options)
