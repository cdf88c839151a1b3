"""Device, network inputs, networks and action distribution of a run, from its config and environment."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from rlnet.algos import Algorithm
from rlnet.algos.context import PI, TEMPERATURE, H, Q, Role, V
from rlnet.config import Config, ConfigError, LinearConfig, NoisyConfig, OptimisticConfig, require
from rlnet.envs import Environment
from rlnet.mdp import FiniteMDP
from rlnet.nets import Inputs, Network, TokenInputs, make_network, number, with_noise
from rlnet.nets.normalized import normalized
from rlnet.policies.distributions import Categorical, Distribution, Factored, Gaussian, SquashedGaussian


def inputs_of(config: Config, environment: Environment, device: torch.device) -> Inputs:
    """What networks see of an environment."""
    features, tokens = environment.features, environment.tokens
    if tokens is not None:
        rows = None if tokens.rows is None else torch.as_tensor(tokens.rows, device=device)
        texts = TokenInputs(tokens.width, tokens.kinds, rows)
    return Inputs(
        env=config.env.title(),
        n_states=environment.n_states,
        features=None if features is None else torch.as_tensor(features, dtype=torch.float32, device=device),
        size=None if environment.n_states is not None else _numbers(environment),
        several=len(config.member_seeds) > 1,
        tokens=None if tokens is None else texts,
        layout=environment.layout,
    )


def _numbers(environment: Environment) -> int:
    """How many numbers an observation has."""
    shape, layout = environment.observation_shape, environment.layout
    return int(np.prod(shape)) if layout is None else layout.numbers


def device_of(name: str) -> torch.device:
    """The torch device of this name; ConfigError where there is none."""
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ConfigError(f"device={name}: must be cpu, cuda or cuda:N") from None
    require(device.type == "cuda" or str(device) == "cpu", "device", name, "must be cpu, cuda or cuda:N")
    there = device.type == "cpu" or torch.cuda.is_available()
    require(there, "device", name, "torch finds no such device on this machine")
    return device


def network_of(config: Config, inputs: Inputs, role: Role, actions: Distribution, environment: Environment) -> Network:
    """The network of one role. Values of real actions are numbers of an observation and an action."""
    exploration, initial, split = config.exploration, config.network.initial_value, 0
    if role == TEMPERATURE:
        return number()
    kind = role.kind
    count = environment.n_actions or 1 if kind == Q else actions.outputs if kind == PI else 1
    if kind == Q:
        if environment.n_actions is None and inputs.size is not None:
            inputs = replace(inputs, size=inputs.size + actions.shape[0])
        quantiles = config.algo.options.get("quantiles", 1)
        split = quantiles if config.network.dueling else 0
        count = count * quantiles + split
        if isinstance(exploration, OptimisticConfig):
            initial = exploration.initial_value
    own = config.network
    if kind in (PI, H):  # preferences and corrections begin at 0, whatever values do
        initial = 0.0
        own = replace(own, weights=None) if isinstance(own, LinearConfig) else own
    network = make_network(own, inputs, count, split=split, initial=initial)
    numbers = _numbers(environment) if own.normalize_observations else 0
    in_units = own.normalize_returns and kind in (Q, V)
    if numbers or in_units:
        network = normalized(network, environment.layout, numbers, in_units)
    return with_noise(network, exploration.sigma) if isinstance(exploration, NoisyConfig) else network


def actions_of(environment: Environment, algorithm: Algorithm, device: torch.device) -> Distribution:
    """The action distribution of a policy in this environment."""
    if environment.factors is not None:
        return Factored(environment.factors)
    if environment.action_bounds is None:
        return Categorical(environment.n_actions or 0)
    low, high = (torch.from_numpy(bound).to(device) for bound in environment.action_bounds)
    return SquashedGaussian(low, high) if algorithm.acting.squashes else Gaussian(low, high)


def available_actions(mdp: FiniteMDP, device: torch.device) -> Tensor | None:
    """bool [S, A], or None where nothing is ever masked. Terminal states, whose values never count, mask nothing."""
    available = mdp.available | mdp.terminal[:, None]
    return None if available.all() else torch.as_tensor(available, device=device)
