"""Exploration of a deterministic environment: its model, by trying every action in a copy of every state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rlnet.mdp.errors import NoModelError
from rlnet.mdp.from_env.object_graph import saved
from rlnet.mdp.from_env.tested_env import NOT_MARKOV, Result, Subject
from rlnet.mdp.model.finite_mdp import FiniteMDP

LONGEST = 60  # characters of a state's name
Progress = Callable[[int, int], None]  # (states explored, states known)


class Numbering:
    """Numbering of states: the value of a Discrete observation, counted from 0; else the order of discovery."""

    def __init__(self, space: Any, name: str, max_states: int) -> None:
        from gymnasium.spaces import Discrete

        self._name, self._max = name, max_states
        self._n = int(space.n) if isinstance(space, Discrete) else None
        self._first = int(space.start) if isinstance(space, Discrete) else 0
        self._index: dict[Any, int] = {}
        if self._n is not None and self._n > max_states:
            raise self._too_many()

    @property
    def n_states(self) -> int:
        """The number of states found so far."""
        return len(self._index) if self._n is None else self._n

    def __call__(self, key: Any) -> int:
        """The state of an observation, hashable as `Subject.key` makes it. NoModelError where it cannot be one."""
        if self._n is None:
            if key not in self._index and len(self._index) >= self._max:
                raise self._too_many()
            return self._index.setdefault(key, len(self._index))
        if not isinstance(key, int) or not self._first <= key < self._first + self._n:
            allowed = f"{self._first}..{self._first + self._n - 1}"
            raise NoModelError(f"{self._name}: the observation {key!r} lies outside of its space, {allowed}")
        return key - self._first

    @property
    def keys(self) -> list[Any]:
        """The keys of the states that were discovered, in their order."""
        return list(self._index)

    def observations(self, seen: dict[Any, Any]) -> np.ndarray | None:
        """[S, ...] what the environment shows in each state; None where that is the number of the state itself."""
        if self._n is not None:
            return None if self._first == 0 else np.arange(self._first, self._first + self._n)
        return stacked([seen[key] for key in self._index])

    def labels(self, seen: dict[Any, Any]) -> tuple[str, ...] | None:
        """A label for each state; None where the number is enough."""
        if self._n is not None:
            return None
        labels = tuple(" ".join(str(seen[key]).split()) for key in self._index)
        return labels if all(len(label) <= LONGEST for label in labels) else None

    def _too_many(self) -> NoModelError:
        return NoModelError(
            f"{self._name} has more than max_states={self._max} states"
            if self._n is None
            else f"{self._name} has {self._n} states, more than max_states={self._max} states"
        )


def stacked(observations: list[Any]) -> np.ndarray:
    """Observations as one array [S, ...], of objects where they have no common shape."""
    numbers = all(isinstance(x, np.ndarray | np.generic | int | float) for x in observations)
    if numbers and len({np.shape(x) for x in observations}) == 1:
        return np.stack([np.asarray(x) for x in observations])
    array = np.empty(len(observations), dtype=object)
    array[:] = observations
    return array


def explored(subject: Subject, numbering: Numbering, n_actions: int, progress: Progress | None = None) -> FiniteMDP:
    """Explore a model by breadth: every action from every state reached. States never reached have no action.

    Raises:
        NoModelError: chance, observations that are no states, or too many states.
    """
    with subject.undisturbed():
        root, first = root_of(subject, numbering)
        arrivals, outcomes = {first: 1}, dict[int, list]()
        pending = [(first, root)]
        while pending:
            s, here = pending.pop()
            generators = subject.generators(here)
            reached = [_tried(subject, here, a, numbering, generators) for a in range(n_actions)]
            listed = [outcome for _, outcome in reached]
            if outcomes.setdefault(s, listed) != listed:
                raise NoModelError(
                    f"{subject.name}: {NOT_MARKOV}: the same actions do not always do the same in state {s}"
                )
            for after, (there, _, terminated) in reached:
                if not terminated and arrivals.get(there, 0) < 2:
                    # A state is visited twice where two ways lead to it, to see that it behaves the same both times.
                    arrivals[there] = arrivals.get(there, 0) + 1
                    pending.append((there, after))
            if progress is not None:
                progress(len(outcomes), len(outcomes) + len(pending))
    rows = [(s, a, *outcome) for s, listed in outcomes.items() for a, outcome in enumerate(listed)]
    labels, observations = numbering.labels(subject.seen), numbering.observations(subject.seen)
    return deterministic(rows, first, numbering.n_states, n_actions, observations, labels)


def deterministic(
    rows: Sequence[tuple[int, int, int, float, bool]],
    first: int,
    n_states: int,
    n_actions: int,
    observations: np.ndarray | None,
    labels: Sequence[str] | None = None,
) -> FiniteMDP:
    """The model whose `rows` are (state, action, successor, reward, terminated), started in state `first`."""
    state, action, successor, reward, ended = (np.array(column) for column in zip(*rows, strict=True))
    start = np.zeros(n_states)
    start[first] = 1.0
    return FiniteMDP.from_coo(
        state,
        action,
        successor,
        np.ones(len(rows)),
        reward,
        ended,
        n_states=n_states,
        n_actions=n_actions,
        start=start,
        labels=labels,
        observations=observations,
    )


def root_of(subject: Subject, numbering: Numbering) -> tuple[Any, int]:
    """(a copy just reset, its state); the start must depend neither on the seed nor on random numbers."""
    root = subject.fresh()
    keys = {subject.reset(root, seed) for seed in (0, 1, 2)}
    for _ in range(3):
        generators = subject.generators(root)
        before = [saved(x)[0] for x in generators]
        keys.add(subject.reset(root))
        drawn = [saved(x)[0] for x in generators] != before
        if len(keys) > 1 or drawn:
            raise NoModelError(
                f"{subject.name} has no model (mdp or P) and starts by chance, which exploring cannot enumerate"
            )
    root = subject.fresh()
    return root, numbering(subject.reset(root, 0))


def _tried(
    subject: Subject, env: Any, action: int, numbering: Numbering, generators: list[Any]
) -> tuple[Any, tuple[int, float, bool]]:
    """(a copy after the action, (state, reward, terminated)).

    A step that draws from any generator is refused: two equal outcomes would not show that all are. Chance from
    anywhere else is looked for in a second copy.
    """
    seen: list[Result] = []
    for _ in range(2):
        memo: dict[int, Any] = {}
        after = subject.copied(env, memo)
        own = [memo.get(id(x), x) for x in generators]
        before = [saved(x)[0] for x in own]
        seen.append(subject.step(after, action))
        if any(old is None or saved(x)[0] != old for x, old in zip(own, before, strict=True)):
            raise NoModelError(
                f"{subject.name} has no model (mdp or P) and acts by chance: a step draws random numbers"
            )
    if seen[0][:3] != seen[1][:3]:
        raise NoModelError(f"{subject.name} has no model (mdp or P) and acts by chance: {seen[0][:3]} or {seen[1][:3]}")
    return after, (numbering(seen[0].observation), seen[0].reward, seen[0].terminated)
