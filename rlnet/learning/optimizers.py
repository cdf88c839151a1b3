"""Optimisers for a population: gradient descent and Adam with a learning rate for each member.

A member's numbers are the same bit for bit in a population of any size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

State = dict[str, Tensor]
WIDE = 64  # numbers: a multiple of those that any processor computes with at once


@dataclass(frozen=True)
class Optimizer:
    """An optimiser: two functions over theta [M, P] and a state of tensors."""

    init: Callable[[Tensor], State]
    step: Callable[[Tensor, Tensor, Tensor, State], None]  # (theta, gradient, learning_rate [M, 1], state), in place


def gradient_norms(grad: Tensor) -> Tensor:
    """Gradient norm of each member: [M, P] → [M, 1]."""
    if grad.is_cuda:
        return torch.linalg.vector_norm(grad, dim=1, keepdim=True)
    rows = grad.numpy()  # a third of the time
    return torch.from_numpy(np.sqrt(np.vecdot(rows, rows))[:, None])


def _sgd_step(theta: Tensor, grad: Tensor, rate: Tensor, state: State) -> None:
    """SGD step θ ← θ − α·g."""
    if theta.device.type == "cpu":  # in numpy, which rounds twice everywhere; torch once, but at the ends of a row
        numbers = theta.numpy()
        numbers -= rate.numpy() * grad.numpy()
    else:
        theta.addcmul_(grad, rate, value=-1)


def roomy(rows: Tensor) -> Tensor:
    """A copy [M, P] whose memory is padded with zeros to a multiple of `WIDE` numbers."""
    memory = rows.new_zeros(-(-rows.numel() // WIDE) * WIDE)
    copy = memory[: rows.numel()].view(rows.shape)
    return copy.copy_(rows)


def _with_room(rows: Tensor, whole: bool) -> Tensor:
    """The rows and the zeros behind them, in one row; copied where they are a part or were not made by `roomy`."""
    size = -(-rows.numel() // WIDE) * WIDE
    made = whole and rows.is_contiguous() and not rows.storage_offset()
    if not made or rows.untyped_storage().nbytes() != rows.element_size() * size:
        rows = roomy(rows)
    return rows.as_strided((size,), (1,))


def _adam_init(theta: Tensor) -> State:
    count = torch.zeros((), device=theta.device)  # float32 counts to 2^24
    return {"mean": roomy(torch.zeros_like(theta)), "square": roomy(torch.zeros_like(theta)), "steps": count}


def _adam_step(theta: Tensor, grad: Tensor, rate: Tensor, state: State) -> None:
    """Adam (Kingma & Ba 2015, algorithm 1) with β = (0.9, 0.999), ε = 1e-8, and a learning rate for each member."""
    mean, square, steps = state["mean"], state["square"], state["steps"]
    if theta.device.type == "cpu":  # one pass over memory instead of eight, for neighbours of the same rate together
        steps.numpy()[...] += 1
        tensors, rates, first = (theta, grad, mean, square), rate.numpy().ravel().tolist(), 0
        while first < len(rates):
            value, last = rates[first], first + 1
            while last < len(rates) and rates[last] == value:
                last += 1
            whole = last - first == len(rates)
            _adam_on_cpu(tensors if whole else [x[first:last] for x in tensors], value, steps, whole)
            first = last
        return
    steps += 1
    mean.lerp_(grad, 0.1)
    square.mul_(0.999).addcmul_(grad, grad, value=0.001)
    # In double: 1 − 0.999^n loses five digits in single precision.
    count = steps.double()
    root = (1 - 0.999**count).sqrt().to(theta.dtype)
    size = (rate / (1 - 0.9**count)).to(theta.dtype)
    theta.addcdiv_(mean * size, square.sqrt().div_(root).add_(1e-8), value=-1)


def _adam_on_cpu(tensors: Sequence[Tensor], rate: float, steps: Tensor, whole: bool) -> None:
    """Adam step of one rate for (theta, gradient, mean, square), [m, P] each: the whole tensors, or parts of them.

    The last numbers of a row that do not fill a vector of the processor are rounded in another way than the others,
    and which ones these are depends on how many members there are: hence the room behind them.
    """
    wide = [_with_room(tensor, whole) for tensor in tensors]
    torch._fused_adam_(
        [wide[0]], [wide[1]], [wide[2]], [wide[3]], [], [steps],
        lr=rate, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
    )  # fmt: skip
    for tensor, row in zip(tensors, wide, strict=True):
        if tensor.data_ptr() != row.data_ptr() and tensor is not tensors[1]:
            tensor.copy_(row[: tensor.numel()].view(tensor.shape))


OPTIMIZERS = {
    "sgd": Optimizer(lambda theta: {}, _sgd_step),
    "adam": Optimizer(_adam_init, _adam_step),
}
