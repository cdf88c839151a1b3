"""How well a learner of a board game plays: its wins against a player who moves at random, and its NashConv.

As a program it trains in the source that it stands in, which may have a bug, and leaves the policy of every seed in all
positions. The judge then is the source without that bug: its rules, its games, its exploitability.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from rlnet.commands.api import composed
from rlnet.config import Config
from rlnet.data.rollout import Observation
from rlnet.envs.boards.enumeration import Positions, enumerate_positions, game_of
from rlnet.envs.boards.simulation import planes
from rlnet.experiment.problem import build
from rlnet.learning.training_state import TrainingState
from rlnet.learning.updates import learn
from rlnet.mdp import FiniteMDP, nash_conv

SEEDS, GAMES = 8, 200  # games of each seed, half of them in each seat
POSITIONS = 100_000  # of a game, at most


class Strength(NamedTuple):
    """How well each of M members plays."""

    wins: np.ndarray  # float64 [M], the share of the games that it won against a player who moves at random
    nash_conv: np.ndarray  # float64 [M]


def strength(policies: np.ndarray, overrides: Sequence[str]) -> Strength:
    """Judge policies [M, S, A] of all positions of the game that these overrides train on.

    Raises:
        ValueError: a policy that is none, or that plays moves that are not legal.
    """
    game = game_of(_positions(_config(overrides)))
    exploited = [nash_conv(game, policy) for policy in policies]  # which refuses what is no policy
    return Strength(wins_against_random(game, policies, GAMES), np.array(exploited))


def wins_against_random(game: FiniteMDP, policies: np.ndarray, games: int) -> np.ndarray:
    """The share of games that policies [M, S, A] win against a player who moves at random, half of them in each seat.

    Args:
        game: without chance, in which the players move in turn.
        games: of each member, an even number.
    """
    members, rng = len(policies), np.random.default_rng(0)
    state = np.full((members, games), int(game.start.argmax()))
    gain, on = np.zeros((members, games)), np.ones((members, games), bool)
    first, member = np.arange(games) < games // 2, np.arange(members)[:, None]
    ply = 0
    while on.any():
        learned = first == (ply % 2 == 0)  # bool [N], whose turn it is
        weight = np.where(learned[:, None], policies[member, state], game.available[state])
        cumulative = weight.cumsum(-1)
        action = (cumulative <= rng.random((members, games, 1)) * cumulative[..., -1:]).sum(-1)
        pair = game.pair_index[state, np.minimum(action, game.n_actions - 1)]
        gain += np.where(on, game.reward[pair] * np.where(learned, 1.0, -1.0), 0.0)
        state = np.where(on, game.next_state[pair], state)
        on &= ~game.terminated[pair]
        ply += 1
    return np.asarray((gain > 0).mean(-1))


def learned_policies(overrides: Sequence[str]) -> np.ndarray:
    """The policies [M, S, A] of a training run in all positions; of a learner that searches those of its search.

    Raises:
        RuntimeError: an update in which no step was taken.
    """
    config = _config(overrides)
    state = TrainingState(config, build(config))
    while (done := int(state.steps.min())) < config.steps:
        learn(state, state.collect())
        if int(state.steps.min()) == done:
            raise RuntimeError(f"no member goes on after step {done}")
    if state.problem.environment.mdp is not None:
        tables = state.tables()
        return tables.policy if tables.searched is None else tables.searched
    positions = _positions(config)
    seen = (torch.from_numpy(x).expand(SEEDS, *x.shape) for x in (planes(positions.cells), _legal(positions)))
    policy = cast(torch.Tensor, state.trained().probabilities(Observation(*seen))).double()
    return (policy / policy.sum(-1, keepdim=True)).numpy()


def _config(overrides: Sequence[str]) -> Config:
    return composed(*overrides, f"seeds={SEEDS}")


def _positions(config: Config) -> Positions:
    settings: Any = config.env  # of a board, which alone has rules
    return enumerate_positions(settings.rules(), POSITIONS)


def _legal(positions: Positions) -> np.ndarray:
    return positions.rules.legal(positions.cells)


if __name__ == "__main__":
    torch.set_num_threads(1)
    np.save(Path(sys.argv[1]), learned_policies(sys.argv[2:]))
