"""Aggregates over seeds: against SciPy's own, closed forms, and how often an interval covers the truth."""

import numpy as np
import pytest
from scipy import stats

from rlnet.numerics.statistics import aggregate, improvement, interval, iqm, mean, profile


def test_the_interquartile_mean_leaves_out_a_quarter_at_both_ends():
    values = np.array([-100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1e9])
    assert iqm(values) == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert iqm(values[:4], values[4:]) == pytest.approx(3.5)
    assert mean(values[1:4], values[4:5]) == pytest.approx(2.5)


def test_intervals_are_near_those_of_the_normal_distribution_and_stratified():
    rng = np.random.default_rng(0)
    sample = rng.normal(size=400)
    low, high = interval([sample], mean)
    half = stats.norm.ppf(0.975) * sample.std() / 20
    assert (low, high) == pytest.approx((sample.mean() - half, sample.mean() + half), abs=0.15 * half)
    # Two tasks far apart: resampling each by itself leaves the difference between them out of the interval.
    easy, hard = rng.normal(size=50), rng.normal(size=50) + 1000.0
    low, high = interval([easy, hard], mean)
    assert high - low < 1.0


def test_an_interval_covers_the_true_mean_as_often_as_it_says():
    """95 % nominal; a percentile bootstrap of 20 runs covers about 93 %."""
    samples = np.random.default_rng(1).normal(size=(1500, 20))
    low, high = interval([samples], mean)
    covered = ((low < 0) & (high > 0)).mean()
    assert 0.90 < covered < 0.96


def test_the_probability_of_improvement_counts_pairs_and_halves_ties():
    assert improvement(np.array([1.0, 2.0]), np.array([1.0, 1.5])) == pytest.approx((0.5 + 0 + 1 + 1) / 4)
    two_tasks = improvement(np.array([1.0]), np.array([0.0]), np.array([0.0]), np.array([9.0]))
    assert two_tasks == pytest.approx(0.5)
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=60) + 0.6, rng.normal(size=60)
    test = stats.mannwhitneyu(x, y)
    assert improvement(x, y) == pytest.approx(test.statistic / 60**2)
    low, high = interval([x, y], improvement)
    assert low < improvement(x, y) < high
    assert low > 0.5


def test_a_profile_is_the_share_of_runs_above_each_threshold():
    share, low, high = profile([np.array([0.1, 0.5, 0.9]), np.array([0.3, 0.5, 1.0])], np.array([0.0, 0.4, 0.5, 2.0]))
    np.testing.assert_allclose(share, [1, 4 / 6, 2 / 6, 0])
    assert (low <= share).all()
    assert (share <= high).all()


def test_aggregates_of_members():
    values = np.array([3.0, 1.0, 2.0, 100.0])
    table = aggregate({"a": values, "b": np.array([1.0, np.inf, 2.0, 3.0]), "c": np.full(4, 7.0)})
    assert table["a"]["mean"] == 26.5
    assert table["a"]["iqm"] == 2.5
    assert (table["a"]["min"], table["a"]["max"]) == (1.0, 100.0)
    assert table["a"]["std"] == pytest.approx(values.std(ddof=1))
    low, high = table["a"]["iqm_interval"]
    assert 1.0 <= low < 2.5 < high <= 100.0
    assert table["b"]["mean"] == np.inf
    assert table["b"]["mean_interval"] is None
    assert table["c"]["mean_interval"] == [7.0, 7.0]
    alone = aggregate({"a": np.array([4.0])})["a"]
    assert alone == {
        "mean": 4.0, "mean_interval": None, "iqm": 4.0, "iqm_interval": None, "std": None, "min": 4.0, "max": 4.0
    }  # fmt: skip
