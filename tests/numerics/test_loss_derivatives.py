"""Derivatives written by hand against autograd's, and against finite differences."""

import math

import pytest
import torch

from rlnet.numerics.loss_derivatives import clipped_gain, clipped_value, entropy, squared_error


def rows(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_autograd(target, estimate, weight, huber):
    """½·δ², linear beyond κ, written as its two cases."""
    size = (target - estimate).abs()
    row = 0.5 * size.square()
    if huber is not None:
        far = huber.clamp(max=1e6)  # infinity would make its case of the two NaN
        row = torch.where(size <= far, row, far * (size - 0.5 * far))
    return torch.where(weight > 0, row * weight, 0.0).sum(dim=(0, 2))


@pytest.mark.parametrize("huber", [None, [[0.5], [math.inf], [1e-3]]])
def test_squared_error_is_that_of_autograd(huber):
    huber = None if huber is None else torch.tensor(huber, dtype=torch.float64)
    target, estimate = rows(0, 4, 3, 5), rows(1, 4, 3, 5).requires_grad_()
    weight = rows(2, 4, 3, 5).clamp(min=0.0)
    loss, error, rms = squared_error(target, estimate, weight, huber)
    expected = by_autograd(target, estimate, weight, huber)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(error, torch.where(weight > 0, target - estimate, 0.0))
    torch.testing.assert_close(rms, ((error.square() * weight).sum((0, 2)) / weight.sum((0, 2))).sqrt())
    assert not error.requires_grad
    assert not rms.requires_grad
    scale = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (ours,) = torch.autograd.grad((scale * loss).sum(), estimate)
    torch.testing.assert_close(ours, torch.autograd.grad((scale * expected).sum(), estimate)[0])
    assert torch.autograd.gradcheck(lambda x: squared_error(target, x, weight, huber)[0], estimate)


def test_a_row_without_weight_may_miss_an_infinite_target():
    target, estimate = torch.tensor([[[-math.inf, 1.0]]]), torch.tensor([[[0.5, 0.5]]]).requires_grad_()
    loss, error, _ = squared_error(target, estimate, torch.tensor([[[0.0, 1.0]]]), torch.tensor([[2.0]]))
    (grad,) = torch.autograd.grad(loss.sum(), estimate)
    assert (loss.tolist(), error.tolist(), grad.tolist()) == ([0.125], [[[0.0, 0.5]]], [[[0.0, -0.5]]])


def test_no_gradient_reaches_the_target_and_shapes_must_agree():
    target, estimate = rows(0, 1, 2, 3).requires_grad_(), rows(1, 1, 2, 3).requires_grad_()
    loss, _, _ = squared_error(target, estimate, torch.ones(1, 2, 3, dtype=torch.float64))
    grads = torch.autograd.grad(loss.sum(), (target, estimate), allow_unused=True)
    assert grads[0] is None
    assert (grads[1] != 0).all()
    with pytest.raises(ValueError, match="must have one shape"):
        squared_error(target, estimate, torch.ones(1, 2, 1))


def test_entropy_is_that_of_autograd_and_of_torchs_distribution():
    scores = rows(3, 6, 2, 4)
    scores[0, 0, 1] = -math.inf
    log_pi = torch.log_softmax(scores, -1).requires_grad_()
    ours = entropy(log_pi)
    torch.testing.assert_close(ours, torch.distributions.Categorical(logits=scores.clamp(min=-1e30)).entropy())
    finite = log_pi.masked_fill(log_pi == -math.inf, 0.0)
    scale = rows(4, 6, 2)
    (grad,) = torch.autograd.grad((scale * ours).sum(), log_pi)
    (expected,) = torch.autograd.grad(-(scale * (log_pi.exp() * finite).sum(-1)).sum(), log_pi)
    torch.testing.assert_close(grad, expected)
    some = scores[1:].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: entropy(torch.log_softmax(x, -1)), some)


def test_the_clipped_gain_is_that_of_autograd():
    log_prob, old, advantage = rows(5, 3, 2, 40).requires_grad_(), rows(6, 3, 2, 40), rows(7, 3, 2, 40)
    clip, scale = torch.tensor([[0.2], [math.inf]], dtype=torch.float64), rows(8, 3, 2, 40)
    gain, excess, ratio = clipped_gain(log_prob, old, advantage, clip)
    expected = (log_prob - old).exp()
    low, high = 1 - clip.clamp(max=1e9), 1 + clip.clamp(max=1e9)
    surrogate = torch.minimum(expected * advantage, expected.clamp(low, high) * advantage)
    torch.testing.assert_close(gain, surrogate)
    torch.testing.assert_close(ratio, expected.detach())
    torch.testing.assert_close(excess, (expected - 1 - (log_prob - old)).detach())
    (ours,) = torch.autograd.grad((scale * gain).sum(), log_prob)
    torch.testing.assert_close(ours, torch.autograd.grad((scale * surrogate).sum(), log_prob)[0])
    assert 0.2 < (ours[:, 0] == 0).double().mean() < 0.8
    assert (ours[:, 1] != 0).all()
    assert torch.autograd.gradcheck(lambda x: clipped_gain(x, old, advantage, clip)[0], log_prob)


def test_a_clipped_value_is_that_of_autograd():
    value, old, target = rows(9, 3, 2, 40).requires_grad_(), rows(10, 3, 2, 40), rows(11, 3, 2, 40)
    clip, scale = torch.tensor([[0.5], [math.inf]], dtype=torch.float64), rows(12, 3, 2, 40)
    ours = clipped_value(value, old, target, clip)
    near = old + (value - old).clamp(-clip, clip)
    expected = torch.where((target - near).abs() > (target - value).abs(), near, value)
    torch.testing.assert_close(ours, expected)
    (grad,) = torch.autograd.grad((scale * ours).sum(), value)
    torch.testing.assert_close(grad, torch.autograd.grad((scale * expected).sum(), value)[0])
    assert 0.1 < (grad[:, 0] == 0).double().mean() < 0.9
    assert (grad[:, 1] == scale[:, 1]).all()


def test_a_ratio_that_is_not_finite_is_not_hidden():
    """The learner freezes a member by its gradient."""
    log_prob = torch.tensor([[[math.nan, 0.0]]]).requires_grad_()
    gain, _, _ = clipped_gain(log_prob, torch.zeros(1, 1, 2), torch.ones(1, 1, 2), torch.tensor([[0.2]]))
    (grad,) = torch.autograd.grad(gain.sum(), log_prob)
    assert grad.isnan().tolist() == [[[True, False]]]


def test_single_precision_stays_single():
    x, weight = torch.randn(1, 2, 3).requires_grad_(), torch.ones(1, 2, 3)
    one = torch.ones(2, 1)
    results = [*squared_error(weight, x, weight, one), *clipped_gain(x, weight, weight, one), entropy(x)]
    assert {result.dtype for result in [*results, clipped_value(x, weight, weight, one)]} == {torch.float32}
