"""Validation of models and arguments; messages name the first offending (state, action) and number."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import inf
from numbers import Real
from typing import Any

import numpy as np

from rlnet.mdp.errors import InvalidMDPError
from rlnet.mdp.solvers.compiled.threading import in_parts

NUMBER = (float, int, Real)  # the usual ones first: Real takes longer to tell
COMPILED_OUTCOMES = 300_000  # from here on compiled passes look at the outcomes
SUM_TOLERANCE = 1e-8  # of the probabilities of one (s, a), and of the start distribution


def check_outcomes(
    outcome_ptr: np.ndarray,
    next_state: np.ndarray,
    probability: np.ndarray,
    reward: np.ndarray,
    n_states: int,
    name: Callable[[int], str],
) -> None:
    """Check outcomes: finite rewards, probabilities ≥ 0 that sum to 1, successors in range; `name(pair)` names one."""
    if len(next_state) > COMPILED_OUTCOMES and _well_formed(outcome_ptr, next_state, probability, reward, n_states):
        return  # else the first fault has to be named
    for bad, what, values in (
        ((next_state < 0) | (next_state >= n_states), f"successor outside 0..{n_states - 1}:", next_state),
        (~np.isfinite(reward), "reward is not finite:", reward),
        (~(probability >= 0), "probability is negative or not a number:", probability),
    ):
        if bad.any():
            k = int(bad.argmax())
            raise InvalidMDPError(f"{name(owner(outcome_ptr, k))}: {what} {values[k]}")
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


def _well_formed(
    outcome_ptr: np.ndarray, next_state: np.ndarray, probability: np.ndarray, reward: np.ndarray, n_states: int
) -> bool:
    from rlnet.mdp.solvers.compiled.kernels import well_formed

    arrays = (outcome_ptr, next_state, probability, reward, n_states, 0.99 * SUM_TOLERANCE)
    return all(in_parts(lambda lo, hi: well_formed(lo, hi, *arrays), len(outcome_ptr) - 1))


def check_sign(sign: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise InvalidMDPError unless every outcome has a sign, +1 or −1."""
    sign = np.asarray(sign)
    if sign.shape != shape:
        raise InvalidMDPError(f"sign has shape {sign.shape}, it needs {shape}: one for each outcome")
    bad = np.abs(sign) != 1
    if bad.any():
        raise InvalidMDPError(f"sign: outcome {int(bad.argmax())} has {sign[bad][0]}, allowed are 1 and -1")


def checked_events(events: object, n_outcomes: int) -> Mapping[str, np.ndarray]:
    """Read-only events, {name: bool [K]}, of a model with K outcomes; InvalidMDPError names the one that is none.

    The name of an event is a part of the names of scores, columns and keys of the command line. Names that differ by
    capitals alone are refused.
    """
    if not isinstance(events, Mapping):
        raise InvalidMDPError(f"events must be a dict of name: bool [K] = [{n_outcomes}], not {_kind(events)}")
    checked: dict[str, np.ndarray] = {}
    for name, event in events.items():
        if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name)):
            raise InvalidMDPError(
                f"events: the name {name!r} must be letters, digits, _ and -, and begin with no digit"
            )
        same = next((other for other in checked if other.lower() == name.lower()), None)
        if same is not None:
            raise InvalidMDPError(f"events: the names {same!r} and {name!r} clash, they differ by capitals alone")
        checked[name] = checked_event(event, f"events: {name!r}", n_outcomes)
    return checked


def checked_event(event: Any, what: str, n_outcomes: int) -> np.ndarray:
    """A read-only set of outcomes, bool [K]; InvalidMDPError, which begins with `what`, where it is none."""
    allowed = f"must be bool [K] = [{n_outcomes}], one for each outcome"
    try:
        array: np.ndarray = np.asarray(event).view()
    except ValueError as error:  # rows of different lengths
        raise InvalidMDPError(f"{what} {allowed}, not {_kind(event)} of rows that differ in length") from error
    if array.shape != (n_outcomes,):
        hint = "; a set of states is that of the outcomes that lead there, states[mdp.next_state]"
        hint = hint if array.dtype == bool and array.ndim == 1 else ""
        raise InvalidMDPError(f"{what} {allowed}, not {array.dtype} {list(array.shape)}{hint}")
    if array.dtype != bool:
        wrong = [x for x in array.tolist() if not (isinstance(x, bool | int | float) and x in (0, 1))]
        found = f", and one of them is {wrong[0]!r}" if wrong else ""
        raise InvalidMDPError(f"{what} {allowed}, not {array.dtype}{found}")
    array.flags.writeable = False
    return array


def _kind(value: object) -> str:
    return f"{'an' if type(value).__name__[0] in 'aeiou' else 'a'} {type(value).__name__}"


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


def require_kind(value: object, right: bool, what: str) -> None:
    """Raise TypeError 'what, not a KIND' unless `right`."""
    if not right:
        raise TypeError(f"{what}, not {'None' if value is None else _kind(value)}")


def check_gamma(gamma: float) -> float:
    """Check a discount: γ as a float in [0, 1], or ValueError."""
    if not (isinstance(gamma, NUMBER) and 0.0 <= gamma <= 1.0):
        raise ValueError(f"gamma must lie in [0, 1], not {gamma!r}")
    return float(gamma)


def check_tolerance(tol: float) -> None:
    """Raise ValueError unless `tol` is a finite positive number."""
    if not (isinstance(tol, NUMBER) and 0.0 < tol < inf):
        raise ValueError(f"tol must be a finite positive number, not {tol!r}")


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless `temperature` is a finite number ≥ 0."""
    if not (isinstance(temperature, NUMBER) and 0.0 <= temperature < inf):
        raise ValueError(f"temperature must be a finite number ≥ 0, not {temperature!r}")


def check_count(name: str, count: int, least: int) -> int:
    """Check a count: a whole number of at least `least`, or ValueError."""
    whole = isinstance(count, NUMBER) and not isinstance(count, bool) and least <= count < inf and count == int(count)
    if not whole:
        raise ValueError(f"{name} must be a whole number ≥ {least}, not {count!r}")
    return int(count)


def check_pointer(name: str, ptr: np.ndarray, count: int) -> None:
    """Raise InvalidMDPError unless `ptr` rises from 0 to `count`."""
    if ptr.ndim != 1 or len(ptr) == 0 or ptr[0] != 0 or ptr[-1] != count or (np.diff(ptr) < 0).any():
        raise InvalidMDPError(f"{name} must rise from 0 to {count}")


def owner(ptr: np.ndarray, k: int) -> int:
    """The row whose slice of `ptr` holds entry k."""
    return int(np.searchsorted(ptr, k, side="right")) - 1
