"""Pieces that many losses share, with derivatives written by hand; imports torch alone.

Autograd would find the same ones; a test holds them against it and against finite differences. It would take an
operation and a node of its graph for each sign in the formula, which for small networks is most of an update's time.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


class _SquaredError(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, estimate: Tensor, target: Tensor, weight: Tensor, huber: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        # A row of weight 0 may have an infinite target (an action that is not available): 0·∞ must not spoil the sum.
        error = torch.where(weight > 0, target - estimate, 0.0)
        inside = error if huber is None else torch.maximum(torch.minimum(error, huber), -huber)
        slope = inside * weight
        ctx.save_for_backward(slope)
        ctx.mark_non_differentiable(error)
        doubled = error if huber is None else 2 * error - inside
        return 0.5 * (slope * doubled).sum(dim=(0, 2)), error

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * -grad.unsqueeze(-1), None, None, None


def squared_error(
    target: Tensor, estimate: Tensor, weight: Tensor, huber: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Σ_{t,n} weight·h(δ), h(δ) = ½·δ², or κ·(|δ| − ½·κ) beyond ±κ; δ = target − estimate. ∂/∂estimate = −weight·δ.

    Args:
        target, estimate, weight: [T, M, N]; only the estimate has a gradient.
        huber: κ > 0, [M, 1].

    Returns:
        The loss [M], and δ without gradient, 0 where the weight is 0: [T, M, N].

    Raises:
        ValueError: the shapes differ; a broadcast here would mix members or environments.
    """
    if not target.shape == estimate.shape == weight.shape:
        shapes = [tuple(x.shape) for x in (target, estimate, weight)]
        raise ValueError(f"target, estimate and weight must have one shape, not {shapes}")
    return _SquaredError.apply(estimate, target, weight, huber)


class _Entropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, log_probabilities: Tensor) -> Tensor:
        finite = log_probabilities.clamp(min=torch.finfo(log_probabilities.dtype).min)  # 0·−∞ would not be 0
        probabilities = log_probabilities.exp()
        ctx.save_for_backward(finite, probabilities)
        return -(probabilities * finite).sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        finite, probabilities = ctx.saved_tensors
        return (finite + 1) * probabilities * -grad.unsqueeze(-1)


def entropy(log_probabilities: Tensor) -> Tensor:
    """H = −Σ_a π_a·log π_a over the actions with π_a > 0: [..., A] → [...]. ∂H/∂log π_a = −π_a·(1 + log π_a)."""
    return _Entropy.apply(log_probabilities)
