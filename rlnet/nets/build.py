"""The function classes: tabular, linear, multi-layer perceptron.

State indices stay integers until here: a one-hot vector times a matrix is a row of the matrix, so it is looked up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from rlnet.config import ConfigError, LinearConfig, MlpConfig, NetworkConfig, TabularConfig
from rlnet.nets.network import Network, Params
from rlnet.rng import Streams

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "silu": torch.nn.functional.silu,
}


@dataclass(frozen=True)
class Inputs:
    """What a network can see of the environment."""

    env: str  # its name, for error messages
    n_states: int | None  # S where observations are state indices
    features: Tensor | None  # [S, F] of the states, where the environment has them
    size: int | None  # length of a vector observation


def lookup(table: Tensor, index: Tensor) -> Tensor:
    """Row index[..., m, n] of each member's table: [M, S, H], int64 [..., M, N] → [..., M, N, H]."""
    members, rows, width = table.shape
    offset = torch.arange(members, device=index.device).unsqueeze(-1) * rows
    return torch.nn.functional.embedding(index + offset, table.reshape(members * rows, width))


def dense(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x·W + b, each member with its own: [..., M, N, I], [M, I, O], [M, O] → [..., M, N, O]."""
    members, width = weight.shape[0], weight.shape[-1]
    lead, count = x.shape[:-3], x.shape[-2]
    if lead:  # the batched product wants members first: [..., M, N, I] → [M, ...·N, I]
        x = x.movedim(-3, 0).reshape(members, -1, x.shape[-1])
    y = torch.baddbmm(bias.unsqueeze(1), x, weight)
    return y.view(members, *lead, count, width).movedim(0, -3) if lead else y


def _uniform(streams: Streams, bound: float, shape: tuple[int, ...]) -> Tensor:
    return ((2 * streams.uniform(*shape) - 1) * bound).float()


def _table(outputs: int, states: int, initial: float) -> Network:
    shapes = {"table": (states, outputs)}

    def init(streams: Streams) -> Params:
        return {"table": torch.full((streams.members, states, outputs), initial, device=streams.device)}

    return Network(shapes, init, lambda params, obs: lookup(params["table"], obs))


def _linear(outputs: int, width: int, encode: Callable[[Tensor], Tensor]) -> Network:
    shapes = {"weight": (width, outputs), "bias": (outputs,)}

    def init(streams: Streams) -> Params:
        return {k: torch.zeros(streams.members, *shape, device=streams.device) for k, shape in shapes.items()}

    return Network(shapes, init, lambda params, obs: dense(encode(obs), params["weight"], params["bias"]))


def _mlp(outputs: int, config: MlpConfig, width: int, encode: Callable[[Tensor], Tensor] | None) -> Network:
    """`encode` None: the observation is an index into the first weight matrix."""
    widths = [width, *config.hidden, outputs]
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (fan_in, fan_out) in enumerate(pairwise(widths)):
        shapes |= {f"weight{layer}": (fan_in, fan_out), f"bias{layer}": (fan_out,)}
    depth, activation = len(config.hidden), ACTIVATIONS[config.activation]

    def init(streams: Streams) -> Params:
        # Uniform within 1/√fan_in, as torch.nn.Linear does.
        bounds = {f"{kind}{k}": widths[k] ** -0.5 for k in range(depth + 1) for kind in ("weight", "bias")}
        return {name: _uniform(streams, bounds[name], shape) for name, shape in shapes.items()}

    def apply(params: Params, obs: Tensor) -> Tensor:
        if encode is None:
            x = lookup(params["weight0"], obs) + params["bias0"].unsqueeze(1)
        else:
            x = dense(encode(obs), params["weight0"], params["bias0"])
        for layer in range(1, depth + 1):
            x = dense(activation(x), params[f"weight{layer}"], params[f"bias{layer}"])
        return x

    return Network(shapes, init, apply)


def _vector_input(inputs: Inputs, name: str) -> tuple[int, Callable[[Tensor], Tensor]]:
    """Width and encoder of an observation seen as a vector."""
    if inputs.size is not None:
        return inputs.size, lambda obs: obs
    if inputs.features is None:
        other = "network=tabular or network=mlp network.input=one_hot"
        raise ConfigError(f"network={name}: env={inputs.env} has no features for its states; use {other}")
    return inputs.features.shape[1], partial(torch.nn.functional.embedding, weight=inputs.features)


def make_network(config: NetworkConfig, inputs: Inputs, outputs: int) -> Network:
    """The network of a config for one role.

    Args:
        config: which function class.
        inputs: what it sees.
        outputs: 1 for V, the number of actions for Q or policy logits.

    Raises:
        ConfigError: the function class cannot represent a function of these observations.
    """
    if isinstance(config, TabularConfig):
        if inputs.n_states is None:
            raise ConfigError(f"network=tabular: env={inputs.env} has no countable states; use linear or mlp")
        return _table(outputs, inputs.n_states, config.initial_value)
    if isinstance(config, LinearConfig):
        return _linear(outputs, *_vector_input(inputs, "linear"))
    if isinstance(config, MlpConfig):
        if inputs.n_states is not None and config.input == "one_hot":
            return _mlp(outputs, config, inputs.n_states, None)
        return _mlp(outputs, config, *_vector_input(inputs, "mlp"))
    raise ConfigError(f"network={config.name}: allowed are tabular, linear, mlp")
