"""Evaluation: intervals hold exact values at their rate; training does not notice; interruptions leave no trace."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from support import composed, make_run, quick, random_mdp, run_on, update

from rlnet.compare.episodes import mean_interval, predicted_beside_obtained, returns_to_go, scalar_names, scalars
from rlnet.config import ConfigError
from rlnet.experiment.checkpoints import read_checkpoint
from rlnet.learning import training_loop
from rlnet.learning.evaluation import FINAL, cadence, evaluate, play
from rlnet.learning.training_loop import train
from rlnet.mdp import FiniteMDP, solve

pytestmark = pytest.mark.usefixtures("without_pictures")

MEMBERS, EPISODES = 300, 100
SMALL = ("env=cartpole", "algo=q_learning", "gamma=0.9", "algo.envs=4", "steps=800", "log_every=160")
SMALL += ("checkpoint_every=240", "evaluation.every=200", "evaluation.episodes=5", "evaluation.final_episodes=8")


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    return [{name: cell for name, cell in row.items() if not name.startswith("time/")} for row in table]


def random_population(limit: int | None, *overrides: str):
    """Members with random action values of a random model, none of which are equal."""
    mdp = random_mdp(5, states=7, actions=3)
    own = ("algo=q_learning", "network=tabular", "schedule=constant", "schedule.value=0.4", f"seeds={MEMBERS}")
    run = run_on(mdp, *own, "gamma=0.9", *overrides, max_steps=limit)
    run.learner.theta.normal_(generator=torch.Generator().manual_seed(0))
    return mdp, run


def exact_returns(mdp, policy: np.ndarray, gamma: float, steps: int) -> np.ndarray:
    """E[Σ_{t < steps} γ^t R] of policies [M, S, A] by backward induction over the outcomes of the model: [M]."""
    pair = np.repeat(np.arange(mdp.n_pairs), np.diff(mdp.outcome_ptr))
    v = np.zeros((len(policy), mdp.n_states))
    for _ in range(steps):
        gain = mdp.reward + gamma * ~mdp.terminated * v[:, mdp.next_state]
        q = np.zeros((len(policy), mdp.n_pairs))
        np.add.at(q, (slice(None), pair), mdp.probability * gain)
        new = np.zeros_like(v)
        weights = policy[:, mdp.pair_state, mdp.pair_action] * q
        np.add.at(new, (slice(None), mdp.pair_state), weights)
        v = new
    return v @ mdp.start


@pytest.mark.parametrize("limit", quick([4, 60, None], [4, 60]))
@pytest.mark.parametrize("policy", ["greedy", "behaviour"])
def test_intervals_hold_the_exact_return_at_their_rate(policy, limit):
    """Of 300 policies of one random model, each with 100 episodes: 95 % of the intervals, up to chance (p > 0.1 %)."""
    mdp, run = random_population(limit)
    greedy = run.tables().policy
    share = mdp.available / np.maximum(mdp.available.sum(1, keepdims=True), 1)
    probabilities = greedy if policy == "greedy" else 0.6 * greedy + 0.4 * share
    episodes, _ = play(run.trained(), policy, 1, EPISODES)
    assert not episodes["cut"].any()
    for name, gamma in (("discounted", 0.9), ("return", 1.0)):
        # γ = .9: float32. Without a time limit every policy of this model ends, all but 1e-9 within 3,000 steps.
        exact = exact_returns(mdp, probabilities, np.float32(gamma).item(), limit or 3_000)
        mean, half = mean_interval(episodes[name])
        held = int((np.abs(mean - exact) <= half).sum())
        assert binomtest(held, MEMBERS, 0.95, alternative="less").pvalue > 1e-3, f"{name}: {held} of {MEMBERS}"
        spread = (mean - exact) / half  # and they are not far too wide either
        assert 0.4 < np.std(spread) < 0.62  # 1/1.98 = 0.505
    if limit is not None:
        assert episodes["length"].max() <= limit
        assert (episodes["terminated"] | (episodes["length"] == limit)).all()


def test_returns_to_go_by_hand():
    reward = np.array([1.0, 2.0, 4.0]).reshape(3, 1, 1)
    running = np.array([True, True, False]).reshape(3, 1, 1)
    returns, weight = returns_to_go(reward, running, np.array([[10.0]]), np.array([[0.5]]))
    assert returns.ravel().tolist() == [1 + 0.5 * 2 + 0.25 * 10, 2 + 0.5 * 10, 0.0]
    assert weight.ravel().tolist() == [0.25, 0.5, 0.0]


def test_steps_whose_return_was_cut_are_left_out_and_counted():
    """γ = .5: of 8 steps the first four have a rest of weight ≤ 2⁻⁵ < .05; the terminated episode counts as a whole."""
    value, reward, running = np.zeros((8, 1, 2)), np.ones((8, 1, 2)), np.ones((8, 1, 2), bool)
    running[3:, 0, 1] = False
    args = (np.array([[False, True]]), np.array([[16.0, 99.0]]), np.array([[0.5]]))
    found = predicted_beside_obtained(value, reward, running, *args)
    known = np.isfinite(found["obtained"])
    cut = [sum(0.5**k for k in range(8 - t)) + 0.5 ** (8 - t) * 16 for t in range(4)]
    whole = [1.75, 1.5, 1.0]
    assert known.sum() == 7
    assert sorted(found["obtained"][known]) == sorted(cut + whole)
    assert found["left_out"].tolist() == [4 / 11]


def test_episodes_that_end_early_are_not_all_that_is_kept():
    """Alive in each step with probability .95, for at most 20: V = 1/(1 − .8·.95) is exact and errs by chance alone."""
    length = np.random.default_rng(0).geometric(0.05, size=(1, 4_000))
    terminated, length = length <= 20, np.minimum(length, 20)
    running = np.arange(20)[:, None, None] < length
    value = np.full(running.shape, 1 / (1 - 0.8 * 0.95))
    found = predicted_beside_obtained(value, np.ones(running.shape), running, terminated, value[0], np.array([[0.8]]))
    error = found["obtained"] - found["predicted"]
    assert abs(np.nanmean(error)) < 4 * np.nanstd(error) / np.sqrt(np.isfinite(error).sum())
    late = running & (np.arange(20) > 20 - 14)[:, None, None]  # .8^14 < .05
    assert found["left_out"] == pytest.approx(late.sum() / running.sum())


def test_exact_values_agree_with_what_is_obtained():
    """V^π itself as the prediction: by the means of episodes, which are independent, it errs by chance alone."""
    mdp, run = random_population(None)
    q = solve(mdp, np.float32(0.9).item()).q
    run.learner.theta.copy_(torch.as_tensor(np.where(np.isfinite(q), q, 0.0)).reshape(1, -1))
    calibration = evaluate(run.trained(), FINAL, 20)["calibration"]
    assert (calibration["left_out"] < 0.01).all()
    error = calibration["obtained"] - calibration["predicted"]
    by_member = np.nanmean(error, 1)
    assert abs(by_member.mean()) < 4 * by_member.std() / np.sqrt(MEMBERS)
    assert np.nanstd(calibration["predicted"]) > 0.05


@pytest.mark.parametrize(
    "overrides",
    quick(
        {
            ("env=random_walk", "algo=q_learning", "network=tabular"): 0,
            ("env=cartpole", "algo=ppo", "algo.envs=2", "algo.rollout=64"): 0,
            ("env=pendulum", "algo=sac", "gamma=0.9", "algo.learning_starts=64", "env.max_episode_steps=40"): 0,
        },
        [("env=cartpole", "algo=ppo", "algo.envs=2", "algo.rollout=64")],
    ),
)
def test_training_does_not_notice_that_it_is_evaluated(overrides, tmp_path):
    often = ("evaluation.every=100", "evaluation.episodes=3", "evaluation.final_episodes=4")
    ends = {}
    for name, more in (("with", often), ("without", ("evaluation.every=0",))):
        train(composed(*overrides, "steps=400", "log_every=100", "seeds=2", *more), tmp_path / name)
        ends[name] = read_checkpoint(tmp_path / name / "checkpoint.pt")
    assert torch.equal(ends["with"]["learner"]["theta"], ends["without"]["learner"]["theta"])
    assert torch.equal(ends["with"]["collector"]["obs"], ends["without"]["collector"]["obs"])
    kept = [{k: x for k, x in row.items() if not k.startswith("evaluation/")} for row in rows(tmp_path / "with")]
    assert kept == rows(tmp_path / "without")
    assert (tmp_path / "with" / "evaluation.json").exists()
    assert not (tmp_path / "without" / "evaluation.json").exists()
    assert all(row["evaluation/return"] for row in rows(tmp_path / "with"))  # each row comes with an evaluation here


@pytest.mark.parametrize("times", quick([1, 3, 4], [3]))
def test_a_run_that_is_killed_and_goes_on_is_evaluated_as_if_it_had_not_been(times, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    config, was, seen = composed(*SMALL, "seeds=2"), training_loop.write_checkpoint, []
    train(config, tmp_path / "whole")

    def dies(*args, **options):
        seen.append(1)
        if len(seen) == times:
            raise Killed
        return was(*args, **options)

    monkeypatch.setattr(training_loop, "write_checkpoint", dies)
    with pytest.raises(Killed):
        train(config, tmp_path / "run")
    monkeypatch.setattr(training_loop, "write_checkpoint", was)
    train(composed(*SMALL, "seeds=2", f"resume={tmp_path / 'run'}"), tmp_path / "run")
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    for name in ("evaluation.json", "evaluation.npz"):
        assert (tmp_path / "run" / name).exists()
    assert (tmp_path / "run" / "evaluation.json").read_text() == (tmp_path / "whole" / "evaluation.json").read_text()
    ours, theirs = (dict(np.load(tmp_path / name / "evaluation.npz")) for name in ("run", "whole"))
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


@pytest.mark.slow
def test_a_member_is_evaluated_as_it_would_be_alone_and_in_another_process(tmp_path):
    train(composed(*SMALL, "seeds=4"), tmp_path / "together")
    train(composed(*SMALL, "seed=2"), tmp_path / "alone")
    train(composed(*SMALL, "seeds=4", "processes=2"), tmp_path / "apart")
    together, alone, apart = (dict(np.load(tmp_path / x / "evaluation.npz")) for x in ("together", "alone", "apart"))
    for name, array in together.items():
        np.testing.assert_array_equal(array[2:3], alone[name], err_msg=name)
        np.testing.assert_array_equal(array, apart[name], err_msg=name)
    names = [name for name in rows(tmp_path / "alone")[0] if name.startswith("evaluation/")]
    assert names == scalar_names(("greedy", "behaviour"))
    theirs = [[row[name] for name in names] for row in rows(tmp_path / "together") if row["member"] == "2"]
    assert theirs == [[row[name] for name in names] for row in rows(tmp_path / "alone")]


def test_evaluations_differ_by_number_and_their_numbers_are_means_of_episodes(tmp_path):
    run = make_run(*SMALL, "seeds=2")
    update(run, 20)
    first, second, again = (evaluate(run.trained(), number, 6) for number in (1, 2, 1))
    assert list(first) == ["greedy"]  # on the way
    assert not np.array_equal(first["greedy"]["length"], second["greedy"]["length"])
    np.testing.assert_array_equal(first["greedy"]["length"], again["greedy"]["length"])
    assert list(evaluate(run.trained(), FINAL, 6)) == ["greedy", "calibration", "behaviour"]
    lengths = first["greedy"]["length"]
    np.testing.assert_allclose(scalars(first)["evaluation/length"], lengths.mean(1))
    result = train(composed(*SMALL), tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    episodes = np.load(tmp_path / "run" / "evaluation.npz")
    member = stored["members"][0]["behaviour"]
    assert member["return"]["mean"] == episodes["behaviour_return"].mean()
    assert member["episodes"] == 8 == sum(member["ended_by"].values())
    assert result.scalars["evaluation/behaviour_return"][0] == member["return"]["mean"]


def test_prediction_is_evaluated_by_its_given_policy(tmp_path):
    """td0 of the uniform policy on the random walk: what is played is that policy, whoever acts."""
    run = make_run("algo=td0", "network=tabular", "env=random_walk", "seeds=50")
    found = evaluate(run.trained(), FINAL, 20)
    assert list(found) == ["given", "calibration"]
    mean, _ = mean_interval(found["given"]["return"].reshape(-1))  # V(start) = 0, by symmetry
    assert abs(mean) < 4 / np.sqrt(1_000)


def test_where_it_is_on_by_default():
    assert cadence(composed("env=cartpole", "steps=1000"), make_run("env=cartpole").problem.environment) == 100
    assert cadence(composed("env=random_walk"), make_run("env=random_walk").problem.environment) == 0
    game = "env=tic_tac_toe"
    assert cadence(composed(game), make_run(game).problem.environment) == 0
    large = (game, "env.max_states=10", "network=mlp", "steps=1000")
    assert cadence(composed(*large), make_run(*large).problem.environment) == 100
    with_event = replace(make_run("env=random_walk").problem.environment, events=("won",))  # that no model names
    assert cadence(composed("env=random_walk", "steps=1000"), with_event) == 100
    with pytest.raises(ConfigError, match="env=tic_tac_toe is a game of two players with exact scores"):
        cadence(composed(game, "evaluation.every=10"), make_run(game).problem.environment)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("evaluation.every=-1",), "evaluation.every=-1: must be at least 1, 0 for no evaluation"),
        (("evaluation.episodes=1",), "evaluation.episodes=1: must be at least 2"),
        (("evaluation.final_episodes=0",), "evaluation.final_episodes=0: must be at least 2"),
        (("evaluation.policy=best",), "evaluation.policy=best: allowed are greedy, behaviour, both"),
        (("evaluation.max_steps=0",), "evaluation.max_steps=0: must be at least 1"),
    ],
)
def test_settings_that_cannot_be_used_are_named(overrides, said):
    with pytest.raises(ConfigError, match=said):
        composed("env=cartpole", *overrides)


def test_episodes_without_end_are_cut_and_counted():
    """One state for ever, reward 1 a step: 7 steps are worth 7 and (1 − γ⁷)/(1 − γ)."""
    endless = FiniteMDP.from_arrays(np.ones((1, 1, 1)), np.ones((1, 1)))
    run = run_on(endless, "algo=q_learning", "network=tabular", "gamma=0.5", "evaluation.max_steps=7")
    episodes, _ = play(run.trained(), "greedy", 1, 3)
    assert episodes["cut"].all()
    assert episodes["return"].tolist() == [[7.0] * 3]
    np.testing.assert_allclose(episodes["discounted"], 2 * (1 - 0.5**7))


@pytest.mark.parametrize("algo", ["reinforce", "alphazero"])
def test_games_beyond_enumeration_are_played_against_a_player_who_moves_at_random(algo):
    """A uniform policy gets in each seat what exact self-play of uniform players gives; a search gets far more."""
    options = ("env=tic_tac_toe", "env.max_states=10", "network=linear", "evaluation.every=1000", "algo.rollout=9")
    run = make_run(f"algo={algo}", *options, "seeds=2", "algo.envs=4")
    games, value = 4000, 0.2968253968  # of the first player, when both move at random (OpenSpiel's rules)
    if algo == "alphazero":
        games = 100
    policy = "greedy" if algo == "alphazero" else "behaviour"
    found, calibration = play(run.trained(), policy, 1, games, with_values=True)
    assert calibration is None
    assert not found["cut"].any()
    first, second = found["return"][:, ::2].mean(1), found["return"][:, 1::2].mean(1)
    if algo == "alphazero":
        assert (first > 0.8).all()
        assert (second > 0.3).all()
    else:
        assert np.abs(first - value).max() < 4 / np.sqrt(games / 2)
        assert np.abs(second + value).max() < 4 / np.sqrt(games / 2)
