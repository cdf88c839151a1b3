"""Populations: each member does what it would do alone, with its own settings; a diverging one disturbs nobody."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import composed, make_run, quick, quick_rows, update

from rlnet import algos
from rlnet.config import ConfigError
from rlnet.config.population import alone, column, member_settings, numbers, settings, varied
from rlnet.experiment.comparison_files import rescore
from rlnet.experiment.problem import build
from rlnet.learning.messages import DivergedError
from rlnet.learning.training_loop import train
from rlnet.learning.training_state import TrainingState
from rlnet.mdp import solve

pytestmark = pytest.mark.usefixtures("without_pictures")

ALGOS = [name for name in algos.names() if "group" not in algos.load(name).options]
UNPLANNED = [name for name in ALGOS if algos.load(name).acting.planner is None]  # who searches: test_alphazero
FIELDS = ("obs", "action", "reward", "next_obs", "terminated", "truncated", "weight")


def test_members_are_the_product_of_the_lists_times_the_seeds():
    config = composed("vary.learning_rate=[1e-4,3e-4,1e-3]", "vary.gamma=[0.9,0.99]", "seeds=16", "seed=5")
    assert len(config.member_seeds) == 96
    assert config.member_seeds[:17] == [*range(5, 21), 5]
    grid = member_settings(config)
    assert grid[0] == grid[15] == {"optimizer.learning_rate": 1e-4, "gamma": 0.9}
    assert grid[16] == {"optimizer.learning_rate": 1e-4, "gamma": 0.99}
    assert grid[95] == {"optimizer.learning_rate": 1e-3, "gamma": 0.99}
    one = alone(config, 95)
    assert (one.optimizer.learning_rate, one.gamma, one.seed, one.seeds, one.vary) == (1e-3, 0.99, 20, 1, {})
    assert column(config, "gamma")[::16].flatten().tolist() == pytest.approx([0.9, 0.99] * 3)
    assert settings(composed()) == [{}]
    assert varied(composed("vary.algo.hyper.lambda_=[0,1]", "algo=ppo")) == {"algo.hyper.lambda_": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("vary.envs=[4,8]", r"vary.envs: members of a population share it.* -m algo.envs="),
        ("vary.learning_rat=[1]", "vary.learning_rat: there is no such setting; did you mean vary.learning_rate"),
        ("vary.lambda_=[0.5]", "vary.lambda_: there is no such setting; what can vary is .*gamma"),
        ("vary.gamma=0.9", r"vary.gamma=0.9: must be a list of numbers, like \[0.9, 0.99\]"),
        ("vary.gamma=[]", r"vary.gamma=\[\]: must be a list of numbers"),
        ("vary.gamma=[true]", r"vary.gamma=\[True\]: must be a list of numbers"),
        ("vary.gamma=[0.9,0.9]", "holds a number twice; use seeds to repeat a setting"),
        ("vary.start=[0.1]", "could be schedule.start or optimizer.schedule.start; write the whole path"),
        ("vary.gamma=[0.9,1.5]", "gamma=1.5: must be in"),
        ("vary.max_grad_norm=[1,-1]", "optimizer.max_grad_norm=-1.0: must be above 0"),
    ],
)
def test_what_cannot_vary_is_refused_by_one_sentence(override, message):
    with pytest.raises(ConfigError, match=message):
        composed(override)


def test_an_algorithms_own_numbers_are_checked_for_every_member():
    with pytest.raises(ConfigError, match=r"algo.hyper.lambda_=2.0: must be in \[0, 1\]"):
        build(composed("algo=ppo", "vary.lambda_=[0.5,2]"))


@pytest.mark.slow
def test_the_truth_is_that_of_each_members_own_gamma():
    problem = build(composed("env=random_walk", "vary.gamma=[0.5,0.9]", "seeds=2"))
    mdp = problem.environment.mdp
    for solution, gamma in zip(problem.solutions, (0.5, 0.5, 0.9, 0.9), strict=True):
        np.testing.assert_allclose(solution.v, solve(mdp, gamma).v)
    assert problem.solutions[0] is problem.solutions[1], "each γ is solved once"
    options = ("env=windy", "algo=td0", "algo.policy=optimal")
    given = build(composed(*options, "vary.gamma=[0.1,0.99]")).context.given_policy
    for m, gamma in enumerate((0.1, 0.99)):
        torch.testing.assert_close(given[m], build(composed(*options, f"gamma={gamma}")).context.given_policy[0])
    assert not torch.equal(given[0], given[1])


# Another value for every number that may differ between members.
OTHER = {
    "gamma": 0.7,
    "schedule.start": 0.5,
    "schedule.end": 0.3,
    "schedule.fraction": 0.5,
    "optimizer.learning_rate": 1e-3,
    "optimizer.max_grad_norm": 1e-3,
    "optimizer.schedule.start": 0.5,
    "optimizer.schedule.end": 0.7,
    "optimizer.schedule.fraction": 0.3,
    "algo.target_rate": 0.5,
    "algo.hyper.lambda_": 0.3,
    "algo.priority_floor": 0.5,
    "algo.correction.start": 0.9,
    "algo.correction.end": 0.5,
    "algo.correction.fraction": 0.3,
    "algo.hyper.huber": 0.1,
    "algo.hyper.temperature": 0.5,
    "algo.hyper.bonus": 0.3,
    "algo.hyper.floor": -0.01,
    "algo.hyper.clip": 1e-3,
    "algo.hyper.stop_at_kl": 1e-7,
    "algo.hyper.value_coefficient": 3.0,
    "algo.hyper.entropy_coefficient": 0.5,
    "algo.hyper.state_discount": 0.3,
    "algo.hyper.value_clip": 1e-4,
    "algo.hyper.normalise": 0.0,
    "algo.hyper.baseline": 0.0,
    "algo.hyper.rate": 0.7,
    "algo.hyper.automatic": 0.0,
    "algo.hyper.target_entropy": 1.0,
}
BASE = ("env=sutton4x4", "gamma=0.9", "algo.envs=4", "algo.rollout=30", "steps=480", "optimizer.schedule.end=0.1")
BASE += ("optimizer=sgd", "optimizer.learning_rate=0.03")  # Adam would magnify the rounding of small gradients

REPLAYS = ("algo.target_every=null", "algo.target_rate=0.1", "algo.learning_starts=100", "algo.priority=0.6")
PARTICULAR = {
    "mc": ["algo.rollout=100"],
    "reinforce": ["algo.rollout=100"],
    "ppo": ["algo.minibatches=1"],
    "true_online_td_lambda": ["algo.envs=1"],
    "sac": ["env=pendulum", "optimizer.learning_rate=2e-3"],
}


@pytest.mark.parametrize("algo", quick(UNPLANNED, ["ppo"]))
def test_every_number_that_may_vary_reaches_its_member_and_no_other(algo):
    """One at a time: the member with another value becomes what it is alone with it, and differs from its sibling."""
    config = composed(
        *BASE, f"algo={algo}", *(REPLAYS if algos.load(algo).data.replay else []), *PARTICULAR.get(algo, [])
    )
    usual = TrainingState(config, build(config))
    update(usual, 4)
    for path, base, mine in numbers(config):
        if not mine or path.startswith("constraint."):  # of an event, which this environment has not: test_constraint
            continue
        pair = replace(config, vary={path: [1e30 if base is None else base, OTHER[path]]})
        many, single = TrainingState(pair, build(pair)), TrainingState(alone(pair, 1), build(alone(pair, 1)))
        update(many, 4)
        update(single, 4)
        close = {"atol": 2e-5, "rtol": 1e-4}
        torch.testing.assert_close(many.learner.theta[0], usual.learner.theta[0], **close)
        torch.testing.assert_close(many.learner.theta[1], single.learner.theta[0], **close)
        assert not torch.allclose(many.learner.theta[0], many.learner.theta[1], atol=1e-7), f"{path} does nothing"


ONE_BY_ONE = ("sarsa_lambda", "watkins_q_lambda", "lambda_return")  # on tables


@pytest.mark.parametrize(
    ("algo", "env"),
    [
        *quick_rows(
            [
                ("reinforce", "random_walk"), ("dqn", "frozen_lake"), ("ppo", "gridworld"),
                ("sarsa_lambda", "random_walk"), ("q_learning", "gridworld"), ("sarsa", "cliff"),
                ("dqn", "cartpole"), ("watkins_q_lambda", "cliff"),
                ("lambda_return", "random_walk"),
            ],
            2,
        ),
    ],
)  # fmt: skip
def test_member_40_of_64_does_what_it_does_alone_for_a_hundred_updates(algo, env):
    """The same draws and steps bit for bit, and the same parameters up to the rounding of batched products."""
    options = [f"env={env}", f"algo={algo}", "algo.envs=2", "algo.rollout=4", "steps=1600"]
    options += ["gamma=0.9", "optimizer.max_grad_norm=0.5"]
    options += ["algo.capacity=500", "algo.learning_starts=50", "algo.batch=16"] if algo == "dqn" else []
    options += ["algo.epochs=1", "algo.minibatches=2"] if algo == "ppo" else []
    options += ["algo.options.one_by_one=true", "algo.rollout=100"] if algo == "lambda_return" else []
    options += ["optimizer=sgd"] if algo in ONE_BY_ONE else ["network.hidden=[16]"]
    many, single = make_run(*options, "seeds=64", "seed=3"), make_run(*options, "seed=43")
    for _ in range(100):
        a, b = update(many), update(single)
        for name in FIELDS:
            ours, theirs = getattr(a, name)[: len(b.obs), 40], getattr(b, name)[:, 0]
            assert torch.equal(ours, theirs), name
    torch.testing.assert_close(many.learner.theta[40], single.learner.theta[0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(many.learner.theta[40], many.learner.theta[41], atol=1e-2)


SMALL = ("env=random_walk", "algo.envs=20", "steps=2000", "log_every=400", "compare_every=800", "gamma=0.9")


def test_a_diverging_member_is_reported_and_frozen_and_the_others_go_on(tmp_path, caplog):
    options = (*SMALL, "seeds=2", "seed=4")
    with caplog.at_level(logging.WARNING):
        result = train(composed(*options, "optimizer=sgd", "vary.learning_rate=[1e-2,1e30]"), tmp_path / "run")
    sound = train(composed(*options, "optimizer=sgd", "optimizer.learning_rate=1e-2"), tmp_path / "sound")
    theta = result.run.learner.theta
    assert theta.isfinite().all()
    torch.testing.assert_close(theta[:2], sound.run.learner.theta, atol=1e-5, rtol=1e-4)
    said = [r.getMessage() for r in caplog.records]
    assert any(
        s.startswith(
            "member 3 (seed 5, optimizer.learning_rate=1e+30) diverged: its gradient was not finite by step 40"
        )
        for s in said
    )
    members = json.loads((tmp_path / "run" / "comparison.json").read_text())["members"]
    assert [member["diverged"] for member in members] == [None, None, 400, 400]
    assert rescore(tmp_path / "run").difference == 0.0


def test_a_gradient_that_is_not_a_number_touches_no_other_member():
    """Adam's moments and parameters of member 1 stay; members 0 and 2 step as they would without it."""
    many, sound = make_run("env=cliff", "seeds=3"), make_run("env=cliff", "seeds=3")
    for bad, state in ((True, many), (False, sound)):
        rollout = state.collect()
        if bad:
            reward = rollout.reward.clone()
            reward[:, 1] = float("nan")
            rollout = rollout.replace(reward=reward)
        before = state.learner.theta.clone()
        state.learner.step(rollout, state.hyper(), state.learning_rate)
    assert torch.equal(many.learner.theta[1], before[1])
    torch.testing.assert_close(many.learner.theta[[0, 2]], sound.learner.theta[[0, 2]], atol=1e-7, rtol=1e-6)
    assert many.learner.alive.flatten().tolist() == [True, False, True]
    update(many, 2)
    assert torch.equal(many.learner.theta[1], before[1]), "once diverged, frozen for ever"
    assert many.learner.theta.isfinite().all()


def test_the_run_fails_only_when_all_members_have_diverged(tmp_path):
    with pytest.raises(DivergedError, match=r"member 0 \(seed 4\) diverged: .* as did all others"):
        train(composed(*SMALL, "seeds=2", "seed=4", "optimizer=sgd", "optimizer.learning_rate=1e30"), tmp_path / "run")


def assert_hparams(folder, document):
    """TensorBoard's table of runs has a row for each setting: its own numbers, and its means over seeds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    for k, row in enumerate(document["settings"]):
        name = ",".join(f"{key}={value:g}" for key, value in row["settings"].items())
        events = EventAccumulator(str(folder / "settings" / name))
        events.Reload()
        content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        shown = HParamsPluginData.FromString(content).session_start_info.hparams
        assert {key: shown[key].number_value for key in row["settings"]} == row["settings"]
        assert (shown["env.name"].string_value, shown["seeds"].number_value) == ("random_walk", 2)
        content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
        metrics = [one.name.tag for one in HParamsPluginData.FromString(content).experiment.metric_infos]
        assert "final/exact/regret" in metrics
        assert set(metrics) <= set(events.Tags()["scalars"]), "each with its value"
        mean = np.mean([member["scores"]["exact/regret"] for member in document["members"][2 * k :][:2]])
        assert events.Scalars("final/exact/regret")[-1].value == pytest.approx(mean, rel=1e-5)


@pytest.mark.slow
def test_files_say_each_members_settings_and_are_scored_and_resumed(tmp_path):
    folder = tmp_path / "run"
    grid = ("vary.gamma=[0.8,0.9]", "vary.learning_rate=[1e-3,1e-2]", "seeds=2")
    train(composed(*SMALL, *grid), folder)
    values = np.load(folder / "values.npz")
    np.testing.assert_array_equal(values["gamma"], [0.8] * 4 + [0.9] * 4)
    np.testing.assert_array_equal(values["optimizer.learning_rate"], [1e-3, 1e-3, 1e-2, 1e-2] * 2)
    np.testing.assert_array_equal(values["seed"], [0, 1] * 4)
    document = json.loads((folder / "comparison.json").read_text())
    assert document["members"][5]["settings"] == {"gamma": 0.9, "optimizer.learning_rate": 1e-3}
    assert len(document["settings"]) == 4
    mean = np.mean([document["members"][m]["scores"]["exact/regret"] for m in (2, 3)])
    assert document["settings"][1]["aggregate"]["exact/regret"]["mean"] == pytest.approx(mean)
    header, first = (folder / "metrics.csv").read_text().splitlines()[:2]
    assert header.startswith("step,member,seed,gamma,optimizer.learning_rate,return/mean")
    assert first.startswith("400,0,0,0.8,0.001,")
    assert rescore(folder).difference == 0.0
    names = sorted(path.name for path in (folder / "settings").iterdir())
    assert names[0] == "gamma=0.8,optimizer.learning_rate=0.001"
    assert_hparams(folder, document)
    more = train(composed(*SMALL, *grid, f"resume={folder}", "steps=2400"), tmp_path / "more")
    assert more.run.steps.tolist() == [2400] * 8
    assert (tmp_path / "more" / "metrics.csv").read_text().splitlines()[1].startswith("400,0,0,0.8,0.001,")
