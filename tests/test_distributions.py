"""Action distributions against enumeration, SciPy and finite differences."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from rlnet.distributions import LOG_DEVIATION, Categorical, Gaussian, normal

SCORES = torch.tensor([[0.3, -math.inf, 1.2, -0.5], [0.0, 2.0, -math.inf, -math.inf]], dtype=torch.float64)
MIXED = torch.tensor([-2.0, -1.0, -math.inf]), torch.tensor([2.0, 5.0, math.inf])


def uniforms(*shape):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_categorical_log_probabilities_and_entropy_by_enumeration():
    actions = Categorical(4)
    pi = actions.parameters(SCORES)
    for row, scores in enumerate(SCORES):
        weights = [math.exp(x) for x in scores]
        expected = [w / sum(weights) for w in weights]
        assert actions.behaviour(pi)[row].tolist() == pytest.approx(expected)
        for a, p in enumerate(expected):
            assert actions.log_prob(pi, torch.tensor([a, a]))[row].exp().item() == pytest.approx(p)
        assert actions.entropy(pi)[row].item() == pytest.approx(stats.entropy(expected))


@pytest.mark.parametrize("what", ["log_prob", "entropy"])
def test_categorical_gradients_are_finite_differences_and_masked_scores_have_none(what):
    actions = Categorical(4)

    def value(scores):
        pi = actions.parameters(scores)
        return (actions.entropy(pi) if what == "entropy" else actions.log_prob(pi, torch.tensor([2, 0]))).sum()

    scores = SCORES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(scores), scores)
    step = 1e-6
    for index in np.ndindex(*SCORES.shape):
        if SCORES[index] == -math.inf:
            assert gradient[index] == 0
            continue
        up, down = SCORES.clone(), SCORES.clone()
        up[index] += step
        down[index] -= step
        assert gradient[index].item() == pytest.approx(((value(up) - value(down)) / (2 * step)).item(), abs=1e-8)


def gaussian_case():
    """A box with bounds, off centre bounds, and none; its parameters; mean and deviation in the environment's units."""
    actions = Gaussian(*MIXED)
    pi = actions.parameters(torch.tensor([0.2, -0.4, 3.0, -0.7, 0.1, 0.5]))
    mean, deviation = np.array([0.2, -0.4, 3.0]), np.exp([-0.7, 0.1, 0.5])
    return actions, pi, np.array([0.0, 2.0, 0.0]) + [2, 3, 1] * mean, np.array([2, 3, 1]) * deviation


def test_gaussian_density_and_entropy_are_scipys():
    actions, pi, mean, deviation = gaussian_case()
    points = np.random.default_rng(0).normal(mean, 2 * deviation, size=(50, 3)).astype(np.float32)
    found = actions.log_prob(pi.expand(50, -1), torch.from_numpy(points))
    np.testing.assert_allclose(found, stats.norm.logpdf(points, mean, deviation).sum(1), rtol=1e-5, atol=1e-5)
    assert actions.entropy(pi).item() == pytest.approx(stats.norm.entropy(mean, deviation).sum(), rel=1e-6)


def test_gaussian_samples_are_the_inverse_of_the_cumulative_distribution():
    actions, pi, mean, deviation = gaussian_case()
    u = uniforms(1000, 3)
    np.testing.assert_allclose(actions.sample(pi, u), stats.norm.ppf(u, mean, deviation), rtol=1e-4, atol=1e-5)
    assert torch.isfinite(normal(torch.tensor([0.0, 1.0 - 1e-12], dtype=torch.float64))).all()


def test_gaussian_deviations_are_kept_in_range():
    actions = Gaussian(*MIXED)
    pi = actions.parameters(torch.tensor([0.0, 0.0, 0.0, -50.0, 0.0, 50.0]))
    assert pi[3:].tolist() == [LOG_DEVIATION[0], 0.0, LOG_DEVIATION[1]]
