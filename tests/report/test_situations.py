"""The situations on the page of a drive: which are chosen, and what is said of them."""

import base64
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from support import composed

from rlnet.commands.api import load
from rlnet.commands.watch import DEFAULTS, write_clip
from rlnet.envs import make, preset
from rlnet.learning.training_loop import train
from rlnet.mdp import event_probability
from rlnet.report.finished import read_run
from rlnet.report.page import write_page
from rlnet.report.situations import MOST, next_step, situations_section

ROAD = ("env=highway", "env.sight=3", "env.max_speed=3", "env.traffic_speed=2", "algo=q_learning", "network=tabular")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drive") / "run"
    train(composed(*ROAD, "steps=3000", "logger=none"), folder)
    return folder


def test_the_next_step_is_a_horizon_of_one():
    mdp = make(preset("highway", sight=3, max_speed=3, traffic_speed=2)).mdp
    for action in range(5):
        policy = np.full(mdp.n_states, action)
        one = event_probability(mdp, policy, "crash", horizon=1)
        np.testing.assert_allclose(next_step(mdp, mdp.events["crash"])[:, action], one, atol=1e-15)


@pytest.mark.slow
def test_the_page_draws_situations_with_both_actions_and_risks(folder):
    run = read_run(folder)
    found = situations_section(run)
    assert [len(cards) for _, cards in found["parts"]] == [MOST, MOST]
    mdp, pi = run.mdp, run.values["pi"][0]
    exact = event_probability(mdp, pi, "crash", horizon=40)
    for card in found["parts"][0][1]:
        learned, _, place = card["note"].split("; ")
        state = int(re.search(r"state (\d+)", place)[1])
        assert f"P(crash) = {exact[state]:.3g}" in learned
        assert mdp.action_labels[int(pi[state].argmax())] in learned or pi[state].max() < 0.9  # equal ones
        assert exact[state] > 0
        drawn = np.asarray(Image.open(BytesIO(base64.b64decode(card["data"]))))
        np.testing.assert_array_equal(drawn, make(run.config.env).drawing("rgb_array").draw(state))
    page = write_page(folder).read_text(encoding="utf-8")
    assert "<h2>Situations</h2>" in page


def test_a_clip_of_a_drive_stands_on_the_page(folder):
    path = write_clip(load(folder), folder / "clip.gif", DEFAULTS | {"steps": 5})
    with Image.open(path) as film:
        assert film.n_frames > 1
    assert 'id="clip"' in write_page(folder).read_text(encoding="utf-8")
