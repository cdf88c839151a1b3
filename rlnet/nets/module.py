"""Networks with any torch module as their body, batched over members by `functional_call` under `vmap`.

The config names the class of the body, which is constructed once for each member with the member's own random numbers;
a linear layer maps its features to the outputs.
"""

from collections.abc import Callable
from importlib import import_module
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.dropout import _DropoutNd

from rlnet.config import ConfigError, ModuleConfig, require
from rlnet.config.import_paths import import_here
from rlnet.nets.network import Network, Params
from rlnet.numerics.random_streams import Streams

BODY = "body."  # before the names of the module's parameters


def module_network(first: Tensor, config: ModuleConfig, width: int, encode: Callable[[Tensor], Tensor]) -> Network:
    """Build the network whose body is `config.target(**config.kwargs)`.

    Args:
        first: [outputs], added to the first bias.
        config: the class, its arguments, and the shape in which it sees one observation.
        width: numbers of an observation.
        encode: observations [..., M, N(, F)] → [..., M, N, width].

    Raises:
        ConfigError: there is no such module, it refuses its arguments or the shape, or it is no pure function of
            parameters and input that could be evaluated for all members at once.
    """
    seen = list(config.shape) or [width]
    require(prod(seen) == width, "network.shape", seen, f"an observation has {width} numbers")
    body = _construct(config)
    try:
        features = body(torch.zeros(1, *seen)).flatten(1).shape[1]
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"network.shape={seen}: {config.target} refuses a batch of that shape ({str(error).splitlines()[0]})"
        ) from error
    shapes = {BODY + name: tuple(value.shape) for name, value in body.named_parameters()}
    shapes |= {"weight": (features, len(first)), "bias": (len(first),)}

    def init(streams: Streams) -> Params:
        params = first_parameters(lambda: _construct(config), streams)
        bound = features**-0.5
        for name in ("weight", "bias"):
            params[name] = ((2 * streams.uniform(*shapes[name]) - 1) * bound).float()
        params["bias"] += first.to(streams.device)
        return params

    def one(own: Params, x: Tensor) -> Tensor:
        return functional_call(body, dict(own), (x,)).flatten(1)

    def apply(params: Params, obs: Tensor) -> Tensor:
        x = encode(obs).movedim(-3, 0)  # [M, ..., N, width]
        own = {name.removeprefix(BODY): value for name, value in params.items() if name.startswith(BODY)}
        y = vmap(one)(own, x.reshape(len(x), -1, *seen))
        y = torch.baddbmm(params["bias"].unsqueeze(1), y, params["weight"])
        return y.view(*x.shape[:-1], len(first)).movedim(0, -3)

    return Network(shapes, init, apply)


def first_parameters(construct: Callable[[], nn.Module], streams: Streams) -> dict[str, Tensor]:
    """The parameters [M, ...] of modules that are constructed once for each member, from the member's own stream."""
    members = []
    for seed in streams.integers(2**31, 1).flatten().tolist():
        with torch.random.fork_rng(devices=[]):  # modules draw their first parameters from the global stream
            torch.manual_seed(seed)
            members.append({BODY + name: value.detach() for name, value in construct().named_parameters()})
    return {name: torch.stack([own[name] for own in members]).to(streams.device) for name in members[0]}


def _named(target: str) -> type[nn.Module]:
    """The class that a dotted path names, with the modules in front of it imported.

    Raises:
        ConfigError: there is none, or it is no torch.nn.Module.
    """
    key, parts = "network.target", target.split(".")
    refused = ConfigError(f"{key}={target}: is not a class that can be imported")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise refused
    try:
        found: Any = import_here(parts[0])
        for k, part in enumerate(parts[1:], start=1):
            if not hasattr(found, part):
                import_module(".".join(parts[: k + 1]))
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{target}.".startswith(f"{error.name}.")
        raise (refused if missing else ConfigError(f"{key}={target}: cannot be imported ({_said(error)})")) from error
    except Exception as error:  # what a module of others raises where it is imported
        raise ConfigError(f"{key}={target}: cannot be imported ({_said(error)})") from error
    # Before it is called: what is no module could do anything.
    require(isinstance(found, type) and issubclass(found, nn.Module), key, target, "must be a torch.nn.Module")
    return found


def _said(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _construct(config: ModuleConfig) -> nn.Module:
    key, kind = "network.target", _named(config.target)
    try:
        module = kind(**config.kwargs)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"network.kwargs={config.kwargs}: {config.target} refuses them ({error})") from error
    allowed = "must have no buffers: layers like BatchNorm would mix rows and keep a state beside the parameters"
    require(not list(module.buffers()), key, config.target, allowed)
    dropped = any(isinstance(part, _DropoutNd) for part in module.modules())
    require(not dropped, key, config.target, "must have no dropout, whose random stream would be shared by all members")
    return module
