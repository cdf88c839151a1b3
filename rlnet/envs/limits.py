"""Limits of the numbers in observations: bounds of a Box, and whole numbers that float32 can hold."""

import numpy as np
from gymnasium import spaces

from rlnet.config import RunFailed
from rlnet.envs.faults import shown
from rlnet.numerics.random_streams import Array

EXACT = 2**24  # the whole numbers up to here are exact in float32, in which networks compute
SLACK = 1e-5  # relative: by so much may an observation miss the bounds of its space, as rounding does


def held(numbers: Array) -> Array:
    """Whether numbers are finite in float32, in which networks compute."""
    with np.errstate(over="ignore"):
        return np.isfinite(numbers.astype(np.float32, copy=False))


def why_not_held(numbers: Array) -> str:
    """What is wrong with numbers that are not `held`."""
    return "float32 cannot hold" if np.isfinite(numbers).all() else "is not finite"


class Bounds:
    """The finite bounds of a Box, with some slack for rounding."""

    def __init__(self, space: spaces.Space) -> None:
        self.space, self.finite = space, False
        if isinstance(space, spaces.Box) and bool(np.isfinite(space.low).any() or np.isfinite(space.high).any()):
            self.finite = True
            low, high = space.low.astype(np.float64), space.high.astype(np.float64)
            self.low, self.high = low - SLACK * (1 + abs(low)), high + SLACK * (1 + abs(high))

    def left_by(self, obs: Array) -> tuple[int, int, str] | None:
        """The first of obs [M, N, *shape] that lies outside: (member, environment, what is wrong with it)."""
        if not self.finite:
            return None
        wrong = (obs < self.low) | (obs > self.high)
        if not wrong.any():
            return None
        m, n = (int(k[0]) for k in np.nonzero(wrong.reshape(*obs.shape[:2], -1).any(-1)))
        return m, n, f"its observation is {shown(obs[m, n])}, outside of {shown(self.space)}"


def check_whole(obs: Array) -> None:
    """Raise RunFailed where whole numbers would lose their identity as float32."""
    for number in (obs.max(initial=0), obs.min(initial=0)):
        if not -EXACT <= number <= EXACT:
            raise RunFailed(
                f"an observation holds {number}, but float32, in which networks compute, tells whole numbers apart "
                f"only up to {EXACT}: use a Discrete space, or smaller numbers"
            )
