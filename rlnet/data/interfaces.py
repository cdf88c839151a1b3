"""Interfaces of the collector: simulations, and functions that choose actions."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from rlnet.numerics.random_streams import Array


class Simulation(Protocol):
    """Interface of a simulation: M × N environments that step together (fields of a step: see `rlnet.envs`).

    Arrays are those of numpy, or tensors of a device; the collector works with the same.
    """

    @property
    def mask(self) -> Array | None: ...

    def reset(self, seeds: Sequence[int] | None = None) -> Array: ...

    def step(self, action: Array) -> Any: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


# (obs [M, N, ...], mask [M, N, A] or None, uniform numbers [M, N, *shape of an action]) → actions of the behaviour. Of
# one that searches also (bool [M, N], the environments whose episode goes on; None: all) → `Searched`.
Choose = Callable[..., Any]


class Searched(NamedTuple):
    """Actions that a search chose, and what it found."""

    action: Array  # int64 [M, N]
    policy: Array  # float32 [M, N, A], to be learned
    value: Array  # float32 [M, N], of the observation that was acted on
