"""Reshaping between steps [..., M, N] and the rows of each member [M, R], in numpy."""

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def rows_of(x: Array, features: bool) -> Array:
    """Reshape [..., M, N(, F)] to [M, R(, F)]: all rows of a member together."""
    axis = x.ndim - 2 - features  # of M
    if axis == 0 or x.shape[:axis] == (1,):
        return x.reshape(x.shape[axis:])
    order = (axis, *range(axis), *range(axis + 1, x.ndim))
    return x.transpose(order).reshape(x.shape[axis], -1, *x.shape[axis + 2 :])


def as_steps(out: Array, shape: Sequence[int]) -> Array:
    """The inverse of `rows_of`, for shape [..., M, N]: [M, R, O] → [..., M, N, O]."""
    axis = len(shape) - 2  # of M
    if axis == 0 or shape[:axis] == (1,):
        return out.reshape(*shape, out.shape[-1])
    apart = out.reshape(len(out), *shape[:axis], shape[-1], out.shape[-1])
    return apart.transpose(*range(1, axis + 1), 0, axis + 1, axis + 2)
