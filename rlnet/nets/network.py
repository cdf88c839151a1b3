"""A network is a record of functions over explicit parameters; a layout packs several of them into one tensor."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from rlnet.rng import Streams

Params = dict[str, Tensor]  # name → [M, *shape]


@dataclass(frozen=True)
class Network:
    """One function approximator, for all members at once."""

    shapes: Mapping[str, tuple[int, ...]]  # of one member's parameters, by name
    init: Callable[[Streams], Params]  # first parameters, each [M, *shape]
    apply: Callable[[Params, Tensor], Tensor]  # (params, obs [..., M, N(, F)]) → [..., M, N, outputs]


class Layout:
    """Where the parameters of all roles lie in one tensor theta [M, P].

    One tensor makes the optimiser, the per-member clip, checkpoints and target networks one operation each.
    """

    def __init__(self, networks: Mapping[str, Network]) -> None:
        self.networks = dict(networks)
        self._slots = [
            (role, name, tuple(shape)) for role, network in networks.items() for name, shape in network.shapes.items()
        ]
        self._sizes = [prod(shape) for _, _, shape in self._slots]

    @property
    def size(self) -> int:
        """P, the number of parameters of one member."""
        return sum(self._sizes)

    def init(self, streams: Streams) -> Tensor:
        """First parameters [M, P], every member's from its own stream."""
        parts = {role: network.init(streams) for role, network in self.networks.items()}
        return torch.cat([parts[role][name].reshape(streams.members, -1) for role, name, _ in self._slots], dim=1)

    def unpack(self, theta: Tensor) -> dict[str, Params]:
        """The parameters by role and name, as views of theta [M, P]."""
        pieces = theta.split(self._sizes, dim=1)
        params: dict[str, Params] = {role: {} for role in self.networks}
        for (role, name, shape), piece in zip(self._slots, pieces, strict=True):
            params[role][name] = piece.view(theta.shape[0], *shape)
        return params
