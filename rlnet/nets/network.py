"""Networks as pure functions of explicit parameters, and the layout of all parameters in one tensor."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from rlnet.config import ConfigError
from rlnet.nets.numpy.perceptron import Perceptron
from rlnet.nets.numpy.table import Table
from rlnet.numerics.random_streams import Streams

Params = Mapping[str, Tensor]  # name → [M, *shape]


@dataclass(frozen=True)
class Network:
    """Function approximator of one role, evaluated for all members at once."""

    shapes: Mapping[str, tuple[int, ...]]  # of one member's parameters, by name
    init: Callable[[Streams], Params]  # first parameters, each [M, *shape]
    apply: Callable[[Params, Tensor], Tensor]  # (params, obs [..., M, N(, F)]) → [..., M, N, outputs]
    # √fan_in of the layer of each parameter, by which the initial noise of noisy networks is divided.
    fan_in_roots: Mapping[str, float] = field(default_factory=dict)
    sigma: float = 0.0  # above 0: every parameter is a mean and a learned deviation, see `with_noise`
    # Hand-written forward and backward pass in numpy, in place of autograd; None where there is none.
    by_hand: Perceptron | Table | None = None
    # `apply` in numpy, for acting on the CPU: given the parameters [M, P], whose memory may change, a function
    # obs [M, N(, F)] → [M, N, outputs], which may be overwritten by the next call. None where there is none.
    in_numpy: Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]] | None = None
    # For sampling whole texts: makes a function like `apply`, for obs [M, N, ...], with a KV cache that computes new
    # tokens alone (`rlnet.nets.decoding.Decoding`). None where there is none.
    growing: Callable[[], Callable[[Params, Tensor], Tensor]] | None = None


def with_noise(network: Network, sigma: float) -> Network:
    """The noisy form of a network: w = μ + σ∘ε with learned μ and σ (Fortunato et al. 2018), σ from `sigma`/√fan_in.

    ε is factorised: ε_ij = f(x_i)·f(y_j) for a weight and f(y_j) for the bias beside it, f(x) = sign(x)·√|x| of normal
    numbers. `ParameterLayout` keeps σ beside μ and draws ε for each member from its own stream.

    Raises:
        ConfigError: the layers of the network are not known.
    """
    if set(network.fan_in_roots) != set(network.shapes):
        raise ConfigError("exploration=noisy: this network has no noisy form; use network=tabular, linear or mlp")
    return replace(network, sigma=sigma)


class ParameterView(Mapping[str, Tensor]):
    """Parameters of one network: a tensor [M, P], and by name lazily created views of it.

    Args:
        flat: [M, P], a slice of theta.
        shapes: of one member's parameters, in their order.
        resting: whether they stay fixed for many steps, like those of a target network: outputs of all states are then
            cached until `changed` is called.
    """

    def __init__(self, flat: Tensor, shapes: Mapping[str, tuple[int, ...]], resting: bool = False) -> None:
        self.flat, self.resting, self._shapes = flat, resting, shapes
        self._views: dict[str, Tensor] = {}
        self._table: np.ndarray | None = None  # [M·S, O], outputs for every state
        self._layers: list[np.ndarray] | None = None

    def layers(self, net: Perceptron | Table) -> list[np.ndarray]:
        """The parameters as numpy arrays per layer, for the hand-written passes; cached views."""
        if self._layers is None:
            self._layers = net.layers(self.flat.detach().numpy())
        return self._layers

    def table(self, states: int, outputs: Callable[[Tensor], Tensor]) -> np.ndarray:
        """Cached outputs for every state, [M·S, O].

        Args:
            outputs: states [M, S] → [M, S, O].
        """
        if self._table is None:
            every = torch.arange(states).expand(len(self.flat), -1)
            self._table = outputs(every).flatten(0, 1).numpy()
        return self._table

    def changed(self) -> None:
        """Drop cached outputs: resting parameters have changed."""
        self._table = None

    def leaf(self) -> "ParameterView":
        """A differentiable copy (leaf): gradients are with respect to its `flat`."""
        return ParameterView(self.flat.detach().requires_grad_(), self._shapes)

    def __getitem__(self, name: str) -> Tensor:
        if not self._views:
            with torch.enable_grad():  # as in `ParameterLayout.unpack`
                pieces = self.flat.split([prod(shape) for shape in self._shapes.values()], dim=1)
                for (key, shape), piece in zip(self._shapes.items(), pieces, strict=True):
                    self._views[key] = piece.view(len(piece), *shape)
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


class ParameterLayout:
    """Layout of the parameters of all roles in one tensor theta [M, P].

    One tensor makes the optimiser, the per-member clip, checkpoints and target networks one operation each. Of noisy
    networks it is [M, 2·P]: all means, then all deviations.
    """

    def __init__(self, networks: Mapping[str, Network]) -> None:
        self.networks = dict(networks)
        self._slots = [
            (role, name, tuple(shape)) for role, network in networks.items() for name, shape in network.shapes.items()
        ]
        self._roles = [sum(map(prod, network.shapes.values())) for network in self.networks.values()]
        self._means = sum(self._roles)
        self.noisy = any(network.sigma > 0 for network in networks.values())

    @property
    def size(self) -> int:
        """P, the number of parameters of one member; 2·P with noise."""
        return self._means * (2 if self.noisy else 1)

    def init(self, streams: Streams) -> Tensor:
        """Initial parameters [M, size], every member's from its own stream."""
        parts = {role: network.init(streams) for role, network in self.networks.items()}
        columns = [parts[role][name].reshape(streams.members, -1) for role, name, _ in self._slots]
        if self.noisy:
            for role, name, shape in self._slots:
                network = self.networks[role]
                deviation = network.sigma / network.fan_in_roots[name]
                columns.append(torch.full((streams.members, prod(shape)), deviation, device=streams.device))
        return torch.cat(columns, dim=1)

    def columns(self, role: str) -> slice:
        """The columns of theta that hold the parameters of a role (of noisy networks, their means)."""
        before = sum(self._roles[: list(self.networks).index(role)])
        return slice(before, before + self._roles[list(self.networks).index(role)])

    def deviations(self, theta: Tensor) -> Tensor:
        """The learned standard deviations of noisy networks, a view [M, P]."""
        return theta[:, self._means :]

    def draw(self, theta: Tensor, streams: Streams) -> dict[str, ParameterView]:
        """Parameters with fresh noise, every member's from its own stream; without noise, `unpack`."""
        if not self.noisy:
            return self.unpack(theta)
        noise = self._noise(streams).to(theta.dtype)
        return self.unpack(torch.addcmul(theta[:, : self._means], self.deviations(theta), noise))

    def _noise(self, streams: Streams) -> Tensor:
        """Factorised noise ε of every parameter: [M, P]."""
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

    @torch.enable_grad()  # or views that were made under no_grad would never carry a gradient
    def unpack(self, theta: Tensor, resting: bool = False) -> dict[str, ParameterView]:
        """The parameters (of noisy networks, their means) by role and name, as views of theta [M, size].

        Args:
            resting: see `ParameterView`.
        """
        means = theta if len(self._roles) == 1 and not self.noisy else theta[:, : self._means]
        flats = means.split(self._roles, dim=1) if len(self._roles) > 1 else (means,)
        return {
            role: ParameterView(flat, network.shapes, resting)
            for (role, network), flat in zip(self.networks.items(), flats, strict=True)
        }
