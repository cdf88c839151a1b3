"""Elo ratings of players from the results of their games, with intervals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy  # its parts are loaded when they are first used

SCALE = 400.0 / np.log(10.0)  # Elo of one unit of log odds
PRIOR = 1.0  # draws that are added between any two who have met: ratings stay finite where one wins every game
NORMAL = 1.959963984540054  # the 97.5 % quantile


class Ratings(NamedTuple):
    """Ratings of P players, relative to the first one, whose rating is 0."""

    elo: np.ndarray  # [P]
    half_interval: np.ndarray  # [P], half of the 95 % interval of the difference from the first player


def expected_score(difference: np.ndarray | float) -> np.ndarray:
    """The expected score of a player who is rated higher by so many Elo: 1/(1 + 10^(−difference/400)) (Elo 1978)."""
    return scipy.special.expit(np.asarray(difference) / SCALE)


def ratings(points: np.ndarray) -> Ratings:
    """Maximum-likelihood ratings of the Bradley–Terry model: log odds of i against j = (R_i − R_j)·ln(10)/400.

    A draw is half a win of each. As a prior, one draw is added to the results of any two who have met: without it, a
    player who wins every game would be rated infinitely high. Intervals are those of the Fisher information at the
    maximum; since draws vary less than wins and losses, they are wide where there are many.

    Args:
        points: [P, P], what player i has scored against j: wins + draws/2. The diagonal does not count.

    Raises:
        ValueError: not a square table of numbers ≥ 0, or players who are not connected by games.
    """
    won = np.array(points, float)
    if won.ndim != 2 or won.shape[0] != won.shape[1] or len(won) < 2 or not (np.isfinite(won) & (won >= 0)).all():
        raise ValueError(f"points of shape {won.shape}: must be a square table of numbers that are not negative")
    np.fill_diagonal(won, 0.0)
    met = won + won.T > 0
    count, _ = scipy.sparse.csgraph.connected_components(met, directed=False)
    if count > 1:
        raise ValueError(f"the players fall into {count} groups that have not met each other")
    won += 0.5 * PRIOR * met
    games = won + won.T

    def chances(theta: np.ndarray) -> np.ndarray:
        full = np.append(0.0, theta)
        return expected_score(SCALE * (full[:, None] - full))

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        full = np.append(0.0, theta)
        value = -(won * scipy.special.log_expit(full[:, None] - full)).sum()
        return float(value), -(won - games * chances(theta)).sum(1)[1:]

    def information(theta: np.ndarray) -> np.ndarray:
        chance = chances(theta)
        weight = games * chance * (1.0 - chance)
        return (np.diag(weight.sum(1)) - weight)[1:, 1:]

    begin = np.zeros(len(won) - 1)
    found = scipy.optimize.minimize(loss, begin, jac=True, hess=information, method="trust-exact", tol=1e-9)
    deviation = np.sqrt(np.diag(np.linalg.inv(information(found.x))))
    return Ratings(SCALE * np.append(0.0, found.x), NORMAL * SCALE * np.append(0.0, deviation))
