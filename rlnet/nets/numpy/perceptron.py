"""Multi-layer perceptrons of all members in numpy, with a hand-written backward pass, on the CPU.

Other networks use autograd; a test compares the two. This saves what takes most of the time of small networks: dozens
of calls into torch, and new memory for every layer.

A bias is the weight of an input that is always 1. Every layer's input therefore has one more column than it has units,
and weights with the bias row below them, as they lie in theta, are one matrix: one product makes W·x + b, another one
both of their gradients. Both activations keep that column constant, and a hidden layer's own values say its slope.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlnet.nets.numpy.activations import ACTIVATIONS
from rlnet.nets.numpy.member_rows import as_steps, rows_of
from rlnet.nets.numpy.sparse_rows import SparseRows
from rlnet.nets.numpy.table import sum_rows
from rlnet.numerics.floating_point import QUIET

Array = np.ndarray
CHUNK = 2**18  # bytes of a layer's values that are worked on at a time: they stay in the second-level cache
FEWEST = 256  # rows that are worked on at a time, where a member has so many
DENSE = 256  # states up to which rows of one member are summed by a product
SHAPES = 4  # of so many numbers of rows the memory is kept


class _Part(NamedTuple):
    """Buffers of a chunk of members; without the axis of members where there is one alone."""

    where: slice | int
    inputs: list[Any]  # of every layer with the 1: [R, I + 1]; of a layer that is looked up None
    units: Sequence[Any]  # the same without the 1
    ones: Sequence[Any]
    transposed: Sequence[Any]
    gradients: list[Array | None]  # of every layer's inputs, with a column for the 1; of the first layer None


class _Space:
    """Reusable buffers of a forward pass and of the backward pass after it.

    Where there is no backward pass (`kept` False) all parts have the same memory, which stays in the cache.
    """

    def __init__(self, net: "Perceptron", members: int, rows: int, dtype: np.dtype, kept: bool) -> None:
        self.key = members, rows, dtype, kept
        size = max(1, CHUNK // max(1, rows * max(net.widths[1:]) * dtype.itemsize))
        few = min(members, size)
        alone = members == 1 and not net.several
        widths, shape = [width + 1 for width in net.widths[net.looked_up : -1]], (members if kept else few, rows)
        # In one piece: from 4 MiB on numpy asks for huge pages.
        block, values = np.ones(prod(shape) * sum(widths), dtype), cast(list[Array | None], [None] * net.looked_up)
        for width in widths:
            piece, block = np.split(block, [prod(shape) * width])
            values.append(piece.reshape(*shape, width))
        scratch = [np.empty((few, rows, width + 1), dtype) if kept else None for width in net.widths[1:-1]]
        self.index: Any = None  # the rows, where they are looked up
        self.parts = []
        for start in range(0, members, size):
            stop = min(start + size, members)
            where, short = (0, 0) if alone else (slice(start, stop), slice(0, stop - start))
            inputs = [None if x is None else x[where if kept else short] for x in values]
            units, ones, across = zip(*((None, None, None) if x is None else _views(x) for x in inputs), strict=True)
            gradients = [None if x is None else x[short] for x in (None, *scratch)]
            self.parts.append(_Part(where, inputs, units, ones, across, gradients))


def _views(x: Array) -> tuple[Array, Array, Array]:
    """Views of a layer's input: without the column of ones, that column alone, and transposed."""
    return x[..., :-1], x[..., -1], x.swapaxes(-1, -2)


@dataclass(frozen=True, eq=False)
class Perceptron:
    """A multi-layer perceptron of M members: its shape, forward and backward pass.

    Its parameters are one row per member, [M, P]: for each layer the weights [I, O], then the bias [O].
    """

    widths: Sequence[int]  # of the input, the hidden layers, the output
    activation: str
    indexed: bool  # observations are indices of rows of the first weights
    features: Array | None = None  # [S, I]: observations are indices of these rows
    # Whether the population has several members. A population of one is computed in another, faster order; a single
    # member of a larger population is not, so that it gets the same numbers in every process.
    several: bool = False

    @property
    def of_indices(self) -> bool:
        """Whether observations are indices of states."""
        return self.indexed or self.features is not None

    @cached_property
    def sparse(self) -> SparseRows | None:
        """The features, where they are mostly 0."""
        return None if self.features is None else SparseRows.of(self.features)

    @property
    def looked_up(self) -> bool:
        """Whether the first layer adds rows of its weights, instead of a product with all inputs."""
        return self.indexed or self.sparse is not None

    def __call__(self, flat: Tensor, obs: Tensor) -> Tensor:
        """Outputs of flat [M, P] for obs [..., M, N] int64 or [..., M, N, I]: [..., M, N, O]."""
        if torch.is_grad_enabled() and (flat.requires_grad or obs.requires_grad):
            return _Backprop.apply(flat, obs, self)
        return self.without_gradient(self.layers(flat.detach().numpy()), obs.detach())

    @np.errstate(**QUIET)
    def without_gradient(self, layers: list[Array], obs: Tensor) -> Tensor:
        """Outputs without gradient, from the `layers` of flat."""
        x = rows_of(obs.numpy(), not self.of_indices)
        most = max(FEWEST, CHUNK // (max(self.widths[1:]) * layers[0].dtype.itemsize))
        parts = []
        for start in range(0, max(x.shape[1], 1), most):
            part, space = self.forward(layers, x[:, start : start + most], kept=False)
            self.give(space)
            parts.append(part)
        out = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        return torch.from_numpy(as_steps(out, _lead(obs, self)))

    @cached_property
    def places(self) -> list[tuple[int, int, int, int]]:
        """Position of each layer in a row of parameters: (start, stop, inputs + 1, outputs)."""
        places, start = [], 0
        for inputs, outputs in pairwise(self.widths):
            places.append((start, start + (inputs + 1) * outputs, inputs + 1, outputs))
            start = places[-1][1]
        return places

    def layers(self, flat: Array) -> list[Array]:
        """Views of each layer, [M, I + 1, O]: weights with the bias as their last row."""
        return [flat[:, start:stop].reshape(-1, rows, outputs) for start, stop, rows, outputs in self.places]

    @cached_property
    def _free(self) -> dict[tuple, list[_Space]]:
        return {}

    def _take(self, *key: Any) -> _Space:
        """Take buffers from the pool, or allocate them; `give` returns them."""
        try:
            return self._free[key].pop()
        except (KeyError, IndexError):
            return _Space(self, *key)

    def give(self, space: _Space) -> None:
        """Return the buffers of `forward` to the pool."""
        self._free[space.key] = [*self._free.pop(space.key, ()), space]  # at the end: used last
        while len(self._free) > SHAPES:
            del self._free[next(iter(self._free))]

    def forward(self, layers: list[Array], x: Array, kept: bool = True) -> tuple[Array, _Space]:
        """Forward pass: the outputs [M, R, O] of rows x [M, R, I] or [M, R], and the buffers that `backward` needs.

        Call it, and `backward`, with numpy's warnings off (`QUIET`): values of a diverging member may be infinite.
        """
        if self.features is not None and not self.looked_up:
            x = self.features[x]
        members, rows = x.shape[:2]
        space, last = self._take(members, rows, layers[0].dtype, kept), len(layers) - 1
        if self.looked_up:
            space.index = x
        out = np.empty((members, rows, self.widths[-1]), layers[0].dtype)
        act = ACTIVATIONS[self.activation][0]
        for part in space.parts:
            if not self.looked_up:
                part.units[0][...] = x[part.where]
            for k, layer in enumerate(layers):
                own, after = layer[part.where], out[part.where] if k == last else part.units[k + 1]
                if k == 0 and self.sparse is not None:
                    whole = after if k == last else part.inputs[1]
                    _each(self.sparse.product, x[part.where], own, whole)
                elif k == 0 and self.indexed:
                    _look_up(own, x[part.where], after)
                else:
                    np.matmul(part.inputs[k], own, out=after)
                if k < last:
                    act(part.inputs[k + 1])
                    part.ones[k + 1][...] = 1
        return out, space

    def backward(
        self, layers: list[Array], space: _Space, grad: Array, into: list[Array], wanted: Array | None = None
    ) -> None:
        """Backward pass: the gradient of the parameters from that of the outputs [M, R, O]; consumes the buffers.

        Args:
            into: where it goes, the `layers` of an array [M, P].
            wanted: where the gradient with respect to x goes, [M, R, I + 1] with one column to be ignored.
        """
        slope = ACTIVATIONS[self.activation][1]
        for part in reversed(space.parts):  # the values of the last one are in the cache still
            where = part.where
            g = whole = grad[where]
            for k in range(len(layers) - 1, -1, -1):
                before = part.gradients[k] if k else None if wanted is None else wanted[where]
                if k == 0 and self.sparse is not None:
                    _each(self.sparse.gradient, space.index[where], whole, into[0][where])
                elif k == 0 and self.indexed:
                    _scatter(space.index[where], g, into[0][where])
                else:
                    np.matmul(part.transposed[k], g, out=into[k][where])
                if before is None:
                    break
                transposed = np.ascontiguousarray(layers[k][where].swapaxes(-1, -2))
                if g.shape[-1] == 1:  # with two times the half: products over one number numpy does not leave to BLAS
                    g, transposed = g.repeat(2, -1), (transposed / 2).repeat(2, -2)
                np.matmul(g, transposed, out=before)
                if k:
                    slope(before, part.inputs[k])
                    g, whole = before[..., :-1], before
        self.give(space)


def _each(function: Callable[[Array, Array, Array], None], *arrays: Array) -> None:
    """Call a function of one member's arrays for each member; indices come first, and say whether there are members."""
    for own in zip(*arrays, strict=True) if arrays[0].ndim == 2 else [arrays]:
        function(*own)


def _look_up(layer: Array, index: Array, out: Array) -> None:
    """First layer of one-hot inputs: rows of the weights [S + 1, H] plus the bias, index [R] → [R, H], per member."""
    if layer.ndim == 2:
        np.add(layer[index], layer[-1], out=out)
    else:
        np.add(layer[np.arange(len(layer))[:, None], index], layer[:, -1:], out=out)


def _scatter(index: Array, grad: Array, into: Array) -> None:
    """The gradient of `_look_up` from that of its rows [R, H], into [S + 1, H], or all this for members."""
    if into.ndim == 2 and len(into) <= DENSE:  # one product of one-hot rows, with the 1 of the bias
        rows = np.zeros((len(index), len(into)), grad.dtype)
        rows[np.arange(len(index)), index] = 1
        rows[:, -1] = 1
        np.matmul(rows.T, grad, out=into)
        return
    sum_rows(index, grad, into[..., :-1, :])
    np.add.reduce(grad, -2, out=into[..., -1, :])


def _lead(obs: Tensor, net: Perceptron) -> torch.Size:
    """[..., M, N], the shape of observations without their features."""
    return obs.shape if net.of_indices else obs.shape[:-1]


class _Backprop(torch.autograd.Function):
    """Autograd function: `Perceptron.forward` with `Perceptron.backward` as its gradient."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, obs: Tensor, net: Perceptron) -> Tensor:
        with np.errstate(**QUIET):
            out, ctx.space = net.forward(net.layers(flat.numpy()), rows_of(obs.numpy(), not net.of_indices))
        ctx.net, ctx.shape = net, _lead(obs, net)
        ctx.save_for_backward(flat)
        return torch.from_numpy(as_steps(out, ctx.shape))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        space, ctx.space = ctx.space, None
        if space is None:
            raise RuntimeError("the backward pass of this forward pass has run already; run the forward pass again")
        net, (flat,) = ctx.net, ctx.saved_tensors
        rows = np.ascontiguousarray(rows_of(grad.numpy(), True))
        wanted = np.empty((*rows.shape[:2], net.widths[0] + 1), rows.dtype) if ctx.needs_input_grad[1] else None
        into = np.empty(flat.shape, rows.dtype)
        with np.errstate(**QUIET):
            net.backward(net.layers(flat.numpy()), space, rows, net.layers(into), wanted)
        before = None if wanted is None else torch.from_numpy(as_steps(wanted[..., :-1], ctx.shape))
        return torch.from_numpy(into), before, None
