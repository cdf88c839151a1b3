"""Probabilities made to sum to 1: merging of duplicate outcomes, and the rounding of the type they came in."""

from __future__ import annotations

import numpy as np

from rlnet.mdp.model.index_type import index_dtype
from rlnet.mdp.model.validation import COMPILED_OUTCOMES


def single_rounding(probability: np.ndarray) -> float:
    """How far numbers of this type may sum from 1 for their rounding alone; 0 for float64, whose rule is 1e-8."""
    dtype = getattr(probability, "dtype", None)
    precision = {"float32": 1e-6, "float16": 4e-3, "bfloat16": 2e-2}
    return precision.get(str(dtype).removeprefix("torch."), 0.0)


def within_rounding(outcome_ptr: np.ndarray, probability: np.ndarray, rounding: float) -> np.ndarray:
    """Rows of numbers of single precision that sum to 1 within their rounding made to sum to 1."""
    if rounding == 0 or len(probability) == 0:
        return probability
    total = np.add.reduceat(probability, outcome_ptr[:-1])
    near = np.abs(total - 1.0) <= rounding
    return probability / np.repeat(np.where(near, total, 1.0), np.diff(outcome_ptr))


def merged(outcome_ptr: np.ndarray, columns: list[np.ndarray], n_states: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Exact duplicates within a pair added up, and its probabilities made to sum to 1, so that no discount is hidden
    in them. Order is kept where there is nothing to merge."""
    next_state, probability = columns[:2]
    if len(outcome_ptr) == len(next_state) + 1:  # one outcome each
        return outcome_ptr, [next_state, _rescaled(outcome_ptr, probability), *columns[2:]]
    few = np.diff(outcome_ptr).max() <= 64  # the compiled pass is quadratic in a row
    if len(columns) == 4 and len(next_state) > COMPILED_OUTCOMES and few:
        return _merged_compiled(outcome_ptr, columns, n_states)
    pair = np.repeat(np.arange(len(outcome_ptr) - 1), np.diff(outcome_ptr))
    order = np.lexsort((*reversed(columns[2:]), next_state, pair))
    keys = [x[order] for x in (pair, next_state, *columns[2:])]
    first = np.ones(len(order), dtype=bool)
    first[1:] = np.logical_or.reduce([x[1:] != x[:-1] for x in keys])
    if first.all():
        return outcome_ptr, [next_state, _rescaled(outcome_ptr, probability), *columns[2:]]
    begin = np.flatnonzero(first)
    probability = np.add.reduceat(probability[order], begin)
    ptr = np.concatenate([[0], np.cumsum(np.bincount(keys[0][begin], minlength=len(outcome_ptr) - 1))])
    return ptr, [keys[1][begin], _rescaled(ptr, probability), *(key[begin] for key in keys[2:])]


def _merged_compiled(
    outcome_ptr: np.ndarray, columns: list[np.ndarray], n_states: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    from rlnet.mdp.solvers.compiled.kernels import merge_duplicates

    n = len(columns[0])
    ptr = np.zeros(len(outcome_ptr), dtype=index_dtype(n))
    kept = np.empty(n, dtype=index_dtype(n_states)), np.empty(n), np.empty(n), np.empty(n, dtype=bool)
    count = merge_duplicates(outcome_ptr, tuple(columns), ptr, *kept)
    return ptr, [x[:count] for x in kept]


def _rescaled(outcome_ptr: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Rows that sum to 1 only within the tolerance made to sum to 1."""
    if len(probability) == 0:
        return probability
    total = np.add.reduceat(probability, outcome_ptr[:-1])
    off = np.abs(total - 1.0) > 1e-15 * np.diff(outcome_ptr)
    if not off.any():
        return probability
    return probability / np.repeat(np.where(off, total, 1.0), np.diff(outcome_ptr))
