"""Networks with normalised observations, and values in units of the standard deviation of returns.

The statistics are parameters without gradient: they are stored in theta with the weights, updated while data is
collected (`rlnet.learning.normalization`), and part of every checkpoint. Evaluation, export and `rlnet.load` apply them
unchanged.
"""

import torch
from torch import Tensor

from rlnet.nets.network import Network, Params
from rlnet.numerics.observation_rows import RowLayout
from rlnet.numerics.random_streams import Streams

MEAN, SCALE, UNIT = "input_mean", "input_scale", "output_unit"  # their names in theta
FURTHEST = 10.0  # normalised inputs are clipped to ± so many deviations


def normalized(network: Network, layout: RowLayout | None, inputs: int, outputs: bool) -> Network:
    """Wrap a network: inputs (x − mean)·scale, clipped to ±`FURTHEST`, and outputs multiplied by a unit.

    Args:
        network: of inputs that are vectors.
        layout: of observations.
        inputs: number of first inputs that are normalised; 0: none. The others are an action.
        outputs: whether outputs are multiplied by a unit.
    """
    shapes: dict[str, tuple[int, ...]] = {MEAN: (inputs,), SCALE: (inputs,)} if inputs else {}
    if outputs:
        shapes[UNIT] = (1,)

    def init(streams: Streams) -> Params:
        first = {name: torch.zeros if name == MEAN else torch.ones for name in shapes}
        made = {name: first[name](streams.members, *shape, device=streams.device) for name, shape in shapes.items()}
        return made | dict(network.init(streams))

    def apply(params: Params, obs: Tensor) -> Tensor:
        x = obs
        if inputs:
            x = obs if layout is None else layout.floats(obs)
            mean, scale = (params[name].detach().unsqueeze(1) for name in (MEAN, SCALE))
            seen = ((x[..., :inputs] - mean) * scale).clamp(-FURTHEST, FURTHEST)
            x = torch.cat((seen, x[..., inputs:]), dim=-1)
        y = network.apply({name: params[name] for name in network.shapes}, x)
        return y * params[UNIT].detach().unsqueeze(1) if outputs else y

    return Network(shapes | dict(network.shapes), init, apply)
