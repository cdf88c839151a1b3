"""Rollouts: which rows are learned from, with which weight, and what is counted as an episode."""

import copy

import numpy as np
import pytest
import torch
from support import make_run, quick

from rlnet.config import ConfigError
from rlnet.data.collector import Collector
from rlnet.data.rollout import FIELDS
from rlnet.envs import OnDevice, Step
from rlnet.policies.distributions import Categorical


class Scripted:
    """One member, one environment whose steps are written down: (reward, terminated, truncated, valid)."""

    mask = None

    def __init__(self, script):
        self.script, self.at = script, 0

    def reset(self, seeds=None):
        return np.zeros((1, 1), np.int64)

    def step(self, action):
        reward, *flags = self.script[self.at % len(self.script)]
        self.at += 1
        terminated, truncated, valid = (np.array([[flag]]) for flag in flags)
        here = np.array([[self.at]])
        obs = here + 1000 if terminated | truncated else here
        return Step(here, np.array([[reward]], np.float32), terminated, truncated, valid, obs)

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


GO, END, CUT, RESET = (1, 0, 0, 1), (2, 1, 0, 1), (3, 0, 1, 1), (0, 0, 0, 0)


def script(*rows):
    return [(row[0], *(bool(flag) for flag in row[1:])) for row in rows]


def collector(rows, **options):
    gamma, simulation = torch.full((1, 1), 0.5), Scripted(script(*rows))
    if options.pop("tensors", False):
        simulation = OnDevice(simulation, "cpu")
    return Collector(simulation, [0], 1, options.pop("rollout", 1), gamma, Categorical(2), **options)


def act(obs, mask, uniform):
    return (uniform >= 0.5) * 1


@pytest.mark.parametrize("options", [{}, {"lookback": 2}, {"whole_episodes": True}], ids=str)
def test_tensors_are_gathered_as_arrays_are(options):
    """Also on from the state of the other."""
    rows = [GO, GO, END, RESET, GO, CUT, GO, END, END, GO, GO, GO, GO]
    pair = [collector(rows, rollout=4, tensors=tensors, **options) for tensors in (False, True)]
    for number in range(20):
        a, b = (c.collect(act) for c in pair)
        for name in FIELDS:
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        if number == 10:
            saved = [copy.deepcopy(c.state_dict()) for c in pair]
            pair[0].load_state_dict(saved[1])
            pair[1].load_state_dict(saved[0])
    assert {name: value.item() for name, value in pair[0].episodes().items()} == {
        name: value.item() for name, value in pair[1].episodes().items()
    }


def test_without_lookback_every_transition_counts_once_and_resets_do_not():
    c = collector([GO, END, RESET, GO], rollout=4)
    rollout = c.collect(act)
    assert rollout.weight.flatten().tolist() == [0.25, 0.25, 0.0, 0.25]
    assert c.new_steps.tolist() == [3]
    assert rollout.start_discount.flatten().tolist() == [1.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("lookback", [1, 2])
def test_with_lookback_every_transition_is_learned_from_exactly_once(size, lookback):
    """And not before `lookback` further steps, or the end of its episode, are in the rollout."""
    rows = [GO, GO, END, GO, CUT, GO, GO, GO, END, END, GO, GO]
    c = collector(rows, rollout=size, lookback=lookback)
    learned = {}
    for number in range(36 // size):
        rollout = c.collect(act)
        weights, steps = rollout.weight.flatten(), rollout.next_obs.flatten()
        for t in weights.nonzero().flatten().tolist():
            assert int(steps[t]) not in learned
            learned[int(steps[t])] = number
            assert weights[t] == pytest.approx(1 / size)
        assert c.new_steps.tolist() == [size]
    for step, number in learned.items():
        end = next(k for k in range(step, 100) if rows[(k - 1) % len(rows)] in (END, CUT))
        known = min(step + lookback, end)  # the step with which its target is complete
        assert number == (known - 1) // size
    assert set(range(1, 36 - lookback)) <= set(learned)


def test_terminated_and_truncated_stay_apart():
    rollout = collector([GO, END, GO, CUT, RESET], rollout=5).collect(act)
    assert rollout.terminated.flatten().tolist() == [False, True, False, False, False]
    assert rollout.truncated.flatten().tolist() == [False, False, False, True, False]
    assert rollout.valid.flatten().tolist() == [True, True, True, True, False]


def test_weights_are_means_over_steps_or_sums_over_episodes():
    steps = make_run("env=cliff", "algo.envs=5", "algo.rollout=3", "seeds=2").collect()
    torch.testing.assert_close(steps.weight, torch.full((3, 2, 5), 1 / 15))
    episodes = make_run("env=random_walk", "algo=mc", "algo.envs=5", "algo.rollout=300", "seeds=2").collect()
    torch.testing.assert_close(episodes.weight, episodes.valid / 5.0)
    assert (episodes.weight[0] > 0).all()


def test_the_final_observation_is_the_successor_and_the_new_episode_the_next_observation():
    rollout = collector([GO, END, GO], rollout=3).collect(act)
    assert rollout.next_obs.flatten().tolist() == [1, 2, 3]
    assert rollout.obs.flatten().tolist() == [0, 1, 1002]


def test_episode_statistics_follow_the_definitions():
    c = collector([GO, GO, END, RESET, GO, CUT, GO], rollout=7)
    c.collect(act)
    stats = {name: value.item() for name, value in c.episodes().items()}
    # Returns 1 + 1 + 2 and 1 + 3; with γ = ½: 1 + ½ + ½ and 1 + 1.5. The last episode is still running.
    assert stats["episode/count"] == 2
    assert stats["return/mean"] == pytest.approx((4 + 4) / 2)
    assert stats["return/discounted"] == pytest.approx((2.0 + 2.5) / 2)
    assert stats["episode/length"] == pytest.approx(2.5)
    assert c.episodes()["episode/count"].item() == 0


@pytest.mark.parametrize("size", [1, 2, 3, 4, 12])
def test_episodes_are_the_same_in_whatever_windows_they_are_seen(size):
    rows = [GO, GO, END, RESET, GO, CUT, GO, END, RESET, END, GO, GO]
    c, discounts = collector(rows, rollout=size), []
    for _ in range(12 // size):
        discounts += c.collect(act).start_discount.flatten().tolist()
    assert discounts == [1, 0.5, 0.25, 1, 1, 0.5, 1, 0.5, 1, 1, 1, 0.5]
    stats = {name: value.item() for name, value in c.episodes().items()}
    # Returns 4, 4, 3 and 2; with γ = ½: 2, 2.5, 2 and 2; lengths 3, 2, 2 and 1.
    assert stats == {"return/mean": 3.25, "return/discounted": 2.125, "episode/length": 2.0, "episode/count": 4.0}
    assert c.episode_count.tolist() == [4]


@pytest.mark.parametrize("env", ["frozen_lake", "cartpole"])
def test_episodes_of_many_environments_are_counted_as_one_by_one_they_would_be(env):
    run = make_run(f"env={env}", "algo=q_learning", "network=linear", "gamma=0.9", "algo.envs=4", "seeds=2")
    run.collector.episodes()
    running, ended = np.zeros((2, 4, 2)), [[], []]  # [return, length] so far; those of ended episodes
    for _ in range(60):
        rollout = run.collect()
        for t, m, n in np.ndindex(*rollout.reward.shape):
            assert rollout.start_discount[t, m, n].item() == pytest.approx(0.9 ** running[m, n, 1], rel=1e-4)
            running[m, n] += rollout.reward[t, m, n].item(), 1
            if rollout.terminated[t, m, n] or rollout.truncated[t, m, n]:
                ended[m].append(running[m, n].copy())
                running[m, n] = 0
    stats = run.collector.episodes()
    assert stats["episode/count"].tolist() == [len(rows) for rows in ended]
    for m in range(2):
        mean, length = np.mean(ended[m], axis=0)
        assert stats["return/mean"][m].item() == pytest.approx(mean)
        assert stats["episode/length"][m].item() == pytest.approx(length)


def test_whole_episodes_stop_at_the_end_and_treat_the_cap_as_a_time_limit():
    c = collector([GO, GO, END, GO, GO, GO, GO], rollout=4, whole_episodes=True)
    first = c.collect(act)
    assert first.reward.flatten().tolist() == [1, 1, 2]
    assert first.weight.flatten().tolist() == [1, 1, 1]
    second = c.collect(act)
    assert second.truncated.flatten().tolist() == [False, False, False, True]
    assert not second.terminated.any()
    assert c.episodes()["episode/count"].item() == 2


@pytest.mark.parametrize("algo", quick(["q_learning", "sarsa", "reinforce", "mc"], ["sarsa", "mc"]))
@pytest.mark.parametrize("env", quick(["frozen_lake", "cliff"], 1))
def test_a_member_of_a_population_draws_what_it_draws_alone(algo, env):
    """Bit for bit, over 20 updates, with networks that see the same parameters: only the draws are compared."""
    options = (f"env={env}", f"algo={algo}", "algo.envs=5", "algo.rollout=30", "network=tabular")
    many, alone = make_run(*options, "seeds=8"), make_run(*options, "seed=5")
    for _ in range(20):
        a, b = many.collect(), alone.collect()
        length = b.obs.shape[0]
        for name in ("obs", "action", "reward", "next_obs", "terminated", "truncated", "weight"):
            assert torch.equal(getattr(a, name)[:length, 5], getattr(b, name)[:, 0]), name
        for run, rollout in ((many, a), (alone, b)):
            run.learner.step(rollout, run.hyper(), run.learning_rate)
            run.count(rollout)
    assert torch.equal(many.learner.theta[5], alone.learner.theta[0])
    assert torch.equal(many.visits[5], alone.visits[0])


def test_a_member_draws_the_real_actions_that_it_draws_alone():
    options = ("env=pendulum", "algo=a2c", "algo.envs=3", "algo.rollout=8", "network=linear")
    many, alone = make_run(*options, "seeds=4"), make_run(*options, "seed=2")
    for _ in range(5):
        a, b = many.collect(), alone.collect()
        assert a.action.shape == (8, 4, 3, 1)
        for name in ("obs", "action", "reward", "next_obs"):
            assert torch.equal(getattr(a, name)[:, 2], getattr(b, name)[:, 0]), name
    assert not torch.equal(a.action[:, 0], a.action[:, 1])


def test_a_rollout_that_memory_cannot_hold_is_refused_before_it_is_made(monkeypatch):
    """Twice 4 observed floats, an action, a reward, three flags and two weights: what each of 64·4096 steps takes."""
    monkeypatch.setattr("rlnet.config.memory.available", lambda: 2.0**23)
    own = ("env=cartpole", "algo.envs=64", "algo.rollout=4096", "env.stepping=sync")
    with pytest.raises(ConfigError, match=r"algo.envs=64 × algo.rollout=4096: needs about 1\d\S* MiB of memory, and 8"):
        make_run("algo=a2c", *own)
    make_run("algo=reinforce", *own)  # the most steps of an episode: what is not reached takes no memory
