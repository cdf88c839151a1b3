"""`FiniteMDP`, the model of a finite problem for solvers, simulators and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy as sp

from rlnet.mdp.errors import InvalidMDPError
from rlnet.mdp.model import builders
from rlnet.mdp.model.from_outcomes import from_outcomes
from rlnet.mdp.model.index_type import index_dtype
from rlnet.mdp.model.validation import (
    check_outcomes,
    check_pointer,
    check_sign,
    check_start,
    checked_events,
    owner,
    require_kind,
)

if TYPE_CHECKING:
    from rlnet.mdp.cells import EntryRewards


@dataclass(frozen=True, eq=False)
class FiniteMDP:
    """A finite Markov decision process p(s', r | s, a) over available (state, action) *pairs*.

    The pairs of state s are rows `pair_ptr[s]:pair_ptr[s + 1]`; a state without pairs is terminal. The outcomes of
    pair i are `outcome_ptr[i]:outcome_ptr[i + 1]`. An outcome marked `terminated` gives its reward and no successor
    value (the episode is over), whatever its `next_state`; every outcome that leads to a terminal state is so marked.
    With a `sign` it is a two-player zero-sum game, V(s) = E[R + sign·γ·V(S')]: see `rlnet.mdp.games`.
    Arrays are read-only. S states, P pairs, K outcomes. Build through the class methods, which sort, merge duplicates
    and check. Sutton & Barto (2nd ed.), eq. 3.2.

    Raises:
        InvalidMDPError: (a ValueError) the arrays are no model.
    """

    pair_ptr: np.ndarray  # int [S + 1]
    pair_action: np.ndarray  # int [P]
    outcome_ptr: np.ndarray  # int [P + 1]
    next_state: np.ndarray  # int [K]
    probability: np.ndarray  # float64 [K], sums to 1 within a pair
    reward: np.ndarray  # float64 [K], R_{t+1} of the outcome
    terminated: np.ndarray  # bool [K]
    start: np.ndarray  # float64 [S], the distribution of S_0
    n_actions: int
    labels: Sequence[str] | None = None  # one per state
    shape: tuple[int, int] | None = None  # (rows, columns) of the drawing
    cell: np.ndarray | None = None  # int [S], flat index in `shape` of each state; None with a shape: state i is cell i
    action_labels: tuple[str, ...] | None = None  # one per action, e.g. ("↑", "→", "↓", "←")
    entry: EntryRewards | None = None  # what entering each cell of the drawing pays; None: as the outcomes say
    observations: np.ndarray | None = None  # [S, ...] what an environment shows in each state; None: the state's number
    # int8 [K] of a two-player zero-sum game, in which states and rewards are those of the player who moves: −1 where
    # the other one moves next, whose value counts against this one's; +1 where the same one goes on. None: one player.
    sign: np.ndarray | None = None
    events: Mapping[str, np.ndarray] | None = None  # sets of outcomes with a name (a crash, a win), bool [K] each

    def __post_init__(self) -> None:
        n_states, n_pairs, n_outcomes = len(self.pair_ptr) - 1, len(self.pair_action), len(self.next_state)
        types = {
            "pair_ptr": index_dtype(n_pairs),
            "pair_action": index_dtype(self.n_actions),
            "outcome_ptr": index_dtype(n_outcomes),
            "next_state": index_dtype(n_states),
            "probability": np.float64,
            "reward": np.float64,
            "terminated": np.bool_,
            "start": np.float64,
        }
        if self.cell is not None:
            types["cell"] = index_dtype(int(np.prod(self.shape)) if self.shape is not None else 0)
        if self.sign is not None:
            check_sign(self.sign, np.shape(self.next_state))
            types["sign"] = np.int8
        if self.events is not None:
            object.__setattr__(self, "events", checked_events(self.events, n_outcomes))
        for name, dtype in types.items():
            array: np.ndarray = np.ascontiguousarray(getattr(self, name), dtype=dtype).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        _check_model(self)
        if self.sign is not None and (self.sign[~self.terminated] > 0).all():
            object.__setattr__(self, "sign", None)  # nobody else ever moves
        _ = sp.linalg, sp.sparse.csgraph, sp.sparse.linalg  # loaded by the first model, not in the seconds of a solve

    # Sizes and masks.

    @cached_property
    def n_states(self) -> int:
        return len(self.pair_ptr) - 1

    @cached_property
    def n_pairs(self) -> int:
        return len(self.pair_action)

    @cached_property
    def n_outcomes(self) -> int:
        return len(self.next_state)

    @cached_property
    def terminal(self) -> np.ndarray:
        """bool [S]: the states without actions; their value is 0."""
        return _frozen(np.diff(self.pair_ptr) == 0)

    @cached_property
    def pair_state(self) -> np.ndarray:
        """int [P]: the state of each pair."""
        states = np.arange(self.n_states, dtype=index_dtype(self.n_states))
        return _frozen(np.repeat(states, np.diff(self.pair_ptr)))

    @cached_property
    def available(self) -> np.ndarray:
        """bool [S, A]: whether a ∈ A(s)."""
        mask = np.zeros((self.n_states, self.n_actions), dtype=bool)
        mask[self.pair_state, self.pair_action] = True
        return _frozen(mask)

    @cached_property
    def pair_index(self) -> np.ndarray:
        """int [S, A]: the pair of (s, a), −1 where a is not available in s."""
        index = np.full((self.n_states, self.n_actions), -1, dtype=index_dtype(self.n_pairs))
        index[self.pair_state, self.pair_action] = np.arange(self.n_pairs)
        return _frozen(index)

    @cached_property
    def expected_reward(self) -> np.ndarray:
        """float64 [P]: r(s, a) = Σ p(s', r | s, a) r (S&B eq. 3.5)."""
        return _frozen(
            np.add.reduceat(self.probability * self.reward, self.outcome_ptr[:-1]) if self.n_pairs else np.zeros(0)
        )

    @cached_property
    def largest_reward(self) -> float:
        """max |r| of any outcome."""
        return max(float(self.reward.max(initial=0.0)), -float(self.reward.min(initial=0.0)))

    @cached_property
    def transition(self) -> sp.sparse.csr_matrix:
        """csr [P, S]: p(s' | s, a) of the outcomes that go on; what is missing from a row's sum has terminated."""
        return self.carried()

    def carried(self, factor: np.ndarray | None = None) -> sp.sparse.csr_matrix:
        """csr [P, S]: `transition` with every outcome's probability times its `factor` [K]."""
        on = ~self.terminated
        ptr = np.concatenate([[0], np.cumsum(on)])[self.outcome_ptr].astype(index_dtype(self.n_outcomes))
        mass = self.probability[on] if factor is None else self.probability[on] * factor[on]
        matrix = sp.sparse.csr_matrix((mass, self.next_state[on], ptr), shape=(self.n_pairs, self.n_states))
        matrix.sum_duplicates()
        return matrix

    def _repr_html_(self) -> str:
        """A table of its sizes and names, for notebooks."""
        from rlnet.mdp.notebook import model_table

        return model_table(self)

    def with_start(self, start: np.ndarray) -> FiniteMDP:
        """The same model with another distribution of S_0, float [S] (InvalidMDPError if it is none)."""
        check_start(np.asarray(start, dtype=np.float64), self.n_states)
        return replace(self, start=np.array(start, dtype=np.float64))

    # Builders. Each one's own file-level function has the details.

    @classmethod
    def from_arrays(
        cls,
        transition: np.ndarray,
        reward: np.ndarray,
        *,
        terminal: np.ndarray | None = None,
        available: np.ndarray | None = None,
        start: np.ndarray | None = None,
    ) -> FiniteMDP:
        """Build from dense p(s'|s,a) [S, A, S'] and r [S, A] or [S, A, S']; see `builders.from_arrays`."""
        columns = builders.from_arrays(transition, reward, terminal=terminal, available=available, start=start)
        return cls(**columns)

    @classmethod
    def from_outcomes(
        cls,
        outcomes: Mapping[int, Mapping[int, Sequence[tuple[float, int, float, bool]]]],
        n_states: int | None = None,
        n_actions: int | None = None,
        start: np.ndarray | None = None,
    ) -> FiniteMDP:
        """Build from `outcomes[s][a] = [(probability, next_state, reward, terminated), ...]`, Gymnasium's toy-text `P`;
        see `rlnet.mdp.model.from_outcomes.from_outcomes`."""
        return cls(**from_outcomes(outcomes, n_states=n_states, n_actions=n_actions, start=start))

    @classmethod
    def from_coo(
        cls,
        state: np.ndarray,
        action: np.ndarray,
        next_state: np.ndarray,
        probability: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray | None = None,
        **options: Any,
    ) -> FiniteMDP:
        """Build from one array entry per outcome, in any order; see `builders.from_coo` for the options."""
        return cls(**builders.from_coo(state, action, next_state, probability, reward, terminated, **options))

    @classmethod
    def from_env(cls, env: Any, max_states: int = 100_000) -> FiniteMDP:
        """Build from a Gymnasium environment that has a model or can be explored; see `from_env.from_gymnasium`."""
        from rlnet.mdp.from_env.from_gymnasium import from_env

        return from_env(env, max_states=max_states)


def require_model(mdp: object) -> None:
    """Raise TypeError unless this is a model; the message says where one comes from."""
    origin = "make(preset(NAME)).mdp, or FiniteMDP.from_env(env)"
    require_kind(mdp, isinstance(mdp, FiniteMDP), f"mdp must be a FiniteMDP, such as {origin}")


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _check_model(mdp: FiniteMDP) -> None:
    """Raise InvalidMDPError unless `mdp` is a well-formed finite MDP. Compiled code relies on it: no index is
    checked again after this."""
    check_pointer("pair_ptr", mdp.pair_ptr, mdp.n_pairs)
    check_pointer("outcome_ptr", mdp.outcome_ptr, mdp.n_outcomes)
    for name in ("probability", "reward", "terminated"):
        if getattr(mdp, name).shape != (mdp.n_outcomes,):
            raise InvalidMDPError(f"{name} has shape {getattr(mdp, name).shape}, next_state {mdp.next_state.shape}")
    if len(mdp.outcome_ptr) != mdp.n_pairs + 1:
        raise InvalidMDPError(f"outcome_ptr has {len(mdp.outcome_ptr)} entries, it needs {mdp.n_pairs + 1}")
    _check_pairs(mdp)
    check_outcomes(
        mdp.outcome_ptr, mdp.next_state, mdp.probability, mdp.reward, mdp.n_states, lambda i: _pair_name(mdp, i)
    )
    bad = mdp.terminal[mdp.next_state] & ~mdp.terminated
    if bad.any():
        k = int(bad.argmax())
        where = _pair_name(mdp, owner(mdp.outcome_ptr, k))
        raise InvalidMDPError(
            f"{where}: successor {mdp.next_state[k]} has no action, but the outcome is not marked terminated "
            "(say that the state is terminal, or give it an action)"
        )
    check_start(mdp.start, mdp.n_states)
    _check_drawing(mdp)


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


def _pair_name(mdp: FiniteMDP, i: int) -> str:
    state = owner(mdp.pair_ptr, i)
    label = f" ({mdp.labels[state]})" if mdp.labels is not None and len(mdp.labels) > state else ""
    return f"state {state}{label}, action {mdp.pair_action[i]}"
