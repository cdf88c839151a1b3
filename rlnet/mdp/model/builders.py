"""The fields of a `FiniteMDP` from dense arrays and from coordinate lists; every builder ends in `from_coo`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlnet.mdp.errors import InvalidMDPError
from rlnet.mdp.model.index_type import index_dtype
from rlnet.mdp.model.validation import COMPILED_OUTCOMES, check_count, check_outcomes


def from_coo(
    state: np.ndarray,
    action: np.ndarray,
    next_state: np.ndarray,
    probability: np.ndarray,
    reward: np.ndarray,
    terminated: np.ndarray | None = None,
    *,
    n_states: int | None = None,
    n_actions: int | None = None,
    terminal: np.ndarray | None = None,
    start: np.ndarray | None = None,
    labels: Sequence[str] | None = None,
    shape: tuple[int, int] | None = None,
    cell: np.ndarray | None = None,
    action_labels: tuple[str, ...] | None = None,
    observations: np.ndarray | None = None,
    sign: np.ndarray | None = None,
) -> dict[str, Any]:
    """The fields of a model from one entry per outcome: arrays of one length K, in any order.

    Fastest sorted by (state, action).

    - `terminated` bool [K], default all False. `n_states`, `n_actions` default to the largest index + 1.
    - `terminal` bool [S]: the states that have no action *by intent*; outcomes into them are marked terminated, and
      outcomes out of them are refused. Without it, a state that has no outcome is terminal if every outcome that leads
      to it is marked terminated; any other state without an action is an InvalidMDPError.
    - `start` float [S], default uniform over the states that are not terminal.
    - Outcomes of probability 0 are dropped. Exact duplicates (same pair, successor, reward, end) are merged; successors
      with different rewards stay apart, since a simulator samples from this model.
    - `sign` [K] of ±1 makes a two-player zero-sum game of it: −1 where the other player moves next.
    - Probabilities of a pair that sum to 1 within 1e-8 (float32: 1e-6) are rescaled to sum to 1.

    Raises InvalidMDPError with the first offending (state, action) and the number.
    """
    rounding = single_rounding(probability)
    columns = _columns(state, action, next_state, probability, reward, terminated, sign)
    n_states = _size("n_states", n_states, columns[0], columns[2])
    n_actions = _size("n_actions", n_actions, columns[1])
    columns = _sorted(columns, n_states, n_actions)
    pair_state, pair_action, outcome_ptr = _pairs(columns[0], columns[1])

    if rounding:
        columns[3] = _within_rounding(outcome_ptr, columns[3], rounding)

    def name(i: int) -> str:
        label = f" ({labels[pair_state[i]]})" if labels is not None else ""
        return f"state {pair_state[i]}{label}, action {pair_action[i]}"

    successor, chance, gain = columns[2:5]
    check_outcomes(outcome_ptr, successor, chance, gain, n_states, name)
    counts = np.bincount(pair_state, minlength=n_states)
    ends = columns[5] | _leads_to_terminal(columns[2], counts, terminal)
    outcome_ptr, merged = _merged(outcome_ptr, [*columns[2:5], ends, *columns[6:]], n_states)
    next_state, probability, reward, terminated = merged[:4]
    return {
        "pair_ptr": np.append(0, np.cumsum(counts)),
        "pair_action": pair_action,
        "outcome_ptr": outcome_ptr,
        "next_state": next_state,
        "probability": probability,
        "reward": reward,
        "terminated": terminated,
        "start": _start(start, counts > 0),
        "n_actions": n_actions,
        "labels": labels,
        "shape": shape,
        "cell": cell,
        "action_labels": action_labels,
        "observations": observations,
        "sign": merged[4] if sign is not None else None,
    }


def from_arrays(
    transition: np.ndarray,
    reward: np.ndarray,
    *,
    terminal: np.ndarray | None = None,
    available: np.ndarray | None = None,
    start: np.ndarray | None = None,
) -> dict[str, Any]:
    """The fields of a model from dense arrays: `transition` [S, A, S'], `reward` [S, A] or [S, A, S'].

    `terminal` bool [S]: no actions there (its rows are not read) and outcomes into it end the episode.
    `available` bool [S, A]: A(s); rows of other actions are not read. A state without any is terminal.
    Rows of float32 may sum to 1 within 1e-6, the rounding of that type.
    """
    rounding = single_rounding(transition)
    transition = as_numbers(transition, "transition")
    if transition.ndim != 3 or transition.shape[0] != transition.shape[2]:
        raise InvalidMDPError(f"transition must be [S, A, S], not {transition.shape}")
    n_states, n_actions, _ = transition.shape
    reward = as_numbers(reward, "reward")
    if reward.shape not in ((n_states, n_actions), transition.shape):
        raise InvalidMDPError(f"reward must be [S, A] or [S, A, S'] for {transition.shape}, not {reward.shape}")
    mask = np.ones((n_states, n_actions), dtype=bool)
    for given, what, shape in ((available, "available", mask.shape), (terminal, "terminal", (n_states,))):
        if given is not None and np.shape(given) != shape:
            raise InvalidMDPError(f"{what} must have shape {shape}, not {np.shape(given)}")
    if available is not None:
        mask &= np.asarray(available, dtype=bool)
    if terminal is not None:
        mask &= ~np.asarray(terminal, dtype=bool)[:, None]
    sums = transition.sum(axis=2)
    total = np.where(mask, sums, 1.0)
    total = np.where(np.abs(total - 1.0) <= rounding, 1.0, total)
    bad = ~(np.abs(total - 1.0) <= 1e-8)  # here too: a row of zeros would leave no entry to check below
    if bad.any() and np.isfinite(transition).all() and (transition >= 0).all():
        s, a = np.argwhere(bad)[0]
        raise InvalidMDPError(f"state {s}, action {a}: probabilities sum to {total[s, a]:.12g}, not 1")
    if rounding:
        transition = transition / np.where(mask, sums, 1.0)[:, :, None]
    state, action, successor = np.nonzero((transition != 0) & mask[:, :, None])
    r = reward[state, action, successor] if reward.ndim == 3 else reward[state, action]
    return from_coo(
        state,
        action,
        successor,
        transition[state, action, successor],
        r,
        n_states=n_states,
        n_actions=n_actions,
        terminal=np.logical_not(mask.any(axis=1)),
        start=start,
    )


def _columns(
    state: np.ndarray,
    action: np.ndarray,
    next_state: np.ndarray,
    probability: np.ndarray,
    reward: np.ndarray,
    terminated: np.ndarray | None,
    sign: np.ndarray | None,
) -> list[np.ndarray]:
    integers = [as_integers(x, n) for x, n in ((state, "state"), (action, "action"), (next_state, "next_state"))]
    floats = [as_numbers(x, n) for x, n in ((probability, "probability"), (reward, "reward"))]
    ended = np.zeros(len(integers[0]), dtype=bool) if terminated is None else np.asarray(terminated, dtype=bool)
    columns = [*integers, *floats, ended, *([] if sign is None else [as_numbers(sign, "sign")])]
    shapes = {np.shape(x) for x in columns}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise InvalidMDPError(f"outcome arrays must have one common length, not shapes {[x.shape for x in columns]}")
    return columns


def as_integers(x: np.ndarray, name: str) -> np.ndarray:
    """An integer array, or InvalidMDPError."""
    x = np.asarray(x)
    if x.size and x.dtype.kind not in "iu":
        raise InvalidMDPError(f"{name} must hold integers, not {x.dtype}")
    return x if x.size else x.astype(np.int64)


def single_rounding(probability: np.ndarray) -> float:
    """How far numbers of this type may sum from 1 for their rounding alone; 0 for float64, whose rule is 1e-8."""
    dtype = getattr(probability, "dtype", None)
    precision = {"float32": 1e-6, "float16": 4e-3, "bfloat16": 2e-2}
    return precision.get(str(dtype).removeprefix("torch."), 0.0)


def as_numbers(x: np.ndarray, name: str) -> np.ndarray:
    """A float64 array, or InvalidMDPError."""
    x = np.asarray(x)
    try:
        return x.astype(np.float64, casting="unsafe" if x.dtype.kind == "O" else "same_kind", copy=False)
    except (TypeError, ValueError):
        raise InvalidMDPError(f"{name} must hold real numbers, not {x.dtype}") from None


def _size(name: str, given: int | None, *indices: np.ndarray) -> int:
    if given is not None:
        return check_count(name, given, 0)
    return max((int(i.max(initial=-1)) for i in indices), default=-1) + 1


def _sorted(columns: list[np.ndarray], n_states: int, n_actions: int) -> list[np.ndarray]:
    """Ordered by (state, action); indices out of range refused; outcomes of probability 0 dropped."""
    state, action = columns[:2]
    for values, size, what in ((state, n_states, "state"), (action, n_actions, "action")):
        bad = (values < 0) | (values >= size)
        if bad.any():
            k = int(bad.argmax())
            raise InvalidMDPError(f"state {state[k]}, action {action[k]}: {what} is outside 0..{size - 1}")
    zero = columns[3] == 0
    if zero.any():
        _check_all_zero(columns, zero, n_actions)
        columns = [x[~zero] for x in columns]
        state, action = columns[:2]
    rises = state[1:] > state[:-1]
    rises |= (state[1:] == state[:-1]) & (action[1:] >= action[:-1])
    if not rises.all():
        order = np.argsort(state.astype(np.int64) * n_actions + action, kind="stable")
        columns = [x[order] for x in columns]
    return columns


def _check_all_zero(columns: list[np.ndarray], zero: np.ndarray, n_actions: int) -> None:
    """A pair whose probabilities are all 0 would vanish with them: it is an error, not an unavailable action."""
    key = columns[0].astype(np.int64) * n_actions + columns[1]
    gone = np.setdiff1d(key[zero], key[~zero])
    if len(gone):
        s, a = divmod(int(gone[0]), n_actions)
        raise InvalidMDPError(f"state {s}, action {a}: probabilities sum to 0, not 1")


def _pairs(state: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(state [P], action [P], outcome_ptr [P + 1]) of the runs of equal (state, action)."""
    if len(state) == 0:
        return state, action, np.zeros(1, dtype=np.int64)
    first = np.empty(len(state), dtype=bool)
    first[0] = True
    np.not_equal(state[1:], state[:-1], out=first[1:])
    first[1:] |= action[1:] != action[:-1]
    ptr = np.empty(np.count_nonzero(first) + 1, dtype=index_dtype(len(state)))
    ptr[:-1], ptr[-1] = np.flatnonzero(first), len(state)
    return state[ptr[:-1]], action[ptr[:-1]], ptr


def _leads_to_terminal(next_state: np.ndarray, counts: np.ndarray, terminal: np.ndarray | None) -> np.ndarray:
    """bool [K]: the outcomes into states that are terminal by intent."""
    if terminal is None:
        return np.zeros(len(next_state), dtype=bool)  # the model's own check finds the states left without an action
    terminal = np.asarray(terminal, dtype=bool)
    if terminal.shape != counts.shape:
        raise InvalidMDPError(f"terminal has shape {terminal.shape}, not {counts.shape}")
    busy = terminal & (counts > 0)
    if busy.any():
        raise InvalidMDPError(f"state {int(busy.argmax())} is said to be terminal, but has outcomes")
    lost = ~terminal & (counts == 0)
    if lost.any():
        raise InvalidMDPError(f"state {int(lost.argmax())} has no action and is not said to be terminal")
    return terminal[next_state]


def _merged(outcome_ptr: np.ndarray, columns: list[np.ndarray], n_states: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Exact duplicates within a pair added up, and its probabilities made to sum to 1, so that no discount is hidden
    in them. Order is kept where there is nothing to merge."""
    next_state, probability = columns[:2]
    if len(outcome_ptr) == len(next_state) + 1:  # one outcome each
        return outcome_ptr, [next_state, _rescaled(outcome_ptr, probability), *columns[2:]]
    if (
        len(columns) == 4 and len(next_state) > COMPILED_OUTCOMES and np.diff(outcome_ptr).max() <= 64
    ):  # the pass is quadratic in a row
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


def _within_rounding(outcome_ptr: np.ndarray, probability: np.ndarray, rounding: float) -> np.ndarray:
    """Rows of numbers of single precision that sum to 1 within their rounding made to sum to 1."""
    if len(probability) == 0:
        return probability
    total = np.add.reduceat(probability, outcome_ptr[:-1])
    near = np.abs(total - 1.0) <= rounding
    return probability / np.repeat(np.where(near, total, 1.0), np.diff(outcome_ptr))


def _start(start: np.ndarray | None, busy: np.ndarray) -> np.ndarray:
    if start is not None:
        rounding, start = single_rounding(start), np.array(start, dtype=np.float64)
        return start / start.sum() if rounding and abs(start.sum() - 1.0) <= rounding else start
    weight = busy if busy.any() else np.ones_like(busy)
    return weight / weight.sum()
