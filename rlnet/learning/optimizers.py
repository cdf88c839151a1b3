"""Optimisers for a population: gradient descent and Adam with a learning rate for each member.

The results of a member are the same bit for bit in a population of any size.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

State = dict[str, Tensor]
WIDE = 64  # numbers: a multiple of the vector length of any processor


class Optimizer(Protocol):
    """Interface of an optimiser, which changes parameters theta [M, P] in place."""

    state: State

    def step(self, grad: Tensor, rate: Tensor) -> None:
        """One step along a gradient [M, P], with learning rates [M, 1]."""
        ...


def gradient_norms(grad: Tensor) -> Tensor:
    """Gradient norm of each member: [M, P] → [M, 1]."""
    if grad.is_cuda:
        return torch.linalg.vector_norm(grad, dim=1, keepdim=True)
    rows = grad.numpy()  # a third of the time
    return torch.from_numpy(np.sqrt(np.vecdot(rows, rows))[:, None])


class Sgd:
    """Gradient descent θ ← θ − α·g."""

    def __init__(self, theta: Tensor, grad: Tensor | None = None) -> None:
        self._theta, self.state = theta, State()

    def step(self, grad: Tensor, rate: Tensor) -> None:
        if grad.device.type == "cpu":  # in numpy, which rounds twice everywhere; torch once, but at the ends of a row
            numbers = self._theta.numpy()
            numbers -= rate.numpy() * grad.numpy()
        else:
            self._theta.addcmul_(grad, rate, value=-1)


def roomy(rows: Tensor) -> Tensor:
    """A copy [M, P] whose memory is padded with zeros to a multiple of `WIDE` numbers."""
    memory = rows.new_zeros(-(-rows.numel() // WIDE) * WIDE)
    copy = memory[: rows.numel()].view(rows.shape)
    return copy.copy_(rows)


def _shared_row(rows: Tensor) -> Tensor | None:
    """The numbers of a tensor that `roomy` made and the zeros behind them, as one row; None of any other tensor."""
    size = -(-rows.numel() // WIDE) * WIDE
    made = rows.is_contiguous() and not rows.storage_offset()
    if not made or rows.untyped_storage().nbytes() != rows.element_size() * size:
        return None
    return rows.as_strided((size,), (1,))


def _copied_row(rows: Tensor) -> Tensor:
    """A copy of the numbers and of zeros behind them, as one row."""
    copy = roomy(rows)
    return copy.as_strided((copy.untyped_storage().nbytes() // copy.element_size(),), (1,))


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1) with β = (0.9, 0.999), ε = 1e-8, and a learning rate for each member.

    On the CPU it is one pass over memory instead of eight, for adjacent members of the same learning rate together. The
    last numbers of an array, which do not fill a vector of the processor, are rounded differently from the others, and
    which ones these are depends on the number of members: hence the padding of `roomy`.

    Args:
        theta: [M, P], changed in place by every step; fastest where `roomy` made it.
        grad: the tensor in which gradients usually are, likewise.
    """

    def __init__(self, theta: Tensor, grad: Tensor | None = None) -> None:
        zeros = torch.zeros_like(theta)
        count = torch.zeros((), device=theta.device)  # float32 counts to 2^24
        self.state = {"mean": roomy(zeros), "square": roomy(zeros), "steps": count}
        self._own = theta, self.state["mean"], self.state["square"]
        rows = [_shared_row(tensor) for tensor in self._own]
        self._rows = [row for row in rows if row is not None]  # all three, or those of the state alone
        self._grad, self._grad_row = grad, None if grad is None else _shared_row(grad)

    def step(self, grad: Tensor, rate: Tensor) -> None:
        if grad.device.type != "cpu":
            self._in_tensors(grad, rate)
            return
        self.state["steps"].numpy()[...] += 1
        rates, first = rate.numpy().ravel().tolist(), 0
        while first < len(rates):
            value, last = rates[first], first + 1
            while last < len(rates) and rates[last] == value:
                last += 1
            if last - first == len(rates) and len(self._rows) == 3:
                known = self._grad_row if grad is self._grad else None
                self._fused(self._rows, _copied_row(grad) if known is None else known, value)
            else:
                self._on_part(slice(first, last), grad, value)
            first = last

    def _on_part(self, part: slice, grad: Tensor, rate: float) -> None:
        """The step of some members, on copies."""
        rows = [_copied_row(tensor[part]) for tensor in self._own]
        self._fused(rows, _copied_row(grad[part]), rate)
        for tensor, row in zip(self._own, rows, strict=True):
            own = tensor[part]
            own.copy_(row[: own.numel()].view(own.shape))

    def _fused(self, rows: Sequence[Tensor], grad: Tensor, rate: float) -> None:
        theta, mean, square = rows
        torch._fused_adam_(
            [theta], [grad], [mean], [square], [], [self.state["steps"]],
            lr=rate, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip

    def _in_tensors(self, grad: Tensor, rate: Tensor) -> None:
        theta, mean, square = self._own
        self.state["steps"] += 1
        mean.lerp_(grad, 0.1)
        square.mul_(0.999).addcmul_(grad, grad, value=0.001)
        # In double: 1 − 0.999^n loses five digits in single precision.
        count = self.state["steps"].double()
        root = (1 - 0.999**count).sqrt().to(theta.dtype)
        size = (rate / (1 - 0.9**count)).to(theta.dtype)
        theta.addcdiv_(mean * size, square.sqrt().div_(root).add_(1e-8), value=-1)


OPTIMIZERS: dict[str, Callable[[Tensor, Tensor | None], Optimizer]] = {"sgd": Sgd, "adam": Adam}
