"""Contests in board games without a model: a run against its earlier selves, and beside exact play in endgames.

Players are as they play to win, and so they would repeat one game: each begins from an opening of random moves, which
is played twice, with the seats exchanged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlnet.data.rollout import Observation
from rlnet.envs import Environment
from rlnet.envs.boards.enumeration import MOST_CELLS, TooManyPositions, enumerate_positions, game_of
from rlnet.envs.boards.rules import Rules
from rlnet.envs.boards.simulation import planes
from rlnet.learning.earlier_selves import EarlierSelves
from rlnet.learning.players import Choose, chooser, observation, search_of
from rlnet.learning.trained import Trained
from rlnet.mdp import solve
from rlnet.numerics.random_streams import BlockUniform, Streams, derive_seed

OPENING, CELLS_EACH = 4, 8  # moves of an opening at most: one for so many cells of the board
POSITIONS, STATES = 200, 500_000  # endgames of a member, and positions that are enumerated from them, at most


def contests(trained: Trained, earlier: EarlierSelves, games: int, seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """Round-robin tournament: a random player, the K earlier selves and the final policy.

    Args:
        trained: of M members, of a board game.
        games: of each two players, an even number.
        seeds: of the members.

    Returns:
        points: float64 [M, P, P], what the player of a row scored against that of a column, P = K + 2.
        step: int64 [M, K], when the earlier selves were kept.
    """
    environment, device = trained.problem.environment, trained.theta.device
    players: list[Choose] = [_at_random]
    players += [chooser(replace(trained, theta=earlier.theta[:, k]), "greedy") for k in range(earlier.count)]
    players.append(chooser(trained, "greedy"))
    pairs, own = list(combinations(range(len(players)), 2)), [derive_seed(seed, "contest") for seed in seeds]
    gained = sum(ply.gain for ply in plies(environment, players, pairs, own, games, device))
    score = (0.5 + 0.5 * np.sign(gained)).reshape(len(seeds), len(pairs), games).sum(-1)
    points = np.zeros((len(seeds), len(players), len(players)))
    for number, (a, b) in enumerate(pairs):
        points[:, a, b], points[:, b, a] = score[:, number], games - score[:, number]
    return {"points": points, "step": earlier.step.cpu().numpy().copy()}


class Ply(NamedTuple):
    """One ply (move) in each of M × N games."""

    cells: np.ndarray  # int8 [M, N, C], before it, in the view of the player who moves
    running: np.ndarray  # bool [M, N], where the game had not ended before
    gain: np.ndarray  # float64 [M, N], of the first of the two players; 0 in games that had ended


def plies(
    environment: Environment,
    players: Sequence[Choose],
    pairs: Sequence[tuple[int, int]],
    seeds: Sequence[int],
    games: int,
    device: torch.device,
) -> Iterator[Ply]:
    """Play games of pairs of players until all have ended, all of them at the same time.

    N = pairs × games, those of a pair side by side; in the first half of them its first player moves first.

    Args:
        environment: of a board game.
        players, pairs: who plays, and against whom.
        seeds: of M members.
        games: of each pair, an even number.
        device: of the players.
    """
    half, count = games // 2, len(pairs) * games
    seat = np.array([[a, b] if k < half else [b, a] for a, b in pairs for k in range(games)])  # [N, 2]
    side = np.tile(np.repeat([1.0, -1.0], half), len(pairs))  # [N], 1 where the first of the pair moves first
    simulation: Any = environment.simulate(seeds, count)
    obs, mask = simulation.reset(), simulation.mask
    board = obs.shape[-1] // 2
    opening = min(OPENING, board // CELLS_EACH)
    drawn = BlockUniform(Streams(seeds, "search"), (len(pairs), half, mask.shape[-1]), library=np)
    ties = BlockUniform(Streams(seeds, "behaviour", device), (count,))
    running = np.ones((len(seeds), count), bool)
    for ply in range(board):
        cells = simulation.cells.copy()
        if ply < opening:  # the same ones in both halves
            chance = np.tile(drawn.next(), (1, 1, 2, 1)).reshape(mask.shape)
            action = np.where(mask, chance, -1.0).argmax(-1)
        else:
            action, seen, uniform = np.zeros((len(seeds), count), np.int64), observation(obs, mask, device), ties.next()
            for number in np.unique(seat[:, ply % 2]):
                own = np.flatnonzero(seat[:, ply % 2] == number)
                action[:, own] = _moved(players[number], seen, uniform, torch.from_numpy(own).to(device))
        step = simulation.step(action)
        yield Ply(cells, running.copy(), np.where(running, step.reward * side * (-1) ** ply, 0.0))
        running &= ~(step.terminated | step.truncated)
        obs, mask = step.obs, step.mask
        if not running.any():
            return


def _moved(player: Choose, seen: Observation, uniform: Tensor, own: Tensor) -> np.ndarray:
    part = Observation(seen.obs[:, own], None if seen.mask is None else seen.mask[:, own])
    return player(part, uniform[:, own]).cpu().numpy()


def _at_random(seen: Observation, uniform: Tensor) -> Tensor:
    assert seen.mask is not None  # of a board game there always is one
    count = seen.mask.sum(-1)
    rank = torch.minimum((uniform * count).long(), count - 1)  # of the legal actions the one of this number
    return (seen.mask.cumsum(-1) == (rank + 1).unsqueeze(-1)).long().argmax(-1)


def endgames(trained: Trained, empties: int, games: int, seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """Compare the final policy and its search with exact play, in endgames of at most `empties` empty cells.

    The positions are those of its games against itself; all that can follow is enumerated and solved.

    Args:
        trained: of M members, of a board game.
        games: against itself.
        seeds: of the members.

    Returns:
        positions [M]: how many; optimal [M] and error [M]: the share of them in which the most likely move keeps the
        value, and the root mean squared error of V; search_optimal and search_error, the same of the search, where
        there is one. NaN without positions.
    """
    environment = trained.problem.environment
    assert environment.board is not None
    rules, player = environment.board.rules, chooser(trained, "greedy")
    own = [derive_seed(seed, "contest", 0) for seed in seeds]
    met: list[list[np.ndarray]] = [[] for _ in seeds]
    if rules.start().size <= MOST_CELLS:
        for ply in plies(environment, [player], [(0, 0)], own, games, trained.theta.device):
            near = ply.running & ((ply.cells == 0).sum(-1) <= empties)
            for m, found in enumerate(met):
                found.append(ply.cells[m][near[m]])
    gamma = trained.hyper["gamma"].cpu().numpy().ravel()
    rows = [_beside_exact(trained.of(m), rules, found, float(gamma[m])) for m, found in enumerate(met)]
    return {name: np.array([row[name] for row in rows], float) for name in rows[0]}


def _beside_exact(trained: Trained, rules: Rules, met: list[np.ndarray], gamma: float) -> dict[str, float]:
    """`endgames` of one member."""
    roots = np.unique(np.concatenate(met), axis=0) if met else np.empty((0, rules.start().size), np.int8)
    search, found = search_of(trained), {"positions": 0.0, "optimal": np.nan, "error": np.nan}
    roots, v, q = solved(rules, roots, gamma)
    found["positions"] = float(len(roots))
    if search is not None:
        found |= {"search_optimal": np.nan, "search_error": np.nan}
    if len(roots) == 0:
        return found
    obs, rows = planes(roots)[None], np.arange(len(roots))
    seen, keeps = observation(obs, rules.legal(roots)[None], trained.theta.device), q >= v[:, None] - 1e-6
    found["optimal"] = float(keeps[rows, trained.best(seen)[0].cpu().numpy()].mean())
    value = trained.value(seen)
    if value is not None:
        found["error"] = float(np.sqrt(np.mean((value[0].double().cpu().numpy() - v) ** 2)))
    if search is not None:
        plan = search(obs)
        found["search_optimal"] = float(keeps[rows, plan.policy[0].argmax(-1)].mean())
        found["search_error"] = float(np.sqrt(np.mean((plan.value[0] - v) ** 2)))
    return found


def solved(rules: Rules, roots: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Different positions int8 [B, C], or some of them where what can follow is too much, with v [B] and q [B, A]."""
    roots = roots[np.random.default_rng(0).permutation(len(roots))[:POSITIONS]]
    while len(roots):
        try:
            exact = solve(game_of(enumerate_positions(rules, STATES, roots)), gamma)
        except TooManyPositions:
            roots = roots[: len(roots) // 2]
        else:
            return roots, exact.v[: len(roots)], exact.q[: len(roots)]
    return roots, np.zeros(0), np.zeros((0, rules.n_actions))
