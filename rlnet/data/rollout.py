"""Rollout and minibatch containers.

Axes, always in this order: T time, M members, N environments per member, then features.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from rlnet.numerics.random_streams import Array, as_array

FIELDS = ("obs", "action", "reward", "next_obs", "terminated", "truncated", "valid", "start_discount", "weight")
MASKS = ("mask", "next_mask")  # fields of environments with action masks
GAMES = ("sign",)  # of games of two players
EVENTS = ("event",)  # of simulations that report an event
SEARCHED = ("search_policy", "search_value")  # of rollouts whose actions a tree search chose
OPTIONAL = (*MASKS, *GAMES, *EVENTS, *SEARCHED)
Pick = Mapping[str, Callable[[Tensor | None], Array]]  # name → (rows int64 [M, N] → the field [1, M, N, ...])


class Observation(NamedTuple):
    """An observation with its mask of available actions."""

    obs: Tensor  # [..., M, N] int64 state index, or [..., M, N, F] float32
    mask: Tensor | None = None  # bool [..., M, N, A]; None: all actions, always

    def rows(self, which: Tensor) -> "Observation":
        """Select rows of the first axis."""
        return Observation(self.obs[which], None if self.mask is None else self.mask[which])


class Rollout:
    """T consecutive steps of M × N environments, or a minibatch of them.

    Each field is read as a tensor (an attribute) or, on the CPU, as an array of numpy in the same memory (`array`). The
    fields of a minibatch are gathered when they are first read: few losses need all. A collector's rollout is a view of
    its buffers, valid until the next one is collected.

    Args:
        extra: additional columns that an algorithm prepared (`Update.prepare`), name → [T, M, N].
        fields: the fields below; `mask` and `next_mask` only where the environment masks actions, `sign` only of games,
            `event` only where one is reported, `search_policy` [T, M, N, A] and `search_value` only where a tree
            search acted.
    """

    __slots__ = ("_arrays", "_make", "_pick", "_tensors", "extra", "names")

    def __init__(self, *, extra: Mapping[str, Tensor] | None = None, **fields: Tensor | None) -> None:
        unknown = set(fields) - {*FIELDS, *OPTIONAL}
        if unknown or not set(FIELDS) <= set(fields):
            raise TypeError(f"a rollout has the fields {', '.join(FIELDS)} and perhaps {', '.join(OPTIONAL)}")
        present = {name: cast(Tensor, x) for name, x in fields.items() if name in FIELDS or x is not None}
        self.names: tuple[str, ...] = tuple(name for name in (*FIELDS, *OPTIONAL) if name in present)
        self.extra: Mapping[str, Tensor] = {} if extra is None else extra
        self._tensors: dict[str, Tensor] = present
        self._arrays: dict[str, np.ndarray] = {}
        self._make: Callable[[str], Array] = _absent
        self._pick: Pick = {}

    @classmethod
    def lazily(
        cls,
        make: Callable[[str], Array],
        weight: Array,
        extra: Mapping[str, Tensor],
        names: tuple[str, ...] = FIELDS,
        pick: Pick | None = None,
    ) -> "Rollout":
        """A rollout whose fields, except for the weight, `make` returns by name when they are first read.

        Args:
            make: name → tensor, or (on the CPU) array of numpy.
            weight: of the rows, likewise.
            extra: as in the constructor.
            names: the fields that there are.
            pick: large fields, of which single rows are gathered faster than all: see `row_of_each`.
        """
        rollout = cls.__new__(cls)
        rollout.names, rollout.extra, rollout._make, rollout._pick = names, extra, make, pick or {}
        given = {"weight": weight}
        rollout._tensors, rollout._arrays = (given, {}) if isinstance(weight, Tensor) else ({}, given)
        return rollout

    def replace(self, *, extra: Mapping[str, Tensor] | None = None, **changes: Tensor) -> "Rollout":
        """A copy with some fields, or `extra`, replaced; fields stay lazy."""
        rollout = type(self).__new__(type(self))
        rollout.names, rollout._make = self.names, self._make
        rollout._pick = {name: own for name, own in self._pick.items() if name not in changes}
        rollout.extra = self.extra if extra is None else extra
        rollout._tensors = self._tensors | changes
        rollout._arrays = {name: array for name, array in self._arrays.items() if name not in changes}
        return rollout

    def tensor(self, name: str) -> Tensor:
        """A field by its name."""
        tensor = self._tensors.get(name)
        if tensor is None:
            made = self._arrays[name] if name in self._arrays else self._make(name)
            tensor = self._tensors[name] = made if isinstance(made, Tensor) else torch.from_numpy(made)
        return tensor

    def array(self, name: str) -> np.ndarray:
        """A field as an array of numpy, in the same memory; on the CPU."""
        array = self._arrays.get(name)
        if array is None:
            made = self._tensors[name] if name in self._tensors else self._make(name)
            array = self._arrays[name] = made.numpy() if isinstance(made, Tensor) else made
        return array

    def row_of_each(self, name: str, row: Tensor | None = None) -> Tensor:
        """One row of a field for each environment, int64 [M, N], None: the first: [1, M, N, ...], gathering no more."""
        if name in self._pick and name not in self._tensors and name not in self._arrays:
            return torch.as_tensor(self._pick[name](row))
        if row is None:
            return self.tensor(name)[:1]
        member, env = (torch.arange(count, device=row.device) for count in row.shape)
        return self.tensor(name)[row, member.unsqueeze(-1), env].unsqueeze(0)

    @property
    def state(self) -> Observation:
        """S_t: the observation before the action, with its mask."""
        return Observation(self.tensor("obs"), self.tensor("mask") if "mask" in self.names else None)

    @property
    def next_state(self) -> Observation:
        """S_{t+1}: the successor, at the end of an episode its final observation, with its mask."""
        return Observation(self.tensor("next_obs"), self.tensor("next_mask") if "next_mask" in self.names else None)

    @property
    def obs(self) -> Tensor:
        """[T, M, N] int64 state index, or [T, M, N, F] float32."""
        return self.tensor("obs")

    @property
    def action(self) -> Tensor:
        """[T, M, N] int64, or [T, M, N, D] float32 as it was drawn: a Box may clip it."""
        return self.tensor("action")

    @property
    def reward(self) -> Tensor:
        """[T, M, N] float32, R_{t+1}."""
        return self.tensor("reward")

    @property
    def next_obs(self) -> Tensor:
        """Like `obs`: the successor S_{t+1}, at the end of an episode its final observation."""
        return self.tensor("next_obs")

    @property
    def terminated(self) -> Tensor:
        """[T, M, N] bool: the MDP ended, no successor value."""
        return self.tensor("terminated")

    @property
    def truncated(self) -> Tensor:
        """[T, M, N] bool: a limit cut the episode, the successor has a value."""
        return self.tensor("truncated")

    @property
    def valid(self) -> Tensor:
        """[T, M, N] bool: False for a row that is no transition (an autoreset, the time after an episode)."""
        return self.tensor("valid")

    @property
    def start_discount(self) -> Tensor:
        """[T, M, N] float32: γ^t with t the steps since the episode began."""
        return self.tensor("start_discount")

    @property
    def sign(self) -> Tensor | None:
        """[T, M, N] float32: −1 where the other player of a zero-sum game moves next, else +1; None: no game."""
        return self.tensor("sign") if "sign" in self.names else None

    @property
    def event(self) -> Tensor:
        """[T, M, N] bool: whether the reported event happened in this step."""
        return self.tensor("event")

    @property
    def weight(self) -> Tensor:
        """[T, M, N] float32: the row's share in the member's loss; 0 for rows not to be learned from now."""
        return self.tensor("weight")


def _absent(name: str) -> Array:
    raise KeyError(name)


def first_row(rollout: Rollout) -> Rollout:
    """The first row of every environment: [T, M, N] → [1, M, N], the rollout itself where it has no other."""
    if len(rollout.weight) == 1:
        return rollout
    extra = {name: tensor[:1] for name, tensor in rollout.extra.items()}
    return Rollout.lazily(rollout.row_of_each, rollout.weight[:1], extra, rollout.names)


def apart(rollout: Rollout) -> Rollout:
    """Reshape so that every environment is a member of its own: [T, M, N, ...] → [T, M·N, 1, ...]; without `extra`."""

    def field(name: str) -> Tensor:
        return rollout.tensor(name).flatten(1, 2).unsqueeze(2)

    return Rollout.lazily(field, field("weight"), {}, rollout.names)


def copied(rollout: Rollout) -> Rollout:
    """A copy in memory of its own, without `extra`."""
    fields: dict[str, Any] = {name: rollout.tensor(name).clone() for name in rollout.names}
    return Rollout(**fields)


def with_environments(rollout: Rollout, other: Rollout, which: Tensor) -> Rollout:
    """Take some environments of a rollout from another one; the shorter one is padded with rows of weight 0.

    Args:
        rollout, other: [T, M, N] and [T', M, N], without `extra`.
        which: bool [M, N], the environments to take from `other`.
    """
    steps = max(len(rollout.weight), len(other.weight))

    def long(tensor: Tensor, name: str) -> Tensor:
        missing = steps - len(tensor)
        return torch.cat([tensor, tensor.new_full((missing, *tensor.shape[1:]), name in MASKS)]) if missing else tensor

    def chosen(name: str) -> Tensor:
        mine, theirs = long(rollout.tensor(name), name), long(other.tensor(name), name)
        return torch.where(which.view(1, *which.shape, *[1] * (mine.dim() - 3)), theirs, mine)

    fields: dict[str, Any] = {name: chosen(name) for name in rollout.names}
    return Rollout(**fields)


def rows_in_order(rollout: Rollout, lookback: int) -> Iterator[Rollout]:
    """Iterate over the rows that are due in some environment, in time order, each with the `lookback` rows after it.

    Yields:
        [1 + lookback, M, N], at the end of the rollout fewer rows. Only the first has a weight: 1/N where it is due, so
        that a step is a mean over the environments of a member.
    """
    due = rollout.weight > 0

    def cut(rows: slice, name: str) -> Tensor:
        return rollout.tensor(name)[rows]

    for t in range(len(due)):
        if due[t].any():
            rows = slice(t, t + 1 + lookback)
            weight = torch.zeros_like(rollout.weight[rows])
            weight[0] = due[t] / due.shape[-1]
            extra = {name: tensor[rows] for name, tensor in rollout.extra.items()}
            yield Rollout.lazily(partial(cut, rows), weight, extra, rollout.names)


def minibatches(rollout: Rollout, order: Tensor | None, count: int) -> Iterator[Rollout]:
    """Split the rows of a rollout into `count` minibatches [1, M, B] with normalised weights.

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

    field = cache(lambda name: drawn(rollout.tensor(name)))

    def cut(part: slice, name: str) -> Array:
        return field(name)[:, :, part]

    weight = drawn(rollout.weight)
    extra = {name: torch.as_tensor(drawn(tensor)) for name, tensor in rollout.extra.items()}
    edges = [-(-rows * k // count) for k in range(count + 1)]
    for part in map(slice, edges[:-1], edges[1:]):
        own = weight[:, :, part]
        share = own / own.sum(-1, keepdims=True).clip(1e-12)
        own_extra = {name: x[:, :, part] for name, x in extra.items()}
        yield Rollout.lazily(partial(cut, part), share, own_extra, rollout.names)
