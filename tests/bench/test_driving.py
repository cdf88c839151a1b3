"""The benchmark of highway-env beside Stable-Baselines3 measures every way of stepping and learning."""

import re

import pytest

from rlnet.bench import driving


@pytest.mark.slow
def test_every_way_is_measured_and_set_beside_its_peer(capsys, monkeypatch):
    pytest.importorskip("highway_env")
    pytest.importorskip("stable_baselines3")
    monkeypatch.setattr(driving, "WARM", 40)
    driving.run(rounds=1, seconds=0.1)
    said = capsys.readouterr().out
    rows = re.findall(r"^(.+): ([\d.]+) steps/s(?:, ([\d.]+) times (SB3 stepping|SB3 DQN))?$", said, re.M)
    assert [(name, peer) for name, _, _, peer in rows] == [
        ("SB3 stepping", ""),
        ("two processes stepping", "SB3 stepping"),
        ("rlnet stepping", "SB3 stepping"),
        ("rlnet stepping, 8 seeds", "SB3 stepping"),
        ("SB3 DQN", ""),
        ("rlnet DQN", "SB3 DQN"),
    ]
    assert all(float(rate) > 0 for _, rate, _, _ in rows)


def test_a_ratio_is_that_within_turns_with_the_interval_of_students_distribution():
    assert driving._times([30.0], [20.0]) == "1.50"
    # Logarithms 0, ln 2, ln 4: their mean is ln 2, its standard error ln 2 / sqrt(3), t(.975, 2) = 4.3027.
    half = 2 ** (4.3027 / 3**0.5)
    assert driving._times([10, 40, 160], [10, 20, 40]) == f"2.00 [{2 / half:.2f}, {2 * half:.2f}]"
