"""Differentiable parts of losses with hand-written derivatives.

Autograd would find the same ones; a test holds them against it and against finite differences. It would take an
operation and a node of its graph for each sign in a formula, which for small networks is most of an update's time. For
the same reason they are computed in numpy on the CPU, where a call costs a third of one into torch; what is written
here both libraries understand.
"""

from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlnet.numerics.floating_point import QUIET

Array = Any  # of numpy on the CPU, else of torch


def _shared(first: Tensor, *others: Tensor | None) -> tuple[ModuleType, list[Array]]:
    """The array library to compute with (numpy on the CPU), and the tensors as its arrays in the same memory."""
    tensors = (first, *others)
    if first.device.type != "cpu":
        return torch, [None if tensor is None else tensor.detach() for tensor in tensors]
    return np, [None if x is None else (x.detach() if x.requires_grad else x).numpy() for x in tensors]


def _tensor(array: Array) -> Tensor:
    return array if isinstance(array, Tensor) else torch.from_numpy(array)


def without_gradient(function: Callable[..., Array]) -> Callable[..., Tensor]:
    """Decorator: a function of arrays (numpy or torch) as a function of tensors, without gradient."""

    quietly = np.errstate(**QUIET)(function)

    @wraps(function)
    def on_tensors(*tensors: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return function(*(tensor.detach() for tensor in tensors))
        return _tensor(quietly(*_shared(*tensors)[1]))

    return on_tensors


def largest(values: Tensor) -> Tensor:
    """max_a x(a), without gradient: [..., A] → [...]."""
    library, (array,) = _shared(values)
    if library is torch or torch.compiler.is_compiling():
        return values.detach().amax(-1)
    # Actions first: numpy reduces a short last axis slowly.
    return torch.from_numpy(array.transpose(-1, *range(array.ndim - 1)).copy().max(0))


@without_gradient
def mean_of_others(values: Array, weight: Array) -> Array:
    """Weighted mean over time and the member's other environments: [T, M, N] each → [M, N]; 0 without others."""
    sums, weights = (values * weight).sum(0), weight.sum(0)
    others = weights.sum(-1)[..., None] - weights
    return (sums.sum(-1)[..., None] - sums) / others.clip(1e-12) * (others > 1e-12)


class _ByHand(torch.autograd.Function):
    """f(x, *others) → (y, slope, further results without gradient); the gradient of x is slope·(that of y).

    y is as x [T, M, N], or a sum over its last axis, or over its rows: [M].
    """

    @staticmethod
    def forward(ctx: Any, function: Callable, x: Tensor, *others: Tensor | None) -> tuple[Tensor, ...]:
        library, arrays = _shared(x, *others)
        with np.errstate(**QUIET):
            y, ctx.slope, *further = function(library, *arrays)
        ctx.others = len(others)
        further = [_tensor(array) for array in further]
        ctx.mark_non_differentiable(*further)
        return _tensor(y), *further

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        grad = grad if grad.ndim == ctx.slope.ndim else grad.unsqueeze(-1)
        with np.errstate(**QUIET):
            slope = grad * ctx.slope if isinstance(ctx.slope, Tensor) else torch.from_numpy(grad.numpy() * ctx.slope)
        return None, slope, *[None] * ctx.others


def _by_hand(function: Callable, x: Tensor, *others: Tensor | None) -> tuple[Tensor, ...]:
    if torch.compiler.is_compiling():  # it finds the derivative itself, and fuses it with what stands around
        fixed = [None if other is None else other.detach() for other in others]
        y, _, *further = function(torch, x, *fixed)
        return y, *(result.detach() for result in further)
    return _ByHand.apply(function, x, *others)


class _Held(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bounds = low, high
        return x.clamp(low, high)  # type: ignore[arg-type]  # two numbers or two tensors, which its stub says apart

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,), (low, high) = ctx.saved_tensors, ctx.bounds
        outwards = ((x < low) & (grad > 0)) | ((x > high) & (grad < 0))
        return grad.masked_fill(outwards, 0.0), None, None


def held(x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Clamp x to [low, high]; outside, a gradient passes only if its descent step leads back inside.

    The derivative of a plain clamp is 0 there: what has once left would stay at the bound for good.
    """
    return _Held.apply(x, low, high)


def pull_by_hand(
    xp: ModuleType, estimate: Array, target: Array, weight: Array, huber: Array | None
) -> tuple[Array, Array, Array]:
    """δ, δ clipped to ±κ, and weight times the latter: minus the derivative of `squared_error`."""
    # A row of weight 0 may have an infinite target (an action that is not available): 0·∞ must not spoil a sum.
    error = xp.where(weight > 0, target - estimate, 0.0)
    inside = error if huber is None else xp.maximum(xp.minimum(error, huber), -huber)
    return error, inside, inside * weight


def error_by_hand(error: Array, inside: Array, pull: Array, weight: Array) -> tuple[Array, Array]:
    """The loss and the root mean square of `squared_error`, from `pull_by_hand`."""
    mean = (error * error * weight).sum((0, 2)) / weight.sum((0, 2))
    return 0.5 * (pull * (2 * error - inside)).sum((0, 2)), mean**0.5


def _squared_error(
    xp: ModuleType, estimate: Array, target: Array, weight: Array, huber: Array | None
) -> tuple[Array, ...]:
    error, inside, pull = pull_by_hand(xp, estimate, target, weight, huber)
    loss, rms = error_by_hand(error, inside, pull, weight)
    return loss, -pull, error, rms


def squared_error(
    target: Tensor, estimate: Tensor, weight: Tensor, huber: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Σ_{t,n} weight·h(δ), h(δ) = ½·δ², or κ·(|δ| − ½·κ) beyond ±κ; δ = target − estimate. ∂/∂estimate = −weight·δ.

    Args:
        target, estimate, weight: [T, M, N]; only the estimate has a gradient.
        huber: κ > 0, [M, 1].

    Returns:
        The loss [M]; and without gradient δ, 0 where the weight is 0, [T, M, N], and its root mean square [M], NaN
        where no row has a weight.

    Raises:
        ValueError: the shapes differ; a broadcast here would mix members or environments.
    """
    if not target.shape == estimate.shape == weight.shape:
        shapes = [tuple(x.shape) for x in (target, estimate, weight)]
        raise ValueError(f"target, estimate and weight must have one shape, not {shapes}")
    loss, error, size = _by_hand(_squared_error, estimate, target, weight, huber)
    return loss, error, size


def _entropy(xp: ModuleType, log_pi: Array) -> tuple[Array, Array]:
    finite = log_pi.clip(-3e38)  # 0·−∞ would not be 0
    pi = xp.exp(log_pi)
    return -(pi * finite).sum(-1), -(finite + 1) * pi


def entropy(log_probabilities: Tensor) -> Tensor:
    """H = −Σ_a π_a·log π_a over the actions with π_a > 0: [..., A] → [...]. ∂H/∂log π_a = −π_a·(1 + log π_a)."""
    return _by_hand(_entropy, log_probabilities)[0]


def clipped_gain_by_hand(
    xp: ModuleType, log_prob: Array, old: Array, advantage: Array, clip: Array
) -> tuple[Array, ...]:
    """`clipped_gain` in numpy or torch: the gain, its derivative by log π, ρ − 1 − log ρ, and ρ."""
    change = log_prob - old
    ratio = xp.exp(change)
    free, held = ratio * advantage, xp.minimum(xp.maximum(ratio, 1 - clip), 1 + clip) * advantage
    gain = xp.minimum(free, held)
    return gain, free * (gain == free), ratio - 1 - change, ratio


def clipped_gain(log_prob: Tensor, old: Tensor, advantage: Tensor, clip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """min(ρ·Â, clip(ρ, 1 ± ε)·Â), ρ = π(A|S)/π_old(A|S) (Schulman et al. 2017, eq. 7). ∂/∂log π = ρ·Â, 0 where held.

    Args:
        log_prob: log π(A|S), [T, M, N], the only one that has a gradient.
        old, advantage: log π_old(A|S) and Â, [T, M, N].
        clip: ε, [M, 1].

    Returns:
        The gain; and without gradient ρ − 1 − log ρ, whose mean is KL(π_old ‖ π), and ρ: [T, M, N] each.
    """
    gain, divergence, ratio = _by_hand(clipped_gain_by_hand, log_prob, old, advantage, clip)
    return gain, divergence, ratio


def clipped_value_by_hand(xp: ModuleType, value: Array, old: Array, target: Array, clip: Array) -> tuple[Array, Array]:
    """`clipped_value` in numpy or torch: the value and its derivative."""
    move = value - old
    near = old + xp.minimum(xp.maximum(move, -clip), clip)
    further = abs(target - near) > abs(target - value)
    return xp.where(further, near, value), ~(further & (abs(move) > clip))


def clipped_value(value: Tensor, old: Tensor, target: Tensor, clip: Tensor) -> Tensor:
    """V, or V_old + clip(V − V_old, ±c) where that is further from the target, [T, M, N]; c [M, 1].

    Only V has a gradient: 1, or 0 where it is held (Engstrom et al. 2020).
    """
    return _by_hand(clipped_value_by_hand, value, old, target, clip)[0]
