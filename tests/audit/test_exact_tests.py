"""The audit's statistics against enumeration: their level holds exactly, at sample sizes where χ²'s does not."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, binomtest, chi2, multinomial

from rlnet.mdp.from_env.exact_tests import holm, outcome_levels, rough_error, smallest_error


def every_count(n: int, k: int) -> np.ndarray:
    """All ways in which n draws fall on k outcomes [W, k]."""
    return np.array([c for c in product(range(n + 1), repeat=k) if sum(c) == n])


def levels_of(counts: np.ndarray, probability: np.ndarray) -> np.ndarray:
    rows, k = counts.shape
    ptr = np.arange(0, rows * k + 1, k)
    return outcome_levels(counts.ravel().astype(float), np.tile(probability, rows), ptr)[0]


@pytest.mark.parametrize(
    ("n", "probability"),
    [(30, [0.5, 0.5]), (40, [0.97, 0.03]), (25, [1 / 3] * 3), (30, [0.9, 0.07, 0.03]), (14, [0.4, 0.3, 0.2, 0.1])],
)
def test_the_level_holds_at_every_sample_size(n, probability):
    """P(p-value ≤ x) ≤ x for every x that can occur, by enumerating all samples."""
    counts = every_count(n, len(probability))
    levels, chance = levels_of(counts, np.array(probability)), multinomial.pmf(counts, n, probability)
    order = np.argsort(levels)
    reached = np.cumsum(chance[order])
    last = np.append(np.diff(levels[order]) > 0, True)  # ties belong together
    assert (reached <= levels[order] * (1 + 1e-9) + 1e-15)[last].all()
    assert levels.min() < 1e-6  # and the test can reject


def test_pearsons_chi_square_would_not_hold_the_level_that_thousands_of_pairs_need():
    n, rare = 500, 0.01  # five expected
    count = np.arange(n + 1)
    statistic = (count - n * rare) ** 2 / (n * rare * (1 - rare))
    alarm = chi2.sf(statistic, 1) <= 1e-6
    assert binom.pmf(count[alarm], n, rare).sum() > 30e-6


def test_single_outcomes_have_the_exact_binomial_law():
    for count, n, p in ((3, 40, 0.2), (19, 40, 0.2), (40, 40, 0.9), (0, 7, 0.3)):
        _, single = outcome_levels(np.array([count, n - count], float), np.array([p, 1 - p]), np.array([0, 2]))
        tails = [binomtest(count, n, p, alternative=side).pvalue for side in ("less", "greater")]
        assert single[0] == pytest.approx(min(1.0, 2 * min(tails)), rel=1e-9)


def test_a_diffuse_error_is_found_by_the_whole_row_where_no_single_outcome_shows_it():
    k, n = 100, 20_000
    shift = np.where(np.arange(k) % 2, 1.15, 0.85)
    counts = np.round(n / k * shift)
    level, single = outcome_levels(counts, np.full(k, 1 / k), np.array([0, k]))
    assert level[0] < 1e-8 < 2 * k * single.min()


def test_holm_rejects_step_by_step():
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03, 0.005])), [0.06, 0.03, 0.06, 0.02])


@pytest.mark.parametrize(("n", "p"), [(1_000, 0.3), (50_000, 0.8), (300, 0.02), (5_000, 0.999)])
def test_the_smallest_error_is_found_with_ninety_percent_and_a_smaller_one_is_not(n, p):
    level = 1e-5
    error = smallest_error(np.array([n]), np.array([p]), np.array([level]))[0]
    draws = np.arange(n + 1)
    rejected = outcome_levels(
        np.stack([draws, n - draws], 1).ravel().astype(float), np.tile([p, 1 - p], n + 1), np.arange(0, 2 * n + 3, 2)
    )[0] <= level  # fmt: skip

    def found(size: float) -> float:
        ways = [q for q in (p - size, p + size) if 0 <= q <= 1]
        return min(binom.pmf(draws, n, q)[rejected].sum() for q in ways)

    assert found(error * 1.001) >= 0.9 - 1e-6
    assert found(error * 0.97) < 0.9


@pytest.mark.parametrize(("n", "p"), [(400, 0.8), (400, 0.2), (100, 0.5), (5_000, 0.05), (50_000, 0.3)])
def test_the_rough_error_is_near_the_exact_one(n, p):
    given = np.array([n]), np.array([p]), np.array([1e-4])
    assert rough_error(*given)[0] == pytest.approx(smallest_error(*given)[0], rel=0.15)
    assert 1 - (1 - rough_error(np.array([n]), np.ones(1), np.ones(1))[0]) ** n == pytest.approx(0.9)


def test_too_few_draws_find_nothing():
    assert smallest_error(np.array([3]), np.array([0.5]), np.array([1e-5]))[0] == 1.0
