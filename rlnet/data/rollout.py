"""What travels from the environments to the losses.

Axes, always in this order: T time, M members, N environments per member, then features.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache

import numpy as np
import torch
from torch import Tensor

from rlnet.numerics.random_streams import Array, as_array


@dataclass(frozen=True)
class Rollout:
    """T consecutive steps of M × N environments.

    A collector's rollout shows its buffers: it holds until the next one is collected.
    """

    obs: Tensor  # [T, M, N] int64 state index, or [T, M, N, F] float32
    action: Tensor  # [T, M, N] int64, or [T, M, N, D] float32 as it was drawn: a Box may clip it
    reward: Tensor  # [T, M, N] float32, R_{t+1}
    next_obs: Tensor  # as obs: the true successor S_{t+1}, at an end the final observation
    terminated: Tensor  # [T, M, N] bool: the MDP ended, no successor value
    truncated: Tensor  # [T, M, N] bool: a limit cut the episode, the successor has a value
    valid: Tensor  # [T, M, N] bool: False for a row that is no transition (an autoreset, the time after an episode)
    start_discount: Tensor  # [T, M, N] float32: γ^t with t the steps since the episode began
    weight: Tensor  # [T, M, N] float32: the row's share in the member's loss; 0 for rows not to be learned from now
    extra: Mapping[str, Tensor] = field(default_factory=dict)  # [T, M, N] each: what an algorithm prepared before steps

    @classmethod
    def lazily(cls, make: Callable[[str], Array], weight: Array, extra: Mapping[str, Tensor]) -> "Rollout":
        """A rollout whose other fields `make` gives, by name, when they are first looked at: few losses need all.

        Whether they come as tensors or, on the CPU, as arrays of numpy: they can be had as both.
        """
        rollout = object.__new__(cls)
        vars(rollout).update(extra=extra, _make=make, _arrays={})
        if isinstance(weight, Tensor):
            vars(rollout)["weight"] = weight
        else:
            rollout._arrays["weight"] = weight
        return rollout

    def with_extra(self, extra: Mapping[str, Tensor]) -> "Rollout":
        """The same rows, whose fields are still made when they are looked at, with another `extra`."""
        rollout = object.__new__(type(self))
        vars(rollout).update(vars(self), extra=extra)
        return rollout

    def __getattr__(self, name: str) -> Tensor:
        """A field that was not looked at before."""
        make = self.__dict__.get("_make")
        if make is None or name not in TENSORS:
            raise AttributeError(f"a {type(self).__name__} has no {name}")
        made = self._arrays[name] if name in self._arrays else make(name)
        value = self.__dict__[name] = made if isinstance(made, Tensor) else torch.from_numpy(made)
        return value

    def array(self, name: str) -> np.ndarray:
        """A field as an array of numpy, in the same memory; on the CPU."""
        arrays = self.__dict__.get("_arrays")
        if arrays is None:
            arrays = self.__dict__["_arrays"] = {}
        if name not in arrays:
            made = self._make(name) if name not in self.__dict__ and "_make" in self.__dict__ else getattr(self, name)
            arrays[name] = made.numpy() if isinstance(made, Tensor) else made
        return arrays[name]


TENSORS = tuple(item.name for item in fields(Rollout) if item.name != "extra")


def apart(rollout: Rollout) -> Rollout:
    """Every environment as a member of its own: [T, M, N, ...] → [T, M·N, 1, ...]; without `extra`."""
    return Rollout(**{name: getattr(rollout, name).flatten(1, 2).unsqueeze(2) for name in TENSORS})


def rows_in_order(rollout: Rollout, lookback: int) -> Iterator[Rollout]:
    """The rows of a rollout that are due in some environment, in time order, each with the `lookback` rows after it.

    Yields:
        [1 + lookback, M, N], at the end of the rollout fewer rows. Only the first has a weight: 1/N where it is due, so
        that a step is a mean over the environments of a member.
    """
    due = rollout.weight > 0
    for t in range(len(due)):
        if due[t].any():
            rows = slice(t, t + 1 + lookback)
            weight = torch.zeros_like(rollout.weight[rows])
            weight[0] = due[t] / due.shape[-1]
            tensors = {name: getattr(rollout, name)[rows] for name in TENSORS} | {"weight": weight}
            yield Rollout(**tensors, extra={name: tensor[rows] for name, tensor in rollout.extra.items()})


def minibatches(rollout: Rollout, order: Tensor | None, count: int) -> Iterator[Rollout]:
    """The rows of a rollout in `count` parts, each of them one step [1, M, B] with weights that make a mean again.

    Args:
        rollout: [T, M, N].
        order: int64 [M, T·N], a permutation of each member's rows; None: as they are.
        count: at most T·N; it divides the rows as evenly as can be.
    """
    steps, members, envs = rollout.weight.shape
    rows = steps * envs
    device = rollout.weight.device
    library = np if device.type == "cpu" else torch  # numpy copies a few rows in half the time
    if order is None:
        order = torch.arange(rows, device=device).expand(members, -1)
    order, member = (as_array(x, library) for x in (order, torch.arange(members, device=device).unsqueeze(-1)))
    # Row t·N + n of member m lies at (t·M + m)·N + n.
    place = (order + order // envs * ((members - 1) * envs) + member * envs).reshape(-1)

    def drawn(tensor: Tensor) -> Array:
        flat = as_array(tensor.flatten(0, 2), library)
        picked = flat.take(place, 0) if library is np else flat[place]
        return picked.reshape(1, members, rows, *tensor.shape[3:])

    field = cache(lambda name: drawn(getattr(rollout, name)))
    weight = drawn(rollout.weight)
    extra = {name: torch.as_tensor(drawn(tensor)) for name, tensor in rollout.extra.items()}
    edges = [-(-rows * k // count) for k in range(count + 1)]
    for part in map(slice, edges[:-1], edges[1:]):
        own = weight[:, :, part]
        share = own / own.sum(-1, keepdims=True).clip(1e-12)
        yield Rollout.lazily(
            lambda name, part=part: field(name)[:, :, part], share, {name: x[:, :, part] for name, x in extra.items()}
        )
