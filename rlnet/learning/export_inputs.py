"""Inputs and outputs of an exported policy, in the form in which an environment gives and takes them.

Observations: states as the environment counts them; a Box in its shape; of images beside other parts one input for each
part; all else flattened as Gymnasium does it. Actions: as a vector environment takes them; of a Tuple or Dict one row
of all its choices.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rlnet.envs.base import Environment
from rlnet.envs.spaces import observed
from rlnet.numerics.observation_rows import RowLayout

TYPES = {np.dtype(name): getattr(torch, name) for name in ("bool", "uint8", "int8", "int16", "int32", "int64")}


def inputs_of(
    environment: Environment, rows: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Rows of observations and masks as inputs of the exported policy, and the names of those that are parts.

    Args:
        environment: that they are of.
        rows: obs int64 [B], float32 or uint8 [B, F], and perhaps mask bool [B, A].
    """
    obs, layout = rows["obs"], environment.layout
    parts = parts_of(layout, obs) if layout is not None and layout.is_packed and len(layout.parts) > 1 else {}
    found = dict(parts)
    if not parts:
        found["obs"] = obs + environment.first_state if environment.n_states is not None else _shaped(environment, obs)
    if "mask" in rows:
        joined = environment.joined
        found["mask"] = rows["mask"] if joined is None else factored_mask(rows["mask"], joined)
    return found, tuple(parts)


def described(environment: Environment, parts: tuple[str, ...]) -> str:
    """What the observations among the inputs mean, in words."""
    if parts:
        named = ", ".join(parts)
        return f"{named} (policy.pt2: a dictionary of them); images as they are, all else flattened as Gymnasium does"
    if environment.n_states is not None:
        return f"a state, counted from {environment.first_state}"
    return "numbers in the shape of the space" if _axes(environment) else "numbers, flattened as Gymnasium does"


def _axes(environment: Environment) -> tuple[int, ...]:
    """The shape of observations of a Box with two axes or more; () for others."""
    space = None if environment.space is None else observed(environment.space)[0]
    return space.shape if isinstance(space, spaces.Box) and len(space.shape) > 1 and 0 not in space.shape else ()


def _shaped(environment: Environment, obs: np.ndarray) -> np.ndarray:
    shape = _axes(environment)
    return obs.reshape(len(obs), *shape) if shape else obs


def parts_of(layout: RowLayout, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The parts of packed rows [B, length] by name: images as they are, uint8 [B, ...], all else float32 [B, size].

    The name of ["camera"]["left"] is camera_left; a part whose name would be taken has its number in the row behind it.
    """
    found: dict[str, np.ndarray] = {}
    split = layout.split(torch.from_numpy(rows))
    for k, (part, numbers) in enumerate(zip(layout.parts, split, strict=True)):
        name = re.sub(r"\W+", "_", part.path).strip("_") or f"part_{k}"
        name = f"{name}_{k}" if name in (*found, "mask") else name
        array = numbers.numpy()
        found[name] = np.rint(array * part.scale).astype(np.uint8).reshape(-1, *part.shape) if part.in_bytes else array
    return found


def shaped_as(parts: tuple[str, ...], inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Inputs one after the other as arguments of the module: those of `parts` as one dictionary."""
    inputs = list(inputs)
    return (dict(zip(parts, inputs, strict=False)), *inputs[len(parts) :]) if parts else tuple(inputs)


def rows_of(environment: Environment, obs: Tensor | Mapping[str, Tensor]) -> Tensor:
    """Observations among the inputs as networks see them: int64 [B], or float32 or uint8 [B, F]."""
    if not isinstance(obs, Tensor):
        parts = cast(RowLayout, environment.layout).parts
        return torch.cat([x.flatten(1).float() / p.scale for x, p in zip(obs.values(), parts, strict=True)], dim=1)
    if environment.n_states is None:
        return obs.flatten(1)
    return obs - environment.first_state if environment.first_state else obs


def joint_mask_of(environment: Environment, mask: Tensor) -> Tensor:
    """A mask among the inputs, bool [B, Σn], as one of the actions that networks choose among, [B, A]."""
    if environment.joined is None:
        return mask
    joint = mask.new_ones((mask.shape[0], 1))
    for own in mask.split(list(environment.joined), dim=-1):
        joint = (joint.unsqueeze(-1) & own.unsqueeze(-2)).flatten(1)
    return joint


def factored_mask(mask: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Masks of products multiplied out, bool [B, Πn], as masks [B, Σn] of their factors."""
    joint = mask.reshape(len(mask), *factors)
    axes = range(1, joint.ndim)
    return np.concatenate([joint.any(tuple(k for k in axes if k != own)) for own in axes], axis=1)


def taken_of(environment: Environment, action: Tensor) -> Tensor:
    """Actions as networks number them, int64 [B], int64 [B, D] or float32 [B, D], as the environment takes them."""
    if environment.joined is not None:
        found: list[Tensor] = []
        for n in reversed(environment.joined):
            found.insert(0, action % n)
            action = action // n
        action = torch.stack(found, dim=-1)
    if environment.action_bounds is not None:
        low, high = (torch.from_numpy(bound).to(action.device) for bound in environment.action_bounds)
        action = torch.minimum(torch.maximum(action, low), high)
    actions = environment.actions
    if actions is None:
        return action
    if actions.bounds is None and actions.first.any():
        action = action + torch.from_numpy(actions.first).to(action.device)
    if isinstance(actions.space, spaces.Tuple | spaces.Dict):
        return action
    shaped = action.reshape(-1, *actions.space.shape)
    return shaped if actions.bounds is not None else shaped.to(TYPES.get(actions.space.dtype, torch.int64))


def action_in_words(environment: Environment) -> str:
    """What the action among the outputs means."""
    actions = environment.actions
    if actions is not None and isinstance(actions.space, spaces.Tuple | spaces.Dict):
        return "a row of the choices of " + ", ".join(f"{path} ({size})" for path, size in actions.parts)
    return "as the environment takes it"
