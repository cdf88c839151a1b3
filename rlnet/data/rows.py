"""Rows of rollouts: which fields they have, and their memory."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from rlnet.config.memory import require_memory
from rlnet.numerics.random_streams import Array
from rlnet.policies.distributions import Distribution

Fields = dict[str, tuple[tuple[int, ...], torch.dtype]]  # name → (shape, type)


def fields_of(
    obs: Tensor, mask: Array | None, actions: Distribution, game: bool, searched: int | None, watched: bool
) -> Fields:
    """The fields of a row that a simulation or a search gives: name → (shape, type)."""
    kinds = dict.fromkeys(("obs", "next_obs"), (tuple(obs.shape[2:]), obs.dtype))
    kinds["action"] = (actions.shape, actions.dtype)
    kinds["reward"] = (), torch.float32
    kinds |= dict.fromkeys(("terminated", "truncated", "valid"), ((), torch.bool))
    if mask is not None:
        kinds |= dict.fromkeys(("mask", "next_mask"), (tuple(mask.shape[2:]), torch.bool))
    if game:
        kinds["sign"] = (), torch.float32
    if searched is not None:
        kinds |= {"search_policy": ((searched,), torch.float32), "search_value": ((), torch.float32)}
    if watched:
        kinds["event"] = (), torch.bool
    return kinds


def allocated(kinds: Fields, shape: Sequence[int], device: torch.device, what: str) -> dict[str, Tensor]:
    """Empty rows [T, M, N, ...] of fields.

    Args:
        kinds: the fields.
        shape: (T, M, N).
        device: of the tensors.
        what: decides about the shape, for messages; empty: there is no need for memory for all rows.

    Raises:
        ConfigError: there is not memory enough for them.
    """
    if what and device.type == "cpu":
        each = sum(prod(inner) * dtype.itemsize for inner, dtype in kinds.values())
        require_memory({what: float(each) * prod(shape)})
    return {name: torch.zeros(*shape, *inner, dtype=dtype, device=device) for name, (inner, dtype) in kinds.items()}
