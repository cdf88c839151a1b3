"""The frontier of return against risk, and what test episodes say of it."""

from dataclasses import replace

import numpy as np
import pytest
from support import quick_rows

from rlnet.compare.judge import time_limit
from rlnet.compare.risk import point_of, risk_frontier, risks_of, seen_in, trials_to_tell
from rlnet.envs import make, preset
from rlnet.mdp import FiniteMDP, event_probability, solve


def risk_in(name, limit, **changes):
    config = preset(name, **changes)
    mdp = make(config).mdp
    return risks_of(mdp, solve(mdp, config.gamma), limit)[0], config


@pytest.mark.parametrize(
    ("name", "limit", "changes"),
    quick_rows([("highway", 40, {"sight": 4, "max_speed": 3, "traffic_speed": 2}), ("racetrack", None, {})], 1),
)
def test_no_policy_lies_above_the_frontier_and_caution_costs_return(name, limit, changes):
    risk, _ = risk_in(name, limit, **changes)
    points = risk_frontier(risk)
    probability, ret = (np.array([getattr(point, key) for point in points]) for key in ("probability", "ret"))
    assert (np.diff(probability) <= 1e-9).all()
    assert (np.diff(ret) <= 1e-6 * np.abs(ret).max()).all()
    assert probability[-1] < 0.5 * probability[0]
    assert (probability >= risk.least - 1e-9).all()
    # A price between two of the frontier gives a policy between their neighbours.
    own = point_of(risk, risk.optimal.policy)
    assert probability.min() - 1e-9 <= own.probability <= probability.max() + 1e-9
    assert own.ret <= ret.max() + 1e-6
    assert own.probability == pytest.approx(
        float(risk.mdp.start @ event_probability(risk.mdp, risk.optimal.policy, risk.event, horizon=limit))
    )


def test_an_event_after_which_play_goes_on_keeps_its_own_cost():
    # Were leaving the road free, the cheapest race would be to leave it for ever.
    risk, _ = risk_in("racetrack", None, failure=0.0)
    first = risk_frontier(risk, (0.0,))[0]
    assert first.ret == pytest.approx(float(risk.mdp.start @ risk.optimal.v), abs=1e-6)


def test_the_least_risk_under_a_time_limit_is_that_of_standing_still():
    risk, config = risk_in("highway", 40, sight=4, max_speed=3, traffic_speed=2)
    assert risk.least == pytest.approx(0.0, abs=1e-9)
    assert time_limit(risk.mdp, config.gamma, 40).steps == 40


def test_counting_takes_as_many_episodes_as_the_tables_say():
    # Fleiss, Levin & Paik (2003): .5 against .3 at 5 % and 80 %, without continuity correction: 93 each.
    assert trials_to_tell(0.5, 0.3) == 93
    assert trials_to_tell(0.1, 0.1) == trials_to_tell(0.1, 0.1 + 1e-12) == float("inf")
    low, high = seen_in(0.001, 1000)
    assert low < 0.001 < high
    assert seen_in(0.0, 100) == pytest.approx((0.0, 0.037), abs=5e-4)  # Wilson at 0 of 100


def test_who_goes_on_for_ever_at_a_cost_has_a_risk_and_no_return():
    # Stay at a cost of 1, or leave through a door behind which one of two waits for the event.
    mdp = FiniteMDP.from_outcomes({0: {0: [(1.0, 0, -1.0, False)], 1: [(0.5, 0, -1.0, True), (0.5, 0, -3.0, True)]}})
    mdp = replace(mdp, events={"fall": mdp.reward == -3.0})
    (risk,) = risks_of(mdp, solve(mdp, 1.0), None)
    for stays, ret, fall in ((1.0, -np.inf, 0.0), (0.0, -0.5, 0.5), (0.5, -1.5, 0.5)):
        point = point_of(risk, np.array([[stays, 1.0 - stays]]))
        assert (point.ret, point.probability) == (pytest.approx(ret), pytest.approx(fall))
