"""The fields of a `FiniteMDP` from dense arrays and from coordinate lists; every builder ends in `from_coo`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rlnet.mdp.errors import InvalidMDPError
from rlnet.mdp.model.index_type import index_dtype
from rlnet.mdp.model.rounding import merged, single_rounding, within_rounding
from rlnet.mdp.model.validation import check_count, check_outcomes


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
    sign: np.ndarray | None = None,
    **described: Any,
) -> dict[str, Any]:
    """The fields of a model from one entry per outcome: arrays of one length K, in any order.

    Fastest sorted by (state, action). Outcomes of probability 0 are dropped. Exact duplicates (same pair, successor,
    reward, end) are merged; others stay apart, since a simulator samples from this model. Probabilities that sum to 1
    within 1e-8 (float32: 1e-6) are rescaled to sum to 1.

    Args:
        state, action, next_state: int [K].
        probability, reward: float [K].
        terminated: bool [K], default all False.
        n_states, n_actions: default the largest index + 1.
        terminal: bool [S], the states that have no action *by intent*; outcomes into them are marked terminated, and
            outcomes out of them are refused. Without it, a state that has no outcome is terminal if every outcome that
            leads to it is marked terminated; any other state without an action is an InvalidMDPError.
        start: float [S], default uniform over the states that are not terminal.
        sign: [K] of ±1, which makes a two-player zero-sum game of it: −1 where the other player moves next.
        described: other fields of the `FiniteMDP`: `shape`, `cell`, `action_labels`, `observations`, `entry`.

    Raises:
        InvalidMDPError: names the first offending (state, action) and the number.
    """
    columns = _columns(state, action, next_state, probability, reward, terminated, sign)
    n_states = _size("n_states", n_states, columns[0], columns[2])
    n_actions = _size("n_actions", n_actions, columns[1])
    columns = _sorted(columns, n_states, n_actions)
    pair_state, pair_action, outcome_ptr = _pairs(columns[0], columns[1])
    columns[3] = within_rounding(outcome_ptr, columns[3], single_rounding(probability))
    check_outcomes(outcome_ptr, columns[2], columns[3], columns[4], n_states, _naming(pair_state, pair_action, labels))
    counts = np.bincount(pair_state, minlength=n_states)
    ends = columns[5] | _leads_to_terminal(columns[2], counts, terminal)
    outcome_ptr, outcomes = merged(outcome_ptr, [*columns[2:5], ends, *columns[6:]], n_states)
    pairs = {"pair_ptr": np.append(0, np.cumsum(counts)), "pair_action": pair_action, "outcome_ptr": outcome_ptr}
    names = ("next_state", "probability", "reward", "terminated", "sign")[: len(outcomes)]
    fields: dict[str, Any] = dict(zip(names, outcomes, strict=True))
    sizes = {"start": _start(start, counts > 0), "n_actions": n_actions, "labels": labels}
    return {**pairs, **fields, **sizes, **described}


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
        mask &= as_flags(available, "available")
    if terminal is not None:
        mask &= ~as_flags(terminal, "terminal")[:, None]
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
    ended = np.zeros(len(integers[0]), dtype=bool) if terminated is None else as_flags(terminated, "terminated")
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


def as_numbers(x: np.ndarray, name: str) -> np.ndarray:
    """A float64 array, or InvalidMDPError."""
    x = np.asarray(x)
    try:
        return x.astype(np.float64, casting="unsafe" if x.dtype.kind == "O" else "same_kind", copy=False)
    except (TypeError, ValueError):
        raise InvalidMDPError(f"{name} must hold real numbers, not {x.dtype}") from None


def as_flags(x: np.ndarray, name: str) -> np.ndarray:
    """A bool array, from bool or from the numbers 0 and 1, or InvalidMDPError."""
    x = np.asarray(x)
    if x.dtype.kind in "iuf":
        wrong = x[(x != 0) & (x != 1)].tolist()
    else:
        wrong = [] if x.dtype == bool else [one for one in x.ravel().tolist() if one not in (False, True)]
    if wrong:
        raise InvalidMDPError(f"{name} must be true or false (or 1 or 0), not {wrong[0]!r}")
    return x.astype(bool)


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


def _naming(state: np.ndarray, action: np.ndarray, labels: Sequence[str] | None) -> Callable[[int], str]:
    """What messages call pair i: its state, with the label if there is one, and its action."""

    def name(i: int) -> str:
        label = f" ({labels[state[i]]})" if labels is not None else ""
        return f"state {state[i]}{label}, action {action[i]}"

    return name


def _leads_to_terminal(next_state: np.ndarray, counts: np.ndarray, terminal: np.ndarray | None) -> np.ndarray:
    """bool [K]: the outcomes into states that are terminal by intent."""
    if terminal is None:
        return np.zeros(len(next_state), dtype=bool)  # the model's own check finds the states left without an action
    terminal = as_flags(terminal, "terminal")
    if terminal.shape != counts.shape:
        raise InvalidMDPError(f"terminal has shape {terminal.shape}, not {counts.shape}")
    busy = terminal & (counts > 0)
    if busy.any():
        raise InvalidMDPError(f"state {int(busy.argmax())} is said to be terminal, but has outcomes")
    lost = ~terminal & (counts == 0)
    if lost.any():
        raise InvalidMDPError(f"state {int(lost.argmax())} has no action and is not said to be terminal")
    return terminal[next_state]


def _start(start: np.ndarray | None, busy: np.ndarray) -> np.ndarray:
    if start is not None:
        rounding, start = single_rounding(start), np.array(start, dtype=np.float64)
        return start / start.sum() if rounding and abs(start.sum() - 1.0) <= rounding else start
    weight = busy if busy.any() else np.ones_like(busy)
    return weight / weight.sum()
