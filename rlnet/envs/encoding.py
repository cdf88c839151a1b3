"""Encoders: observations of a Gymnasium space, however nested, as rows of one array.

The numbers of a row stand in the order of `gymnasium.spaces.utils.flatten`: a Discrete part is one-hot, and so is
every component of a MultiDiscrete one. A Box of bytes (or bools) with two axes or more is an image: it stays in bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from rlnet.envs.faults import EnvironmentFault, array_of, shown
from rlnet.envs.limits import SLACK, check_whole, held, why_not_held
from rlnet.numerics.observation_rows import Part, RowLayout

MOST = 2**20  # numbers of one observation
CALLER = "caller"  # of a policy: gives observations in place of the environment's step or reset
SUPPORTED = "supported are Discrete, MultiDiscrete, MultiBinary, Box, and Tuple and Dict of them"


def described(path: str) -> str:
    """A clause that says which part of an observation is meant; "" for the whole."""
    return f" in part {path}" if path else ""


def leaves(space: spaces.Space, path: str = "") -> Iterator[tuple[str, spaces.Space]]:
    """The parts of a space that are neither Tuple nor Dict, in Gymnasium's order, with their paths."""
    if isinstance(space, spaces.Dict):
        for key, own in space.spaces.items():
            yield from leaves(own, f"{path}[{key!r}]")
    elif isinstance(space, spaces.Tuple):
        for k, own in enumerate(space.spaces):
            yield from leaves(own, f"{path}[{k}]")
    else:
        yield path, space


def layout_of(space: spaces.Space) -> RowLayout:
    """How observations of a space lie in rows.

    Raises:
        ValueError: a part of it is not supported; names it, and where it stands.
    """
    layout = RowLayout(tuple(_part(path, own) for path, own in leaves(space)))
    if layout.numbers > MOST:
        largest = max(layout.parts, key=lambda part: part.size)
        raise ValueError(
            f"observations of {shown(space)} have {layout.numbers} numbers, Discrete parts as one-hot vectors, of "
            f"which {largest.size} are{described(largest.path) or ' in one part'}: at most {MOST} are supported"
        )
    return layout


def _part(path: str, space: spaces.Space) -> Part:
    if isinstance(space, spaces.Box) and space.dtype.kind in "biuf":
        image = len(space.shape) > 1 and (space.dtype == np.uint8 or space.dtype == np.bool_)
        if image:
            return Part(path, space.shape, max(1.0, float(np.max(space.high, initial=1))), in_bytes=True)
        return Part(path, space.shape)
    if isinstance(space, spaces.Discrete):
        return Part(path, (int(space.n),))
    if isinstance(space, spaces.MultiDiscrete):
        return Part(path, (int(space.nvec.sum()),))
    if isinstance(space, spaces.MultiBinary):
        return Part(path, (int(np.prod(space.shape)),))
    where = f", found{described(path)} of the observation" if path else ""
    raise ValueError(f"observations of {shown(space)} are not supported{where}; {SUPPORTED}")


def encoder_of(space: spaces.Space) -> "Encoder | None":
    """The encoder of a space; None where observations are indices or plain numbers already: Discrete, and most Boxes.

    Of a Box without any number a row is one 0.

    Raises:
        ValueError: see `layout_of`.
    """
    if isinstance(space, spaces.Discrete):
        return None
    encoder = Encoder(space)
    plain = isinstance(space, spaces.Box) and not encoder.layout.is_packed and encoder.layout.parts[0].size > 0
    return None if plain else encoder


class Encoder:
    """Encoder of observations of a Tuple, Dict, MultiDiscrete or MultiBinary space, or of images in bytes.

    Args:
        space: of one observation.

    Raises:
        ValueError: see `layout_of`.
    """

    def __init__(self, space: spaces.Space) -> None:
        self.space, self.layout = space, layout_of(space)
        self._leaves = list(leaves(space))
        low, high = self._limits()
        self._bounded = bool(np.isfinite(low).any() or np.isfinite(high).any())
        self._low, self._high = low - SLACK * (1 + abs(low)), high + SLACK * (1 + abs(high))

    def _limits(self) -> tuple[np.ndarray, np.ndarray]:
        """The bounds [F] of the float32 numbers of a row, infinite but for those of a Box."""
        sides: list[list[np.ndarray]] = [[], []]
        for part, (_, space) in zip(self.layout.parts, self._leaves, strict=True):
            if not part.in_bytes:
                for k, side in enumerate(sides):
                    bound = (space.low, space.high)[k] if isinstance(space, spaces.Box) else np.inf * (2 * k - 1)
                    side.append(np.broadcast_to(np.asarray(bound, np.float64).reshape(-1), part.size))
        low, high = (np.concatenate([np.zeros(0), *side]) for side in sides)
        return low, high

    def left_by(self, rows: np.ndarray) -> tuple[int, int, str] | None:
        """The first of rows [M, N, length] with a number outside of the bounds of a Box: (m, n, what is wrong)."""
        if not self._bounded:
            return None
        size = len(self._low)
        numbers = np.ascontiguousarray(rows[..., : 4 * size]).view(np.float32) if self.layout.is_packed else rows
        wrong = (numbers < self._low) | (numbers > self._high)
        if not wrong.any():
            return None
        m, n, at = (int(k[0]) for k in np.nonzero(wrong))
        plain = [part for part in self.layout.parts if not part.in_bytes]
        part = plain[int(np.searchsorted(np.cumsum([part.size for part in plain]), at, side="right"))]
        space = dict(self._leaves)[part.path]
        return m, n, f"its observation holds {numbers[m, n, at]:g}{described(part.path)}, outside of {shown(space)}"

    def check(self, obs: Any, what: str) -> None:
        """Check one observation; raises as `rows` does."""
        for (path, space), value in zip(self._leaves, list(_values(self.space, obs, "", what)), strict=True):
            _column(space, _alone(value), 1, path, what)

    def rows(self, obs: Any, count: int, what: str) -> np.ndarray:
        """Rows [count, length], float32 or uint8, of observations that a vector environment gave.

        Args:
            obs: in the form of the space, every leaf with an axis of `count` environments in front.
            what: the call that gave them, "step" or "reset", for messages.

        Raises:
            EnvironmentFault: they do not have the form of the space, or hold numbers that are not finite or, in
                discrete parts, outside of it.
        """
        return self._packed(list(_values(self.space, obs, "", what)), count, what)

    def _packed(self, values: list[Any], count: int, what: str) -> np.ndarray:
        columns = [
            _column(space, value, count, path, what) for (path, space), value in zip(self._leaves, values, strict=True)
        ]
        return self.layout.pack(columns) if columns else np.zeros((count, 1), np.float32)

    def some(self, obs: Any) -> tuple[np.ndarray, bool]:
        """Rows [B, length] of one observation or of a batch, and whether it is one; raises as `rows` does.

        A batch has an axis in front of every part; dicts may also stand one after the other in a list.
        """
        if isinstance(self.space, spaces.Dict) and isinstance(obs, list) and obs:
            return np.stack([self.row(one, CALLER) for one in obs]), False
        first = array_of(next(iter(_values(self.space, obs, "", CALLER)), 0))
        if not self._leaves or first.ndim <= len(self._leaves[0][1].shape or ()):
            return self.row(obs, CALLER)[None], True
        return self.rows(obs, len(first), CALLER), False

    def row(self, obs: Any, what: str) -> np.ndarray:
        """The row [length] of one observation; raises as `rows` does."""
        return self._packed([_alone(value) for value in _values(self.space, obs, "", what)], 1, what)[0]


def _alone(value: Any) -> Any:
    """One value of a part as a batch of one."""
    try:
        return np.asarray(value)[None]
    except ValueError:  # rows of different lengths
        return None


def _values(space: spaces.Space, obs: Any, path: str, what: str) -> Iterator[Any]:
    """The leaves of an observation, in the order of `leaves`."""
    if isinstance(space, spaces.Dict):
        if not isinstance(obs, Mapping) or set(obs) != set(space.spaces):
            keys = f"a dict of {', '.join(map(str, obs)) or 'nothing'}" if isinstance(obs, Mapping) else shown(obs)
            allowed = f"the observation space is a Dict of {', '.join(map(str, space.spaces))}"
            raise EnvironmentFault(f"{by_whom(what)} gave {keys}{described(path)} as an observation, {allowed}")
        for key, own in space.spaces.items():
            yield from _values(own, obs[key], f"{path}[{key!r}]", what)
    elif isinstance(space, spaces.Tuple):
        if not isinstance(obs, Sequence) or len(obs) != len(space.spaces):
            allowed = f"the observation space is a Tuple of {len(space.spaces)}"
            raise EnvironmentFault(f"{by_whom(what)} gave {shown(obs)}{described(path)} as an observation, {allowed}")
        for k, own in enumerate(space.spaces):
            yield from _values(own, obs[k], f"{path}[{k}]", what)
    else:
        yield obs


def _column(space: Any, value: Any, count: int, path: str, what: str) -> np.ndarray:
    """The numbers [count, size] of one part."""
    shape, where = (count, *space.shape), described(path)
    array = array_of(value)
    if array.dtype.kind not in "biuf":
        raise EnvironmentFault(f"{by_whom(what)} gave the observation {shown(value)}{where}, which is not numeric")
    if array.shape[1:] == shape[1:] and len(array) != count:
        raise EnvironmentFault(f"{by_whom(what)} gave {len(array)} observations{where}, and {count} in its first part")
    if array.shape != shape:
        raise EnvironmentFault(
            f"{by_whom(what)} gave an observation of shape {array.shape[1:]}{where}, its space says {space.shape}"
        )
    if isinstance(space, spaces.Box):
        flat = array.reshape(count, -1) if array.size else np.zeros((count, 0), np.float32)
        if array.dtype.kind in "iu" and array.dtype.itemsize > 2:
            check_whole(array)
        if array.dtype.kind == "f" and not (good := held(flat)).all():
            raise EnvironmentFault(f"its observation is {_first(array, ~good)}{where}, which {why_not_held(flat)}")
        if space.dtype.kind in "biu" and array.dtype != space.dtype and (array.astype(space.dtype) != array).any():
            said = f"gave the {array.dtype} observation {_first(array, array.astype(space.dtype) != array)}{where}"
            raise EnvironmentFault(f"{by_whom(what)} {said}, its space says {space.dtype}")
        return flat
    low = np.asarray(getattr(space, "start", 0))
    above = np.asarray(2 if isinstance(space, spaces.MultiBinary) else getattr(space, "n", getattr(space, "nvec", 0)))
    number = array - low
    wrong = (number < 0) | (number >= above) | (number != np.floor(number))
    if wrong.any():
        raise EnvironmentFault(f"its observation is {_first(array, wrong)}{where}, which is not in {space}")
    if isinstance(space, spaces.MultiBinary):
        return array.reshape(count, -1)
    sizes = above.reshape(-1)
    at = number.reshape(count, -1).astype(np.int64) + np.cumsum(sizes) - sizes
    one_hot = np.zeros((count, int(sizes.sum())), np.float32)
    np.put_along_axis(one_hot, at, 1.0, axis=1)
    return one_hot


def by_whom(what: str) -> str:
    """Who gave an observation, for a message."""
    return f"the {what}" if what == CALLER else f"its {what}"


def _first(array: np.ndarray, wrong: np.ndarray) -> str:
    """The first observation with something wrong in it, for a message."""
    rows = wrong.reshape(len(array), -1).any(-1)
    return shown(array[int(rows.argmax())])
