"""Reading the table `P` of an environment in the form of Gymnasium's toy-text environments."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rlnet.mdp.errors import InvalidMDPError, NoModelError
from rlnet.mdp.from_env.exact_tests import outcome_levels
from rlnet.mdp.from_env.tested_env import Subject
from rlnet.mdp.model.finite_mdp import FiniteMDP

STARTS = 2_000  # resets from which a start distribution is estimated
_log = logging.getLogger(__name__)

Rows = dict[int, dict[int, list[tuple[float, int, float, bool]]]]


def is_table(table: Any) -> bool:
    """Whether `P` has the form states → actions → outcomes: nested dictionaries or lists, with lists of tuples."""
    if not isinstance(table, Mapping | Sequence) or isinstance(table, str | bytes) or len(table) == 0:
        return False
    first = next(iter(_items(table)))[1]
    return isinstance(first, Mapping | Sequence) and not isinstance(first, str | bytes)


def readings(env: Any, start: np.ndarray | None) -> Iterator[FiniteMDP]:
    """Candidate models of the table, the likeliest first; none where it is no model.

    States are numbered by the observation, from 0. Keys may be observations, or count from 0 or from 1, and so may
    actions. A state that is not listed is one in which the episode is over. `start` float [S] replaces the table's.

    Raises:
        NoModelError: the table cannot be read; the message says why.
    """
    inner, n_states, first = env.unwrapped, int(env.observation_space.n), int(env.observation_space.start)
    rows = _rows(inner.P, type(inner).__name__)
    used = set(rows) | {o[1] for actions in rows.values() for listed in actions.values() for o in listed}
    moves = {a for actions in rows.values() for a in actions}
    n_actions = int(env.action_space.n)
    shifts = [k for k in _once(first, 0, 1) if min(used) >= k and max(used) < k + n_states]
    turns = [k for k in _once(int(env.action_space.start), 0, 1) if min(moves) >= k and max(moves) < k + n_actions]
    if not shifts or not turns:
        what, seen, size = ("states", used, n_states) if not shifts else ("actions", moves, n_actions)
        raise NoModelError(
            f"{type(inner).__name__}: its `P` has {what} {min(seen)}..{max(seen)}, its space {size} of them"
        )
    missing = any(not rows.get(s) for s in used)
    problems = []
    for shift in shifts:
        for turn in turns:
            for ended in (False, True) if missing else (False,):
                moved = _moved(rows, shift, turn, ended)
                try:
                    mdp = FiniteMDP.from_outcomes(moved, n_states=n_states, n_actions=n_actions, start=start)
                except InvalidMDPError as error:
                    problems.append(error)
                    continue
                shown = None if first == 0 else np.arange(first, first + n_states)
                yield replace(_drawn(mdp, inner), observations=shown)
    if problems:
        raise NoModelError(f"{type(inner).__name__}: its `P` is no model: {problems[0]}")


def stated_start(env: Any) -> np.ndarray | None:
    """The start distribution that toy-text environments keep beside `P`: float [S], or None."""
    inner, n_states = env.unwrapped, int(env.observation_space.n)
    for name in ("initial_state_distrib", "isd"):
        try:
            start = np.asarray(getattr(inner, name, None), dtype=np.float64)
        except (TypeError, ValueError):
            continue
        if start.shape == (n_states,) and (start >= 0).all() and abs(start.sum() - 1) < 1e-8:
            return start
    return None


def sampled_start(subject: Subject, state_of: Any, n_states: int) -> np.ndarray:
    """The start distribution estimated from resets, float [S]; exactly uniform where that explains the counts."""
    counts = np.zeros(n_states)
    with subject.undisturbed():
        env = subject.fresh()
        for seed in range(STARTS):
            counts[state_of(subject.reset(env, seed if seed % 2 else None))] += 1
    seen = np.flatnonzero(counts)
    even = np.full(len(seen), 1 / len(seen))
    level, _ = outcome_levels(counts[seen], even, np.array([0, len(seen)]))
    uniform = STARTS / len(seen) >= 10 and level[0] > 0.05
    what = f"state {seen[0]}" if len(seen) == 1 else f"{len(seen)} states"
    even_too = ", each equally likely as far as that shows" if uniform and len(seen) > 1 else ""
    _log.info("%s: its `P` says nothing about the start; %d resets began in %s%s", subject.name, STARTS, what, even_too)
    start = np.zeros(n_states)
    start[seen] = even if uniform else counts[seen] / STARTS
    return start


def _once(*numbers: int) -> list[int]:
    return list(dict.fromkeys(numbers))


def _items(table: Any) -> Any:
    return table.items() if isinstance(table, Mapping) else enumerate(table)


def _rows(table: Any, name: str) -> Rows:
    rows: Rows = {}
    try:
        for s, actions in _items(table):
            mine = rows.setdefault(_whole(s), {})
            for a, listed in _items(actions):
                mine[_whole(a)] = [(float(p), _whole(t), float(r), bool(end)) for p, t, r, end in listed]
    except (TypeError, ValueError) as error:
        raise NoModelError(
            f"{name}: its `P` is not of the form P[state][action] = [(probability, next_state, reward, terminated), "
            f"...] with whole numbers for states and actions: {error}"
        ) from error
    if not any(rows.values()):
        raise NoModelError(f"{name}: its `P` lists no outcome")
    return rows


def _whole(x: Any) -> int:
    if isinstance(x, bool) or not isinstance(x, int | np.integer):
        raise TypeError(f"{x!r} is no whole number")
    return int(x)


def _moved(rows: Rows, shift: int, turn: int, ended: bool) -> Rows:
    """The table with indices from 0; with `ended`, outcomes into states without actions end the episode."""
    over = {t for t in rows if not rows[t]}
    return {
        s - shift: {
            a - turn: [(p, t - shift, r, end or (ended and (t not in rows or t in over))) for p, t, r, end in listed]
            for a, listed in actions.items()
        }
        for s, actions in rows.items()
    }


def _drawn(mdp: FiniteMDP, inner: Any) -> FiniteMDP:
    """The model with the grid shape and arrows of toy-text environments, where they have one."""
    desc = getattr(inner, "desc", None)
    shape = np.shape(desc) if desc is not None else getattr(inner, "shape", None)
    try:
        rows, columns = (int(x) for x in (() if shape is None else shape))
    except (TypeError, ValueError):
        return mdp
    if rows * columns != mdp.n_states:
        return mdp
    return replace(mdp, shape=(rows, columns), action_labels=_arrows(mdp, (rows, columns)))


def _arrows(mdp: FiniteMDP, shape: tuple[int, int]) -> tuple[str, ...] | None:
    """The direction in which each action moves on average, None unless every action has its own."""
    pair = np.repeat(np.arange(mdp.n_pairs), np.diff(mdp.outcome_ptr))
    action = mdp.pair_action[pair]
    there, here = (np.stack(np.unravel_index(s, shape)) for s in (mdp.next_state, mdp.pair_state[pair]))
    near = np.abs(there - here).sum(axis=0) <= 1  # a jump (the cliff sends back to the start) shows no direction
    moves = np.zeros((2, mdp.n_actions))
    for axis in (0, 1):
        np.add.at(moves[axis], action[near], ((there - here)[axis] * mdp.probability)[near])
    down, right = moves
    arrows = np.where(np.abs(down) >= np.abs(right), np.where(down > 0, "↓", "↑"), np.where(right > 0, "→", "←"))
    still = (down == 0) & (right == 0)
    return None if still.any() or len(set(arrows)) < len(arrows) else tuple(str(a) for a in arrows)
