"""Published figures, reproduced by the learners themselves through the code that `scripts/train.py` runs.

Each mean over runs must lie within four standard errors (estimated from the runs) plus the figure's own error, ± half a
unit of its last digit: about one chance in 10⁴ to fail by luck under any seed, and the seeds are fixed.
"""

import numpy as np
import pytest
import torch
from support import make_run, quick_rows, trained, update

from rlnet.compare import score_member
from rlnet.mdp import evaluate


def walk_errors(run, episodes: int, at_end: bool) -> np.ndarray:
    """RMS error of V over the walk's states [M]: after the last of so many episodes, or averaged over all of them."""
    mdp = run.problem.environment.mdp
    policy = mdp.available / mdp.available.sum(1, keepdims=True).clip(1)
    truth = torch.as_tensor(evaluate(mdp, policy, 1.0).v)
    alive = torch.as_tensor(~mdp.terminal)
    done = torch.zeros(run.config.seeds)
    total, last = torch.zeros(run.config.seeds).double(), torch.zeros(run.config.seeds).double()
    while done.min() < episodes:
        update(run)
        ended = run.collector.episodes()["episode/count"]
        table = run.learner.params["v"]["table"].squeeze(-1).double()
        rms = (table - truth)[:, alive].square().mean(1).sqrt()
        count = ((ended > 0) & (done < episodes)).double()
        total += count * rms
        last = torch.where(count > 0, rms, last)
        done += ended
    return (last if at_end else total / episodes).numpy()


def check_mean(errors: np.ndarray, published: float, figure_error: float) -> None:
    slack = 4 * errors.std(ddof=1) / len(errors) ** 0.5 + figure_error
    assert slack < 0.12 * published, "too few runs to say anything"
    assert abs(errors.mean() - published) <= slack, f"{errors.mean():.4f} against {published} ± {slack:.4f}"


CONSTANT = ("schedule@optimizer.schedule=constant", "optimizer.schedule.value=1")
WALK = ("env=random_walk", "network=tabular", "gamma=1", "algo.envs=1", "steps=100000000", *CONSTANT)
FIVE = ("env.length=5", "env.left_reward=0", "network.initial_value=0.5", "env.groups=5", *WALK)


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "published"), quick_rows([(0.10, 0.055), (0.05, 0.035), (0.15, 0.070)], 1))
def test_td_on_the_five_state_walk(alpha, published):
    """S&B Example 6.2: V₀ = ½, RMS error after 100 episodes."""
    run = make_run("algo=td0", *FIVE, f"optimizer.learning_rate={alpha}", "seeds=1000")
    check_mean(walk_errors(run, 100, at_end=True), published, 0.001)


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "published"), [(0.01, 0.096), (0.02, 0.081), (0.03, 0.093), (0.04, 0.107)])
def test_monte_carlo_on_the_five_state_walk(alpha, published):
    """S&B Example 6.2. All visits of an episode are averaged into one step, so small α agree best."""
    run = make_run("algo=mc", *FIVE, f"optimizer.learning_rate={alpha}", "seeds=1000")
    check_mean(walk_errors(run, 100, at_end=True), published, 0.003)


@pytest.mark.slow
def test_td_on_the_nineteen_state_walk():
    """S&B Fig. 7.2, n = 1, α = 0.8: RMS error averaged over the first 10 episodes."""
    run = make_run("algo=td0", *WALK, "optimizer.learning_rate=0.8", "seeds=600")
    check_mean(walk_errors(run, 10, at_end=False), 0.345, 0.004)


BOOK = (*WALK, "algo.rollout=10000", "algo.options.one_by_one=true")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "alpha", "published", "seeds"),
    [
        (1, 0.8, 0.345, 150), (2, 0.6, 0.277, 150), (4, 0.4, 0.264, 150), (8, 0.2, 0.279, 150), (16, 0.2, 0.326, 150),
        (512, 0.1, 0.561, 60),
    ],
)  # fmt: skip
def test_n_step_td_on_the_nineteen_state_walk(n, alpha, published, seeds):
    """S&B Fig. 7.2: RMS error averaged over the first 10 episodes."""
    options = ("algo=n_step_td", f"algo.options.n_step={n}", f"optimizer.learning_rate={alpha}", f"seeds={seeds}")
    check_mean(walk_errors(make_run(*BOOK, *options), 10, at_end=False), published, 0.004)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lambda_", "alpha", "published"), [(0.0, 0.8, 0.366), (0.4, 0.7, 0.292), (0.8, 0.4, 0.264), (0.9, 0.2, 0.289)]
)
def test_the_offline_lambda_return_on_the_nineteen_state_walk(lambda_, alpha, published):
    """S&B Fig. 12.3, left of Fig. 12.6: RMS error averaged over the first 10 episodes."""
    options = ("algo=lambda_return", f"algo.hyper.lambda_={lambda_}", f"optimizer.learning_rate={alpha}", "seeds=150")
    check_mean(walk_errors(make_run(*BOOK, *options), 10, at_end=False), published, 0.004)


@pytest.mark.slow
@pytest.mark.parametrize(("lambda_", "alpha", "published"), [(0.8, 0.3, 0.264), (0.9, 0.2, 0.292)])
def test_online_td_lambda_on_the_nineteen_state_walk(lambda_, alpha, published):
    """S&B Fig. 12.6, right: accumulating traces, RMS error averaged over the first 10 episodes."""
    options = ("algo=td_lambda", f"algo.hyper.lambda_={lambda_}", f"optimizer.learning_rate={alpha}", "seeds=300")
    check_mean(walk_errors(make_run(*WALK, *options), 10, at_end=False), published, 0.004)


THOUSAND = (
    "env=random_walk", "env.length=1000", "env.jump=100", "env.groups=10", "gamma=1", "network=linear",
    "optimizer=sgd", "seeds=16",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "published"),
    [
        (("algo=td0", "optimizer.learning_rate=0.8", "algo.envs=64", "steps=300000"), 0.11674),
        (("algo=mc", "optimizer.learning_rate=0.02", "algo.envs=16", "steps=200000"), 0.05438),
    ],
)
def test_fixed_points_of_state_aggregation_on_the_thousand_state_walk(options, published):
    """S&B Example 9.1: the error at the fixed point, weighted by the on-policy distribution, has a closed form.

    Weights averaged over 16 members: the fixed point is linear in the expectations, so noise averages out of it.
    """
    run = trained(*THOUSAND, *options)
    tables, problem = run.tables(), run.problem
    scores = score_member(problem.truths[0], tables.policy[0], problem.against, v=tables.v.mean(0))
    assert scores.scalars["exact/v_rmse"] == pytest.approx(published, abs=0.002)


@pytest.mark.parametrize(
    "options",
    [
        ("algo=td0", "steps=400000", "optimizer.learning_rate=2"),
        pytest.param(
            ("algo=mc", "steps=600000", "optimizer.learning_rate=0.2", "algo.envs=32"), marks=pytest.mark.slow
        ),
    ],
)
@pytest.mark.slow
def test_random_policy_on_the_4x4_gridworld(options):
    """S&B Fig. 4.1: 0 −14 −20 −22 / −14 −18 −20 −20 / −20 −20 −18 −14 / −22 −20 −14 0, by sampling alone."""
    table = np.array([0, -14, -20, -22, -14, -18, -20, -20, -20, -20, -18, -14, -22, -20, -14, 0.0])
    run = trained("env=sutton4x4", "network=tabular", "seeds=4", *options)
    comparison = run.compare()[1]
    np.testing.assert_allclose(comparison.v_exact[0], table, atol=1e-9)
    np.testing.assert_allclose(comparison.v.mean(0), table, atol=0.6)


@pytest.mark.slow
def test_q_learning_and_expected_sarsa_take_the_two_famous_paths_along_the_cliff():
    """S&B Example 6.6 with ε = 0.1: Q-learning learns the edge (V* = −13), on-policy control keeps away from it.

    The best ε-soft policy is worth −20.708; ε-greedy over Q*, along the edge, −50.800.
    """
    options = ("env=cliff", "network=tabular", "schedule=constant", "optimizer.learning_rate=4", "seeds=2")
    on_policy, off_policy = trained("algo=expected_sarsa", *options), trained("algo=q_learning", *options)
    assert off_policy.compare()[1].scalars["exact/return"] == pytest.approx([-13.0, -13.0])
    returns = on_policy.compare()[1].scalars["exact/return"]
    assert (returns > -20.9).all()
    assert (returns < -20.707).all()


def shares_of_left(algo: str, members: int, episodes: int) -> np.ndarray:
    """The share of the members that go left at A in each episode."""
    run = make_run(
        "env=maximisation_bias", f"algo={algo}", "network=tabular", "algo.envs=1", f"seeds={members}", "steps=100000",
        "schedule=constant", "schedule.value=0.1", "optimizer.learning_rate=0.1", *CONSTANT,
    )  # fmt: skip
    left, episode, member = torch.zeros(members, episodes), torch.zeros(members).long(), torch.arange(members)
    while episode.min() < episodes:
        rollout = update(run)
        at_a = (rollout.obs[0, :, 0] == 0) & (episode < episodes)
        left[member[at_a], episode[at_a]] = (rollout.action[0, at_a, 0] == 0).float()
        episode += rollout.terminated[0, :, 0]
    return left.mean(0).numpy()


@pytest.mark.parametrize(
    ("algo", "figures"),
    quick_rows(
        [
            ("q_learning", {20: 0.946, 100: 0.449, 300: 0.119}),
            ("double_q_learning", {100: 0.088, 300: 0.067}),
        ],
        1,
    ),
)
def test_maximisation_bias(algo, figures):
    """S&B Example 6.7, α = ε = 0.1: how often left, which is worse, is taken from A. The best possible is ε/2 = 5 %."""
    members = 600
    share = shares_of_left(algo, members, 300)
    for episode, published in figures.items():
        slack = 4 * (published * (1 - published) * (1 / members + 1 / 4000)) ** 0.5 + 0.0005
        assert abs(share[episode - 1] - published) <= slack, (episode, share[episode - 1], published, slack)
