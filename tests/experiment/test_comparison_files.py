"""The verdict: single members that went wrong come first, ties are ties, and prediction is judged as prediction."""

import json
import math
import re

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from support import composed, quick_rows

from rlnet.compare import Truth
from rlnet.compare.member_failures import FACTOR, Mishap, largest_value, out_of_range
from rlnet.compare.names import OF_CONTROL
from rlnet.compare.population import Population, drawn, each_verdict, overall_verdict
from rlnet.experiment.comparison_files import rescore
from rlnet.learning.training_loop import train
from rlnet.mdp import FiniteMDP, solve
from rlnet.numerics.statistics import _exchange_test, ranking, runs_needed
from rlnet.report.finished import read_run
from rlnet.report.page import write_page
from rlnet.report.summary import show_rescored

pytestmark = pytest.mark.usefixtures("without_pictures")


def loop(end: float = 0.0, stay: float = -1.0) -> FiniteMDP:
    """One state: end with a reward, or stay for another."""
    return FiniteMDP.from_outcomes({0: {0: [(1.0, 1, end, True)], 1: [(1.0, 0, stay, False)]}, 1: {}})


def test_what_is_possible_lies_between_the_best_policy_and_the_worst():
    truth = Truth(loop(end=0.0, stay=-1.0), solve(loop(end=0.0, stay=-1.0), 0.9))
    assert largest_value(truth)[0] == pytest.approx(1 / (1 - 0.9)), "staying for ever: -1/(1 - γ)"
    undiscounted = Truth(loop(end=-3.0, stay=-1.0), solve(loop(end=-3.0, stay=-1.0), 1.0))
    size, what = largest_value(undiscounted)
    assert math.isfinite(size)
    assert size >= 3
    assert "a walk through all states" in what, "without discount the worst policy has no value"


@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_values_beyond_all_that_is_possible_have_diverged(gamma):
    truth = Truth(loop(end=-1.0), solve(loop(end=-1.0), gamma))
    limit = FACTOR * max(largest_value(truth)[0], 1.0)
    for sign in (-1, 1):
        assert out_of_range(truth, np.array([sign * 0.99 * limit, 0.0]), None) == ""
        said = out_of_range(truth, np.array([sign * 1.01 * limit, 0.0]), None)
        assert f"{1.01 * limit:.3g}" in said
    q = np.array([[-1.0, 2 * limit], [np.nan, np.nan]])
    assert "reach" in out_of_range(truth, None, q)
    assert out_of_range(truth, None, np.array([[-1.0, -2.0], [1e9, 1e9]])) == "", "a terminal state has no values"
    assert "not finite" in out_of_range(truth, np.array([np.inf, 0.0]), None)


def test_first_values_that_were_set_on_purpose_have_not_diverged():
    truth = Truth(loop(), solve(loop(), 0.5))
    assert out_of_range(truth, np.array([90.0, 0.0]), None)
    assert out_of_range(truth, np.array([90.0, 0.0]), None, initial=50.0) == ""


def population(**changes) -> Population:
    members = len(changes.get("mishaps", [Mishap()] * 5))
    scalars = {
        "exact/q_rmse": np.full(members, 0.1), "exact/q_relative": np.full(members, 0.01),
        "exact/return": np.full(members, 9.0), "exact/optimal_return": np.full(members, 10.0),
        "exact/regret": np.full(members, 1.0), "exact/optimal_action_rate": np.full(members, 0.5),
        "exact/normalised_return": np.full(members, 0.9), "exact/v_relative": np.full(members, 0.01),
    }  # fmt: skip
    defaults = {
        "settings": [{}], "seeds": list(range(members)), "problems": ["γ = 0.9"], "scalars": scalars,
        "mishaps": [Mishap()] * members, "against": "optimal", "judged": "greedy",
    }  # fmt: skip
    return Population(**defaults | changes)


def test_a_member_that_diverged_is_named_first_and_left_out_of_the_means():
    made = population(mishaps=[Mishap(), Mishap(), Mishap(), Mishap("its learned values reach 3.5e+06"), Mishap()])
    made.scalars["exact/q_relative"][3] = 1e6
    verdict = overall_verdict(made)
    assert verdict.startswith(
        "Seed 3 diverged: its learned values reach 3.5e+06. The other 4 seeds (interquartile means):"
    )
    assert "Q is within 1 % of Q*" in verdict
    assert each_verdict(made)[0]["aggregate"]["exact/q_relative"]["max"] == 1e6, "the aggregate is over all"


def test_divergence_and_a_policy_without_end_are_different_facts():
    made = population(
        mishaps=[Mishap("its values grew"), Mishap(endless=True), Mishap(), Mishap(), Mishap(endless=True)]
    )
    for m in (1, 4):
        made.scalars["exact/return"][m], made.scalars["exact/regret"][m] = -np.inf, np.inf
    verdict = overall_verdict(made)
    assert re.match(
        r"Seed 0 diverged: its values grew\. The greedy policy of seeds 1 and 4 may go on for ever, at an infinite cost"
        r"\. "
        r"The other 2 seeds \(means\): Q is within 1 % .* loses 10 % of the optimal return",
        verdict,
    )


def test_where_all_went_wrong_nobody_is_left_out():
    made = population(mishaps=[Mishap(endless=True)] * 3)
    made.scalars["exact/return"][:] = -np.inf
    assert overall_verdict(made) == (
        "Over 3 seeds (means): Q is within 1 % of Q* where the policy goes; "
        "the greedy policy may go on for ever, at an infinite cost."
    )
    alone = overall_verdict(population(mishaps=[Mishap("its learned values reach 9e+09")]))
    assert alone.startswith("The learner diverged: its learned values reach 9e+09. Q is within")
    assert overall_verdict(population(mishaps=[Mishap(idle=True)])).startswith("The learner learned nothing")


def varied(reached: np.ndarray, problems: list[str]) -> str:
    """The verdict on settings lr = 0, 1, ... with these normalised returns [K, n]."""
    settings = [{"lr": float(k)} for k in range(len(reached))]
    made = population(mishaps=[Mishap()] * reached.size)
    made.scalars["exact/normalised_return"][:] = reached.ravel()
    seeds = list(range(reached.shape[1]))
    fields = {"settings": settings, "seeds": seeds, "problems": problems, "scalars": made.scalars}
    return overall_verdict(population(mishaps=made.mishaps, **fields))


def test_the_name_of_a_key_gets_no_capital():
    two = {"settings": [{"gamma": 0.5}, {"gamma": 0.9}], "seeds": [0], "problems": ["γ = 0.9"] * 2}
    verdict = overall_verdict(population(mishaps=[Mishap(), Mishap(diverged="its values grew")], **two))
    assert verdict.startswith("gamma=0.9: the learner diverged: its values grew. Between the 2 settings")


def test_no_winner_where_the_runs_show_no_difference():
    tie = np.array([[0.9], [0.8]])
    assert varied(tie, ["γ = 0.9"] * 2).startswith(
        "Between the 2 settings there is no difference that these runs can show (one run of each"
    )
    rng = np.random.default_rng(3)
    assert "no difference that these runs can show" in varied(rng.normal(size=(3, 8)), ["γ = 0.9"] * 3)
    apart = np.array([[0.1, 0.2, 0.3, 0.25, 0.15], [0.9, 0.8, 0.85, 0.95, 0.99]])
    assert varied(apart, ["γ = 0.9"] * 2).startswith("Of 2 settings, lr=1 comes nearest to the optimum.")


def test_different_problems_are_not_ranked_against_each_other():
    apart = np.array([[0.1, 0.2, 0.3, 0.25, 0.15], [0.9, 0.8, 0.85, 0.95, 0.99]])
    verdict = varied(apart, ["γ = 0.9", "γ = 0.99"])
    assert verdict.startswith("2 problems (γ = 0.9; γ = 0.99) are not ranked against each other. At γ = 0.9: lr=0:")
    assert "nearest" not in verdict


@pytest.mark.parametrize(("methods", "runs"), quick_rows([(2, 6), (6, 7)], 1))
def test_the_ranking_declares_a_winner_among_equals_at_most_as_often_as_it_says(methods, runs):
    """400 comparisons of samples of one distribution: anybody beaten in no more than 5 % and three deviations."""
    rng = np.random.default_rng(0)
    false = sum(bool(ranking(list(x)).beaten) for x in rng.normal(size=(400, methods, runs)))
    assert false <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95)


def test_the_ranking_shows_what_runs_can_show():
    rng = np.random.default_rng(1)
    few, four, many = rng.normal(size=3), rng.normal(size=4), rng.normal(size=5)
    assert ranking([few, few - 10]).ties == [1], "20 ways to split 3 and 3 runs: p = 0.1"
    assert ranking([four, four - 10]).beaten == [1], "2 of 70: p = 0.029"
    assert ranking([four, four - 10, four - 10]).beaten == [], "three pairs: 0.029 > 0.017"
    assert [runs_needed(methods) for methods in (2, 3, 4, 5, 8)] == [4, 5, 5, 6, 7]
    for methods in (2, 3, 5, 8):
        best = np.arange(runs_needed(methods), dtype=float) + 100
        assert len(ranking([best, *(best - 100 for _ in range(methods - 1))]).beaten) == methods - 1
        assert ranking([best[1:], *(best[1:] - 100 for _ in range(methods - 1))]).beaten == []
    assert ranking([four, four - 1e-12]).ties == [1], "rounding is no difference"
    assert ranking([four * 1e30, four * 1e30 - 1e20]).ties == [1], "at any size"
    assert ranking([many - 10, many, many]).order[0] in (1, 2)
    nothing = np.full(5, np.nan)
    assert ranking([nothing, many]).beaten == [0], "what is no number is worse than any"
    assert ranking([rng.normal(size=2000), rng.normal(size=2000) + 1]).beaten == [0], "in little memory"


@pytest.mark.parametrize("runs", [3, 5, 6])
def test_the_test_is_that_of_mann_and_whitney(runs):
    rng = np.random.default_rng(runs)
    for shift in (0.0, 0.5, 2.0):
        x, y = rng.normal(size=runs) + shift, rng.normal(size=runs + 1)
        assert _exchange_test(x, y) == pytest.approx(mannwhitneyu(x, y, method="exact").pvalue)
    x, y = rng.normal(size=40), rng.normal(size=30) + 0.4
    assert _exchange_test(x, y) == pytest.approx(mannwhitneyu(x, y).pvalue, abs=0.02)


def test_prediction_is_ranked_by_the_error_of_v():
    errors = np.array([[0.5, 0.6, 0.7, 0.55, 0.65], [0.01, 0.02, 0.03, 0.015, np.inf]])
    members = [Mishap()] * errors.size
    scalars = {
        "exact/v_rmse": errors.ravel(), "exact/v_relative": np.full(errors.size, np.inf),
        "exact/return": np.repeat([9.0, 1.0], 5),
    }  # fmt: skip
    settings = [{"lr": 0.0}, {"lr": 1.0}]
    made = population(
        settings=settings, seeds=[0, 1, 2, 3, 4], problems=["γ = 0.9"] * 2, scalars=scalars, mishaps=members,
        judged="given", against="policy",
    )  # fmt: skip
    assert "no difference that these runs can show" in overall_verdict(made), "one of five is far off: p = 0.056"
    errors[1, 4] = 0.02
    scalars["exact/v_rmse"] = errors.ravel()
    assert overall_verdict(made).startswith("Of 2 settings, lr=1 comes nearest to V^π.")


def test_who_is_drawn_is_never_chosen_across_problems():
    scores = [{"exact/regret": x, "exact/normalised_return": 1 - x, "exact/v_rmse": 0.1} for x in (0.9, 0.5, 0.1, 0.2)]
    members = [{"member": m, "seed": m % 2, "scores": one} for m, one in enumerate(scores)]
    each = [{"settings": {"gamma": 0.9}, "problem": "γ = 0.9"}, {"settings": {"gamma": 0.99}, "problem": "γ = 0.99"}]
    assert drawn(members, each) == {"member": 1, "by": "exact/regret", "name": "seed 1, gamma=0.9 (median regret of 2)"}
    alone = drawn([members[0], members[2]], each)
    assert alone["name"] == "seed 0, gamma=0.9 (the first problem)"
    same = [row | {"problem": "γ = 0.9"} for row in each]
    assert drawn(members, same)["member"] == 2, "the better setting, its lower median"
    assert drawn([members[0], members[2]], same)["name"] == "seed 0, gamma=0.99 (highest normalised_return of 2)"


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predicted") / "run"
    train(composed("env=sutton4x4", "algo=td0", "seeds=3", "steps=1500", "compare_every=500", "log_every=500"), folder)
    return folder


@pytest.mark.slow
def test_prediction_is_judged_as_prediction(predicted, capsys):
    """The random policy of S&B Example 4.1 takes 18.29 steps on average; how good it is is not in question."""
    document = json.loads((predicted / "comparison.json").read_text())
    assert document["prediction"] is True
    assert document["aggregate"]["exact/return"]["mean"] == pytest.approx(
        -(18 * 4 + 14 * 2 + 20 * 4 + 22 * 2 + 14 * 2 + 4) / 14
    )
    assert not set(OF_CONTROL) & set(document["aggregate"])
    show_rescored(rescore(predicted), predicted)
    for text in (document["verdict"], capsys.readouterr().out, write_page(predicted).read_text(encoding="utf-8")):
        assert "V^π" in text
        for word in ("egret", "optimally", "optimal_action_rate", "loses"):
            assert word not in re.sub(
                r"<details>.*?</details>|<script.*?</script>|<style>.*?</style>|base64,[^\"]*", "", text, flags=re.S
            ), word


def test_one_member_is_drawn_everywhere_and_named(predicted, capsys):
    document = json.loads((predicted / "comparison.json").read_text())
    errors = [member["scores"]["exact/v_rmse"] for member in document["members"]]
    chosen = int(np.argsort(errors)[1])
    assert document["drawn"]["member"] == chosen
    assert document["drawn"]["name"] == f"seed {chosen} (median v_rmse of 3)"
    assert read_run(predicted).shown == document["drawn"]
    show_rescored(rescore(predicted), predicted)
    assert f"learned V, seed {chosen}" in capsys.readouterr().out
    assert f"Drawn is seed {chosen} (median v_rmse of 3)." in write_page(predicted).read_text(encoding="utf-8")


def test_off_policy_td_that_diverges_on_bairds_counterexample_is_told(tmp_path):
    options = ("env=baird", "algo=td0", "network=linear", "algo.behaviour=[6,1]", "optimizer=sgd", "steps=4000")
    weights = ("network.weights=[1,1,1,1,1,1,10,1]", "network.bias=false", "optimizer.learning_rate=0.2")
    train(composed(*options, *weights, "algo.policy=[0,1]"), tmp_path / "run")
    document = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert document["verdict"].startswith("The learner diverged: learned values reach")
    assert document["members"][0]["diverged"] == 4000


def test_a_learning_rate_of_zero_is_said(tmp_path, caplog):
    train(composed("env=random_walk", "optimizer.learning_rate=0", "steps=320", "log_every=160"), tmp_path / "run")
    assert "optimizer.learning_rate=0: nothing is learned" in caplog.text
    document = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert document["verdict"].startswith("The learner learned nothing: the learning rate is 0.")
