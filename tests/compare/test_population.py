"""The verdict on a population says what its interquartile means hide."""

import numpy as np
import pytest

from rlnet.compare.member_failures import Mishap
from rlnet.compare.population import Population, overall_verdict


def verdict(**scalars):
    """Of one setting with 8 seeds, on a problem where J* = 2."""
    every = {"exact/return": np.full(8, 2.0), "exact/optimal_return": np.full(8, 2.0)}
    every |= {"exact/regret": np.zeros(8), "exact/optimal_action_rate": np.ones(8)}
    every |= {f"exact/{name}": np.array(values, float) for name, values in scalars.items()}
    return overall_verdict(Population([{}], range(8), ["γ = 1"], every, [Mishap()] * 8, "optimal", "greedy"))


@pytest.mark.parametrize("one", [0.0, 1.0, 1e-12])
def test_a_single_member_that_can_be_exploited_is_counted(one):
    said = verdict(nash_conv=[0.9] * 8, nash_conv_search=[*[0] * 7, one])
    assert "with search it cannot be exploited." in said
    assert said.endswith(" 1 of 8 can be exploited with search, the worst by 1.") == (one == 1.0)


def test_a_mean_that_is_not_0_hides_nothing():
    said = verdict(nash_conv=np.linspace(0, 2, 8), nash_conv_search=[0] * 8)
    assert "of 8 can" not in said


def test_two_members_that_never_reach_the_goal_are_counted():
    said = verdict(regret=[*[0] * 6, 2, 1])
    assert "loses nothing" in said
    assert said.endswith(" 2 of 8 could earn more, the worst by 2.")
