"""Action spaces: one action, real numbers within bounds, or a product of finite choices."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from gymnasium import spaces

from rlnet.envs.encoding import leaves
from rlnet.envs.faults import shown
from rlnet.envs.simulate import Around, Step

MOST = 4096  # actions that a product is multiplied out to, where an algorithm needs one value for each
SUPPORTED = (
    "supported are Discrete, MultiDiscrete, MultiBinary, Tuple and Dict of them, and a Box of real numbers, or of "
    "bounded whole ones"
)


@dataclass(frozen=True, eq=False)
class Actions:
    """Actions of a Gymnasium space, as a collector draws them and as an environment takes them.

    - Discrete: int64 [...], 0 .. n − 1.
    - a Box of real numbers: float32 [..., D], clipped to its bounds where it is taken.
    - a product of finite choices (MultiDiscrete, MultiBinary, a bounded Box of whole numbers, a Tuple or Dict of
      these and Discrete): int64 [..., D], each component counted from 0.

    Raises:
        ValueError: an unsupported space; names it, and where it stands.
    """

    space: Any

    def __post_init__(self) -> None:
        if not isinstance(self.space, spaces.Discrete) and self.bounds is None:
            _ = self.factors

    @property
    def n(self) -> int | None:
        """The number of actions of a Discrete space."""
        return int(self.space.n) if isinstance(self.space, spaces.Discrete) else None

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The lowest and the highest action of a Box of real numbers, [D] float32 each, flattened."""
        space = self.space
        if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
            return None
        return space.low.astype(np.float32).reshape(-1), space.high.astype(np.float32).reshape(-1)

    @cached_property
    def factors(self) -> tuple[int, ...] | None:
        """The number of choices of each component of a product, in Gymnasium's order."""
        if isinstance(self.space, spaces.Discrete) or self.bounds is not None:
            return None
        found = tuple(int(n) for _, sizes, _ in self._leaves for n in sizes)
        if not found:
            raise ValueError(f"actions of {shown(self.space)} are not supported: there is nothing to choose")
        return found

    @property
    def outputs(self) -> int | None:
        """The length of a mask of actions: A, of a product the sum over its factors; None for real actions."""
        return self.n if self.factors is None else sum(self.factors)

    @cached_property
    def _leaves(self) -> list[tuple[Any, np.ndarray, np.ndarray]]:
        """(space, numbers of choices, first of them) of each part of a product."""
        return [(space, *_choices(space, path, self.space)) for path, space in leaves(self.space)]

    @cached_property
    def first(self) -> np.ndarray:
        """What the environment calls the first choice: of a Discrete space int64 (), of a product int64 [D]."""
        if isinstance(self.space, spaces.Discrete):
            return np.asarray(self.space.start, np.int64)
        return np.concatenate([first for _, _, first in self._leaves]) if self.bounds is None else np.zeros(1, np.int64)

    @property
    def parts(self) -> list[tuple[str, int]]:
        """(path, number of choices) of each part of a Tuple or Dict, in Gymnasium's order."""
        return [(path, len(own[1])) for (path, _), own in zip(leaves(self.space), self._leaves, strict=True)]

    def decode(self, action: np.ndarray) -> Any:
        """Actions [B, ...] in the form that a vector environment of B takes; `of_one` for a single one."""
        space = self.space
        if isinstance(space, spaces.Discrete):
            return (action + int(space.start)).astype(space.dtype)
        if self.bounds is not None:
            shaped = action.reshape(len(action), *space.shape)
            return np.clip(shaped, space.low, space.high).astype(space.dtype)
        columns, at = [], 0
        for part, sizes, first in self._leaves:
            own = action[:, at : at + len(sizes)] + first
            columns.append(own.reshape(len(action), *part.shape).astype(part.dtype))
            at += len(sizes)
        return _nested(space, iter(columns))

    def of_one(self, action: Any) -> Any:
        """One action as a single environment takes it."""
        return _first_of(self.space, self.decode(np.asarray(action)[None]))


def _choices(space: Any, path: str, whole: spaces.Space) -> tuple[np.ndarray, np.ndarray]:
    """How many choices each number of a part of a product has, and the first of them."""
    if isinstance(space, spaces.Discrete):
        return np.array([int(space.n)]), np.array([int(space.start)])
    if isinstance(space, spaces.MultiDiscrete):
        return space.nvec.reshape(-1).astype(np.int64), space.start.reshape(-1).astype(np.int64)
    if isinstance(space, spaces.MultiBinary):
        size = int(np.prod(space.shape))
        return np.full(size, 2), np.zeros(size, np.int64)
    if isinstance(space, spaces.Box) and space.dtype.kind in "biu":
        low, high = (x.reshape(-1).astype(object) for x in (space.low, space.high))
        sizes = [int(b) - int(a) + 1 for a, b in zip(low, high, strict=True)]
        if max(sizes, default=1) <= MOST:
            return np.array(sizes, np.int64), np.array(low, np.int64)
        where = f" at {path}" if path else ""
        raise ValueError(
            f"actions of {shown(whole)} are not supported: the whole numbers{where} have up to {max(sizes)} values, "
            f"at most {MOST} are chosen among"
        )
    where = f", found at {path}" if path else ""
    mixed = " beside others" if path and isinstance(space, spaces.Box) else ""
    raise ValueError(f"actions of {shown(space)}{mixed} are not supported{where}; {SUPPORTED}")


def _nested(space: spaces.Space, columns: Iterator[np.ndarray]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _nested(own, columns) for key, own in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_nested(own, columns) for own in space.spaces)
    return next(columns)


def _first_of(space: spaces.Space, batch: Any) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _first_of(own, batch[key]) for key, own in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_first_of(own, part) for own, part in zip(space.spaces, batch, strict=True))
    return batch[0]


class JointActions(Around):
    """A simulation whose products of finite choices are multiplied out to single actions, the last factor fastest.

    Args:
        simulation: in arrays of numpy, that takes int64 [M, N, D].
        factors: the number of choices of each of the D components.
    """

    def __init__(self, simulation: Any, factors: Sequence[int]) -> None:
        super().__init__(simulation)
        self.factors = tuple(factors)

    @property
    def mask(self) -> np.ndarray | None:
        """See the wrapped simulation; an action is available where all its components are."""
        return self._joint(self.simulation.mask)

    def reset(self, seeds: Sequence[int] | None = None) -> np.ndarray:
        """See the wrapped simulation."""
        return self.simulation.reset(seeds)

    def step(self, action: np.ndarray) -> Step:
        """Take `action` int64 [M, N] everywhere."""
        step = self.simulation.step(np.stack(np.unravel_index(action, self.factors), axis=-1))
        return step._replace(next_mask=self._joint(step.next_mask), mask=self._joint(step.mask))

    def _joint(self, mask: np.ndarray | None) -> np.ndarray | None:
        return None if mask is None else joint_mask(mask, self.factors)


def joint_mask(mask: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Masks of products [..., Σn] as masks of the actions that they are multiplied out to, [..., Πn]."""
    lead, joint = mask.shape[:-1], np.ones((*mask.shape[:-1], 1), bool)
    for own in np.split(mask, np.cumsum(factors)[:-1], axis=-1):
        joint = (joint[..., :, None] & own[..., None, :]).reshape(*lead, -1)
    return joint


def joint_size(factors: Sequence[int]) -> int:
    """The number of actions that a product is multiplied out to."""
    return prod(factors)
