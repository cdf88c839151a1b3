"""A network is a record of functions over explicit parameters; a layout packs several of them into one tensor."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from rlnet.config import ConfigError
from rlnet.rng import Streams

Params = dict[str, Tensor]  # name → [M, *shape]


@dataclass(frozen=True)
class Network:
    """One function approximator, for all members at once."""

    shapes: Mapping[str, tuple[int, ...]]  # of one member's parameters, by name
    init: Callable[[Streams], Params]  # first parameters, each [M, *shape]
    apply: Callable[[Params, Tensor], Tensor]  # (params, obs [..., M, N(, F)]) → [..., M, N, outputs]
    # What noise in a parameter is divided by, by name: the root of how many inputs meet in its layer.
    fan_in_roots: Mapping[str, float] = field(default_factory=dict)
    sigma: float = 0.0  # above 0: every parameter is a mean and a learned deviation, see `with_noise`
    # `apply` in numpy, obs [M, N(, F)] → [M, N, outputs], for acting on the CPU; None where there is none.
    in_numpy: Callable[[Mapping[str, np.ndarray], np.ndarray], np.ndarray] | None = None


def with_noise(network: Network, sigma: float) -> Network:
    """The noisy form of a network: w = μ + σ∘ε with learned μ and σ (Fortunato et al. 2018), σ from `sigma`/√fan_in.

    ε is factorised: ε_ij = f(x_i)·f(y_j) for a weight and f(y_j) for the bias beside it, f(x) = sign(x)·√|x| of normal
    numbers. `Layout` keeps σ beside μ and draws ε for each member from its own stream.

    Raises:
        ConfigError: the network does not say what its layers are.
    """
    if set(network.fan_in_roots) != set(network.shapes):
        raise ConfigError("exploration=noisy: this network has no noisy form; use network=tabular, linear or mlp")
    return replace(network, sigma=sigma)


class Layout:
    """Where the parameters of all roles lie in one tensor theta [M, P].

    One tensor makes the optimiser, the per-member clip, checkpoints and target networks one operation each. Of noisy
    networks it is [M, 2·P]: all means, then all deviations.
    """

    def __init__(self, networks: Mapping[str, Network]) -> None:
        self.networks = dict(networks)
        self._slots = [
            (role, name, tuple(shape)) for role, network in networks.items() for name, shape in network.shapes.items()
        ]
        self._sizes = [prod(shape) for _, _, shape in self._slots]
        self._means = sum(self._sizes)
        self.noisy = any(network.sigma > 0 for network in networks.values())

    @property
    def size(self) -> int:
        """P, the number of parameters of one member; 2·P with noise."""
        return self._means * (2 if self.noisy else 1)

    def init(self, streams: Streams) -> Tensor:
        """First parameters [M, size], every member's from its own stream."""
        parts = {role: network.init(streams) for role, network in self.networks.items()}
        columns = [parts[role][name].reshape(streams.members, -1) for role, name, _ in self._slots]
        if self.noisy:
            for role, name, shape in self._slots:
                network = self.networks[role]
                deviation = network.sigma / network.fan_in_roots[name]
                columns.append(torch.full((streams.members, prod(shape)), deviation, device=streams.device))
        return torch.cat(columns, dim=1)

    def deviations(self, theta: Tensor) -> Tensor:
        """The learned deviations of noisy networks, a view [M, P]."""
        return theta[:, self._means :]

    def draw(self, theta: Tensor, streams: Streams) -> dict[str, Params]:
        """Parameters with fresh noise, every member's from its own stream; without noise, `unpack`."""
        if not self.noisy:
            return self.unpack(theta)
        noise = self._noise(streams).to(theta.dtype)
        return self.unpack(torch.addcmul(theta[:, : self._means], self.deviations(theta), noise))

    def _noise(self, streams: Streams) -> Tensor:
        """ε of every mean: [M, P]."""
        weights = [(role, name, shape) for role, name, shape in self._slots if len(shape) == 2]
        counts = [count for _, _, shape in weights for count in shape]
        numbers = streams.normal(sum(counts))
        sides = (numbers.sign() * numbers.abs().sqrt()).split(counts, dim=1)
        layers = {(role, name): sides[2 * k : 2 * k + 2] for k, (role, name, _) in enumerate(weights)}
        parts = []
        for role, name, shape in self._slots:
            inputs, outputs = layers[role, name.replace("bias", "weight")]
            product = outputs if len(shape) == 1 else inputs.unsqueeze(-1) * outputs.unsqueeze(-2)
            parts.append(product.flatten(1))
        return torch.cat(parts, dim=1)

    def unpack(self, theta: Tensor) -> dict[str, Params]:
        """The parameters (of noisy networks, their means) by role and name, as views of theta [M, size]."""
        pieces = theta[:, : self._means].split(self._sizes, dim=1)
        params: dict[str, Params] = {role: {} for role in self.networks}
        for (role, name, shape), piece in zip(self._slots, pieces, strict=True):
            params[role][name] = piece.view(theta.shape[0], *shape)
        return params
