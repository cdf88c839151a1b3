"""The script of returns: every row composes, and its table says what was evaluated."""

import json

import numpy as np
import pytest
from support import composed

from rlnet.bench import control


@pytest.mark.parametrize("name", control.ROWS)
def test_the_settings_of_every_row_can_be_used(name):
    row = control.ROWS[name]
    config = composed(*row.settings, f"steps={row.steps}")
    task, algo = name.split()
    assert (config.env.id, config.algo.name) == (task, algo)


def test_a_row_is_a_population_and_its_mean(tmp_path, capsys):
    control.run(3, 300, str(tmp_path), "CartPole-v1 ppo")
    stored = json.loads((tmp_path / "control.json").read_text())["CartPole-v1 ppo"]
    assert len(stored["returns"]) == 3
    assert stored["iqm"] == np.mean(stored["returns"])  # of three members: no quarter can be left out
    assert stored["interval"][0] <= stored["iqm"] <= stored["interval"][1]
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert line.startswith("| CartPole-v1 ppo | 300 | 3 |")
