"""Observations that users hold in their hands, as the rows that networks see."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from rlnet.config import RunFailed
from rlnet.envs.actions import joint_mask
from rlnet.envs.base import Environment
from rlnet.envs.encoding import CALLER
from rlnet.envs.faults import EnvironmentFault, array_of, shown
from rlnet.envs.limits import check_whole, held
from rlnet.envs.masks import checked_mask, split, usable
from rlnet.envs.spaces import MASK, observed


def read(environment: Environment, obs: Any, mask: Any = None) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """One observation, or a batch with an axis in front of every part, as the environment gives them.

    Args:
        environment: that they are of.
        obs: states as indices, counted as its space counts them; numbers in the shape of its space, or flattened; a
            nested dict or tuple; with an `action_mask` beside them where its space has one (it may be left out).
        mask: of the available actions, [n] or [B, n]; None: that beside the observation, if any.

    Returns:
        Rows [B] int64 or [B, F], masks bool [B, A] or None, and whether it was a single one (B = 1).

    Raises:
        ValueError: they do not have the form of the space, hold numbers that it does not, or the mask does not fit.
    """
    try:
        obs, mask = _parted(environment, obs, mask)
        rows, single = _rows(environment, obs)
        return rows, None if mask is None else _mask(environment, mask, len(rows), single), single
    except (EnvironmentFault, RunFailed) as error:
        raise ValueError(f"obs={shown(obs)}: {error}") from error


def _parted(environment: Environment, obs: Any, mask: Any) -> tuple[Any, Any]:
    """What is seen, and the mask beside it."""
    parts = () if environment.space is None else observed(environment.space)[1]
    if isinstance(obs, Mapping) and parts:
        seen, own = split(obs if mask is None else {MASK: mask, **obs}, parts, CALLER)
        return seen, own if mask is None else mask
    if not isinstance(obs, Mapping) or environment.encoder is not None:
        return obs, mask
    names = [name for name in obs if name != MASK]
    if len(names) != 1 or MASK not in obs:
        raise ValueError(f"obs with the keys {', '.join(map(str, obs))}: must be an observation and {MASK}")
    return obs[names[0]], obs[MASK] if mask is None else mask


def _rows(environment: Environment, obs: Any) -> tuple[np.ndarray, bool]:
    if environment.encoder is not None:
        return environment.encoder.some(obs)
    array = array_of(obs)
    if environment.n_states is not None:
        first, count = environment.first_state, environment.n_states
        fits = array.ndim < 2 and array.dtype.kind in "iu" and ((array >= first) & (array < first + count)).all()
        if not fits:
            raise ValueError(f"obs={shown(obs)}: must be a state {first}..{first + count - 1}, or a list of them")
        return array.reshape(-1).astype(np.int64) - first, array.ndim == 0
    (size,) = environment.observation_shape
    shape: Any = (size,) if environment.space is None else observed(environment.space)[0].shape
    forms = (shape, (size,)) if shape else (shape,)
    if array.shape in forms:
        single = True
    elif array.ndim > 0 and array.shape[1:] in forms:
        single = False
    else:
        wanted = f"of shape {shape}" if len(shape) != 1 else f"{size} numbers"
        raise ValueError(f"obs of shape {array.shape}: must be {wanted}, or a batch of such")
    if array.dtype.kind not in "biuf" or not held(array).all():
        raise ValueError(f"obs={shown(obs)}: must be numbers, and finite")
    if array.dtype.kind in "iu" and array.dtype.itemsize > 2:
        check_whole(array)
    return array.reshape(-1, size).astype(np.float32), single


def _mask(environment: Environment, mask: Any, count: int, single: bool) -> np.ndarray:
    """Masks [B, A] of what networks choose among; where nothing is allowed, which ends episodes, all is."""
    factors = None if environment.actions is None else environment.actions.factors
    n = environment.n_actions if factors is None else sum(factors)
    if n is None:
        raise ValueError(f"mask={shown(mask)}: actions are real numbers, of which none can be masked")
    array = array_of(mask)
    allowed = checked_mask(array[None] if single and array.ndim == 1 else array, (count, n))
    some = cast(np.ndarray, usable(allowed, np.ones(count, bool), factors))
    return some if environment.joined is None else joint_mask(some, environment.joined)
