"""The state of a run: schedules by each member's own steps, who acts, what is counted, which policy is judged."""

import numpy as np
import pytest
import torch
from support import finish, make_run, quick, run_on, trained, update

from rlnet.config import ConfigError
from rlnet.data.rollout import rows_in_order
from rlnet.data.visits import count_visits
from rlnet.learning.updates import logged
from rlnet.mdp import FiniteMDP

RAMP = ("schedule.start=1.0", "schedule.end=0.2", "schedule.fraction=0.5", "steps=1000", "env=random_walk", "gamma=0.9")


def test_schedules_follow_each_members_own_share_of_the_run():
    run = make_run(*RAMP, "seeds=4", "optimizer.learning_rate=0.01")
    run.steps = torch.tensor([0, 250, 999, 1500])
    run.follow()
    assert run.explore.flatten().tolist() == pytest.approx([1.0, 0.6, 0.2, 0.2])
    # The learning rate falls to zero over the whole run, and is zero once a member has done its steps.
    assert run.learning_rate.flatten().tolist() == pytest.approx([0.01, 0.0075, 0.00001, 0.0], rel=1e-4)
    assert torch.equal(run.hyper()["explore"], run.explore)
    assert run.hyper()["gamma"].flatten().tolist() == pytest.approx([0.9] * 4)


def test_a_member_that_has_done_its_steps_is_left_alone():
    constant = ("schedule@optimizer.schedule=constant", "optimizer.schedule.value=1")
    run = make_run(*RAMP, *constant, "seeds=2")
    run.steps = torch.tensor([1000, 0])
    run.follow()
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


def test_visits_are_counted_in_tensors_as_in_arrays():
    rng = np.random.default_rng(0)
    obs, action, valid = (rng.integers(high, size=(6, 3, 4)) for high in (5, 2, 2))
    seen, active = (obs, action, valid.astype(bool)), np.array([True, False, True])
    arrays, tensors = np.ones((3, 5, 2), np.int64), torch.ones(3, 5, 2, dtype=torch.int64)
    count_visits(arrays, *seen, active)
    count_visits(tensors, *(torch.from_numpy(x) for x in (*seen, active)))
    np.testing.assert_array_equal(tensors.numpy(), arrays)
    assert (arrays - 1).sum((1, 2)).tolist() == (valid.sum((0, 2)) * active).tolist()


def test_rows_that_are_no_transitions_are_not_counted():
    run = make_run("env=random_walk", "gamma=0.9", "algo.envs=4")
    rollout = run.collect()
    rollout.valid.logical_and_(torch.tensor([True, False, True, False]))
    run.collector.new_steps[:] = 2  # as a collector says of these rows
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
        (
            ("algo.options.one_by_one=true", "algo.rollout=90"),
            "optimizer=adam: must be sgd: algo=n_step_td takes a step for every",
        ),
        (("algo.options.one_by_one=true",), "algo.rollout=1: must be at least 2: algo=n_step_td learns from whole"),
    ],
)
def test_options_that_cannot_be_used_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        make_run("env=random_walk", "algo=n_step_td", *options)


def test_learning_from_replay_starts_once_a_segment_of_every_environment_is_there():
    run = make_run(
        "env=random_walk", "algo=dqn", "algo.n_step=5", "algo.rollout=2", "algo.envs=4", "algo.learning_starts=1"
    )
    update(run)
    assert len(run.replay) == 24  # three rollouts of two steps: the first two do not hold five in a row
    assert run.learner.theta.isfinite().all()


def test_noisy_networks_act_with_noise_and_are_judged_without():
    options = ("env=random_walk", "gamma=0.9", "network=tabular", "exploration=noisy", "algo.envs=500", "seeds=2")
    run = make_run(*options, "network.initial_value=1")
    tables = run.tables()
    np.testing.assert_allclose(tables.q[:, ~run.problem.environment.mdp.terminal], 1.0)
    assert run.collect().action[0].float().std(1).max() == 0  # one noise, one greedy action for all in the first state
    noisy = [run.learner.acting_params()["q"]["table"] for _ in range(2)]
    assert not torch.equal(noisy[0], noisy[1])
    update(run)
    assert not torch.equal(run.learner.layout.deviations(run.learner.theta), torch.full((2, 40), 0.5))


@pytest.mark.slow
@pytest.mark.parametrize("name", quick(["count_bonus", "optimistic"], 1))
def test_counting_and_optimism_try_everything_where_greed_alone_does_not(name):
    """A chain of ten states that pays 0.1 for going left at once and 1 at its right end."""
    options = (
        "env=random_walk", "env.length=10", "env.left_reward=0.1", "gamma=0.95", "network=tabular", "algo.envs=1",
        "optimizer.learning_rate=0.5", "schedule@optimizer.schedule=constant", "optimizer.schedule.value=1",
    )  # fmt: skip
    more = {"count_bonus": ("schedule=constant", "schedule.value=0.2"), "optimistic": ()}[name]
    curious, greedy = make_run(*options, f"exploration={name}", *more), make_run(*options, "exploration=greedy")
    greedy.learner.theta.view(-1, 2)[:, 0] = 0.01  # a prejudice for going left
    curious.learner.theta.view(-1, 2)[:, 0] += 0.01
    for run in (curious, greedy):
        update(run, 1000)
    assert curious.compare()[1].scalars["exact/regret"].max() < 1e-6
    assert greedy.compare()[1].scalars["exact/regret"].min() > 0.1


@pytest.mark.parametrize("algo", quick(["actor_critic", "a2c"], 1))
def test_a_scheduled_entropy_bonus_is_the_temperature_of_the_policy_and_leaves_the_best_one_when_it_is_gone(algo):
    """With a bonus of c the best policy of a bandit is ∝ exp(r/c): .4 for good, or from .8 to 0."""
    reward = np.array([1.0, 0.6, 0.2])
    transition = np.zeros((2, 3, 2))
    transition[..., 1] = 1
    mdp = FiniteMDP.from_arrays(
        transition, np.broadcast_to(reward, (2, 3)), terminal=np.array([False, True]), start=np.array([1.0, 0.0])
    )
    options = (
        f"algo={algo}", "algo.rollout=2", "algo.envs=64", "algo.hyper.entropy_coefficient=0.8", "gamma=1", "seeds=4",
        "network=tabular", "steps=60000", "optimizer.learning_rate=0.2", "exploration=entropy",
    )  # fmt: skip
    soft = np.exp(reward / 0.4) / np.exp(reward / 0.4).sum()
    pi = [
        finish(run_on(mdp, *options, *schedule)).compare()[0].policy[:, 0]
        for schedule in (("schedule=constant", "schedule.value=0.5"), ("schedule.fraction=0.3",))
    ]
    np.testing.assert_allclose(pi[0], np.broadcast_to(soft, pi[0].shape), atol=0.01)
    assert (pi[1][:, 0] > 0.9).all()


def test_an_entropy_bonus_follows_its_schedule_and_is_nothing_but_the_coefficient():
    own = ("env=random_walk", "gamma=0.9", "algo=ppo", "steps=4096", "seeds=2")
    run = make_run(*own, "exploration=entropy", "algo.hyper.entropy_coefficient=0.2", "schedule.end=0.1")
    run.steps = torch.tensor([0, 2048])
    run.follow()
    assert run.hyper()["entropy_coefficient"].flatten().tolist() == pytest.approx([0.2, 0.11])
    assert logged(run, {})["explore/entropy_factor"].tolist() == pytest.approx([1, 0.55])
    half = ("exploration=entropy", "schedule=constant", "schedule.value=0.5", "algo.hyper.entropy_coefficient=0.5")
    scheduled, fixed = (trained(*own, *more) for more in (half, ("algo.hyper.entropy_coefficient=0.25",)))
    assert torch.equal(scheduled.learner.theta, fixed.learner.theta)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            (
                "algo=sac_discrete",
                "exploration=entropy",
            ),
            r"exploration=entropy: must be none: algo=sac_discrete acts by its own",
        ),
        (
            (
                "algo=a2c",
                "exploration=softmax",
            ),
            r"exploration=softmax: must be none, or entropy: algo=a2c acts by its own",
        ),
        (
            (
                "algo=actor_critic",
                "exploration=entropy",
            ),
            r"algo.hyper.entropy_coefficient=0.0: must be above 0 with exploration=entr",
        ),
        (
            ("schedule@optimizer.schedule=constant",),
            r"optimizer.schedule.value=0.1: must be 1: it is a factor on optimizer.lear",
        ),
        (
            (
                "algo=ppo",
                "exploration=entropy",
                "schedule.start=-1",
            ),
            r"schedule.start=-1.0: the factor on algo.hyper.entropy_coefficient must be",
        ),
        (
            (
                "env=cartpole",
                "exploration=count_bonus",
            ),
            "exploration=count_bonus: counts visits, but env=cartpole has no countable",
        ),
        (
            (
                "env=cliff",
                "gamma=0.9",
                "exploration=noisy",
                "algo=sarsa",
            ),
            "exploration=noisy: algo=sarsa learns the value of the acting policy",
        ),
        (
            (
                "exploration=optimistic",
                "network.initial_value=2",
            ),
            r"network.initial_value=2.0: exploration=optimistic sets",
        ),
        (
            (
                "exploration=noisy",
                "exploration.sigma=0",
            ),
            r"exploration.sigma=0.0: must be a finite number above 0",
        ),
        (
            (
                "algo=td0",
                "network.dueling=true",
            ),
            r"network.dueling=True: algo=td0 learns no",
        ),
        (
            (
                "exploration=noisy",
                "schedule=constant",
            ),
            r"schedule=constant: exploration=noisy has nothing to schedule",
        ),
        (
            (
                "schedule=piecewise",
                "schedule.at=[0.5,0.2]",
                "schedule.values=[1,0]",
            ),
            r"schedule.at=\[0.5, 0.2\]: must be shares of the run .* rising",
        ),
        (
            (
                "schedule=piecewise",
                "schedule.at=[0.2,0.5]",
                "schedule.values=[1]",
            ),
            r"schedule.values=\[1.0\]: must be 2 numbers",
        ),
        (
            (
                "schedule=piecewise",
                "schedule.at=[0.2,0.5]",
                "schedule.values=[1,2]",
            ),
            r"schedule.values=\[1.0, 2.0\]: ε of exploration=epsilon_greedy must be in",
        ),
        (
            (
                "schedule=episodes",
                "schedule.decay=1.5",
            ),
            r"schedule.decay=1.5: must be a factor in \(0, 1\]",
        ),
    ],
)
def test_what_an_exploration_needs_is_said(options, message):
    with pytest.raises(ConfigError, match=message):
        make_run(*options)


@pytest.mark.parametrize(
    "options",
    [
        ("exploration=noisy", "network.dueling=true"),
        ("exploration=count_bonus", "schedule=episodes"),
        ("algo=double_q_learning", "schedule=piecewise"),
    ],
)
def test_exploration_goes_on_with_the_same_bits(options, tmp_path):
    base = ("env=random_walk", "gamma=0.9", "steps=4000", "seeds=2")
    whole, half, resumed = (make_run(*base, *options) for _ in range(3))
    update(half, 20)
    torch.save(half.state_dict(), tmp_path / "checkpoint.pt")
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    update(resumed, 20)
    update(whole, 40)
    assert torch.equal(whole.learner.theta, resumed.learner.theta)
    assert torch.equal(whole.explore, resumed.explore)
