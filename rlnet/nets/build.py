"""`make_network`: networks from settings (tabular, linear, perceptron, convolutional, torch module, language model).

State indices stay integers: a one-hot vector times a matrix is a row of the matrix, so it is looked up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from rlnet.config import (
    CausalLMConfig,
    CnnConfig,
    ConfigError,
    LinearConfig,
    MlpConfig,
    ModuleConfig,
    NetworkConfig,
    TabularConfig,
    require,
)
from rlnet.nets.causal_lm import TokenInputs, causal_lm
from rlnet.nets.cnn import cnn_network
from rlnet.nets.module import module_network
from rlnet.nets.network import Network, ParameterView, Params
from rlnet.nets.numpy.acting import forward
from rlnet.nets.numpy.activations import ACTIVATIONS as FAST
from rlnet.nets.numpy.perceptron import Perceptron
from rlnet.nets.numpy.table import Table
from rlnet.numerics.observation_rows import RowLayout
from rlnet.numerics.random_streams import Streams

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "silu": torch.nn.functional.silu,
}


@dataclass(frozen=True)
class Inputs:
    """The inputs that an environment offers to a network."""

    env: str  # KEY=VALUE of the setting that names it, for error messages
    n_states: int | None  # S where observations are state indices
    features: Tensor | None  # [S, F] of the states, where the environment has them
    size: int | None  # length of a vector observation
    several: bool = False  # whether the population has several members, even if this process has only one of them
    tokens: TokenInputs | None = None  # where observations are texts of tokens
    layout: RowLayout | None = None  # the parts of a vector observation


def lookup(table: Tensor, index: Tensor) -> Tensor:
    """Embedding lookup in each member's own table: [M, S, H], int64 [..., M, N] → [..., M, N, H]."""
    members, rows, width = table.shape
    offset = torch.arange(members, device=index.device).unsqueeze(-1) * rows
    return torch.nn.functional.embedding(index + offset, table.reshape(members * rows, width))


def dense(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Affine layer x·W + b with weights per member: [..., M, N, I], [M, I, O], [M, O] → [..., M, N, O]."""
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
    return Network({"table": (states, outputs)}, init, apply, roots, by_hand=Table(states), in_numpy=in_numpy)


def _linear(first: Tensor, config: LinearConfig, seen: "_Seen") -> Network:
    shapes = {"weight": (seen.width, len(first)), "bias": (len(first),)}
    if not config.bias:
        require(not first.any(), "network.initial_value", first.max().item(), "needs network.bias=true")
        del shapes["bias"]
    weights = torch.zeros(seen.width) if config.weights is None else torch.tensor(config.weights)
    allowed = f"must be {seen.width} numbers, one for each feature, or null"
    require(len(weights) == seen.width, "network.weights", config.weights, allowed)
    by_hand = seen.perceptron([len(first)], "relu") if config.bias and seen.plain else None

    def init(streams: Streams) -> Params:
        start = {"weight": weights.unsqueeze(1).expand(shapes["weight"]), "bias": first}
        return {name: start[name].to(streams.device).expand(streams.members, *shapes[name]).clone() for name in shapes}

    def apply(params: Params, obs: Tensor) -> Tensor:
        weight = params["weight"]
        bias = params["bias"] if config.bias else weight.new_zeros(len(weight), weight.shape[-1])
        return dense(seen.encode(obs), weight, bias)

    return Network(shapes, init, apply, dict.fromkeys(shapes, seen.width**0.5), by_hand=by_hand)


def _mlp(first: Tensor, split: int, config: MlpConfig, seen: "_Seen") -> Network:
    """A perceptron; with `split` K > 0 its first K outputs have a last hidden layer of their own (dueling)."""
    hidden, depth, activation = list(config.hidden), len(config.hidden), ACTIVATIONS[config.activation]
    two = split > 0 and depth > 0
    below = [*hidden[:-1], 2 * hidden[-1]] if two else hidden
    layers = {str(k): pair for k, pair in enumerate(pairwise([seen.width, *below]))}
    inputs = hidden[-1] if hidden else seen.width
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

    simple = config.activation in FAST and not two and seen.plain
    fast = seen.perceptron([*hidden, len(first)], config.activation) if simple else None

    def apply(params: Params, obs: Tensor) -> Tensor:
        if fast is not None and isinstance(params, ParameterView) and params.flat.device.type == "cpu":
            if torch.is_grad_enabled() and (params.flat.requires_grad or obs.requires_grad):
                return fast(params.flat, obs)
            members, states = params.flat.shape[0], seen.width
            if params.resting and seen.indexed and obs.numel() >= members * states:
                rows = params.table(states, partial(fast.without_gradient, params.layers(fast)))
                own = np.arange(0, members * states, states)[:, None] if members > 1 else 0  # first row of a member
                return torch.from_numpy(rows.take(obs.numpy() + own, 0))  # type: ignore[arg-type]  # integers
            return fast.without_gradient(params.layers(fast), obs.detach())
        if seen.indexed:
            x = lookup(params["weight0"], obs) + params["bias0"].unsqueeze(1)
        else:
            x = dense(seen.encode(obs), params["weight0"], params["bias0"])
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

    active = {"0": 1} if seen.indexed else {}  # of a one-hot input
    roots = {f"{kind}{k}": active.get(k, pair[0]) ** 0.5 for k, pair in layers.items() for kind in ("weight", "bias")}
    return Network(shapes, init, apply, roots, by_hand=fast, in_numpy=_acting(fast))


def _behind_images(first: Tensor, split: int, config: CnnConfig, width: int, hidden: list[int]) -> Network:
    """The hidden layers of a convolutional network, behind `width` features."""
    return _mlp(first, split, MlpConfig(name="mlp", hidden=hidden, activation="relu"), _Seen(width))


def _acting(fast: Perceptron | None) -> Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]] | None:
    return None if fast is None else partial(forward, fast)


@dataclass(frozen=True)
class _Seen:
    """Input encoding: from observations to input vectors of `width` numbers."""

    width: int
    indexed: bool = False  # one-hot: the observation is the index of what is 1
    features: Tensor | None = None  # [S, width]: the observation is the index of a row; else it is the vector itself
    several: bool = False
    kinds: int | None = None  # the observation is a row of tokens, each of which is one of so many, or −1: one-hot
    layout: RowLayout | None = None  # the observation is a row that holds images in bytes

    @property
    def plain(self) -> bool:
        """Whether observations are indices or vectors as they are."""
        return self.kinds is None and self.layout is None

    def encode(self, obs: Tensor) -> Tensor:
        if self.kinds is not None:
            return (obs.unsqueeze(-1) == torch.arange(self.kinds, device=obs.device)).flatten(-2).float()
        if self.layout is not None:
            return self.layout.floats(obs)
        return obs if self.features is None else torch.nn.functional.embedding(obs, self.features)

    def perceptron(self, widths: Sequence[int], activation: str) -> Perceptron:
        features = None if self.features is None else self.features.cpu().numpy()
        return Perceptron((self.width, *widths), activation, self.indexed, features, self.several)


def number() -> Network:
    """A network of one parameter that depends on no observation, initially 0: [M, 1]."""

    def init(streams: Streams) -> Params:
        return {"value": torch.zeros(streams.members, 1, device=streams.device)}

    return Network({"value": (1,)}, init, lambda params, obs: params["value"])


def _seen(inputs: Inputs, name: str, one_hot: bool) -> _Seen:
    """The input encoding of a network."""
    if inputs.size is not None and inputs.tokens is not None:
        return _Seen(inputs.tokens.width * inputs.tokens.kinds, kinds=inputs.tokens.kinds, several=inputs.several)
    if inputs.size is not None:
        packed = inputs.layout if inputs.layout is not None and inputs.layout.is_packed else None
        return _Seen(inputs.size, several=inputs.several, layout=packed)
    if one_hot and inputs.n_states is not None:
        return _Seen(inputs.n_states, indexed=True, several=inputs.several)
    if inputs.features is None:
        other = "network=tabular or network=mlp network.input=one_hot"
        raise ConfigError(f"network={name}: {inputs.env} has no features for its states; use {other}")
    return _Seen(inputs.features.shape[1], features=inputs.features, several=inputs.several)


def make_network(
    config: NetworkConfig, inputs: Inputs, outputs: int, *, split: int = 0, initial: float | None = None
) -> Network:
    """Build the network of a config for one role.

    Args:
        config: which function class.
        inputs: of the network.
        outputs: 1 for V, the number of actions for Q or policy logits.
        split: number of first outputs that have hidden units of their own (the value stream of dueling networks).
        initial: initial value of the outputs, or with `split` of the first ones alone; None: config.initial_value.

    Raises:
        ConfigError: the function class cannot represent a function of these observations.
    """
    first = torch.zeros(outputs)
    first[: split or outputs] = config.initial_value if initial is None else initial
    if isinstance(config, TabularConfig):
        if inputs.n_states is None:
            others = "linear or mlp" if inputs.tokens is None else "mlp or causal_lm"
            raise ConfigError(f"network=tabular: {inputs.env} has no countable states; use {others}")
        return _table(first, inputs.n_states)
    if isinstance(config, LinearConfig):
        return _linear(first, config, _seen(inputs, "linear", one_hot=False))
    if isinstance(config, MlpConfig):
        return _mlp(first, split, config, _seen(inputs, "mlp", config.input == "one_hot"))
    if isinstance(config, CnnConfig):
        behind = partial(_behind_images, first, split, config)
        return cnn_network(config, inputs.layout, inputs.size or 0, inputs.env, behind)
    if isinstance(config, ModuleConfig):
        seen = _seen(inputs, "module", config.input == "one_hot")
        if not seen.indexed:
            return module_network(first, config, seen.width, seen.encode)
        return module_network(
            first, config, seen.width, lambda obs: torch.nn.functional.one_hot(obs, seen.width).float()
        )
    if isinstance(config, CausalLMConfig):
        if inputs.tokens is None:
            raise ConfigError(f"network=causal_lm: {inputs.env} has no tokens; use tabular, linear or mlp")
        return causal_lm(first, config, inputs.tokens)
    raise ConfigError(f"network={config.name}: allowed are tabular, linear, mlp, cnn, module, causal_lm")
