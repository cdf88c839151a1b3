"""The cellular highway: its model against a drive by the rules, and the risk in it."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from rlnet.config import ConfigError
from rlnet.envs import build_highway, make, preset
from rlnet.envs.driving.drawing import ASPHALT, CELL, FAR, OTHER
from rlnet.envs.driving.highway import ACTIONS
from rlnet.envs.driving.traffic import Road, speed_law
from rlnet.envs.render import AGENT
from rlnet.mdp import evaluate, evaluation, event_model, event_probability, occupancy, solve
from rlnet.mdp.operators import markov_chain

SMALL = {"sight": 3, "max_speed": 3, "traffic_speed": 2}


def outcomes_by_rule(config, lane, speed, cars, action):
    """{(what follows, reward): probability} of one (state, action), car by car; cars: a (gap, speed) for each lane."""
    law = speed_law(config.traffic_speed, config.density, config.dawdle)
    if action == "lane left":
        lane = max(lane - 1, 0)
    if action == "lane right":
        lane = min(lane + 1, config.lanes - 1)
    speed = min(max(speed + {"faster": 1, "slower": -1}.get(action, 0), 0), config.max_speed)
    found = {}
    for moves in product(range(config.traffic_speed + 1), repeat=config.lanes):
        chance, after, crash = 1.0, [], False
        for i, (gap, other) in enumerate(cars):
            chance *= law[other, moves[i]]
            free = gap + moves[i] - speed
            crash |= i == lane and free < 0
            after.append((config.sight if free < 0 else min(free, config.sight), moves[i]))
        if chance == 0:
            continue
        reward = config.crash_reward if crash else config.speed_reward * speed / config.max_speed
        key = ("crash" if crash else (lane, speed, tuple(after)), reward)
        found[key] = found.get(key, 0.0) + chance
    return found


def test_every_outcome_is_that_of_the_rules():
    config = preset("highway", **SMALL)
    mdp, rng = build_highway(config), np.random.default_rng(0)
    assert mdp.n_states == 2 * 4 * (4 * 3) ** 2
    for i in rng.integers(mdp.n_pairs, size=300):
        state, action = int(mdp.pair_state[i]), int(mdp.pair_action[i])
        road = Road.of(config.shape, np.array([state]))
        cars = list(zip(road.gap[:, 0].tolist(), road.other[:, 0].tolist(), strict=True))
        expected = outcomes_by_rule(config, int(road.lane[0]), int(road.speed[0]), cars, ACTIONS[action])
        found = {}
        for k in range(mdp.outcome_ptr[i], mdp.outcome_ptr[i + 1]):
            seen = Road.of(config.shape, mdp.next_state[k : k + 1])
            following = tuple(zip(seen.gap[:, 0].tolist(), seen.other[:, 0].tolist(), strict=True))
            what = "crash" if mdp.terminated[k] else (int(seen.lane[0]), int(seen.speed[0]), following)
            found[(what, float(mdp.reward[k]))] = float(mdp.probability[k])
            assert mdp.events["crash"][k] == (what == "crash")
        assert found == pytest.approx(expected, abs=1e-12)


def test_the_risk_is_that_of_sampled_drives():
    config = preset("highway", **SMALL, crash_reward=-0.5)
    environment = make(config)
    mdp = environment.mdp
    policy = solve(mdp, config.gamma).greedy
    exact = float(mdp.start @ event_probability(mdp, policy, "crash", horizon=40))
    simulation = environment.simulate([0], 20_000)
    state, crashed = simulation.reset(), np.zeros((1, 20_000), bool)
    alive = ~crashed
    for _ in range(40):
        step = simulation.step(policy[state])
        crashed |= step.terminated & alive
        alive &= ~step.terminated & ~step.truncated
        state = step.obs
    assert not alive.any()  # a drive has 40 steps
    # Five standard deviations of the count.
    assert crashed.mean() == pytest.approx(exact, abs=5 * np.sqrt(exact * (1 - exact) / 20_000))
    assert 0.01 < exact < 0.9


@pytest.mark.slow
def test_a_higher_price_of_a_crash_makes_it_rarer():
    config = preset("highway", sight=6, max_speed=4, traffic_speed=2)
    mdp = build_highway(config)
    prices = (0.0, 1.0, 5.0, 20.0, 100.0)
    solutions = [solve(replace(mdp, reward=np.where(mdp.terminated, -x, mdp.reward)), config.gamma) for x in prices]
    risks = [mdp.start @ event_probability(mdp, s.policy, "crash", horizon=40) for s in solutions]
    assert risks == sorted(risks, reverse=True)
    assert risks[-1] < 0.2 * risks[0]


def test_an_event_is_a_value_like_any_other():
    config = preset("highway", **SMALL)
    mdp = build_highway(config)
    policy = mdp.available / len(ACTIONS)
    model = event_model(mdp, "crash")
    limited = event_probability(mdp, policy, "crash", horizon=7)
    np.testing.assert_allclose(limited, evaluate(model, policy, 1.0, horizon=7).v[0], atol=1e-13)
    # Whoever drives on at random for ever crashes in the end.
    np.testing.assert_allclose(event_probability(mdp, policy, "crash"), 1.0, atol=1e-7)
    standing = event_probability(mdp, np.full(mdp.n_states, ACTIONS.index("slower")), "crash")
    still = Road.of(config.shape).speed == 0
    assert (standing[still] == 0).all()
    assert 0 < standing[~still].max() <= 1.0
    with pytest.raises(ValueError, match="event 'win': this model names crash"):
        event_probability(mdp, policy, "win")


def test_visits_of_a_large_model_need_no_factors(monkeypatch):
    """The LU factors of the chain of a policy on the default road take seconds, iterations a fraction of one."""
    mdp = build_highway(preset("highway", **SMALL))
    policy = mdp.available / len(ACTIONS)
    by_factors = occupancy(mdp, policy, 0.95)
    mdp.__dict__.pop("_last_chain")
    monkeypatch.setattr(evaluation, "LU_STATES", 100)
    monkeypatch.setattr(markov_chain, "DiscountedSystem", None)
    np.testing.assert_allclose(occupancy(mdp, policy, 0.95), by_factors, rtol=1e-9, atol=1e-13)


def test_the_road_is_drawn():
    config = preset("highway", **SMALL)
    environment = make(config)
    state = int(np.ravel_multi_index((1, 3, 2, 1, 3, 0), config.shape))
    assert environment.mdp.labels[state] == "lane 2 speed 3 next 2@1 3@0"
    assert "further away" in environment.drawing("ansi").LEGEND
    assert environment.drawing("ansi").draw(state) == "  ..1 \n3>...0\n"
    image = environment.drawing("rgb_array").draw(state)
    assert (image.shape, image.dtype) == ((2 * CELL + 1, 5 * CELL, 3), np.uint8)

    def colour(row: int, column: int) -> tuple[int, ...]:
        return tuple(image[row * CELL + CELL // 2, column * CELL + CELL // 4].tolist())

    # Own lane below: the own car at the left, the next car at the edge of sight; above, the next car two cells ahead.
    assert [colour(1, k) for k in range(5)] == [AGENT, ASPHALT, ASPHALT, ASPHALT, FAR]
    assert [colour(0, k) for k in range(5)] == [ASPHALT, ASPHALT, ASPHALT, OTHER, ASPHALT]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lanes": 4}, r"env\.lanes=4: must be in \[1, 3\]"),
        ({"density": 1.5}, r"env\.density=1\.5: must be in \[0, 1\]"),
        ({"crash_reward": float("nan")}, r"env\.crash_reward=nan: must be a finite number"),
    ],
)
def test_numbers_out_of_range_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        build_highway(preset("highway", **changes))
