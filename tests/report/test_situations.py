"""The situations on the page of a drive: which are chosen, and what is said of them."""

import base64
import json
import re
import zlib
from io import BytesIO

import numpy as np
import pytest
from browser import after, needs_browser
from PIL import Image
from support import composed

from rlnet.commands import watch
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
    assert "Numbers are speeds in cells per step" in page


@pytest.mark.slow
def test_a_policy_that_never_ends_has_its_situations_on_the_page_too(tmp_path):
    """At γ = 1 its expected visits are infinite."""
    rows = "#...G\n#...G\n#..##\n#..##\n#..##\n#SS##"
    track = ("env=racetrack", f"env.map='{rows}'", "steps=64", "optimizer.learning_rate=0", "logger=none")
    train(composed(*track), tmp_path / "run")
    found = situations_section(read_run(tmp_path / "run"))
    assert "may go on for ever" in found["note"]
    notes = [card["note"] for _, cards in found["parts"] for card in cards]
    assert len(notes) > 0
    assert not any("%" in note for note in notes)


@pytest.mark.slow
def test_a_drive_is_told_with_what_its_signs_mean(folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["rlnet watch", str(folder), "steps=1"])
    assert watch.main() == 0
    said = capsys.readouterr().out
    assert said.startswith("The own car (red; in text >")
    assert len({line.index("Q = ") for line in said.splitlines() if "Q = " in line}) == 1  # below one another


@pytest.mark.slow
def test_a_clip_of_a_drive_stands_on_the_page(folder):
    path = write_clip(load(folder), folder / "clip.gif", DEFAULTS | {"steps": 5})
    with Image.open(path) as film:
        assert film.n_frames > 1
    assert 'id="clip"' in write_page(folder).read_text(encoding="utf-8")


def board_of(folder):
    """The data of the road on the page, and its arrays."""
    board = json.loads(situations_section(read_run(folder))["road"]["data"].replace("\\u003c", "<"))
    content, arrays, offset = zlib.decompress(base64.b64decode(board["packed"])), {}, 0
    for name, kind, length in board["arrays"]:
        arrays[name] = np.frombuffer(content, kind, length, offset) * board["scale"].get(name, 1.0)
        offset += -(-length * np.dtype(kind).itemsize // 8) * 8
    return board, arrays


@pytest.mark.slow
def test_the_road_of_the_page_holds_every_situation(folder):
    run = read_run(folder)
    board, arrays = board_of(folder)
    assert board["most"] == {"lanes": 2, "speed": 3, "gap": 3, "other": 2}
    assert board["exact"] == "Q*"
    for name, key in (("pi", "pi"), ("piExact", "pi_exact"), ("q", "q"), ("qExact", "q_exact")):
        exact = run.values[key][0].ravel()
        np.testing.assert_allclose(arrays[name], exact, atol=np.abs(exact).max() / 30_000)
    for name, key in (("learned", "pi"), ("optimal", "pi_exact")):
        exact = event_probability(run.mdp, run.values[key][0].astype(float), "crash", horizon=40)
        np.testing.assert_allclose(arrays[name], exact, rtol=1e-6)
    np.testing.assert_allclose(arrays["soon"], next_step(run.mdp, run.mdp.events["crash"]).ravel(), rtol=1e-6)


@pytest.mark.slow
@needs_browser
def test_situations_are_chosen_by_clicks_in_a_browser(folder, tmp_path):
    script = """
  const click = (what) => document.querySelector(what).dispatchEvent(new MouseEvent('click', {bubbles: true}));
  const list = (k, x) => { const one = document.querySelector(`[data-part="${k}"]`);
    one.selectedIndex = x; one.dispatchEvent(new Event('change')); };
  const say = () => found.push(['#road-said h3', '.learned', '.optimal', '#road-said tbody']
    .map((one) => document.querySelector(one).textContent));
  [1, 2, 0, 2, 0, 1].forEach((x, k) => list(k, x)); say();
  click('rect[data-lane="1"][data-column="2"]'); say();
  click('rect[data-lane="0"][data-column="0"]'); say();
  const cars = document.querySelectorAll('#road-board g.can');
  cars[cars.length - 1].dispatchEvent(new MouseEvent('click')); say();
"""
    found = after(script, write_page(folder).read_text(encoding="utf-8"), tmp_path)
    run, shape = read_run(folder), (2, 4, 4, 3, 4, 3)
    # By the lists; then the next car of the own lane one cell ahead, the own car in the other lane, and faster.
    places = [(1, 2, 0, 2, 0, 1), (1, 2, 0, 2, 1, 1), (0, 2, 0, 2, 1, 1), (0, 3, 0, 2, 1, 1)]
    risks = [
        event_probability(run.mdp, run.values[key][0].astype(float), "crash", horizon=40) for key in ("pi", "pi_exact")
    ]
    for said, place in zip(found, places, strict=True):
        state = int(np.ravel_multi_index(place, shape))
        assert said[0] == f"state {state}"
        for text, risk, key in zip(said[1:3], risks, ("pi", "pi_exact"), strict=True):
            assert float(text.rpartition("= ")[2]) == pytest.approx(risk[state], rel=6e-3)
            assert run.mdp.action_labels[int(run.values[key][0][state].argmax())] in text
        assert "lane left" in said[3]
