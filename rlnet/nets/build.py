"""The function classes: tabular, linear, multi-layer perceptron.

State indices stay integers until here: a one-hot vector times a matrix is a row of the matrix, so it is looked up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from rlnet.config import ConfigError, LinearConfig, MlpConfig, ModuleConfig, NetworkConfig, TabularConfig, require
from rlnet.nets.backprop import ACTIVATIONS as FAST
from rlnet.nets.backprop import Perceptron
from rlnet.nets.forward import forward
from rlnet.nets.module import module_network
from rlnet.nets.network import Network, Packed, Params
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


def _table(first: Tensor, states: int) -> Network:
    outputs = len(first)

    def init(streams: Streams) -> Params:
        return {"table": first.to(streams.device).expand(streams.members, states, outputs).clone()}

    def in_numpy(flat: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        table, member = flat.reshape(len(flat), states, outputs), np.arange(len(flat))[:, None]
        return lambda obs: table[member, obs]

    # A state is a one-hot input, of which one is active.
    apply, roots = (lambda params, obs: lookup(params["table"], obs)), {"table": 1.0}
    return Network({"table": (states, outputs)}, init, apply, roots, in_numpy=in_numpy)


def _linear(first: Tensor, config: LinearConfig, width: int, encode: Callable[[Tensor], Tensor]) -> Network:
    shapes = {"weight": (width, len(first)), "bias": (len(first),)}
    if not config.bias:
        require(not first.any(), "network.initial_value", first.max().item(), "needs network.bias=true")
        del shapes["bias"]
    weights = torch.zeros(width) if config.weights is None else torch.tensor(config.weights)
    allowed = f"must be {width} numbers, one for each feature, or null"
    require(len(weights) == width, "network.weights", config.weights, allowed)

    def init(streams: Streams) -> Params:
        start = {"weight": weights.unsqueeze(1).expand(shapes["weight"]), "bias": first}
        return {name: start[name].to(streams.device).expand(streams.members, *shapes[name]).clone() for name in shapes}

    def apply(params: Params, obs: Tensor) -> Tensor:
        weight = params["weight"]
        bias = params["bias"] if config.bias else weight.new_zeros(len(weight), weight.shape[-1])
        return dense(encode(obs), weight, bias)

    return Network(shapes, init, apply, dict.fromkeys(shapes, width**0.5))


def _mlp(
    first: Tensor, split: int, config: MlpConfig, width: int, encode: Callable[[Tensor], Tensor] | None
) -> Network:
    """`encode` None: the observation is an index into the first weight matrix.

    With `split` K > 0 the first K outputs have a last hidden layer of their own, beside that of the others.
    """
    hidden, depth, activation = list(config.hidden), len(config.hidden), ACTIVATIONS[config.activation]
    two = split > 0 and depth > 0
    below = [*hidden[:-1], 2 * hidden[-1]] if two else hidden
    layers = {str(k): pair for k, pair in enumerate(pairwise([width, *below]))}
    inputs = hidden[-1] if hidden else width
    layers[str(depth)] = (inputs, len(first) - split if two else len(first))
    if two:
        layers["_value"] = (inputs, split)
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (fan_in, fan_out) in layers.items():
        shapes |= {f"weight{layer}": (fan_in, fan_out), f"bias{layer}": (fan_out,)}
    ends = {f"bias{depth}": first[split:], "bias_value": first[:split]} if two else {f"bias{depth}": first}

    def init(streams: Streams) -> Params:
        # Uniform within 1/√fan_in, as torch.nn.Linear does; the first values are added at the end.
        fan_in = {f"{kind}{layer}": pair[0] for layer, pair in layers.items() for kind in ("weight", "bias")}
        params = {name: _uniform(streams, fan_in[name] ** -0.5, shape) for name, shape in shapes.items()}
        return params | {name: params[name] + values.to(streams.device) for name, values in ends.items()}

    fast = None
    if config.activation in FAST and not two:
        fast = Perceptron((width, *hidden, len(first)), config.activation, indexed=encode is None)

    def apply(params: Params, obs: Tensor) -> Tensor:
        if fast is not None and isinstance(params, Packed) and params.flat.device.type == "cpu":
            return fast(params.flat, obs if encode is None else encode(obs))
        if encode is None:
            x = lookup(params["weight0"], obs) + params["bias0"].unsqueeze(1)
        else:
            x = dense(encode(obs), params["weight0"], params["bias0"])
        for layer in range(1, depth):
            x = dense(activation(x), params[f"weight{layer}"], params[f"bias{layer}"])
        if depth == 0:
            return x
        x, last = activation(x), (params[f"weight{depth}"], params[f"bias{depth}"])
        if not two:
            return dense(x, *last)
        for_value, for_rest = x.chunk(2, dim=-1)
        value = dense(for_value, params["weight_value"], params["bias_value"])
        return torch.cat((value, dense(for_rest, *last)), dim=-1)

    raw = fast is not None and (encode is None or encode is _as_it_is)
    active = {"0": 1} if encode is None else {}  # of a one-hot input
    roots = {f"{kind}{k}": active.get(k, pair[0]) ** 0.5 for k, pair in layers.items() for kind in ("weight", "bias")}
    return Network(shapes, init, apply, roots, in_numpy=partial(forward, fast) if raw else None)


def _as_it_is(obs: Tensor) -> Tensor:
    return obs


def number() -> Network:
    """A parameter that depends on no observation, 0 at first: [M, 1]."""

    def init(streams: Streams) -> Params:
        return {"value": torch.zeros(streams.members, 1, device=streams.device)}

    return Network({"value": (1,)}, init, lambda params, obs: params["value"])


def _vector_input(inputs: Inputs, name: str) -> tuple[int, Callable[[Tensor], Tensor]]:
    """Width and encoder of an observation seen as a vector."""
    if inputs.size is not None:
        return inputs.size, _as_it_is
    if inputs.features is None:
        other = "network=tabular or network=mlp network.input=one_hot"
        raise ConfigError(f"network={name}: env={inputs.env} has no features for its states; use {other}")
    return inputs.features.shape[1], partial(torch.nn.functional.embedding, weight=inputs.features)


def make_network(
    config: NetworkConfig, inputs: Inputs, outputs: int, *, split: int = 0, initial: float | None = None
) -> Network:
    """The network of a config for one role.

    Args:
        config: which function class.
        inputs: what it sees.
        outputs: 1 for V, the number of actions for Q or policy logits.
        split: so many of the outputs, the first ones, have a stream of hidden units of their own (dueling networks).
        initial: added to the first values of the outputs, or of these first ones alone; None: config.initial_value.

    Raises:
        ConfigError: the function class cannot represent a function of these observations.
    """
    first = torch.zeros(outputs)
    first[: split or outputs] = config.initial_value if initial is None else initial
    if isinstance(config, TabularConfig):
        if inputs.n_states is None:
            raise ConfigError(f"network=tabular: env={inputs.env} has no countable states; use linear or mlp")
        return _table(first, inputs.n_states)
    if isinstance(config, LinearConfig):
        return _linear(first, config, *_vector_input(inputs, "linear"))
    if isinstance(config, MlpConfig):
        if inputs.n_states is not None and config.input == "one_hot":
            return _mlp(first, split, config, inputs.n_states, None)
        return _mlp(first, split, config, *_vector_input(inputs, "mlp"))
    if isinstance(config, ModuleConfig):
        if inputs.n_states is not None and config.input == "one_hot":
            count = inputs.n_states
            return module_network(first, config, count, lambda obs: torch.nn.functional.one_hot(obs, count).float())
        return module_network(first, config, *_vector_input(inputs, "module"))
    raise ConfigError(f"network={config.name}: allowed are tabular, linear, mlp, module")
