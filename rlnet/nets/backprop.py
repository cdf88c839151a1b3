"""The usual multi-layer perceptron with a backward pass of its own: all members, in numpy, on the CPU.

Plain autograd says the same in a page less, and is what every other network has; a test holds the two together. What
this saves is what small networks spend their time on: dozens of calls into torch, and fresh memory for every layer.

A bias is the weight of an input that is always 1. Every layer's input therefore has one more column than it has units,
and weights with the bias row below them, as they lie in theta, are one matrix: one product makes W·x + b, another one
both of their gradients. Both activations keep that column constant, and a hidden layer's own values say its slope.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

Array = np.ndarray
CHUNK = 2**19  # bytes of a layer's values that are worked on at a time: they stay in the second-level cache
KEPT = 2**26  # bytes of free buffers above which they are let go


def _tanh_slope(grad: Array, value: Array) -> None:
    """grad·(1 − tanh²); the values are lost."""
    np.multiply(value, value, out=value)
    np.subtract(1, value, out=value)
    grad *= value


def _relu_slope(grad: Array, value: Array) -> None:
    grad *= value > 0


# name → (in place, and the gradient with respect to what came in, in place, from the values that went out)
ACTIVATIONS: dict[str, tuple[Callable[[Array], None], Callable[[Array, Array], None]]] = {
    "relu": (lambda x: np.maximum(x, 0, out=x), _relu_slope),
    "tanh": (lambda x: np.tanh(x, out=x), _tanh_slope),
}


class _Buffers:
    """Arrays that are used again: their pages are in memory already. Whoever takes one owns it until it gives it."""

    def __init__(self) -> None:
        self._free: dict[tuple, list[Array]] = {}
        self._bytes = 0

    def take(self, dtype: np.dtype, *shape: int) -> Array:
        free = self._free.get((dtype, *shape))
        if not free:
            return np.empty(shape, dtype)
        self._bytes -= free[-1].nbytes
        return free.pop()

    def give(self, array: Array) -> None:
        if self._bytes + array.nbytes > KEPT:
            self._free.clear()
            self._bytes = 0
        if array.nbytes <= KEPT:
            self._free.setdefault((array.dtype, *array.shape), []).append(array)
            self._bytes += array.nbytes


_buffers = _Buffers()


@dataclass(frozen=True)
class Perceptron:
    """The shape of a network.

    Its parameters are one row per member, [M, P]: for each layer the weights [I, O], then the bias [O].
    """

    widths: Sequence[int]  # of the input, the hidden layers, the output
    activation: str
    indexed: bool  # observations are indices of rows of the first weights
    features: Array | None = None  # [S, I]: observations are indices of these rows

    @property
    def of_indices(self) -> bool:
        """Whether an observation is one number."""
        return self.indexed or self.features is not None

    def __call__(self, flat: Tensor, obs: Tensor) -> Tensor:
        """flat [M, P], obs [..., M, N] int64 or [..., M, N, I] → [..., M, N, O]."""
        if torch.is_grad_enabled() and (flat.requires_grad or obs.requires_grad):
            return _Backprop.apply(flat, obs, self)
        out, values = self.forward(flat.detach().numpy(), rows_of(obs.detach().numpy(), not self.of_indices))
        self.forget(values)
        return torch.from_numpy(as_steps(out, _lead(obs, self)))

    def layers(self, flat: Array) -> list[Array]:
        """Views [M, I + 1, O]: weights and below them the bias."""
        views, start = [], 0
        for inputs, outputs in zip(self.widths[:-1], self.widths[1:], strict=True):
            stop = start + (inputs + 1) * outputs
            views.append(flat[:, start:stop].reshape(len(flat), inputs + 1, outputs))
            start = stop
        return views

    def chunks(self, members: int, rows: int, itemsize: int) -> list[slice]:
        """The members in parts that fit into the cache."""
        size = max(1, CHUNK // max(1, rows * max(self.widths[1:]) * itemsize))
        return [slice(start, start + size) for start in range(0, members, size)]

    def forward(self, flat: Array, x: Array) -> tuple[Array, list[Array]]:
        """The outputs [M, R, O] of rows x [M, R, I] or [M, R], and the inputs of all layers, for `backward`."""
        if self.features is not None:
            x = self.features[x]
        members, rows = x.shape[:2]
        layers, dtype = self.layers(flat), flat.dtype
        values = [_buffers.take(dtype, members, rows, width + 1) for width in self.widths[self.indexed : -1]]
        if self.indexed:
            values.insert(0, x)
        else:
            values[0][..., :-1], values[0][..., -1] = x, 1
        out = np.empty((members, rows, self.widths[-1]), dtype)
        act = ACTIVATIONS[self.activation][0]
        with np.errstate(over="ignore", invalid="ignore"):  # a member that diverges is reported by the learner
            for part in self.chunks(members, rows, dtype.itemsize):
                for k, layer in enumerate(layers):
                    hidden = k + 1 < len(layers)
                    after = values[k + 1][part] if hidden else out[part]
                    self._layer(k, values[k][part], layer[part], after[..., :-1] if hidden else after)
                    if hidden:
                        act(after)
                        after[..., -1] = 1
        return out, values

    def _layer(self, k: int, x: Array, layer: Array, out: Array) -> None:
        if k == 0 and self.indexed:
            np.add(layer[np.arange(len(x))[:, None], x], layer[:, -1:], out=out)
        else:
            np.matmul(x, layer, out=out)

    def backward(self, flat: Array, values: list[Array], grad: Array, into: Array, wanted: Array | None = None) -> None:
        """The gradient, into [M, P], from that of the outputs [M, R, O]; the values are used up and given back.

        Args:
            wanted: where the gradient with respect to x goes, [M, R, I + 1] with one column to be ignored.
        """
        members, rows = grad.shape[:2]
        layers, dtype = self.layers(flat), flat.dtype
        gradients = self.layers(into)
        slope = ACTIVATIONS[self.activation][1]
        parts = self.chunks(members, rows, dtype.itemsize)
        size = min(members, parts[0].stop)
        scratch = [_buffers.take(dtype, size, rows, width + 1) for width in self.widths[1:-1]]
        with np.errstate(over="ignore", invalid="ignore"):
            for part in parts:
                g = grad[part]
                for k in reversed(range(len(layers))):
                    x, layer = values[k][part], layers[k][part]
                    if k == 0 and self.indexed:
                        _scatter(x, g, gradients[0][part][:, :-1])
                        np.add.reduce(g, 1, out=gradients[0][part][:, -1])
                        break
                    np.matmul(x.swapaxes(1, 2), g, out=gradients[k][part])
                    before = scratch[k - 1][: len(x)] if k else None if wanted is None else wanted[part]
                    if before is None:
                        break
                    # A product over one output is none: numpy's matmul took 20 times as long.
                    product = np.multiply if g.shape[-1] == 1 else np.matmul
                    product(g, np.ascontiguousarray(layer.swapaxes(1, 2)), out=before)
                    if k:
                        slope(before, x)
                        g = before[..., :-1]
        for array in scratch:
            _buffers.give(array)
        self.forget(values)

    def forget(self, values: list[Array]) -> None:
        """Give back what `forward` kept."""
        for value in values[self.indexed :]:
            _buffers.give(value)


@dataclass(frozen=True)
class Table:
    """A number for each state and output, [M, S·O]: the same two passes."""

    states: int
    of_indices = True

    def forward(self, flat: Array, x: Array) -> tuple[Array, Array]:
        """The rows x [M, R] of the tables, [M, R, O], and x for `backward`."""
        return flat.reshape(len(flat), self.states, -1)[np.arange(len(x))[:, None], x], x

    def backward(self, flat: Array, values: Array, grad: Array, into: Array) -> None:
        """The gradient, into [M, S·O], from that of the rows [M, R, O]."""
        _scatter(values, grad, into.reshape(len(into), self.states, -1))


def _scatter(index: Array, grad: Array, into: Array) -> None:
    """Σ of the rows grad [M, R, O] with the same index [M, R], into [M, S, O]."""
    members, states, outputs = into.shape
    at = torch.from_numpy((index + np.arange(members)[:, None] * states).ravel())
    rows = torch.from_numpy(np.ascontiguousarray(grad).reshape(-1, outputs))
    sums = torch.zeros(members * states, outputs, dtype=rows.dtype).index_add_(0, at, rows)
    into[:] = sums.numpy().reshape(into.shape)


def rows_of(x: Array, features: bool) -> Array:
    """[..., M, N(, F)] → [M, R(, F)], all rows of a member together."""
    axis = x.ndim - 2 - features  # of M
    if axis == 0 or x.shape[:axis] == (1,):
        return x.reshape(x.shape[axis:])
    order = (axis, *range(axis), *range(axis + 1, x.ndim))
    return x.transpose(order).reshape(x.shape[axis], -1, *x.shape[axis + 2 :])


def as_steps(out: Array, shape: Sequence[int]) -> Array:
    """The inverse, for shape [..., M, N]: [M, R, O] → [..., M, N, O]."""
    axis = len(shape) - 2  # of M
    if axis == 0 or shape[:axis] == (1,):
        return out.reshape(*shape, out.shape[-1])
    apart = out.reshape(len(out), *shape[:axis], shape[-1], out.shape[-1])
    return apart.transpose(*range(1, axis + 1), 0, axis + 1, axis + 2)


def _lead(obs: Tensor, net: Perceptron) -> torch.Size:
    """[..., M, N], the shape of observations without their features."""
    return obs.shape if net.of_indices else obs.shape[:-1]


class _Backprop(torch.autograd.Function):
    """`Perceptron.forward`, and `Perceptron.backward` as its gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, flat: Tensor, obs: Tensor, net: Perceptron) -> Tensor:
        out, ctx.values = net.forward(flat.numpy(), rows_of(obs.numpy(), not net.of_indices))
        ctx.net, ctx.shape = net, _lead(obs, net)
        ctx.save_for_backward(flat)
        return torch.from_numpy(as_steps(out, ctx.shape))

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, ctx.values = ctx.values, None
        if values is None:
            raise RuntimeError("the values of this forward pass are used up: a network's backward pass runs once")
        net, (flat,) = ctx.net, ctx.saved_tensors
        rows = np.ascontiguousarray(rows_of(grad.numpy(), True))
        wanted = np.empty((*rows.shape[:2], net.widths[0] + 1), rows.dtype) if ctx.needs_input_grad[1] else None
        into = np.empty(flat.shape, rows.dtype)
        net.backward(flat.numpy(), values, rows, into, wanted)
        before = None if wanted is None else torch.from_numpy(as_steps(wanted[..., :-1], ctx.shape))
        return torch.from_numpy(into), before, None
