"""Derivatives written by hand against autograd's, and against finite differences."""

import math

import pytest
import torch

from rlnet.derivatives import entropy, squared_error


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
    loss, error = squared_error(target, estimate, weight, huber)
    expected = by_autograd(target, estimate, weight, huber)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(error, torch.where(weight > 0, target - estimate, 0.0))
    assert not error.requires_grad
    scale = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (ours,) = torch.autograd.grad((scale * loss).sum(), estimate)
    torch.testing.assert_close(ours, torch.autograd.grad((scale * expected).sum(), estimate)[0])
    assert torch.autograd.gradcheck(lambda x: squared_error(target, x, weight, huber)[0], estimate)


def test_a_row_without_weight_may_miss_an_infinite_target():
    target, estimate = torch.tensor([[[-math.inf, 1.0]]]), torch.tensor([[[0.5, 0.5]]]).requires_grad_()
    loss, error = squared_error(target, estimate, torch.tensor([[[0.0, 1.0]]]), torch.tensor([[2.0]]))
    (grad,) = torch.autograd.grad(loss.sum(), estimate)
    assert (loss.tolist(), error.tolist(), grad.tolist()) == ([0.125], [[[0.0, 0.5]]], [[[0.0, -0.5]]])


def test_no_gradient_reaches_the_target_and_shapes_must_agree():
    target, estimate = rows(0, 1, 2, 3).requires_grad_(), rows(1, 1, 2, 3).requires_grad_()
    loss, _ = squared_error(target, estimate, torch.ones(1, 2, 3, dtype=torch.float64))
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
