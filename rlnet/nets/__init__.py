"""Networks of a whole population: parameters [M, P] in one tensor, forward passes as batched matrix products."""

from rlnet.nets.build import Inputs, lookup, make_network, number
from rlnet.nets.causal_lm import TokenInputs
from rlnet.nets.module_bodies import ConvNet, ResidualNet
from rlnet.nets.network import Network, ParameterLayout, ParameterView, with_noise

__all__ = [
    "ConvNet",
    "Inputs",
    "Network",
    "ParameterLayout",
    "ParameterView",
    "ResidualNet",
    "TokenInputs",
    "lookup",
    "make_network",
    "number",
    "with_noise",
]
