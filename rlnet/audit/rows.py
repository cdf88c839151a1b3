"""Audit of environments that show rows of numbers: which state of the model a row belongs to."""

import numpy as np

from rlnet.audit.sources import Seen, Source
from rlnet.config import ConfigError, RunFailed
from rlnet.envs.state_rows import StateRows
from rlnet.mdp import FiniteMDP


class RowSource:
    """A source of rows [N, F] as one of states [N].

    Of the states that look like what is shown it is the one that the model expects there: after a step one of its
    outcomes, after a reset a first state. Where it expects none of them, it is the first of those that look alike,
    which the audit then reports. An episode that the environment cuts where the model ends it counts as ended.

    Args:
        source: that shows rows.
        states: the rows of the model's states.
        mdp: the model.
        title: how messages name the environment.

    Raises:
        ConfigError: two states that look alike can follow the same state and action, or begin an episode.
    """

    def __init__(self, source: Source, states: StateRows, mdp: FiniteMDP, title: str) -> None:
        self.name, self.envs, self.tolerance, self.faults = source.name, source.envs, source.tolerance, source.faults
        self._source, self._states, self._mdp, self._title = source, states, mdp, title
        happens = mdp.probability > 0
        pair = np.arange(mdp.n_pairs).repeat(np.diff(mdp.outcome_ptr))[happens]
        self._after = self._expected(pair, mdp.next_state[happens])
        begin = np.flatnonzero(mdp.start > 0)
        self._first = self._expected(np.full(len(begin), -1), begin)
        ends = mdp.terminated[happens]
        self._ends = set(zip(pair[ends].tolist(), mdp.next_state[happens][ends].tolist(), strict=True))
        self._state = np.zeros(self.envs, np.int64)

    def reset(self) -> np.ndarray:
        """The first states [N]."""
        self._state = self._begun(self._source.reset())
        return self._state.copy()

    def step(self, action: np.ndarray) -> Seen:
        """Take `action` [N]."""
        seen, mdp = self._source.step(action), self._mdp
        pairs = np.where(mdp.terminal[self._state], -2, mdp.pair_index[self._state, action]).tolist()
        following = np.array(
            [self._after.get((pair, at), at) for pair, at in zip(pairs, self._numbers(seen.next_obs), strict=True)]
        )
        over = np.array([place in self._ends for place in zip(pairs, following.tolist(), strict=True)])
        cut = seen.truncated & over & seen.valid
        self._state = np.where(seen.began, self._begun(seen.obs), following)
        return seen._replace(
            next_obs=following,
            obs=self._state.copy(),
            terminated=seen.terminated | cut,
            truncated=seen.truncated & ~cut,
        )

    def _begun(self, rows: np.ndarray) -> np.ndarray:
        return np.array([self._first.get((-1, at), at) for at in self._numbers(rows)])

    def _numbers(self, rows: np.ndarray) -> list[int]:
        """Of each row the first state that looks like it. IndexError where there is none."""
        try:
            return self._states.states(rows).tolist()
        except RunFailed as error:
            raise IndexError(str(error).partition(", so ")[0]) from error

    def _expected(self, place: np.ndarray, state: np.ndarray) -> dict[tuple[int, int], int]:
        """(place, the first state that looks like one of the model's states there) → that state."""
        found: dict[tuple[int, int], int] = {}
        first = self._states.first[self._states.of_state[state]]
        for where, at, own in zip(place.tolist(), first.tolist(), state.tolist(), strict=True):
            if found.setdefault((where, at), own) != own:
                raise ConfigError(
                    f"{self._title}: states {found[where, at]} and {own} look alike where either may come, so an audit "
                    "cannot tell which one came"
                )
        return found
