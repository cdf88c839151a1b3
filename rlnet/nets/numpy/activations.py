"""Activation functions in numpy, in place, and their derivatives."""

from collections.abc import Callable

import numpy as np
import torch

Array = np.ndarray
LARGE = 2**15  # numbers from which on torch is faster, which passes over memory once where numpy does several times
# Numbers of Python take numpy as long as a small operation itself.
ZERO, ONE = np.zeros((), np.float32), np.ones((), np.float32)


def _tanh_slope(grad: Array, value: Array) -> None:
    """grad·(1 − tanh²); the values may be lost."""
    if grad.size > LARGE:
        x, y = torch.from_numpy(grad), torch.from_numpy(value)
        torch.ops.aten.tanh_backward.grad_input(x, y, grad_input=x)
    else:
        np.multiply(value, value, out=value)
        np.subtract(ONE, value, out=value)
        grad *= value


def _relu_slope(grad: Array, value: Array) -> None:
    grad *= value > ZERO


# name → (in place, and the gradient with respect to what came in, in place, from the values that went out)
ACTIVATIONS: dict[str, tuple[Callable[[Array], None], Callable[[Array, Array], None]]] = {
    "relu": (lambda x: np.maximum(x, ZERO, out=x), _relu_slope),
    "tanh": (lambda x: np.tanh(x, out=x), _tanh_slope),
}
