"""S&B Example 6.7 as a finite model."""

import numpy as np
import pytest
from scipy.stats import norm

from rlnet.config import ConfigError
from rlnet.envs import make, preset
from rlnet.mdp import solve


def test_the_model_is_that_of_the_book():
    mdp = make(preset("maximisation_bias")).mdp
    assert mdp.available.sum(1).tolist() == [2, 10]
    best = solve(mdp, 1.0)
    np.testing.assert_allclose(best.q[0, :2], [-0.1, 0.0], atol=1e-12)
    np.testing.assert_allclose(best.q[1], -0.1, atol=1e-12)
    assert best.policy[0].argmax() == 1


def test_rewards_have_the_mean_the_deviation_and_nearly_the_distribution_of_the_normal():
    mdp = make(preset("maximisation_bias", actions=3, mean=2.0, deviation=0.5)).mdp
    for pair in range(2, 5):
        rewards = np.sort(mdp.reward[mdp.outcome_ptr[pair] : mdp.outcome_ptr[pair + 1]])
        assert rewards.mean() == pytest.approx(2.0)
        assert rewards.std() == pytest.approx(0.5)
        steps = (np.arange(len(rewards)) + 0.5) / len(rewards)
        assert np.abs(norm.cdf(rewards, 2.0, 0.5) - steps).max() < 0.01


@pytest.mark.parametrize("wrong", [{"actions": 1}, {"deviation": -1.0}, {"mean": float("nan")}])
def test_wrong_numbers_are_named(wrong):
    with pytest.raises(ConfigError, match=f"env.{next(iter(wrong))}="):
        make(preset("maximisation_bias", **wrong))
