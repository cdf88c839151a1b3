"""Best responses to a policy, and how much it can be exploited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from rlnet.mdp.errors import InvalidMDPError
from rlnet.mdp.evaluation import policy_matrix
from rlnet.mdp.games.order import order_of, tables
from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.model.validation import check_gamma
from rlnet.mdp.solving import solve


def game_value(game: FiniteMDP, gamma: float = 1.0) -> float:
    """The value of a game to the player who moves first, when both play optimally; mean over the starts.

    Raises:
        ImproperPolicyError: γ = 1, and a play can go on for ever.
    """
    return float(game.start @ solve(game, gamma).v)


def nash_conv(game: FiniteMDP, policy: np.ndarray, gamma: float = 1.0) -> float:
    """How much the two players could gain in all by a best response to the policy: Σ_i (V_i^{BR(π)} − V_i^π).

    0 exactly where the policy is optimal against every opponent from the start (a Nash equilibrium), at most twice the
    range of returns. Because the game is zero-sum it is what the first player gets by a best response to the second,
    plus what the second gets by one to the first (Lanctot et al. 2017; Timbers et al. 2022).

    Args:
        game: a model with a `sign`.
        policy: [S, A] or int [S], for the states of both players.
        gamma: γ in [0, 1].

    Raises:
        ValueError: the model is no game, or the policy none.
        ImproperPolicyError: γ = 1, and a play can go on for ever.
    """
    best, held = response_values(game, policy, gamma)
    return float(game.start @ (best - held))


def response_values(game: FiniteMDP, policy: np.ndarray, gamma: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """What best responses to a policy are worth, in the view of the player who moves, for every state.

    Returns:
        best: float [S], where this player responds best and the other one follows the policy.
        held: float [S], where this player follows the policy and the other one responds best.

    Raises: as `nash_conv`.
    """
    _require_game(game)
    gamma, matrix = check_gamma(gamma), policy_matrix(game, policy)
    order, n = order_of(game), game.n_states
    if order.acyclic:
        from rlnet.mdp.solvers.compiled.games import responses

        best, held = np.zeros(n), np.zeros(n)
        weight = matrix[game.pair_state, game.pair_action]
        responses(order.states, gamma, weight, best, held, *tables(game))
        return best + 0.0, held + 0.0
    v = solve(_one_player(game, matrix), gamma).v
    return v[:n], -v[n:]


def best_response(game: FiniteMDP, policy: np.ndarray, seat: int) -> FiniteMDP:
    """The problem of a player whose opponent follows a policy: an ordinary model of one player.

    It has 2·S states: state s is position s with this player to move, state S + s the same with the opponent to move,
    where there is one action, which the policy takes. Rewards are this player's. `solve` gives the best response,
    `evaluate` what any policy of this player is worth against the opponent.

    Args:
        game: a model with a `sign`.
        policy: the opponent's, [S, A] or int [S].
        seat: 0: this player moves first; 1: the opponent does.

    Raises:
        ValueError: the model is no game, the policy none, or the seat neither.
    """
    _require_game(game)
    if seat not in (0, 1):
        raise ValueError(f"seat must be 0 (moves first) or 1, not {seat!r}")
    model = _one_player(game, policy_matrix(game, policy))
    nothing = np.zeros(game.n_states)
    return model.with_start(np.concatenate([nothing, game.start] if seat else [game.start, nothing]))


def _one_player(game: FiniteMDP, matrix: np.ndarray) -> FiniteMDP:
    """The model of `best_response`, which begins where this player moves."""
    n, per_pair = game.n_states, np.diff(game.outcome_ptr)
    state = np.repeat(game.pair_state, per_pair).astype(np.int64)
    action = np.repeat(game.pair_action, per_pair)
    weight = np.repeat(matrix[game.pair_state, game.pair_action], per_pair)
    assert game.sign is not None
    own = game.next_state + n * (game.sign < 0)  # where the player who moved sees the next state
    theirs = game.next_state + n * (game.sign > 0)
    met = weight > 0.0
    columns = [
        (state, n + state[met]),
        (action, np.zeros(np.count_nonzero(met), action.dtype)),
        (own, theirs[met]),
        (game.probability, (game.probability * weight)[met]),
        (game.reward, -game.reward[met]),
        (game.terminated, game.terminated[met]),
    ]
    return FiniteMDP.from_coo(
        *(np.concatenate(column) for column in columns),
        n_states=2 * n,
        n_actions=game.n_actions,
        terminal=np.tile(game.terminal, 2),
        start=np.concatenate([game.start, np.zeros(n)]),
        labels=None if game.labels is None else _Seats(game.labels),
        action_labels=game.action_labels,
    )


class _Seats(Sequence[str]):
    """The labels of both halves of `best_response`, made when they are read: a game may have millions."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels

    def __len__(self) -> int:
        return 2 * len(self._labels)

    @overload
    def __getitem__(self, k: int) -> str: ...
    @overload
    def __getitem__(self, k: slice) -> Sequence[str]: ...
    def __getitem__(self, k: int | slice) -> str | Sequence[str]:
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(len(self)))]
        own = range(len(self))[k]
        theirs = own >= len(self._labels)
        return f"{self._labels[own % len(self._labels)]}{', the opponent moves' if theirs else ''}"


def _require_game(game: FiniteMDP) -> None:
    if game.sign is None:
        raise InvalidMDPError("this model has one player: a game has a sign for each outcome, from_coo(..., sign=...)")
