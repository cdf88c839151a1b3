"""A user's own game of two players, as one function of a state, explored into a finite model."""

import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
from omegaconf import MISSING

from rlnet.config import ConfigError, EnvConfig, register_environment, require
from rlnet.config.import_paths import import_here
from rlnet.envs.base import Environment, from_model
from rlnet.envs.faults import shown
from rlnet.mdp import FiniteMDP

MOST_LABELS = 100_000  # states that are named
FORM = "(next state or None, reward, ended) or (..., same player moves again)"

Moves = Callable[[Hashable], Mapping[Any, tuple]]


@register_environment("game")
class GameConfig(EnvConfig):
    """A game of two players by its rules: `rules` names a function of a state that returns what each move leads to.

    `moves(state=START)` returns {action: (next_state, reward, ended)}: the state after the move, the reward of the
    player who moved (the other one's is its negative), and whether the game is over (then the state may be None). A
    fourth entry True says that the same player moves again. States are hashable; START, the first one, is the default
    of the argument. A state says who moves, or is written in that player's view.
    """

    gamma: float = 1.0
    rules: str = MISSING  # module:function
    max_states: int = 200_000

    def check(self) -> None:
        """Raise ConfigError where a number is out of range."""
        require(self.max_states >= 1, "env.max_states", self.max_states, "must be at least 1")

    def title(self) -> str:
        """`env.rules=...`."""
        return f"env.rules={self.rules}"

    def foreign_code(self) -> str | None:
        """The function of the user that would be imported."""
        return f"env.rules={self.rules}"

    def build(self) -> Environment:
        """The game as a finite model; states that are numbers, or tuples of as many numbers, are their own features."""
        moves, start = _imported(self.rules)
        states, model = explore(moves, start, self.max_states, self.title())
        return from_model(self.name, model, _features(states), self.max_episode_steps)


def _imported(path: str) -> tuple[Moves, Hashable]:
    """The function `module:function` of the user, and the default of its argument.

    Raises:
        ConfigError: there is none, or it has no such default.
    """
    key = "env.rules"
    module, colon, name = path.partition(":")
    require(bool(module and colon and name), key, path, "must be the import path of a function, as module:function")
    try:
        function = getattr(import_here(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{key}={path}: cannot be imported ({error})") from error
    require(callable(function), key, path, "must be a function of a state")
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except (TypeError, ValueError):
        first = None
    allowed = "must be a function of a state whose default is the first one, as in def moves(state=START)"
    if first is None or first.default is inspect.Parameter.empty:
        raise ConfigError(f"{key}={path}: {allowed}")
    return function, first.default


def explore(moves: Moves, start: Hashable, max_states: int, title: str) -> tuple[list[Hashable], FiniteMDP]:
    """All states of a game that can be reached, breadth first, and its model.

    Args:
        moves: what each move in a state leads to; see `GameConfig`.
        start: the first state.
        max_states: the most states.
        title: how messages name the game.

    Raises:
        ConfigError: more states, a state without a move, or moves of another form.
    """
    number: dict[Hashable, int] = {start: 0}
    states, rows = [start], []
    names: dict[Any, int] = {}
    for state in states:  # which grows
        found = _moves_of(moves, state, title)
        for action, told in found.items():
            successor, reward, ended, again = _read(action, told, state, title)
            own = number[state]
            to = own if ended else number.setdefault(successor, len(states))
            if to == len(states):
                states.append(successor)
                require(len(states) <= max_states, "env.max_states", max_states, f"{title} has more states than that")
            column = names.setdefault(action, len(names))
            rows.append((own, column, to, reward, ended, 1.0 if again else -1.0))
    order = _ordered(list(names))
    place = np.empty(len(order), np.int64)
    place[[names[action] for action in order]] = np.arange(len(order))
    columns = [np.array(x) for x in zip(*rows, strict=True)]
    model = FiniteMDP.from_coo(
        columns[0],
        place[columns[1]],
        columns[2],
        np.ones(len(rows)),
        columns[3],
        columns[4],
        n_states=len(states),
        n_actions=len(order),
        start=np.eye(1, len(states))[0],
        labels=tuple(map(str, states)) if len(states) <= MOST_LABELS else None,
        action_labels=tuple(map(str, order)),
        sign=columns[5],
    )
    return states, model


def _moves_of(moves: Moves, state: Hashable, title: str) -> Mapping[Any, tuple]:
    try:
        found = moves(state)
    except Exception as error:
        raise ConfigError(f"{title}: in state {shown(state)} it raised {type(error).__name__}: {error}") from error
    if not isinstance(found, Mapping):
        raise ConfigError(f"{title}: in state {shown(state)} it returned {shown(found)}, not {{action: {FORM}}}")
    if not found:
        raise ConfigError(
            f"{title}: state {shown(state)} has no move; say that the move that leads there ends the game"
        )
    return found


def _read(action: Any, told: Any, state: Hashable, title: str) -> tuple[Hashable, float, bool, bool]:
    """(next state, reward, ended, whether the same player moves again) of one move, checked."""
    where = f"{title}: in state {shown(state)} the move {shown(action)}"
    if not isinstance(told, tuple) or len(told) not in (3, 4):
        raise ConfigError(f"{where} leads to {shown(told)}, not {FORM}")
    successor, reward, *flags = told
    for flag in flags:
        if not isinstance(flag, bool | np.bool_):
            raise ConfigError(f"{where} leads to {shown(told)}: {shown(flag)} must be True or False")
    try:
        number = float(reward)
        hash(successor)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where} leads to {shown(told)}: {error}") from error
    if not np.isfinite(number):
        raise ConfigError(f"{where} pays {number}: must be a finite number")
    if successor is None and not flags[0]:
        raise ConfigError(f"{where} leads to no state, but does not end the game")
    return successor, number, bool(flags[0]), len(flags) == 2 and bool(flags[1])


def _ordered(actions: list) -> list:
    """In rising order where they can be compared, else in that in which they were found."""
    try:
        return sorted(actions)
    except TypeError:
        return actions


def _features(states: list[Hashable]) -> np.ndarray | None:
    """float32 [S, F] where all states are numbers, or nested tuples of one shape of numbers; else None."""
    try:
        numbers = np.array(states)
    except ValueError:
        return None
    return numbers.reshape(len(states), -1).astype(np.float32) if numbers.dtype.kind in "biuf" else None
