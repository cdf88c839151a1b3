"""The race track of S&B Exercise 5.12."""

from collections import deque

import numpy as np
import pytest
from support import quick

from rlnet.config import ConfigError
from rlnet.envs import TabularSimulation, make, preset
from rlnet.envs.render import AGENT
from rlnet.mdp import event_model, event_probability, solve


def shortest(text: str, top: int) -> list[tuple[int, int]]:
    """The fewest steps from each starting place to the finishing line, and off the road, by breadth-first search."""
    rows = text.split()

    def way(row: int, column: int, up: int, right: int) -> tuple[str, int, int]:
        n = max(up, right, 1)
        for k in range(1, n + 1):
            r, c = row - int(up * k / n + 0.5), column + int(right * k / n + 0.5)
            if r < 0 or c >= len(rows[0]) or rows[r][c] == "#":
                return "off", row, column
            if rows[r][c] == "G":
                return "goal", r, c
        return "road", r, c

    found = []
    for first in (c for c, letter in enumerate(rows[-1]) if letter == "S"):
        begin = (len(rows) - 1, first, 0, 0)
        queue, steps, fewest = deque([begin]), {begin: 0}, {}
        while queue:
            state = queue.popleft()
            for du in (-1, 0, 1):
                for dr in (-1, 0, 1):
                    up, right = state[2] + du, state[3] + dr
                    if not (0 <= up <= top and 0 <= right <= top) or (up, right) == (0, 0):
                        continue
                    what, r, c = way(state[0], state[1], up, right)
                    fewest.setdefault(what, steps[state] + 1)
                    following = (r, c, up, right)
                    if what == "road" and following not in steps:
                        steps[following] = steps[state] + 1
                        queue.append(following)
        found.append((fewest["goal"], fewest["off"]))
    return found


@pytest.mark.parametrize("name", quick(["racetrack", "racetrack2"], 1))
def test_without_failures_the_optimum_is_the_shortest_way(name):
    config = preset(name, failure=0.0)
    mdp = make(config).mdp
    v = solve(mdp, 1.0).v[mdp.start > 0]
    # To leave the road on purpose and begin elsewhere may be the better way.
    ways = [min(goal, off + np.mean(-v)) for goal, off in shortest(config.map, 4)]
    assert -v == pytest.approx(ways, abs=1e-7)


def test_failures_cost_time_and_leave_the_road():
    mdp = make(preset("racetrack")).mdp
    best = solve(mdp, 1.0)
    risk = float(mdp.start @ event_probability(mdp, best.greedy, "off_track"))
    assert -15 < mdp.start @ best.v < -10.4  # 10.4 steps without failures
    for model, exact, spread in ((mdp, mdp.start @ best.v, 5.0), (event_model(mdp, "off_track"), risk, 0.5)):
        simulation = TabularSimulation(model, [3], 4000)
        state, gained, running = simulation.reset(), 0.0, np.ones((1, 4000), bool)
        for _ in range(400):
            step = simulation.step(best.greedy[state])
            gained += float((step.reward * running).sum())
            running &= ~step.terminated
            state = step.obs
        assert not running.any()
        assert gained / 4000 == pytest.approx(exact, abs=5 * spread / np.sqrt(4000))


def test_a_map_needs_both_lines():
    for letter, what in (("S", "starting"), ("G", "finishing")):
        text = preset("racetrack").map.replace(letter, ".")
        with pytest.raises(ConfigError, match=rf"env\.map: has no {what} line; write its cells as {letter}"):
            make(preset("racetrack", map=text))
    with pytest.raises(ConfigError, match=r"env\.map=x: a track has the letters S, G, \. and # alone"):
        make(preset("racetrack", map=preset("racetrack").map.replace("S", "x", 1)))


def test_the_track_is_drawn_with_the_car_and_its_speed():
    environment = make(preset("racetrack"))
    state = next(s for s, label in enumerate(environment.mdp.labels) if label == "row 2 column 10 speed 2 3")
    lines = environment.drawing("ansi").draw(state).splitlines()
    assert lines[2] == "##........@.....G"
    assert "upwards and that to the right" in environment.drawing("ansi").LEGEND
    assert (lines[31], lines[-1]) == ("###SSSSSS########", "speed: 2 up, 3 right")
    image = environment.drawing("rgb_array").draw(state)
    size = image.shape[0] // 32
    middle = image[0 * size + size // 2, 13 * size + size // 2]  # two rows up, three columns to the right
    assert tuple(middle.tolist()) == AGENT
