"""Which hyperparameters matter, against sums of squares by hand; and the command of the best setting."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from report.test_sweep import SCORE, reached
from support import composed

from rlnet.report.html import render
from rlnet.report.hyperparameter_figures import heatmap_table, positions
from rlnet.report.hyperparameters import best_command, classes, explained, hyperparameters
from rlnet.report.methods import groups
from rlnet.report.sweep import _context, compared

pytestmark = pytest.mark.usefixtures("without_pictures")

RATES, DECAYS = (0.1, 0.2), (1.0, 0.5, 0.25)


def grid(score) -> list:
    """Runs over learning rates × gradient norms, and what each scores."""
    found = []
    for a in RATES:
        for b in DECAYS:
            value = [score(a, b)] * 3
            overrides = ("env=random_walk", f"optimizer.learning_rate={a}", f"optimizer.max_grad_norm={b}", "seeds=3")
            found.append(reached(*overrides, scores={SCORE: value, "exact/regret": [1 - x for x in value]}))
    return found


def test_shares_are_those_of_an_analysis_of_variance_by_hand():
    # a ∈ {0, 2}, b ∈ {0, 1, 2} and score a + b: SS_a = 6·1 = 6, SS_b = 2·(1 + 0 + 1) = 4, SS = 10, nothing else.
    a = np.array([0, 0, 0, 1, 1, 1])
    b = np.array([0, 1, 2, 0, 1, 2])
    score = 2.0 * a + b
    assert explained(a, score) == pytest.approx((6 - 1 * 4 / 4) / 10)
    assert explained(b, score) == pytest.approx((4 - 2 * 6 / 3) / 10)
    assert explained(a, 2.0 * a) == pytest.approx(1.0)
    assert explained(b, 2.0 * a) == 0.0
    assert explained(a, np.ones(6)) == 0.0
    assert np.isnan(explained(np.arange(6), score)), "each value once: nothing to compare within"
    assert np.isnan(explained(a[:3], score[:3])), "too few"
    assert explained(a, np.where(b == 2, -np.inf, score)) > 0.5, "what is not finite is left out"


def test_of_chance_alone_little_is_explained_on_average():
    rng = np.random.default_rng(0)
    shares = [explained(np.repeat(np.arange(5), 8), rng.normal(size=40)) for _ in range(400)]
    assert np.mean(shares) < 0.06  # η², uncorrected, would be 4/39 = 0.10


def test_many_different_numbers_are_put_into_classes_of_neighbours():
    values = list(np.random.default_rng(1).uniform(size=100))
    found = classes(values)
    assert sorted(np.bincount(found)) == [10] * 10
    assert all(found[i] <= found[j] for i in range(100) for j in range(100) if values[i] < values[j])
    assert classes(["relu", "tanh", "relu"]).tolist() == [0, 1, 0]
    assert classes([1, 2, 1, 2]).tolist() == [0, 1, 0, 1]


def test_hyperparameters_are_those_in_which_settings_differ_the_important_first():
    (group,) = groups(grid(lambda a, b: 0.1 + a + 0.02 * b))
    found = hyperparameters(group.methods, SCORE)
    assert [one.name for one in found] == ["optimizer.learning_rate", "optimizer.max_grad_norm"]
    assert found[0].share > 0.9
    rows, columns, table = heatmap_table(*found, np.arange(6.0))
    assert (rows, columns) == ([0.1, 0.2], [0.25, 0.5, 1.0])
    np.testing.assert_array_equal(table, [[2.0, 1.0, 0.0], [5.0, 4.0, 3.0]])


def test_a_group_of_settings_stands_for_what_it_brings_along():
    runs = [
        reached("env=random_walk", f"network={name}", "seeds=3", scores={SCORE: [0.5 + k / 10] * 3})
        for k, name in enumerate(("tabular", "linear", "mlp"))
    ]
    (group,) = groups(runs)
    assert [one.name for one in hyperparameters(group.methods, SCORE)] == ["network"]


def test_positions_on_axes():
    at, ticks = positions([1e-4, 1e-3, 1e-2])
    np.testing.assert_allclose(at, [0, 0.5, 1], atol=1e-12)
    assert [label for _, label in ticks] == ["0.0001", "0.001", "0.01"]
    np.testing.assert_allclose(positions([1.0, 2.0, 5.0])[0], [0, 0.25, 1])
    np.testing.assert_allclose(positions(["b", "a", "b"])[0], [1, 0, 1])


@pytest.mark.slow
def test_the_page_names_shares_and_the_command_of_the_best_setting():
    runs = grid(lambda a, b: 0.1 + a + 0.02 * b)
    page = render("sweep.html", _context(Path("sweep"), runs))
    assert "optimizer.learning_rate 9" in page
    (best,) = re.findall(r'<code class="best">([^<]*)</code>', page)
    words = shlex.split(best)
    assert words[-4:] == ["env=random_walk", "optimizer.learning_rate=0.2", "optimizer.max_grad_norm=1.0", "seeds=3"]
    assert page.count("parallel coordinates") >= 1
    assert page.count("heatmap of two hyperparameters") >= 1
    composed(*words[words.index("env=random_walk") :])  # what it names can be composed


@pytest.mark.slow
def test_the_best_setting_of_a_population_is_a_command_without_vary():
    population = ("env=random_walk", "vary.learning_rate=[0.1,0.2]", "seeds=2")
    values = [0.1, 0.2, 0.8, 0.9]
    scores = {SCORE: values, "exact/regret": [1 - x for x in values]}
    (group,) = groups([reached(*population, scores=scores)])
    command = best_command(group.methods[1])
    assert command.endswith("env=random_walk seeds=2 optimizer.learning_rate=0.2")
    mixture = [reached(*population, scores=scores), *grid(lambda a, b: a)[:1]]
    assert len(compared(mixture)["groups"][0]["methods"]) == 3, "populations and jobs are compared with each other"
