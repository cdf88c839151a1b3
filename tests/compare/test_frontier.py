"""The reward-KL frontier against closed forms, derivatives, dynamic programming and exact fractions."""

from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest

from rlnet.compare.frontier import (
    best_of_n,
    best_of_n_law,
    best_reward,
    estimated_pass_at_k,
    frontier,
    needed_kl,
    pass_at_k,
    tilted,
    tilted_prompts,
)
from rlnet.mdp import FiniteMDP, solve

REWARD = np.array([[0.0, 1.0, 3.0], [-2.0, 0.5, 9.0]])
MASS = np.array([[0.5, 0.4, 0.1], [0.3, 0.7, 0.0]])  # the second prompt is padded
WEIGHT = np.array([0.25, 0.75])


def binary(p):
    p = np.asarray(p, dtype=np.float64)
    return np.tile([0.0, 1.0], (len(p), 1)), np.stack([1 - p, p], 1), np.full(len(p), 1 / len(p))


@pytest.mark.parametrize("beta", [1e-3, 0.02, 0.4, 1.0, 30.0])
def test_binary_rewards_have_a_closed_form_for_each_prompt(beta):
    p = np.array([1e-9, 0.1, 0.6, 1 - 1e-6])
    reward, mass, _ = binary(p)
    odds = np.exp(np.log(p / (1 - p)) + 1 / beta) if beta > 0.002 else np.full(4, np.inf)
    q = 1 / (1 + 1 / odds)
    rest = 1 / (1 + odds)
    kl = q * np.log(q / p) + np.where(rest > 0, rest * np.log(np.where(rest > 0, rest, 1) / (1 - p)), 0)
    found = tilted_prompts(reward, mass, beta)
    np.testing.assert_allclose(found.reward, q, rtol=1e-12)
    np.testing.assert_allclose(found.kl, kl, rtol=1e-6, atol=1e-15)
    np.testing.assert_allclose(found.objective, q - beta * kl, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(found.log_partition * beta, found.objective, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("beta", [1e-300, 1e-12, 1e-3, 0.7, 1e6, 1e12, 1e300])
def test_the_objective_is_reward_less_divergence_at_any_beta(beta):
    at = tilted(REWARD, MASS, WEIGHT, beta)
    assert at.objective == pytest.approx(at.reward - beta * at.kl, rel=1e-9)
    assert np.isfinite(at.objective)


def test_a_large_beta_follows_the_expansion_to_second_order():
    """KL = Var(R)/(2β²) and E[R] = E_ref[R] + Var(R)/β as β grows."""
    mean = (MASS * REWARD).sum(1)
    variance = (MASS * (REWARD - mean[:, None]) ** 2).sum(1)
    for beta in (1e5, 1e7):
        at = tilted(REWARD, MASS, WEIGHT, beta)
        assert at.kl == pytest.approx(WEIGHT @ variance / (2 * beta**2), rel=1e-3)
        assert at.reward - WEIGHT @ mean == pytest.approx(WEIGHT @ variance / beta, rel=1e-3)


def test_the_ends_are_the_best_completions_and_the_reference():
    best, reference = tilted(REWARD, MASS, WEIGHT, 0.0), tilted(REWARD, MASS, WEIGHT, np.inf)
    assert best.reward == pytest.approx(0.25 * 3 + 0.75 * 0.5)
    assert best.kl == pytest.approx(-0.25 * np.log(0.1) - 0.75 * np.log(0.7))
    assert reference == (pytest.approx(0.25 * 0.7 - 0.75 * 0.25), pytest.approx(0.25 * 0.7 - 0.75 * 0.25), 0, 0)


@pytest.mark.parametrize("beta", [0.05, 0.5, 4.0])
def test_the_derivative_of_the_objective_by_beta_is_minus_the_divergence(beta):
    step = 1e-5 * beta
    up, down = (tilted(REWARD, MASS, WEIGHT, beta + sign * step).objective for sign in (1, -1))
    assert (up - down) / (2 * step) == pytest.approx(-tilted(REWARD, MASS, WEIGHT, beta).kl, rel=1e-6)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_dynamic_programming_of_a_regularised_bandit_finds_the_same(beta):
    to_the_end = np.zeros((2, 3, 2))
    to_the_end[0, :, 1] = 1.0
    reward = np.stack([REWARD[0] + beta * np.log(MASS[0]), np.zeros(3)])
    one = solve(FiniteMDP.from_arrays(to_the_end, reward, terminal=[False, True]), 1.0, temperature=beta)
    at = tilted_prompts(REWARD[:1], MASS[:1], beta)
    assert float(one.v[0]) == pytest.approx(at.objective[0], abs=1e-9)
    np.testing.assert_allclose(np.asarray(one.policy)[0], at.chosen[0], atol=1e-9)


def test_no_policy_of_a_fine_grid_earns_more_at_the_same_divergence():
    share = np.linspace(0, 1, 401)
    grid = np.array([(1 - a - b, a, b) for a, b in product(share, share) if a + b <= 1])
    kl = np.where(grid > 0, grid * np.log(np.where(grid > 0, grid, 1) / MASS[0]), 0).sum(1)
    for bound in (0.05, 0.4, 1.5):
        best, _ = best_reward(REWARD[:1], MASS[:1], np.ones(1), bound)
        found = (grid @ REWARD[0])[kl <= bound].max()
        assert best - 0.02 < found <= best + 1e-12


@pytest.mark.parametrize("kl", [1e-12, 1e-6, 0.03, 0.5, 0.8])
def test_the_best_reward_has_its_divergence_and_the_needed_divergence_is_its_inverse(kl):
    best, beta = best_reward(REWARD, MASS, WEIGHT, kl)
    assert tilted(REWARD, MASS, WEIGHT, beta).kl == pytest.approx(kl, rel=1e-3 if kl < 1e-10 else 1e-8)
    assert needed_kl(REWARD, MASS, WEIGHT, best) == pytest.approx(kl, rel=1e-2 if kl < 1e-10 else 1e-6)


def test_outside_of_the_frontier():
    assert best_reward(REWARD, MASS, WEIGHT, 0.0) == (pytest.approx(-0.0125), np.inf)
    assert best_reward(REWARD, MASS, WEIGHT, np.inf) == (pytest.approx(1.125), 0.0)
    assert needed_kl(REWARD, MASS, WEIGHT, -1.0) == 0.0
    assert needed_kl(REWARD, MASS, WEIGHT, 1.125) == pytest.approx(tilted(REWARD, MASS, WEIGHT, 0.0).kl)
    assert needed_kl(REWARD, MASS, WEIGHT, 1.2) == np.inf
    same = (np.ones((2, 3)), MASS, WEIGHT)
    assert best_reward(*same, 1.0)[0] == pytest.approx(1.0)
    for wrong in (-1.0, np.nan):
        with pytest.raises(ValueError, match="must be at least 0"):
            best_reward(REWARD, MASS, WEIGHT, wrong)
        with pytest.raises(ValueError, match="must be at least 0"):
            tilted(REWARD, MASS, WEIGHT, wrong)


def test_prompts_of_weight_0_count_for_nothing():
    weight = np.array([1.0, 0.0])
    for beta in (0.0, 0.5, np.inf):
        assert tilted(REWARD, MASS, weight, beta) == tilted(REWARD[:1], MASS[:1], np.ones(1), beta)
    assert best_reward(REWARD, MASS, weight, 0.3) == best_reward(REWARD[:1], MASS[:1], np.ones(1), 0.3)
    assert np.isnan(tilted(REWARD - 1, MASS, WEIGHT, 0.0).log_partition)  # +inf of one, −inf of the other


def test_rewards_of_any_size_and_offset_have_the_same_frontier():
    for scale, offset in ((1e-8, 0.0), (1e9, 0.0), (1.0, 1e3)):
        best, _ = best_reward(scale * REWARD + offset, MASS, WEIGHT, 0.3)
        assert (best - offset) / scale == pytest.approx(best_reward(REWARD, MASS, WEIGHT, 0.3)[0], rel=1e-8)


def test_the_frontier_is_increasing_and_concave():
    beta, kl, earned = frontier(REWARD, MASS, WEIGHT)
    assert len(beta) == len(kl) == len(earned) == 50
    assert (np.diff(beta) < 0).all()
    slope = np.diff(earned) / np.diff(kl)
    assert (slope > 0).all()
    assert (np.diff(slope) < 1e-9).all()
    assert (kl[-1], earned[-1]) == (pytest.approx(tilted(REWARD, MASS, WEIGHT, 0.0).kl), pytest.approx(1.125))


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_best_of_n_is_its_sum_over_all_draws(n):
    """Exact fractions; two completions earn the same, and one of the best is chosen at random."""
    reward, mass = [0, 2, 2, 5], [Fraction(1, 10), Fraction(2, 5), Fraction(3, 10), Fraction(1, 5)]
    chosen = [Fraction(0)] * 4
    for draw in product(range(4), repeat=n):
        probability = Fraction(1)
        for i in draw:
            probability *= mass[i]
        best = [i for i in draw if reward[i] == max(reward[j] for j in draw)]
        for i in best:
            chosen[i] += probability / len(best)
    earned = float(sum(q * r for q, r in zip(chosen, reward, strict=True)))
    kl = sum(float(q) * np.log(float(q / p)) for q, p in zip(chosen, mass, strict=True))
    found = best_of_n(np.array([reward]), np.array([mass], dtype=float), np.ones(1), n)
    assert found.reward == pytest.approx(earned, rel=1e-12)
    assert found.kl == pytest.approx(kl, abs=1e-12)
    assert found.bound == pytest.approx(np.log(n) - (n - 1) / n)


def test_the_known_formula_bounds_the_divergence_of_the_best_of_n_and_the_frontier_its_reward():
    rng = np.random.default_rng(0)
    reward, mass = rng.normal(size=(3, 2000)), rng.dirichlet(np.ones(2000), 3)
    weight = np.full(3, 1 / 3)
    for n in (2, 8, 64):
        found = best_of_n(reward, mass, weight, n)
        assert 0.9 * found.bound < found.kl <= found.bound  # nearly continuous
        assert found.reward <= best_reward(reward, mass, weight, found.kl)[0] + 1e-12
        rough = best_of_n(REWARD, MASS, WEIGHT, n)
        assert rough.kl < 0.7 * rough.bound
        assert rough.reward <= best_reward(REWARD, MASS, WEIGHT, rough.kl)[0] + 1e-12
    assert best_of_n(*binary([1e-18]), 1000).reward == pytest.approx(1e-15, rel=1e-12)
    with pytest.raises(ValueError, match="n=0"):
        best_of_n(REWARD, MASS, WEIGHT, 0)


def test_pass_at_k_is_exact_and_its_estimate_unbiased():
    assert pass_at_k(Fraction(1, 3), 4) == pytest.approx(float(1 - Fraction(2, 3) ** 4), rel=1e-15)
    np.testing.assert_allclose(pass_at_k(np.array([0.0, 1e-18, 1.0]), 10), [0, 1e-17, 1], rtol=1e-12)
    passes = np.arange(8)
    for k in (1, 3, 7):
        exact = [float(1 - Fraction(comb(7 - c, k), comb(7, k))) for c in range(8)]
        np.testing.assert_allclose(estimated_pass_at_k(passes, 7, k), exact, rtol=1e-12, atol=1e-15)
        law = np.array([comb(7, c) * 0.3**c * 0.7 ** (7 - c) for c in range(8)])
        assert law @ estimated_pass_at_k(passes, 7, k) == pytest.approx(float(pass_at_k(0.3, k)), rel=1e-12)
    for wrong in ((1, 2, 3), (3, 2, 1), (-1, 2, 1), (1, 2, 0)):
        with pytest.raises(ValueError, match="samples"):
            estimated_pass_at_k(*wrong)


@pytest.mark.parametrize("n", [1, 2, 7, 300])
def test_the_law_of_the_best_of_n_by_enumeration_of_completions(n):
    """F(r)ⁿ − F(r−)ⁿ, shared out among ties in proportion to π_ref; its reward and divergence are those of classes."""
    generator = np.random.default_rng(n)
    reward = generator.integers(4, size=60).astype(float)
    p = generator.dirichlet(np.full(60, 0.3))
    law = best_of_n_law(reward, p, n)
    by_hand = [
        p[y] / p[reward == reward[y]].sum() * (p[reward <= reward[y]].sum() ** n - p[reward < reward[y]].sum() ** n)
        for y in range(60)
    ]
    np.testing.assert_allclose(law, by_hand, atol=1e-12)
    assert law.sum() == pytest.approx(1.0)
    found = best_of_n(reward[None], p[None], np.ones(1), n)
    assert found.reward == pytest.approx(law @ reward)
    some = law > 0
    kl = float(law[some] @ np.log(law[some] / p[some]))
    assert found.kl == pytest.approx(kl, abs=1e-10)
    assert kl <= found.bound + 1e-12
    assert best_reward(reward[None], p[None], np.ones(1), kl)[0] >= law @ reward - 1e-9


def test_a_completion_that_the_reference_never_writes_is_never_the_best():
    law = best_of_n_law(np.array([0.0, 5.0, 1.0]), np.array([0.5, 0.0, 0.5]), 2)
    np.testing.assert_allclose(law, [0.25, 0.0, 0.75])
