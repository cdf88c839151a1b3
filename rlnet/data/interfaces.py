"""Interfaces of the collector: simulations, and functions that choose actions."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from rlnet.numerics.random_streams import Array


class Simulation(Protocol):
    """Interface of a vector environment of M × N copies (the fields of a step: see `rlnet.envs`).

    All arrays are numpy arrays, or all are tensors of one device; the collector works with the same.
    """

    @property
    def mask(self) -> Array | None: ...

    def reset(self, seeds: Sequence[int] | None = None) -> Array: ...

    def step(self, action: Array) -> Any: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


# Chooses actions: (obs [M, N, ...], mask bool [M, N, A] or None, uniform numbers [M, N, *action shape]) → actions. With
# a tree search it also takes the running environments (bool [M, N]; None: all) and returns `Searched`.
Choose = Callable[..., Any]


class Searched(NamedTuple):
    """Actions chosen by a tree search, with its policy and value."""

    action: Array  # int64 [M, N]
    policy: Array  # float32 [M, N, A], the target of the learned policy
    value: Array  # float32 [M, N], of the observation before the action
