"""Action masks of environments: extraction and validation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlnet.envs.encoding import by_whom
from rlnet.envs.faults import EnvironmentFault, array_of, shown
from rlnet.envs.spaces import MASK


def split(obs: Any, parts: tuple[str, ...], what: str) -> tuple[Any, Any]:
    """Split a Dict observation into what is seen, the `parts` (one by itself, several as a dict), and the action mask.

    Raises:
        EnvironmentFault: it is no dict of these.
    """
    if not isinstance(obs, Mapping) or set(obs) != {*parts, MASK}:
        wanted = f"{', '.join(parts)} and {MASK}"
        raise EnvironmentFault(f"{by_whom(what)} gave the observation {shown(obs)}, not a dict of {wanted}")
    return obs[parts[0]] if len(parts) == 1 else {name: obs[name] for name in parts}, obs[MASK]


def checked_mask(mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Validate a mask: bool of this shape, (A,) for one environment and (N, A) for many.

    Raises:
        EnvironmentFault: it has another shape, or is neither of bool nor of the integers 0 and 1.
    """
    array = array_of(mask)
    if array.shape != shape and array.shape[-1:] == shape[-1:]:
        raise EnvironmentFault(f"its {MASK} has the shape {array.shape}, it must be {shape}")
    if array.shape != shape:
        raise EnvironmentFault(
            f"its {MASK} has the shape {array.shape[-1:] if array.ndim == len(shape) else array.shape}, "
            f"there are {shape[-1]} actions"
        )
    if array.dtype.kind not in "biu":
        raise EnvironmentFault(f"its {MASK} {shown(mask)} is {array.dtype}, it must be bool, or int8 of 0 and 1")
    if ((array != 0) & (array != 1)).any():
        raise EnvironmentFault(f"its {MASK} {shown(mask)} holds other numbers than 0 and 1")
    return array.astype(bool)  # a copy: environments may write into their own arrays


def usable(
    mask: np.ndarray | None, terminated: np.ndarray | bool, factors: Sequence[int] | None = None
) -> np.ndarray | None:
    """Masks [N, A] without empty rows: those of terminal observations, after which nobody acts, become all True.

    Args:
        mask: of a product of finite choices [N, Σn], where each of the `factors` needs something that is allowed.
        terminated: [N].
        factors: the numbers n of choices; None where actions are Discrete.

    Raises:
        EnvironmentFault: a mask allows nothing in an observation that is acted on, or bootstrapped from.
    """
    if mask is None:
        return mask
    if factors is None:
        some = mask.any(-1)
    else:
        some = np.logical_or.reduceat(mask, np.cumsum([0, *factors[:-1]]), axis=-1).all(-1)
    if some.all():
        return mask
    if not (some | terminated).all():
        raise EnvironmentFault(f"its {MASK} allows no action, in an observation that is not terminal")
    return mask | ~np.asarray(some)[:, None]
