"""The evaluation on the page: calibration against known errors, the distribution of returns, damaged files."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support import composed

import rlnet
from rlnet.compare.episodes import EVENT, QUANTITIES, reliability
from rlnet.config import ConfigError
from rlnet.experiment.evaluation_files import _settings
from rlnet.learning.training_loop import train
from rlnet.numerics.statistics import wilson
from rlnet.report.curves import curves_figure
from rlnet.report.evaluation_figure import reliability_figure, returns_figure
from rlnet.report.html import embedded
from rlnet.report.page import write_page
from rlnet.report.terminal import MEANINGS


def steps_of_episodes(seed: int, error: float, episodes: int = 60, length: int = 20):
    """Predictions that are off by `error`, and obtained returns whose noise all steps of an episode share."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(0, 10, size=(episodes, length))
    obtained = true + rng.normal(size=(episodes, 1))
    return (true + error).ravel(), obtained.ravel(), np.repeat(np.arange(episodes), length)


def test_calibration_finds_a_known_error_and_its_interval_counts_episodes():
    found = reliability(*steps_of_episodes(0, 3.0))
    assert found.bias_interval[0] < 3.0 < found.bias_interval[1]
    width = found.bias_interval[1] - found.bias_interval[0]
    assert 0.7 < width / (2 * 1.96 / np.sqrt(60)) < 1.3  # as of 60 independent episodes, not of 1,200 steps
    np.testing.assert_allclose(found.predicted - found.obtained, 3.0, atol=0.6)
    held = 0
    for seed in range(40):
        low, high = reliability(*steps_of_episodes(seed, 0.0)).bias_interval
        held += low <= 0 <= high
    assert held >= 32  # of 38 expected; below with probability 4e-4
    assert reliability(np.ones(3), np.ones(3), np.zeros(3)) is None
    assert reliability(np.full(3, np.nan), np.ones(3), np.arange(3)) is None


def test_pictures_show_bins_means_and_intervals():
    found = reliability(*steps_of_episodes(0, 0.0), bins=5)
    (axes,) = reliability_figure(found).axes
    line = next(line for line in axes.lines if len(line.get_xdata()) == 5)
    np.testing.assert_allclose(line.get_xydata(), np.stack([found.predicted, found.obtained], 1))
    (axes,) = returns_figure({"greedy": np.array([1.0, 1.0, 3.0]), "behaviour": np.array([0.0, 2.0])}).axes
    assert [line.get_xdata()[0] for line in axes.lines] == [5 / 3, 1.0]
    assert sum(patch.get_height() for patch in axes.patches) == pytest.approx(200)
    assert returns_figure({"greedy": np.full(4, 9.0)}).axes
    returns = np.array([-1.53983885, -1.34840149, -1.54127839, -1.34575757])
    figure = returns_figure({"greedy": returns[:2], "behaviour": returns[2:]})
    embedded(figure, "as on the page")
    places = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in pairwise(places))  # numbers do not run into each other


@pytest.mark.parametrize("happened", [[0, 0, 0], [20, 20, 20], [20, 0, 0], [1, 2, 3]], ids=str)
def test_the_interval_of_an_event_over_members_holds_wilsons_of_all_episodes(happened):
    episodes = {name: np.zeros((3, 20)) for name in QUANTITIES}
    event = np.arange(20) < np.array(happened)[:, None]
    (found,) = _settings(composed("seeds=3"), {"greedy": episodes | {EVENT: event}})
    low, high = found["greedy"][EVENT]["mean_interval"]
    least, most = wilson(event.sum(), 60)
    assert low <= least + 1e-12
    assert high >= most - 1e-12
    if happened == [20, 0, 0]:  # members that differ that much say more than 60 coins
        assert (low, high) == (0, 1)


def test_every_logged_number_has_a_meaning():
    code = "".join(path.read_text(encoding="utf-8") for path in Path(rlnet.__file__).parent.rglob("*.py"))
    names = set(re.findall(r'"((?:loss|explore|constraint|replay|optimizer)/[a-z_]+)"', code))
    assert names - {"optimizer/any"} <= set(MEANINGS)  # a schema


def test_the_curve_of_a_single_member_has_the_interval_of_its_episodes():
    numbers = {"evaluation/return": "5", "evaluation/return_half_interval": "2"}
    rows = [{"step": str(step), "member": "0", **numbers} for step in (10, 20)]
    figure = curves_figure(rows, [("undiscounted return", ("evaluation/return",))])
    (band,) = figure.axes[0].collections
    assert band.get_paths()[0].get_extents().y0 == 3.0
    assert band.get_paths()[0].get_extents().y1 == 7.0


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    small = ("steps=400", "log_every=200", "evaluation.episodes=3", "evaluation.final_episodes=6", "seeds=2")
    train(composed("env=cartpole", "algo=ppo", "algo.rollout=32", *small, "vary.learning_rate=[1e-3,1e-4]"), folder)
    return folder


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_the_page_of_a_run_without_a_model_tells_what_was_earned(folder):
    page = write_page(folder).read_text(encoding="utf-8")
    stored = json.loads((folder / "evaluation.json").read_text())
    best = max(stored["settings"], key=lambda one: one["greedy"]["return"]["mean"])
    mean = best["greedy"]["return"]["mean"]
    assert f"The greedy policy earns {mean:.4g} (95 %" in page
    assert "6 episodes of each of 2 members, with learning_rate" in page
    for alt in ("calibration: obtained over predicted", "distribution of the returns", "undiscounted return"):
        assert alt in page
    assert page.count("<td>greedy, learning_rate") == 2
    arrays = dict(np.load(folder / "evaluation.npz"))
    np.testing.assert_allclose(
        arrays["greedy_return"].mean(), np.mean([m["greedy"]["return"]["mean"] for m in stored["members"]])
    )


def with_events(folder: Path) -> None:
    """Tell of an event, in one episode of six alone."""
    content, arrays = json.loads((folder / "evaluation.json").read_text()), dict(np.load(folder / "evaluation.npz"))
    content["event"] = "crashed"
    for setting in content["settings"]:
        for name in content["policies"]:
            setting[name]["event"] = {"mean": 0.0, "mean_interval": None}
            arrays[f"{name}_event"] = arrays[f"{name}_cut"][:, :1]
    (folder / "evaluation.json").write_text(json.dumps(content))
    np.savez(folder / "evaluation.npz", **arrays)


@pytest.mark.parametrize(
    "damage",
    [
        with_events,
        lambda folder: (folder / "evaluation.npz").unlink(),
        lambda folder: (folder / "evaluation.npz").write_bytes(b"PK"),
        lambda folder: (folder / "evaluation.json").write_text("{}"),
        lambda folder: (folder / "evaluation.json").write_text("[1]"),
        lambda folder: np.savez(folder / "evaluation.npz", greedy_return=np.ones((4, 6))),
        lambda folder: (folder / "evaluation.json").write_text(
            (folder / "evaluation.json").read_text().replace('"settings": [', '"settings": [3, ')
        ),
    ],
)
def test_damaged_files_of_an_evaluation_are_named(folder, damage):
    damage(folder)
    with pytest.raises(ConfigError, match=r"evaluation\.(npz|json)"):
        write_page(folder)
