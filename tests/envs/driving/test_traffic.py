"""The traffic automaton against what is published of it."""

import numpy as np
import pytest

from rlnet.envs.driving.traffic import speed_law, speed_wanted, stationary


def flow_on_a_ring(density: float, limit: int, dawdle: float, cells: int, steps: int, seed: int) -> float:
    """Cars that pass a cell per step: Nagel & Schreckenberg's automaton, simulated with the rule that is tested."""
    rng = np.random.default_rng(seed)
    place = np.sort(rng.choice(cells, round(density * cells), replace=False))
    speed = np.zeros(len(place), int)
    moved = 0
    for t in range(steps + steps // 2):
        headway = (np.roll(place, -1) - place - 1) % cells
        speed = speed_wanted(speed, headway, limit)
        speed = np.maximum(speed - (rng.random(len(speed)) < dawdle), 0)
        place = (place + speed) % cells
        moved += int(speed.sum()) if t >= steps // 2 else 0
    return moved / (steps * cells)


@pytest.mark.parametrize("density", [0.2, 0.5, 0.7])
def test_at_a_limit_of_one_cell_the_flow_is_the_exact_one(density):
    # Schreckenberg, Schadschneider, Nagel & Ito (1995): the parallel automaton with v_max = 1.
    p = 0.25
    exact = (1 - np.sqrt(1 - 4 * (1 - p) * density * (1 - density))) / 2
    assert flow_on_a_ring(density, 1, p, cells=1000, steps=2000, seed=0) == pytest.approx(exact, abs=0.004)


def test_the_largest_flow_is_the_published_one():
    # Nagel & Schreckenberg (1992): v_max = 5, p = .5: the flow is largest, .318, at a density of about .086.
    at = {density: flow_on_a_ring(density, 5, 0.5, cells=4000, steps=1500, seed=1) for density in (0.05, 0.086, 0.15)}
    assert at[0.086] == pytest.approx(0.318, abs=0.012)
    assert max(at, key=at.__getitem__) == 0.086
    # Free flow: every car drives at v_max − p.
    assert flow_on_a_ring(0.01, 5, 0.5, cells=4000, steps=500, seed=2) == pytest.approx(0.01 * 4.5, rel=0.03)


@pytest.mark.parametrize("density", [0.0, 0.3, 0.8, 1.0])
def test_headways_without_memory_give_the_mean_field(density):
    # The same paper: in mean field J = (1 − p)·ρ·(1 − ρ) at v_max = 1.
    law = speed_law(1, density, 0.25)
    np.testing.assert_allclose(law.sum(axis=1), 1.0, atol=1e-15)
    flow = density * (stationary(law) @ [0, 1])
    assert flow == pytest.approx(0.75 * density * (1 - density), abs=1e-12)


def test_a_car_alone_dawdles_about_its_limit():
    law = speed_law(5, 0.0, 0.5)
    assert stationary(law) == pytest.approx([0, 0, 0, 0, 0.5, 0.5])
    assert law[2].tolist() == [0, 0, 0.5, 0.5, 0, 0]


def test_headways_without_memory_slow_the_others_down():
    # The default highway, as README says: in the automaton cars keep their distances, and drive faster.
    assert stationary(speed_law(3, 0.1, 0.3)) @ np.arange(4) == pytest.approx(1.744, abs=5e-4)
    assert flow_on_a_ring(0.1, 3, 0.3, cells=2000, steps=1000, seed=0) / 0.1 == pytest.approx(2.65, abs=0.01)
