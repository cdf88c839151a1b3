"""Action distributions against enumeration, SciPy and finite differences."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from rlnet.policies.distributions import LOG_DEVIATION, Categorical, Factored, Gaussian, SquashedGaussian, normal

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


def test_a_product_is_the_joint_distribution_of_its_factors():
    """Enumerated: log π of every joint action, their entropy, the most likely one, and how often each is drawn."""
    actions, scores = Factored((2, 1, 3)), torch.tensor([[0.3, -1.0, 5.0, 0.0, 1.2, -math.inf]], dtype=torch.float64)
    pi = actions.parameters(scores)
    factors = [np.exp(part) / np.exp(part).sum() for part in ([0.3, -1.0], [5.0], [0.0, 1.2, -np.inf])]
    joint = {(a, 0, c): factors[0][a] * factors[2][c] for a in range(2) for c in range(3)}
    for action, p in joint.items():
        assert actions.log_prob(pi, torch.tensor([action])).exp().item() == pytest.approx(p)
    assert actions.entropy(pi).item() == pytest.approx(stats.entropy(list(joint.values())))
    assert tuple(actions.mode(actions.behaviour(pi))[0].tolist()) == max(joint, key=joint.get)
    drawn = actions.sample(actions.behaviour(pi).expand(20_000, -1), uniforms(20_000, 3))
    assert drawn.dtype == torch.int64
    counts = [int((drawn == torch.tensor(action)).all(-1).sum()) for action in joint]
    expected = [20_000 * p for p in joint.values()]
    seen = [k for k, n in enumerate(expected) if n > 0]
    assert sum(counts) == sum(counts[k] for k in seen) == 20_000
    assert stats.chisquare([counts[k] for k in seen], [expected[k] for k in seen]).pvalue > 1e-4
    assert (actions.outputs, actions.shape) == (6, (3,))


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


def squashed_case():
    """Two components between bounds, of which the second is wide and off centre: parameters that reach the bounds."""
    actions = SquashedGaussian(torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 5.0]))
    return actions, actions.parameters(torch.tensor([0.8, -0.3, 0.2, -1.2]))


def test_the_density_behind_the_tanh_integrates_to_one():
    """∫ exp(log π(a)) da over each component, on 20,001 points that are dense where the density is; and its entropy."""
    for size, (low, high, mean, log_deviation) in enumerate([(-1.0, 1.0, 0.8, 0.2), (-2.0, 5.0, -0.3, -1.2)]):
        actions = SquashedGaussian(torch.tensor([low]), torch.tensor([high]))
        u = torch.linspace(1e-9, 1 - 1e-9, 20_001, dtype=torch.float64).unsqueeze(-1)
        pi = torch.tensor([mean, log_deviation]).expand(len(u), 2)
        action, log_prob = actions.draw(pi, u)
        action, density = action.double().squeeze(-1), log_prob.double().exp()
        assert (action >= low).all()
        assert (action <= high).all()
        assert torch.trapezoid(density, action).item() == pytest.approx(1.0, abs=2e-4), size
        # E[−log π] once over u and once over a.
        over_a = torch.trapezoid(-density * log_prob.double(), action).item()
        assert -log_prob.double()[1:-1].mean().item() == pytest.approx(over_a, abs=2e-3)


def test_draws_behind_the_tanh_are_samples_with_their_density_by_change_of_variables():
    actions, pi = squashed_case()
    u = uniforms(2000, 2)
    mean, deviation = np.array([0.8, -0.3]), np.exp([0.2, -1.2])
    x = stats.norm.ppf(u, mean, deviation)
    action, log_prob = actions.draw(pi.expand(2000, -1), u)
    np.testing.assert_allclose(action, [0.0, 1.5] + np.array([1.0, 3.5]) * np.tanh(x), rtol=1e-4, atol=1e-5)
    assert torch.equal(action, actions.sample(pi, u))
    slope = np.array([1.0, 3.5]) / np.cosh(x) ** 2
    expected = (stats.norm.logpdf(x, mean, deviation) - np.log(slope)).sum(1)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(actions.unit(action), np.tanh(x), rtol=1e-4, atol=1e-5)


def test_far_behind_the_tanh_the_density_stays_finite():
    actions = SquashedGaussian(torch.tensor([-1.0]), torch.tensor([1.0]))
    scores = torch.tensor([[40.0, -3.0], [-40.0, -3.0]], requires_grad=True)
    action, log_prob = actions.draw(actions.parameters(scores), uniforms(2, 1))
    assert action.abs().squeeze(-1).tolist() == [1.0, 1.0]
    assert torch.isfinite(log_prob).all()
    (gradient,) = torch.autograd.grad((log_prob + action.sum(-1)).sum(), scores)
    assert torch.isfinite(gradient).all()


def test_the_gradient_of_a_draw_is_a_finite_difference():
    """Of E[f(a) − log π(a)] at fixed u, in the mean and the log deviation."""
    actions, _ = squashed_case()
    u = uniforms(500, 2)

    def value(scores):
        action, log_prob = actions.draw(actions.parameters(scores).expand(500, -1), u)
        return (action.square().sum(-1) - log_prob).double().mean()

    scores = torch.tensor([0.8, -0.3, 0.2, -1.2], requires_grad=True)
    (gradient,) = torch.autograd.grad(value(scores), scores)
    for k in range(4):
        step = torch.zeros(4)
        step[k] = 1e-2
        difference = (value(scores.detach() + step) - value(scores.detach() - step)) / 2e-2
        assert gradient[k].item() == pytest.approx(difference.item(), rel=2e-3, abs=2e-3)
