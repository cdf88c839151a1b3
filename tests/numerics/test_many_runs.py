"""Intervals of means of very many runs: as those of the bootstrap, and fast."""

import time

import numpy as np
import pytest
from support import quick

from rlnet.numerics import statistics
from rlnet.numerics.statistics import aggregate, interval, iqm, mean


@pytest.mark.parametrize("draw", quick(["normal", "exponential", "standard_cauchy"], keep=["exponential"]))
def test_the_normal_approximation_is_what_the_bootstrap_tends_to(draw, monkeypatch):
    runs = getattr(np.random.default_rng(3), draw)(size=(2, 3000))
    found = {}
    for many in (2000, 10**9):
        monkeypatch.setattr(statistics, "MANY", many)
        for statistic in (mean, iqm):
            if draw != "standard_cauchy" or statistic is iqm:  # whose mean has no error
                found[many, statistic.__name__] = np.array(interval([runs], statistic))
    for name in {name for _, name in found}:
        short, slow = found[2000, name], found[10**9, name]
        width = slow[1] - slow[0]
        np.testing.assert_allclose(short[1] - short[0], width, rtol=0.1)
        assert (np.abs(short - slow) < 0.1 * width).all()


def test_intervals_of_means_of_uniform_numbers_are_those_of_the_closed_form():
    runs = np.random.default_rng(0).uniform(size=100_000)
    low, high = interval([runs], mean)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(1 / 12 / 100_000), rel=0.01)
    # Winsorised at the quartiles, uniform numbers have the variance 2·¼·(¼)² + 1/96 = 1/24; then SE = √(1/24)/(½·√n).
    low, high = interval([runs], iqm)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(1 / 24) / 0.5 / np.sqrt(100_000), rel=0.01)
    assert low < 0.5 < high


def test_statistics_of_a_hundred_thousand_members_take_seconds():
    rng = np.random.default_rng(1)
    scalars = {f"score{k}": rng.normal(size=100_000) for k in range(40)}
    began = time.process_time()
    table = aggregate(scalars)
    assert time.process_time() - began < 20.0
    assert table["score0"]["mean_interval"][0] < table["score0"]["mean"] < table["score0"]["mean_interval"][1]
