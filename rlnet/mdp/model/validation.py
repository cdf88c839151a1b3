"""Vectorised checks: what is no model is refused, with the first (state, action) and the number in the message."""

from __future__ import annotations

from math import inf
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from rlnet.mdp.errors import InvalidMDPError
from rlnet.mdp.solvers.compiled.threading import in_parts

if TYPE_CHECKING:
    from rlnet.mdp.model.finite_mdp import FiniteMDP

NUMBER = (float, int, Real)  # the usual ones first: Real takes longer to tell
COMPILED_OUTCOMES = 300_000  # from here on compiled passes look at the outcomes
SUM_TOLERANCE = 1e-8  # of the probabilities of one (s, a), and of the start distribution


def check_model(mdp: FiniteMDP) -> None:
    """Raise InvalidMDPError unless `mdp` is a well-formed finite MDP. Compiled code relies on it: no index is
    checked again after this."""
    _check_pointer("pair_ptr", mdp.pair_ptr, mdp.n_pairs)
    _check_pointer("outcome_ptr", mdp.outcome_ptr, mdp.n_outcomes)
    for name in ("probability", "reward", "terminated"):
        if getattr(mdp, name).shape != (mdp.n_outcomes,):
            raise InvalidMDPError(f"{name} has shape {getattr(mdp, name).shape}, next_state {mdp.next_state.shape}")
    if len(mdp.outcome_ptr) != mdp.n_pairs + 1:
        raise InvalidMDPError(f"outcome_ptr has {len(mdp.outcome_ptr)} entries for {mdp.n_pairs} pairs (one more)")
    _check_pairs(mdp)
    check_outcomes(
        mdp.outcome_ptr, mdp.next_state, mdp.probability, mdp.reward, mdp.n_states, lambda i: _pair_name(mdp, i)
    )
    bad = mdp.terminal[mdp.next_state] & ~mdp.terminated
    if bad.any():
        k = int(bad.argmax())
        where = _pair_name(mdp, _owner(mdp.outcome_ptr, k))
        raise InvalidMDPError(
            f"{where}: successor {mdp.next_state[k]} has no action, but the outcome is not marked terminated "
            "(say that the state is terminal, or give it an action)"
        )
    check_start(mdp.start, mdp.n_states)
    _check_drawing(mdp)


def check_outcomes(outcome_ptr, next_state, probability, reward, n_states, name) -> None:
    """Finite rewards, probabilities ≥ 0 that sum to 1, successors in range; `name(pair)` says whose they are."""
    if len(next_state) > COMPILED_OUTCOMES and _well_formed(outcome_ptr, next_state, probability, reward, n_states):
        return  # else the first fault has to be named
    for bad, what, values in (
        ((next_state < 0) | (next_state >= n_states), f"successor outside 0..{n_states - 1}:", next_state),
        (~np.isfinite(reward), "reward is not finite:", reward),
        (~(probability >= 0), "probability is negative or not a number:", probability),
    ):
        if bad.any():
            k = int(bad.argmax())
            raise InvalidMDPError(f"{name(_owner(outcome_ptr, k))}: {what} {values[k]}")
    if len(outcome_ptr) == 1:
        return
    empty = np.diff(outcome_ptr) == 0
    if empty.any():
        raise InvalidMDPError(f"{name(int(empty.argmax()))}: no outcome, so probabilities sum to 0, not 1")
    total = np.add.reduceat(probability, outcome_ptr[:-1])
    bad = ~(np.abs(total - 1.0) <= SUM_TOLERANCE)
    if bad.any():
        i = int(bad.argmax())
        raise InvalidMDPError(f"{name(i)}: probabilities sum to {total[i]:.12g}, not 1")


def _well_formed(outcome_ptr, next_state, probability, reward, n_states) -> bool:
    from rlnet.mdp.solvers.compiled.kernels import well_formed

    arrays = (outcome_ptr, next_state, probability, reward, n_states, 0.99 * SUM_TOLERANCE)
    return all(in_parts(lambda lo, hi: well_formed(lo, hi, *arrays), len(outcome_ptr) - 1))


def check_start(start: np.ndarray, n_states: int) -> None:
    """Raise InvalidMDPError unless `start` is a distribution over the states."""
    if start.shape != (n_states,):
        raise InvalidMDPError(f"start has shape {start.shape}, not ({n_states},)")
    bad = ~(np.isfinite(start) & (start >= 0))
    if bad.any():
        s = int(bad.argmax())
        raise InvalidMDPError(f"start: probability of state {s} is {start[s]}")
    if abs(start.sum() - 1.0) > SUM_TOLERANCE:
        raise InvalidMDPError(f"start: probabilities sum to {start.sum():.12g}, not 1")


def check_gamma(gamma: float) -> float:
    """γ as a float in [0, 1], or ValueError."""
    if not (isinstance(gamma, NUMBER) and 0.0 <= gamma <= 1.0):
        raise ValueError(f"gamma must lie in [0, 1], not {gamma!r}")
    return float(gamma)


def check_tolerance(tol: float) -> None:
    """Raise ValueError unless `tol` is a positive number."""
    if not (isinstance(tol, NUMBER) and tol > 0):
        raise ValueError(f"tol must be positive, not {tol!r}")


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless `temperature` is a finite number ≥ 0."""
    if not (isinstance(temperature, NUMBER) and 0.0 <= temperature < inf):
        raise ValueError(f"temperature must be a finite number ≥ 0, not {temperature!r}")


def check_count(name: str, count: int, least: int) -> int:
    """A whole number of at least `least`, or ValueError."""
    if not (isinstance(count, NUMBER) and least <= count < inf and count == int(count)):
        raise ValueError(f"{name} must be a whole number ≥ {least}, not {count!r}")
    return int(count)


def _check_pairs(mdp: FiniteMDP) -> None:
    if mdp.n_states == 0:
        raise InvalidMDPError("a model needs at least one state")
    bad = (mdp.pair_action < 0) | (mdp.pair_action >= mdp.n_actions)
    if bad.any():
        i = int(bad.argmax())
        raise InvalidMDPError(
            f"state {mdp.pair_state[i]}: action {mdp.pair_action[i]} is outside 0..{mdp.n_actions - 1}"
        )
    same = (np.diff(mdp.pair_action) <= 0) & (np.diff(mdp.pair_state) == 0)
    if same.any():
        i = int(same.argmax()) + 1
        raise InvalidMDPError(f"{_pair_name(mdp, i)}: actions of a state must be listed once, in ascending order")


def _check_drawing(mdp: FiniteMDP) -> None:
    if mdp.labels is not None and len(mdp.labels) != mdp.n_states:
        raise InvalidMDPError(f"{len(mdp.labels)} labels for {mdp.n_states} states")
    if mdp.observations is not None and len(mdp.observations) != mdp.n_states:
        raise InvalidMDPError(f"{len(mdp.observations)} observations for {mdp.n_states} states")
    if mdp.action_labels is not None and len(mdp.action_labels) != mdp.n_actions:
        raise InvalidMDPError(f"{len(mdp.action_labels)} action labels for {mdp.n_actions} actions")
    if mdp.cell is not None:
        if mdp.shape is None:
            raise InvalidMDPError("cell needs shape, the (rows, columns) that it indexes")
        if mdp.cell.shape != (mdp.n_states,):
            raise InvalidMDPError(f"cell has shape {mdp.cell.shape}, not ({mdp.n_states},)")
        if mdp.cell.min() < 0 or mdp.cell.max() >= np.prod(mdp.shape):
            raise InvalidMDPError(f"cell has an index outside the {mdp.shape[0]}×{mdp.shape[1]} drawing")
    elif mdp.shape is not None and int(np.prod(mdp.shape)) != mdp.n_states:
        raise InvalidMDPError(f"shape {mdp.shape} does not hold {mdp.n_states} states (give cell)")
    if mdp.entry is not None:
        cells = (int(np.prod(mdp.shape)),) if mdp.shape is not None else None
        if np.shape(mdp.entry.cell) != cells:
            raise InvalidMDPError(
                f"entry.cell has shape {np.shape(mdp.entry.cell)}, it needs a reward for each cell of shape={mdp.shape}"
            )


def _check_pointer(name: str, ptr: np.ndarray, count: int) -> None:
    if ptr.ndim != 1 or len(ptr) == 0 or ptr[0] != 0 or ptr[-1] != count or (np.diff(ptr) < 0).any():
        raise InvalidMDPError(f"{name} must rise from 0 to {count}")


def _owner(ptr: np.ndarray, k: int) -> int:
    """The row whose slice of `ptr` holds entry k."""
    return int(np.searchsorted(ptr, k, side="right")) - 1


def _pair_name(mdp: FiniteMDP, i: int) -> str:
    state = _owner(mdp.pair_ptr, i)
    label = f" ({mdp.labels[state]})" if mdp.labels is not None and len(mdp.labels) > state else ""
    return f"state {state}{label}, action {mdp.pair_action[i]}"
