"""The page of a sweep: who is compared with whom, and that its numbers come from the runs."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import trim_mean
from support import composed

from rlnet.config import ConfigError
from rlnet.learning.training_loop import train
from rlnet.numerics.statistics import improvement
from rlnet.report.finished import read_run
from rlnet.report.methods import methods, score_of
from rlnet.report.page import write_page
from rlnet.report.sweep import compared, write_sweep

SHORT = ("network=tabular", "gamma=0.9", "seeds=4", "steps=1500", "compare_every=500", "log_every=500")
ASKED = (
    ("env=random_walk", "optimizer.learning_rate=0.5"),
    ("env=random_walk", "optimizer.learning_rate=0.001"),
    ("env=maze", "optimizer.learning_rate=0.5"),
    ("env=maze", "optimizer.learning_rate=0.001"),
)
SCORE = "exact/normalised_return"


def finished(folder: Path, *overrides: str) -> Path:
    """A run and the overrides that the command line would have stored."""
    train(composed(*overrides), folder)
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {item}\n" for item in overrides))
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    for k, overrides in enumerate(ASKED):
        finished(folder / str(k), *overrides, *SHORT)
    return folder


def members(folder: Path) -> np.ndarray:
    document = json.loads((folder / "comparison.json").read_text())
    return np.array([float(member["scores"][SCORE]) for member in document["members"]])


def test_environments_are_tasks_and_what_else_differs_makes_methods(sweep):
    runs = [read_run(sweep / k) for k in "0123"]
    found = {method.name: method for method in methods(runs)}
    assert set(found) == {"optimizer.learning_rate=0.5", "optimizer.learning_rate=0.001"}
    fast = found["optimizer.learning_rate=0.5"].scores[SCORE]
    np.testing.assert_array_equal(fast["random_walk"], members(sweep / "0"))
    np.testing.assert_array_equal(fast["maze"], members(sweep / "2"))
    assert score_of(runs) == SCORE


def test_the_table_holds_interquartile_means_over_seeds_and_tasks(sweep):
    page = write_sweep(sweep).read_text(encoding="utf-8")
    rows = re.findall(r'data-method="([^"]+)">(.*?)</tr>', page, re.DOTALL)
    wanted = {
        "optimizer.learning_rate=0.5": np.concatenate([members(sweep / "0"), members(sweep / "2")]),
        "optimizer.learning_rate=0.001": np.concatenate([members(sweep / "1"), members(sweep / "3")]),
    }
    assert [name for name, _ in rows] == sorted(wanted, key=lambda name: -trim_mean(wanted[name], 0.25))
    for name, cells in rows:
        middle, mean = (float(x) for x in re.findall(r'data-value="([^"]+)"', cells)[:2])
        assert middle == pytest.approx(trim_mean(wanted[name], 0.25))
        assert mean == pytest.approx(wanted[name].mean())
    assert 'href="./3/' in page
    assert "http" not in page


def test_the_verdict_names_the_first_and_its_probability_of_improvement(sweep):
    part = compared([read_run(sweep / k) for k in "01"])
    first, second = (method.samples(SCORE) for method in part["methods"])
    assert part["verdict"].startswith(f"Of 2 settings on random_walk, {part['methods'][0].name} has the highest")
    assert f"with probability {improvement(*first, *second):.2f}" in part["verdict"]
    assert len(part["pictures"]) == 3, "intervals, profiles, and learning curves where there is one task"


def test_seeds_are_repetitions(sweep):
    (method,) = methods([read_run(sweep / "0"), read_run(sweep / "2")])
    assert method.runs == 8
    alone = compared([read_run(sweep / "0")])
    assert "Over 4 runs on random_walk" in alone["verdict"]


def test_the_settings_of_a_population_are_methods_too(tmp_path):
    options = ("env=random_walk", "vary.learning_rate=[0.5,0.001]", "network=tabular", "gamma=0.9", "seeds=3")
    folder = finished(tmp_path / "run", *options, "steps=1000")
    found = {method.name: method for method in methods([read_run(folder)])}
    assert {name: method.runs for name, method in found.items()} == {
        "optimizer.learning_rate=0.5": 3,
        "optimizer.learning_rate=0.001": 3,
    }
    np.testing.assert_array_equal(found["optimizer.learning_rate=0.001"].samples(SCORE)[0], members(folder)[3:])
    assert 'data-method="optimizer.learning_rate=0.5"' in write_page(folder).read_text(encoding="utf-8")


def test_without_a_model_sampled_returns_are_compared(tmp_path):
    for k, rate in enumerate((0.001, 0.01)):
        options = ("env=cartpole", f"optimizer.learning_rate={rate}", "steps=800", "log_every=200")
        finished(tmp_path / str(k), *options)
    runs = [read_run(tmp_path / k) for k in "01"]
    assert score_of(runs) == "return/mean"
    assert "return at the end" in compared(runs)["verdict"]


def test_a_folder_without_runs_is_refused(tmp_path, sweep):
    with pytest.raises(ConfigError, match="neither the folder of a run nor of a sweep"):
        write_sweep(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(sweep / "0", broken / "0")
    (broken / "0" / "values.npz").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"values.npz: cannot be read"):
        write_sweep(broken)
