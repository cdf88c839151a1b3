"""The fields of a `FiniteMDP` from a table of outcomes in dictionaries."""

from __future__ import annotations

from collections.abc import ItemsView, Mapping, Sequence
from typing import Any

import numpy as np

from rlnet.mdp.errors import InvalidMDPError
from rlnet.mdp.model.builders import as_flags, as_integers, from_coo
from rlnet.mdp.model.validation import NUMBER, check_count


def from_outcomes(
    outcomes: Mapping[Any, Mapping[Any, Sequence[tuple[float, Any, float, bool]]]],
    n_states: int | None = None,
    n_actions: int | None = None,
    start: np.ndarray | None = None,
) -> dict[str, Any]:
    """The fields of a model from `outcomes[s][a] = [(probability, next_state, reward, terminated), ...]`.

    This is the form of Gymnasium's toy-text `P`.

    States and actions are whole numbers from 0; or names (strings, tuples or whatever is no number), which are numbered
    in the order in which they are listed, then in which successors name them, and become `labels` and `action_labels`.

    A state whose dictionary is empty is terminal, and so is a missing one that only ended outcomes reach. A state that
    no episode starts in and whose every action ends at once, where it is, with reward 0 is how toy-text writes a
    terminal state: it becomes one (no pairs). Actions that a state does not list are not available there.
    """
    outcomes, names, action_names = _numbered(outcomes)
    state, action, probability, successor, reward, ended = _columns(outcomes)
    empty = [s for s, actions in outcomes.items() if not actions]
    largest = max([*empty, int(state.max(initial=-1)), int(successor.max(initial=-1))], default=-1)
    largest = largest if names is None else len(names) - 1
    n_states = largest + 1 if n_states is None else check_count("n_states", n_states, 1)
    if names is not None and n_states != len(names):
        raise InvalidMDPError(f"n_states={n_states}: the outcomes name {len(names)} states")
    n_actions = (int(action.max(initial=-1)) + 1) if n_actions is None else n_actions
    # States in which some action does something, or in which episodes start, keep their outcomes.
    inside, loops = (state >= 0) & (state < n_states), (state == successor) & ended & (reward == 0)
    busy = np.zeros(n_states, dtype=bool)
    busy[state[inside & ~loops]] = True
    if start is not None and np.shape(start) == (n_states,):
        busy |= np.asarray(start) > 0
    keep = ~inside | busy[np.where(inside, state, 0)]  # from_coo refuses what is not inside
    terminal = _unlisted(outcomes, n_states, successor[~ended])
    terminal[state[~keep]] = True
    terminal[[s for s in empty if 0 <= s < n_states]] = True
    return from_coo(
        *(x[keep] for x in (state, action, successor, probability, reward, ended)),
        n_states=n_states,
        n_actions=n_actions,
        terminal=terminal,
        start=start,
        labels=names,
        action_labels=action_names if action_names is None or n_actions == len(action_names) else None,
    )


def _columns(outcomes: Any) -> tuple[np.ndarray, ...]:
    """Arrays of one entry per outcome: state, action, probability, next state, reward, terminated."""
    rows = []
    for s, actions in _items(outcomes, "outcomes"):
        for a, listed in _items(actions, f"state {s}"):
            if not isinstance(listed, Sequence) or len(listed) == 0:
                raise InvalidMDPError(f"state {s}, action {a}: no outcome, so probabilities sum to 0, not 1")
            for outcome in listed:
                if not isinstance(outcome, Sequence) or len(outcome) != 4:
                    form = "an outcome is (probability, next_state, reward, terminated)"
                    raise InvalidMDPError(f"state {s}, action {a}: {form}, not {outcome!r}")
                rows.append((s, a, *outcome))
    *columns, flags = zip(*rows, strict=True) if rows else ((),) * 6
    state, action, probability, successor, reward = (np.array(x) if x else np.zeros(0, int) for x in columns)
    ended = as_flags(np.fromiter(flags, object, len(rows)), "terminated")
    named = ((state, "state"), (action, "action"), (successor, "next_state"))
    state, action, successor = (as_integers(x, name) for x, name in named)
    return state, action, probability, successor, reward, ended


def _unlisted(outcomes: Any, n_states: int, entered: np.ndarray) -> np.ndarray:
    """bool [S]: the states that the table does not list and that no outcome goes on from, so that they are terminal.

    Args:
        entered: the successors of outcomes that do not end the episode.
    """
    listed = np.isin(np.arange(n_states), np.fromiter(outcomes.keys(), dtype=np.int64, count=len(outcomes)))
    listed[entered[(entered >= 0) & (entered < n_states)]] = True
    return ~listed


def _numbered(outcomes: Any) -> tuple[Any, tuple[str, ...] | None, tuple[str, ...] | None]:
    """Outcomes with states and actions as whole numbers, and the names that these had (None without).

    InvalidMDPError where some are numbers and some are not, or numbers are no whole ones.
    """
    tables = [actions for _, actions in _items(outcomes, "outcomes")]
    listed = [row for s, actions in outcomes.items() for _, row in _items(actions, f"state {s}")]
    successors = [o[1] for row in listed if isinstance(row, Sequence) for o in row if _is_outcome(o)]
    index = _names([*outcomes, *successors], "state", len(outcomes))
    turns = _names([a for actions in tables for a in actions], "action")
    if index is None and turns is None:
        return outcomes, None, None

    def renamed(row: Any) -> Any:
        if index is None or not isinstance(row, Sequence):
            return row
        return [(o[0], index[o[1]], *o[2:]) if _is_outcome(o) else o for o in row]

    numbered = {
        s if index is None else index[s]: {a if turns is None else turns[a]: renamed(row) for a, row in actions.items()}
        for s, actions in outcomes.items()
    }
    labels, action_labels = (None if x is None else tuple(str(name) for name in x) for x in (index, turns))
    return numbered, labels, action_labels


def _names(keys: list[Any], what: str, listed: int = 0) -> dict[Any, int] | None:
    """The numbers of names, in order; None where all keys are whole numbers already."""
    kinds = set(map(type, keys))
    if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        return None
    numbers = [isinstance(key, NUMBER) for key in keys]
    if all(numbers):
        bad = next(key for key in keys if isinstance(key, bool) or not isinstance(key, int | np.integer))
        raise InvalidMDPError(f"{what} must hold integers, or names alone, not {bad!r}")
    if any(numbers):
        mixed = next(key for key, number in zip(keys, numbers, strict=True) if not number)
        what = "next_state" if what == "state" and mixed not in keys[:listed] else what
        raise InvalidMDPError(f"{what} must hold integers, or names alone, not {mixed!r} beside numbers")
    try:
        return {key: i for i, key in enumerate(dict.fromkeys(keys))}
    except TypeError as error:
        raise InvalidMDPError(f"{what}s must be numbers or names that can be keys of a dictionary: {error}") from error


def _is_outcome(outcome: Any) -> bool:
    return isinstance(outcome, tuple | list | Sequence) and len(outcome) == 4


def _items(table: Mapping, what: str) -> ItemsView:
    if not isinstance(table, Mapping):
        raise InvalidMDPError(f"{what} must be a dictionary, as in outcomes[state][action] = [...], not {table!r}")
    return table.items()
