"""The traffic automaton of Nagel & Schreckenberg (1992): cars on cells that accelerate, keep their distance and dawdle.

A car of speed u with h free cells ahead moves on by u' = min(u + 1, limit, h) cells, one less (if it can) with the
probability `dawdle`. All cars move at once.
"""

from dataclasses import dataclass

import numpy as np


def speed_wanted(speed: np.ndarray, headway: np.ndarray, limit: int) -> np.ndarray:
    """The next speed before dawdling: min(u + 1, limit, h). Integer arrays that broadcast."""
    return np.minimum(np.minimum(speed + 1, limit), headway)


def speed_law(limit: int, density: float, dawdle: float) -> np.ndarray:
    """Pr(u' | u) of a car whose headway is drawn afresh in every step, float [limit + 1, limit + 1].

    Cars stand at random at the given density (cars per cell), so that Pr(h ≥ k) = (1 − density)^k: the mean field of
    the automaton, in which a car has no memory of the one before it (Schreckenberg, Schadschneider, Nagel & Ito 1995)
    and is slower than there: cars that have found their distances keep them.
    """
    speeds = np.arange(limit + 1)
    at_least = (1.0 - density) ** np.arange(limit + 2)
    headway = at_least[:-1] - at_least[1:]
    headway[limit] = at_least[limit]  # more than the limit is as good as the limit
    law = np.zeros((limit + 1, limit + 1))
    for free, chance in enumerate(headway):
        wanted = speed_wanted(speeds, np.array(free), limit)
        np.add.at(law, (speeds, wanted), chance * (1.0 - dawdle))
        np.add.at(law, (speeds, np.maximum(wanted - 1, 0)), chance * dawdle)
    return law


def stationary(law: np.ndarray) -> np.ndarray:
    """The distribution that a law of speeds leaves as it is, float [n]."""
    n = len(law)
    equations = np.vstack([law.T - np.eye(n), np.ones(n)])
    found = np.linalg.lstsq(equations, np.append(np.zeros(n), 1.0), rcond=None)[0]
    return np.maximum(found, 0.0) / np.maximum(found, 0.0).sum()


@dataclass(frozen=True)
class Road:
    """What is seen in states: int arrays [S], and [lanes, S] of the next cars."""

    lane: np.ndarray
    speed: np.ndarray
    gap: np.ndarray  # free cells
    other: np.ndarray  # the next car's speed

    @classmethod
    def of(cls, shape: tuple[int, ...], state: np.ndarray | None = None) -> "Road":
        """The meaning of states (None: of all), indices into `shape`: lanes, own speeds, then gaps and speeds."""
        index = np.arange(int(np.prod(shape))) if state is None else np.asarray(state)
        lane, speed, *ahead = np.unravel_index(index, shape)
        return cls(lane, speed, np.array(ahead[::2]), np.array(ahead[1::2]))
