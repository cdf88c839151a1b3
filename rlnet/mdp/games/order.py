"""The order in which backward induction settles the states of a game."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlnet.mdp.model.finite_mdp import FiniteMDP


@dataclass(frozen=True, eq=False)
class Order:
    """States after their successors."""

    states: np.ndarray  # int64 [S], or fewer: those from which no play can come back to where it was
    moves: int  # the most that a play may have
    cycles: np.ndarray  # int64, the states from which it may go on for ever

    @property
    def acyclic(self) -> bool:
        """Whether every play ends after a number of moves that the game bounds."""
        return len(self.cycles) == 0


def order_of(mdp: FiniteMDP) -> Order:
    """The order of a game's states, cached."""
    kept = mdp.__dict__.get("_order")
    if kept is None:
        from rlnet.mdp.solvers.compiled.games import backward_order

        n = mdp.n_states
        order, moves = np.empty(n, np.int64), np.zeros(n, np.int64)
        size = backward_order(mdp.pair_ptr, mdp.outcome_ptr, mdp.next_state, mdp.terminated, order, moves)
        placed = np.zeros(n, bool)
        placed[order[:size]] = True
        kept = Order(order[:size], int(moves.max(initial=0)), np.flatnonzero(~placed))
        mdp.__dict__["_order"] = kept
    return kept


def tables(mdp: FiniteMDP) -> tuple[np.ndarray, ...]:
    """The arrays of the compiled passes: pairs, outcomes, and what of the successor's value each outcome carries."""
    kept = mdp.__dict__.get("_carried")
    if kept is None:
        sign = np.int8(1) if mdp.sign is None else mdp.sign
        kept = mdp.__dict__["_carried"] = sign * ~mdp.terminated
    return mdp.pair_ptr, mdp.outcome_ptr, mdp.next_state, mdp.probability, mdp.reward, kept
