"""Spaces of observations that come with a mask of the available actions."""

from typing import cast

from gymnasium import spaces

from rlnet.envs.actions import Actions

MASK = "action_mask"  # of a Dict observation, as in PettingZoo, and of an info


def observed(space: spaces.Space) -> tuple[spaces.Space, tuple[str, ...]]:
    """The space that networks see, and its keys where a Dict holds a mask beside them (else none).

    Of a Dict with an `action_mask` it is the space of the other entries (of one entry its own space); else the space.
    """
    if isinstance(space, spaces.Dict) and MASK in space.spaces and len(space.spaces) > 1:
        names = tuple(name for name in space.spaces if name != MASK)
        if len(names) == 1:
            return space[names[0]], names
        return spaces.Dict([(name, space[name]) for name in names]), names
    return space, ()


def check_mask_space(space: spaces.Space, actions: Actions) -> None:
    """Check a Dict space of an observation and a mask: the mask must have an entry for each action.

    The mask of a product of finite choices has one entry for each choice of each factor, factor by factor.

    Raises:
        ValueError: the mask is no MultiBinary(n), and no Box of whole numbers of shape (n,), or n is not the number of
            actions, or the actions are real numbers.
    """
    if not observed(space)[1]:
        return
    mask, n = cast(spaces.Dict, space)[MASK], actions.outputs
    if n is None:
        raise ValueError(f"observations with an {MASK} need Discrete actions, here they are {actions.space}")
    binary = isinstance(mask, spaces.MultiBinary)
    whole = isinstance(mask, spaces.Box) and mask.dtype.kind in "biu"
    if not (binary or whole) or mask.shape != (n,):
        raise ValueError(f"its {MASK} is {mask}: must be MultiBinary({n}) or a Box of int8 with the shape ({n},)")
