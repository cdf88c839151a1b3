"""Every learner of action values reaches the truth about small random models; every exploration respects A(s)."""

import numpy as np
import pytest
from support import finish, quick, random_mdp, run_on

# R(s, a, s') and transitions are random; where episodes are cut off every 15 steps, they never end by themselves.
PROBLEMS = {
    "rewards": (random_mdp(11, masked=False), None),
    "actions": (random_mdp(12), None),
    "truncated": (random_mdp(13, ends=False), 15),
}
TABLE = ("network=tabular", "gamma=0.7", "optimizer=sgd", "schedule=constant", "schedule.value=0.5")
ONLINE = (*TABLE, "algo.envs=512", "algo.rollout=1", "steps=150000", "optimizer.learning_rate=12")
REPLAY = (
    *TABLE, "algo.envs=256", "algo.rollout=1", "steps=80000", "algo.batch=512", "algo.learning_starts=5000",
    "algo.capacity=80000", "algo.target_every=2", "optimizer.learning_rate=12",
)  # fmt: skip
CONTROL = {
    "q_learning": (*ONLINE, "network.dueling=true", "optimizer.learning_rate=5"),
    "sarsa": ONLINE,
    "expected_sarsa": (*ONLINE, "exploration=softmax", "schedule.value=1", "optimizer.learning_rate=6"),
    "double_q_learning": (*ONLINE, "optimizer.learning_rate=24"),
    "dqn": (*REPLAY, "algo.priority=0.6", "algo.priority_floor=0.1", "network.dueling=true"),
    "double_dqn": (*REPLAY, "algo.target_every=null", "algo.target_rate=0.3"),
    "qr_dqn": (*REPLAY, "algo.options.quantiles=11", "algo.batch=256", "optimizer.learning_rate=20"),
    "soft_q": (*REPLAY, "algo.hyper.temperature=0.3", "algo.n_step=2"),
    "munchausen_dqn": (
        *REPLAY, "algo.hyper.temperature=0.5", "algo.hyper.bonus=0.5", "algo.hyper.floor=-inf", "algo.priority=0.6",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("algo", CONTROL)
def test_control_reaches_its_fixed_point(algo, problem):
    """The largest error of any Q(s, a) ends below 0.15, the median of 9 seeds, with a rate that falls to zero.

    The truth is Q*, the Q^π of the policy that acts (Sarsa, Expected Sarsa) or the soft Q* (soft Q, Munchausen). The
    exact values spread over more than 0.9.
    """
    mdp, limit = PROBLEMS[problem]
    comparison = finish(run_on(mdp, f"algo={algo}", *CONTROL[algo], "seeds=9", max_steps=limit)).compare()[1]
    exact = comparison.q_exact[0][mdp.available & ~mdp.terminal[:, None]]
    assert np.ptp(exact) > 0.9
    assert np.median(comparison.scalars["exact/q_max"]) < 0.15
    if algo not in ("sarsa", "expected_sarsa"):
        assert np.median(comparison.scalars["exact/regret"]) < 0.03


EXPLORATIONS = [
    ("exploration=optimistic", "exploration.initial_value=8"),
    ("exploration=noisy", "exploration.sigma=1"),
    ("exploration=softmax", "schedule=cosine", "schedule.end=0.05"),
    ("exploration=greedy", "network.initial_value=0"),
    ("exploration=count_bonus", "schedule=constant", "schedule.value=2"),
    ("exploration=epsilon_greedy", "schedule=piecewise"),
]


@pytest.mark.parametrize(
    "options",
    quick(EXPLORATIONS, 3),
    ids=lambda options: options[0].split("=")[1],
)
def test_exploration_stays_within_the_available_actions_and_finds_the_optimum(options):
    """The simulation refuses an action that is not available. Greed and learned noise may get stuck, the others not."""
    mdp = random_mdp(12)
    options = ("network=tabular", "gamma=0.7", "optimizer=sgd", *options)
    sizes = ("algo.envs=32", "steps=16000", "optimizer.learning_rate=3", "seeds=4")
    regret = finish(run_on(mdp, *sizes, *options)).compare()[1].scalars["exact/regret"]
    if "exploration=greedy" not in options and "exploration=noisy" not in options:
        assert regret.max() < 0.02
