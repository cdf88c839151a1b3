"""The builder of `FiniteMDP` from a table of outcomes in dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rlnet.mdp.build import as_integers, from_coo
from rlnet.mdp.checks import check_count
from rlnet.mdp.errors import InvalidMDPError
from rlnet.mdp.model import FiniteMDP


def from_outcomes(
    outcomes: Mapping[int, Mapping[int, Sequence[tuple[float, int, float, bool]]]],
    n_states: int | None = None,
    n_actions: int | None = None,
    start: np.ndarray | None = None,
) -> FiniteMDP:
    """A model from `outcomes[s][a] = [(probability, next_state, reward, terminated), ...]` (Gymnasium toy-text `P`).

    A state whose dictionary is empty is terminal, and so is a missing one that only ended outcomes reach. A state that
    no episode starts in and whose every action ends at once, where it is, with reward 0 is how toy-text writes a
    terminal state: it becomes one (no pairs). Actions that a state does not list are not available there.
    """
    rows = []
    for s, actions in _items(outcomes, "outcomes"):
        for a, listed in _items(actions, f"state {s}"):
            if not isinstance(listed, Sequence) or len(listed) == 0:
                raise InvalidMDPError(f"state {s}, action {a}: no outcome, so probabilities sum to 0, not 1")
            for outcome in listed:
                if not isinstance(outcome, Sequence) or len(outcome) != 4:
                    raise InvalidMDPError(
                        f"state {s}, action {a}: an outcome is (probability, next_state, reward, terminated), "
                        f"not {outcome!r}"
                    )
                rows.append((s, a, *outcome))
    state, action, probability, successor, reward, ended = (
        (np.array(column) for column in zip(*rows, strict=True)) if rows else (np.zeros(0, int) for _ in range(6))
    )
    named = ((state, "state"), (action, "action"), (successor, "next_state"))
    state, action, successor = (as_integers(x, name) for x, name in named)
    ended = ended.astype(bool)
    empty = [s for s, actions in outcomes.items() if not actions]
    largest = max([*empty, int(state.max(initial=-1)), int(successor.max(initial=-1))], default=-1)
    n_states = largest + 1 if n_states is None else check_count("n_states", n_states, 1)
    loops = (state == successor) & ended & (reward == 0)
    busy = np.zeros(n_states, dtype=bool)
    busy[state[(state >= 0) & (state < n_states) & ~loops]] = True
    if start is not None and np.shape(start) == (n_states,):
        busy |= np.asarray(start) > 0
    inside = (state >= 0) & (state < n_states)
    keep = ~inside | busy[np.where(inside, state, 0)]
    terminal = np.zeros(n_states, dtype=bool)
    terminal[state[~keep]] = True
    terminal[[s for s in empty if 0 <= s < n_states]] = True
    # A state that nobody lists is terminal only if no outcome goes on from it.
    listed = np.isin(np.arange(n_states), np.fromiter(outcomes.keys(), dtype=np.int64, count=len(outcomes)))
    reached = np.zeros(n_states, dtype=bool)
    reached[successor[(successor >= 0) & (successor < n_states) & ~ended]] = True
    terminal |= ~listed & ~reached
    n_actions = (int(action.max(initial=-1)) + 1) if n_actions is None else n_actions
    return from_coo(
        *(x[keep] for x in (state, action, successor, probability, reward, ended)),
        n_states=n_states,
        n_actions=n_actions,
        terminal=terminal,
        start=start,
    )


def _items(table: Mapping, what: str):
    if not isinstance(table, Mapping):
        raise InvalidMDPError(f"{what} must be a dictionary, as in outcomes[state][action] = [...], not {table!r}")
    return table.items()
