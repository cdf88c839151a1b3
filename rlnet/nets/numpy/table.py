"""Tables of values of all members in numpy, with a hand-written backward pass, on the CPU."""

from dataclasses import dataclass

import numpy as np
import torch

Array = np.ndarray


@dataclass(frozen=True)
class Table:
    """Tabular values [M, S·O] with the same two passes as `Perceptron`."""

    states: int
    of_indices = True

    def layers(self, flat: Array) -> list[Array]:
        """The table as a view [M, S, O]."""
        return [flat.reshape(len(flat), self.states, -1)]

    def forward(self, layers: list[Array], x: Array) -> tuple[Array, Array]:
        """Forward pass: the rows x [M, R] of the tables, [M, R, O], and x for `backward`."""
        return layers[0][np.arange(len(x))[:, None], x], x

    def backward(self, layers: list[Array], values: Array, grad: Array, into: list[Array]) -> None:
        """Backward pass: the gradient into the `layers` of an array [M, S·O] from that of the rows [M, R, O]."""
        sum_rows(values, grad, into[0])


def sum_rows(index: Array, grad: Array, into: Array) -> None:
    """Σ of the rows [R, O] with the same index [R], into [S, O], or all this for members."""
    states, outputs = into.shape[-2:]
    if into.ndim == 3:
        index = index + np.arange(len(into))[:, None] * states
    at, rows = torch.from_numpy(index.ravel()), torch.from_numpy(np.ascontiguousarray(grad).reshape(-1, outputs))
    sums = torch.zeros(into.size // outputs, outputs, dtype=rows.dtype).index_add_(0, at, rows)
    into[...] = sums.numpy().reshape(into.shape)
