"""Random walks against their closed forms and published values."""

import numpy as np
import pytest

from rlnet.config import ConfigError
from rlnet.envs import RandomWalkConfig, build_random_walk, group_features, preset
from rlnet.mdp import evaluate


def uniform_values(mdp):
    return evaluate(mdp, np.full((mdp.n_states, 2), 0.5), 1.0).v


@pytest.mark.parametrize("length", [1, 2, 5, 19])
def test_values_are_linear_in_the_place(length):
    mdp = build_random_walk(preset("random_walk", length=length))
    np.testing.assert_allclose(uniform_values(mdp), 2 * np.arange(1, length + 1) / (length + 1) - 1, atol=1e-9)


def test_example_6_2():
    mdp = build_random_walk(preset("random_walk", length=5, left_reward=0.0))
    np.testing.assert_allclose(uniform_values(mdp), np.arange(1, 6) / 6, atol=1e-9)
    assert mdp.start.tolist() == [0, 0, 1, 0, 0]
    assert mdp.labels == ("1", "2", "3", "4", "5")


def test_example_9_1():
    mdp = build_random_walk(preset("random_walk", length=1000, jump=100))
    assert uniform_values(mdp)[0] == pytest.approx(-0.92196, abs=5e-6)
    assert mdp.start.argmax() == 499  # the book's state 500


def test_steps_beyond_an_end_are_one_outcome_that_ends():
    mdp = build_random_walk(RandomWalkConfig(name="w", gamma=1.0, length=6, jump=4, left_reward=-3.0))
    pair = mdp.pair_index[1, 0]
    rows = slice(mdp.outcome_ptr[pair], mdp.outcome_ptr[pair + 1])
    found = zip(mdp.probability[rows], mdp.reward[rows], mdp.terminated[rows], strict=True)
    assert sorted(found) == [(0.25, 0.0, False), (0.75, -3.0, True)]
    assert mdp.pair_index[0, 0] == 0  # from the edge every step left is an exit
    assert mdp.probability[0] == 1.0


def test_features_aggregate_neighbours():
    config = RandomWalkConfig(name="w", gamma=1.0, length=1000)
    features = group_features(config)
    assert features.shape == (1000, 10)
    assert features[:100, 0].all()
    assert features.sum() == 1000
    assert features.sum(axis=0).tolist() == [100] * 10
    assert group_features(RandomWalkConfig(name="w", gamma=1.0, length=4)).tolist() == np.eye(4).tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, r"env\.length=0: must be at least 1"),
        ({"jump": 20}, r"env\.jump=20: must be in \[1, env\.length=19\]"),
        ({"groups": 20}, r"env\.groups=20: must be in \[1, env\.length=19\]"),
        ({"right_reward": float("nan")}, r"env\.right_reward=nan: must be a finite number"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build_random_walk(RandomWalkConfig(name="w", gamma=1.0, **options))
