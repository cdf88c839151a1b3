"""Supported Gymnasium spaces of observations (with or without action masks) and actions."""

from typing import cast

import numpy as np
from gymnasium import spaces

MASK = "action_mask"  # of a Dict observation, as in PettingZoo, and of an info


def observed(space: spaces.Space) -> tuple[spaces.Space, str | None]:
    """The space that networks see, and its key where a Dict holds a mask beside it (else None).

    A Dict of two keys, one of which is `action_mask`, is an observation with a mask; any other space is its own part.
    """
    if isinstance(space, spaces.Dict) and len(space.spaces) == 2 and MASK in space.spaces:
        (name,) = set(space.spaces) - {MASK}
        return space[name], name
    return space, None


def observation_shape(space: spaces.Space) -> tuple[int, ...]:
    """The shape of one observation as a tensor: () for an index, (F,) for numbers.

    Raises:
        ValueError: the space is neither Discrete nor Box, nor a Dict of one of them and an `action_mask`.
    """
    part, _ = observed(space)
    if isinstance(part, spaces.Discrete):
        return ()
    if isinstance(part, spaces.Box):
        return (max(1, int(np.prod(part.shape))),)
    allowed = f"only Discrete and Box, and a Dict of one of them and an {MASK}"
    raise ValueError(f"observations of {space} are not supported, {allowed}")


def action_bounds(space: spaces.Space) -> tuple[np.ndarray, np.ndarray] | None:
    """The lowest and the highest action of a Box, [D] float32 each, flattened; None for Discrete actions.

    Raises:
        ValueError: the space is neither Discrete nor a Box of real numbers.
    """
    if isinstance(space, spaces.Discrete):
        return None
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return space.low.astype(np.float32).reshape(-1), space.high.astype(np.float32).reshape(-1)
    raise ValueError(f"actions of {space} are not supported, only Discrete and Box of real numbers")


def check_mask_space(space: spaces.Space, actions: spaces.Space) -> None:
    """Check a Dict space of an observation and a mask: the mask must have an entry for each action.

    Raises:
        ValueError: the mask is no MultiBinary(n), and no Box of whole numbers of shape (n,), or n is not the number of
            actions, or the actions are not Discrete.
    """
    if observed(space)[1] is None:
        return
    mask, n = cast(spaces.Dict, space)[MASK], int(actions.n) if isinstance(actions, spaces.Discrete) else None
    if n is None:
        raise ValueError(f"observations with an {MASK} need Discrete actions, here they are {actions}")
    binary = isinstance(mask, spaces.MultiBinary)
    whole = isinstance(mask, spaces.Box) and mask.dtype.kind in "biu"
    if not (binary or whole) or mask.shape != (n,):
        raise ValueError(f"its {MASK} is {mask}: must be MultiBinary({n}) or a Box of int8 with the shape ({n},)")
