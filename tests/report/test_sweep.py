"""The page of a sweep: who is compared with whom, and that its numbers come from the runs."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import trim_mean
from support import composed

from rlnet.compare.ranking import NO_DIFFERENCE
from rlnet.config import ConfigError
from rlnet.learning.training_loop import train
from rlnet.report.finished import Finished, read_run
from rlnet.report.html import render
from rlnet.report.methods import groups
from rlnet.report.page import write_page
from rlnet.report.sweep import _context, compared, write_sweep
from rlnet.report.sweep_figure import compared_curves

pytestmark = pytest.mark.usefixtures("without_pictures")

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


@pytest.mark.slow
def test_environments_are_problems_and_what_else_differs_makes_methods(sweep):
    found = groups([read_run(sweep / k) for k in "0123"])
    assert [(group.problem, group.score) for group in found] == [
        ("random_walk, γ = 0.9", SCORE),
        ("maze, γ = 0.9", SCORE),
    ]
    for group, first in zip(found, (0, 2), strict=True):
        names = ["optimizer.learning_rate=0.5", "optimizer.learning_rate=0.001"]
        assert [method.name for method in group.methods] == names
        for k, method in enumerate(group.methods):
            np.testing.assert_array_equal(method.scores[SCORE], members(sweep / str(first + k)))


def test_each_problem_has_a_table_of_interquartile_means_over_seeds(sweep):
    page = write_sweep(sweep).read_text(encoding="utf-8")
    tables = re.findall(r'data-problem="([^"]+)">(.*?)</section>', page, re.DOTALL)
    assert [name for name, _ in tables] == ["random_walk, γ = 0.9", "maze, γ = 0.9"]
    for (_, table), runs in zip(tables, ("01", "23"), strict=True):
        rows = re.findall(r'data-method="([^"]+)">(.*?)</tr>', table, re.DOTALL)
        assert len(rows) == 2
        for (name, cells), k in zip(rows, runs, strict=True):
            assert name == ASKED[int(k)][1]
            middle, mean = (float(x) for x in re.findall(r'data-value="([^"]+)"', cells)[:2])
            assert middle == pytest.approx(trim_mean(members(sweep / k), 0.25))
            assert mean == pytest.approx(members(sweep / k).mean())
    assert "2 problems are not ranked against each other" in page
    assert 'href="./3/' in page
    assert "http" not in page


def reached(*overrides: str, scores: dict[str, list[float]], steps: int | None = None) -> Finished:
    """A finished run whose members have these scores."""
    config = composed("steps=1000", *overrides)
    count = len(config.member_seeds)
    told = [{name: float(values[m]) for name, values in scores.items()} for m in range(count)]
    settings = [{} for _ in range(count // config.seeds)]
    document = {"members": [{"scores": one, "diverged": None} for one in told], "settings": settings, "verdict": "said"}
    end = config.steps if steps is None else steps
    rows = [
        {"step": str(step), "member": str(m), "return/mean": "1.0", **{name: str(x) for name, x in told[m].items()}}
        for step in (0, end)
        for m in range(count)
    ]
    return Finished(Path(f"{overrides[-1]}"), config, list(overrides), rows, document, {}, None, None)


def control(*overrides: str, values: list[float]) -> Finished:
    """Of a method of control with these normalised returns."""
    regret = [1.0 - x for x in values]
    return reached(*overrides, f"seeds={len(values)}", scores={SCORE: values, "exact/regret": regret})


@pytest.fixture
def plain(monkeypatch):
    """Without pictures, which take a second or two."""
    monkeypatch.setattr("rlnet.report.sweep._pictures", lambda *_: [])


def shown(runs: list[Finished]) -> tuple[dict, str]:
    """(what is compared, the whole page)."""
    return compared(runs), render("sweep.html", _context(Path("sweep"), runs))


APART = ([0.1, 0.2, 0.3, 0.25, 0.15], [0.9, 0.8, 0.85, 0.95, 0.99])
NAMES = ("optimizer.learning_rate=0.1", "optimizer.learning_rate=0.2")


@pytest.mark.parametrize(
    "values",
    [
        ([0.3], [0.9]),
        ([0.5] * 6, [0.5] * 6),
        ([0.1, 0.2, 0.3], [0.7, 0.8, 0.9]),  # 20 ways to split them: p = 0.1
        ([0.5 + 1e-15] * 6, [0.5] * 6),  # rounding
        ([-np.inf] * 6, [-np.inf] * 6),
        ([np.nan] * 6, [-np.inf] * 6),
        ([0.1, 0.9, 0.4, 0.6, 0.3, 0.7], [0.2, 0.8, 0.5, 0.65, 0.35, 0.75]),
    ],
)
def test_no_winner_where_the_runs_show_no_difference(values, plain):
    part, page = shown([control(name, values=own) for name, own in zip(NAMES, values, strict=True)])
    (table,) = part["groups"]
    assert part["verdict"].startswith("For gridworld, γ = ")
    assert NO_DIFFERENCE in part["verdict"]
    assert [row["name"] for row in table["rows"]] == list(NAMES), "in the order in which they were asked for"
    for word in ("better", "worse", "nearest", "beside", "P ="):
        assert word not in part["verdict"]
        assert not any(word in text for text in table["head"])
    assert "worse, P" not in page


def test_a_winner_where_the_runs_can_show_one(plain):
    part, _ = shown([control(name, values=own) for name, own in zip(NAMES, APART, strict=True)])
    (table,) = part["groups"]
    assert f"Of 2 settings, {NAMES[1]} comes nearest to the optimum. {NAMES[1]}: over 5 runs" in part["verdict"]
    assert [row["name"] for row in table["rows"]] == [NAMES[1], NAMES[0]]
    column = table["head"].index(f"beside {NAMES[1]}") - 1
    assert [row["cells"][column]["text"] for row in table["rows"]] == ["", "worse, P = 1.00 (1 to 1)"]


@pytest.mark.slow
def test_what_is_no_number_loses_against_what_is_one():
    part, _ = shown([control(NAMES[0], values=[np.nan] * 5), control(NAMES[1], values=APART[1])])
    assert f"{NAMES[1]} comes nearest" in part["verdict"]
    part, _ = shown([control(NAMES[0], values=[-np.inf] * 5), control(NAMES[1], values=APART[1])])
    assert f"{NAMES[1]} comes nearest" in part["verdict"]


def test_among_three_the_second_may_be_a_tie(plain):
    third = [0.91, 0.81, 0.84, 0.96, 0.98]
    runs = [control(f"optimizer.learning_rate={k}", values=x) for k, x in ((1, APART[0]), (2, APART[1]), (3, third))]
    part, _ = shown(runs)
    assert "is better than optimizer.learning_rate=1; from optimizer.learning_rate=" in part["verdict"]
    texts = [cell["text"] for row in part["groups"][0]["rows"] for cell in row["cells"]]
    assert texts.count("no difference shown") == 1
    assert sum(text.startswith("worse") for text in texts) == 1


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        (("gamma=0.9",), ("gamma=0.99",), ("gridworld, γ = 0.9", "gridworld, γ = 0.99")),
        (("gamma=0.9999999",), ("gamma=1",), ("gridworld, γ = 0.9999999", "gridworld, γ = 1")),
        (
            ("env.slip=0.1",),
            ("env.slip=0.2",),
            ("gridworld, env.slip=0.1, γ = 0.9", "gridworld, env.slip=0.2, γ = 0.9"),
        ),
        (("env=maze",), ("env=four_rooms",), ("maze, γ = 0.9", "four_rooms, γ = 0.9")),
        (
            ("env.max_episode_steps=10",),
            ("env.max_episode_steps=20",),
            ("gridworld, env.max_episode_steps=10, γ = 0.9", "gridworld, env.max_episode_steps=20, γ = 0.9"),
        ),
        (
            ("env=frozen_lake",),
            ("env=frozen_lake", "env.kwargs.is_slippery=false"),
            ("frozen_lake, γ = 0.9", "frozen_lake, env.kwargs.is_slippery=false, γ = 0.9"),
        ),
    ],
)
def test_different_problems_are_never_ranked_against_each_other(one, other, names, plain):
    default = () if one[0].startswith("gamma") else ("gamma=0.9",)
    runs = [control(*default, *options, values=values) for options, values in zip((one, other), APART, strict=True)]
    part, _ = shown(runs)
    assert tuple(group["problem"] for group in part["groups"]) == names
    assert part["verdict"].startswith("2 problems are not ranked against each other.")
    assert "nearest" not in part["verdict"]
    assert all(len(group["rows"]) == 1 for group in part["groups"])


def test_the_same_problem_by_another_name_is_one_problem():
    runs = [
        control("env=frozen_lake", "gamma=0.9", values=APART[0]),
        control("env=taxi", "env.id=FrozenLake-v1", "gamma=0.9", "env.stepping=sync", "steps=900", values=APART[1]),
    ]
    (group,) = groups(runs)
    assert group.problem == "frozen_lake, γ = 0.9"
    assert [method.name for method in group.methods] == ["steps=1000", "steps=900"]


def prediction(*overrides: str, errors: list[float], reached_return: float) -> Finished:
    count = len(errors)
    scores = {"exact/v_rmse": errors, "exact/v_relative": errors, "exact/return": [reached_return] * count}
    return reached(*overrides, f"seeds={count}", scores=scores)


def test_prediction_is_ranked_by_the_error_of_v_and_not_beside_control(plain):
    good, poor = [0.01, 0.02, 0.03, 0.015, 0.025], [0.5, 0.6, 0.7, np.nan, np.inf]
    runs = [
        prediction("algo=mc", errors=poor, reached_return=5.0),
        prediction("algo=td0", errors=good, reached_return=-5.0),
        control("algo=q_learning", values=APART[1]),
        prediction("algo=td0", "algo.policy=optimal", errors=poor, reached_return=9.0),
    ]
    part, page = shown(runs)
    problems = [group["problem"] for group in part["groups"]]
    assert [problem.partition(",")[0] for problem in problems] == [
        "the value of the uniform policy on gridworld", "gridworld", "the value of the optimal policy on gridworld",
    ]  # fmt: skip
    assert "Of 2 settings, algo=td0 comes nearest to V^π" in part["verdict"]
    assert "IQM of v_rmse" in part["groups"][0]["head"]
    predicted = re.findall(r'data-problem="the value[^>]*>(.*?)</section>', page, re.DOTALL)
    assert len(predicted) == 2
    assert not any(word in text for text in predicted for word in ("egret", "normalised"))


def test_methods_that_are_scored_differently_are_ranked_by_what_they_share(plain):
    runs = [control(f"algo={name}", values=own) for name, own in zip(("sarsa", "q_learning"), APART, strict=True)]
    for member in runs[1].comparison["members"]:
        member["scores"]["exact/q_bias_own"] = 0.1
    for each in (runs, runs[::-1]):
        assert "algo=q_learning comes nearest to the optimum" in shown(each)[0]["verdict"]


def test_a_run_that_was_made_twice_counts_once(plain):
    runs = [control(NAMES[k % 2], values=[APART[k % 2][0]]) for k in range(10)]
    part, _ = shown(runs)
    assert [method.runs for method in part["groups"][0]["methods"]] == [1, 1], "all of them have seed 0"
    assert NO_DIFFERENCE in part["verdict"]


def test_a_run_that_has_not_finished_is_left_out_and_named(plain):
    early = reached(NAMES[1], "seeds=1", scores={SCORE: [0.9]}, steps=400)
    part, page = shown([control(NAMES[0], values=[0.1]), early])
    assert part["verdict"].startswith("Left out, because not finished: run seeds=1 (step 400 of 1,000).")
    assert "not finished: step 400 of 1,000" in page
    assert len(part["groups"][0]["rows"]) == 1
    alone, _ = shown([early])
    assert alone["groups"] == []


def test_a_member_that_went_wrong_is_told_before_who_is_best(plain):
    runs = [control(name, values=own) for name, own in zip(NAMES, APART, strict=True)]
    runs[1].comparison["members"][2]["diverged"] = 400
    assert shown(runs)[0]["verdict"].startswith("Something went wrong in run seeds=5: see what is said of it below.")


def test_seeds_are_repetitions(sweep):
    alone = compared([read_run(sweep / "0")])
    assert alone["groups"][0]["methods"][0].runs == 4
    assert "random_walk, γ = 0.9: q_learning: over 4 runs the interquartile mean of the" in alone["verdict"]
    assert len(compared([read_run(sweep / k) for k in "01"])["groups"][0]["pictures"]) == 3, (
        "intervals, profiles, curves"
    )
    assert len(alone["groups"][0]["pictures"]) == 1, "there is only the learning curve to show"


@pytest.mark.slow
def test_the_settings_of_a_population_are_methods_too(tmp_path):
    options = ("env=random_walk", "vary.learning_rate=[0.5,0.001]", "network=tabular", "gamma=0.9", "seeds=3")
    folder = finished(tmp_path / "run", *options, "steps=1000")
    (group,) = groups([read_run(folder)])
    found = {method.name: method for method in group.methods}
    assert {name: method.runs for name, method in found.items()} == {
        "optimizer.learning_rate=0.5": 3,
        "optimizer.learning_rate=0.001": 3,
    }
    np.testing.assert_array_equal(found["optimizer.learning_rate=0.001"].scores[SCORE], members(folder)[3:])
    assert 'data-method="optimizer.learning_rate=0.5"' in write_page(folder).read_text(encoding="utf-8")


@pytest.mark.slow
def test_without_a_model_sampled_returns_are_compared(tmp_path):
    for k, rate in enumerate((0.001, 0.01)):
        options = ("env=cartpole", f"optimizer.learning_rate={rate}", "steps=800", "log_every=200")
        finished(tmp_path / str(k), *options)
    runs = [read_run(tmp_path / k) for k in "01"]
    (group,) = groups(runs)
    assert group.score == "return/mean"
    assert NO_DIFFERENCE in compared(runs)["verdict"]
    assert "undiscounted return of training episodes at the end" in compared(runs)["groups"][0]["note"]
    said = [run["verdict"] for run in _context(tmp_path, runs)["runs"]]
    assert all(re.match(r"The greedy policy earns .* in 50 episodes\. ", sentence) for sentence in said)


def test_a_curve_of_one_row_is_seen():
    rows = [[{"step": str(k), "member": "0", "return/mean": "1"} for k in range(count)] for count in (1, 9)]
    one, many = compared_curves(["a", "b"], rows, "return/mean").axes[0].lines
    assert one.get_marker() == "."
    assert many.get_marker() in ("", "None")


def test_a_folder_without_runs_is_refused(tmp_path, sweep):
    with pytest.raises(ConfigError, match="neither the folder of a run nor of a sweep"):
        write_sweep(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(sweep / "0", broken / "0")
    (broken / "0" / "values.npz").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"values.npz: cannot be read"):
        write_sweep(broken)
