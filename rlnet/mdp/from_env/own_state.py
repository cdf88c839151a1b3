"""Exploration of a deterministic environment by its own state: all variables that can be reached from the object.

Unlike in `observed_states`, an observation need not tell states apart: what is shown in a state is kept beside it.
What the environment's own code truncates ends in the model, too: a time that it counts is part of its state.
"""

from __future__ import annotations

import hashlib
import marshal
from collections import deque
from typing import Any

import numpy as np

from rlnet.mdp.errors import NoModelError
from rlnet.mdp.from_env.object_graph import Insides, saved
from rlnet.mdp.from_env.observed_states import Numbering, Progress, deterministic, root_of, stacked
from rlnet.mdp.from_env.tested_env import Result, Subject
from rlnet.mdp.model.finite_mdp import FiniteMDP

EVERY = 8  # in one of so many states all steps are repeated in second copies, to see that they do the same


class OwnState(Subject):
    """An environment under test whose own state takes the place of the observation, as a digest of its variables."""

    def reset(self, env: Any, seed: int | None = None) -> Any:
        """Begin an episode; the state, hashable."""
        super().reset(env, seed)
        return self._kept_state(env)

    def step(self, env: Any, action: int) -> Result:
        """Take an action, counted from 0. An episode that is truncated has ended."""
        result = super().step(env, action)
        state = self._kept_state(env)
        return result._replace(observation=state, terminated=result.terminated or result.truncated, truncated=False)

    def _shown(self, observation: Any) -> Any:
        self._last = observation
        return None

    def _kept_state(self, env: Any) -> str:
        digest = digest_of(self.look(env))
        if digest not in self.seen:
            self.seen[digest] = stacked([self._last])[0]  # a copy of arrays, which the environment may write into again
        return digest


def digest_of(inside: Insides) -> str:
    """A digest of all variables, within a process: equal for equal states."""
    values = [hash(tuple(inside.variables)), *map(_told, inside.variables.values())]
    return hashlib.blake2b(marshal.dumps(values, 2), digest_size=16).hexdigest()


def _told(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.str, value.shape, value.tobytes()
    if hasattr(value, "numpy"):
        return _told(value.numpy())
    if isinstance(value, set):
        return sorted(map(repr, value))
    return list(map(_told, value)) if isinstance(value, list | deque) else value


def explored_by_state(subject: OwnState, numbering: Numbering, n_actions: int, progress: Progress | None) -> FiniteMDP:
    """The model of all states that can be reached, in the order of discovery; `observations` [S] is what they show.

    Raises:
        NoModelError: chance, or too many states.
    """
    rows: list[tuple[int, int, int, float, bool]] = []
    with subject.undisturbed():
        root, first = root_of(subject, numbering)
        pending, found, done = deque([(first, root)]), {first}, 0
        while pending:
            s, here = pending.popleft()
            for a, (after, result) in enumerate(_tried(subject, here, n_actions, twice=done % EVERY == 0)):
                there = numbering(result.observation)
                rows.append((s, a, there, result.reward, result.terminated))
                if there not in found and not result.terminated:
                    found.add(there)
                    pending.append((there, after))
            done += 1
            if progress is not None:
                progress(done, len(found))
    shown = np.empty(numbering.n_states, dtype=object)
    shown[:] = [subject.seen[key] for key in numbering.keys]
    return deterministic(rows, first, numbering.n_states, n_actions, shown)


def _tried(subject: OwnState, env: Any, n_actions: int, twice: bool) -> list[tuple[Any, Result]]:
    """(a copy after the action, its result) of each action; a step that draws random numbers is refused."""
    said = f"{subject.name} has no model (mdp or P) and acts by chance"
    generators = subject.look(env).generators
    before, shared, tried = [[saved(x)[0] for x in some] for some in (generators, subject.shared)], subject.shared, []
    for action in range(n_actions):
        memo: dict[int, Any] = {}
        after = subject.copied(env, memo)
        result = subject.step(after, action)
        if [saved(memo.get(id(x), x))[0] for x in generators] != before[0] or None in before[0]:
            raise NoModelError(f"{said}: a step draws random numbers")
        if twice and subject.step(subject.copied(env), action)[:3] != result[:3]:
            raise NoModelError(f"{said}: by action {action} two copies did not do the same")
        tried.append((after, result))
    if [saved(x)[0] for x in shared] != before[1]:
        raise NoModelError(f"{said}: a step draws random numbers")
    return tried
