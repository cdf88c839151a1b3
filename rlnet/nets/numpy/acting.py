"""Forward pass of a perceptron for acting, in preallocated memory.

A layer is one product, as in `perceptron`: the bias is the weight of an input that is always 1.
"""

from collections.abc import Callable

import numpy as np

from rlnet.nets.numpy.activations import ACTIVATIONS
from rlnet.nets.numpy.perceptron import Perceptron


def forward(net: Perceptron, flat: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Forward pass: obs [M, N] int64 or [M, N, I] → [M, N, O]; the next call overwrites the result.

    Args:
        net: its shape.
        flat: the parameters [M, P]; their memory may change.
    """
    made: dict[int, Callable[[np.ndarray], np.ndarray]] = {}  # by N

    def apply(obs: np.ndarray) -> np.ndarray:
        envs = obs.shape[1]
        if envs not in made:
            made[envs] = _prepared(net, flat, envs)
        return made[envs](obs)

    return apply


def _prepared(net: Perceptron, flat: np.ndarray, envs: int) -> Callable[[np.ndarray], np.ndarray]:
    """`forward` for so many environments per member. One row alone is a vector: its products take half the time."""
    one, members, layers = len(flat) == envs == 1 and not net.several, np.arange(len(flat))[:, None], net.layers(flat)
    lead = () if one else (len(flat), envs)
    if one:
        layers = [layer[0] for layer in layers]
    product = np.ndarray.dot if one else np.matmul
    values = [np.ones((*lead, width + 1), flat.dtype) for width in net.widths[:-1]]  # the inputs of layers, and 1
    out = np.empty((*lead, net.widths[-1]), flat.dtype)
    into = [*(value[..., :-1] for value in values[1:]), out]
    activate, first, bias, x = ACTIVATIONS[net.activation][0], layers[0], layers[0][..., -1:, :], values[0][..., :-1]
    # Activations take the units alone where they lie together, else all of it, and the 1 is set again.
    acted = [value[:-1] if one else value for value in values[1:]]
    later = list(zip(values[1:], acted, layers[1:], into[1:], strict=True))
    shown = out.reshape(len(flat), envs, -1)

    begun = values[1] if len(layers) > 1 else out  # by the first layer
    each = [(first, begun[None])] if one else list(zip(first, begun, strict=True))

    def apply(obs: np.ndarray) -> np.ndarray:
        if net.sparse is not None:
            for rows, (weight, result) in zip(obs, each, strict=True):
                net.sparse.product(rows, weight, result)
        elif net.indexed:
            np.add(first[obs.item()] if one else first[members, obs], bias[0] if one else bias, out=into[0])
        else:
            x[...] = obs if net.features is None else net.features[obs]
            product(values[0], first, into[0])
        for value, active, layer, after in later:
            activate(active)
            if not one:
                value[..., -1] = 1
            product(value, layer, after)
        return shown

    return apply
