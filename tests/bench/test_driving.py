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
    rows = re.findall(r"^(.+): ([\d.]+) steps/s, ([\d.]+) times (SB3 stepping|SB3 DQN)$", said, re.M)
    assert [(name, peer) for name, _, _, peer in rows] == [
        ("SB3 stepping", "SB3 stepping"),
        ("rlnet stepping", "SB3 stepping"),
        ("rlnet stepping, 8 seeds", "SB3 stepping"),
        ("SB3 DQN", "SB3 DQN"),
        ("rlnet DQN", "SB3 DQN"),
    ]
    assert all(float(rate) > 0 for _, rate, _, _ in rows)
