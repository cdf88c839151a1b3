"""Ring storage of transitions for the replay buffer: numpy records on the CPU, tensors on another device.

The columns of `Rollout.extra` are stored with the fields.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rlnet.config.memory import require_memory
from rlnet.data.next_observations import NextObservations, taken
from rlnet.data.rollout import FIELDS, OPTIONAL, Pick, Rollout
from rlnet.numerics.random_streams import Array

NEXT = "next_obs"
KNOWN = frozenset((*FIELDS, *OPTIONAL))
NOT_STORED = ("weight", "start_discount")
# Integers (states, actions) are stored in 32 bits: no network has 2³¹ rows to look up.
WIDE = 1024  # bytes of a field from which on it is stored apart, and gathered only where it is read
NARROW = {torch.int64: np.int32, torch.float32: np.float32, torch.bool: np.bool_, torch.uint8: np.uint8}


class Transitions(Protocol):
    """Interface of a ring of transitions with fields [slots, M, N, ...]."""

    names: tuple[str, ...]  # of the fields

    @property
    def shape(self) -> Sequence[int]:
        """(slots, M, N)."""
        ...

    def field(self, name: str) -> Array:
        """A field of all rows, [slots, M, N, ...]; writing into it changes the ring."""
        ...

    def write(self, rollout: Rollout, begin: int) -> None:
        """Write the rows of a rollout [T, M, N] from slot `begin` on, wrapping around at the last slot."""
        ...

    def sample(self, at: Array, weight: Array | float, extra: Mapping[str, Tensor]) -> Rollout:
        """Transitions at flat indices int [n, M, B]; valid first rows get the weight `weight` [M, B], others 0."""
        ...

    def state_dict(self, held: int) -> dict[str, Tensor]:
        """The fields of the first `held` rows as tensors, with the members in front."""
        ...


def room_for(rollout: Rollout, slots: int, in_numpy: bool, what: str) -> Transitions:
    """Allocate an empty ring for rows with the fields of a rollout.

    Args:
        rollout: such rows, [T, M, N].
        slots: the number of rows.
        in_numpy: whether as numpy records.
        what: decides about `slots`, for messages.

    Raises:
        ConfigError: there is not memory enough, on the CPU, for it and for the copy that a checkpoint takes.
    """
    fields = {name: rollout.tensor(name) for name in rollout.names if name not in NOT_STORED} | dict(rollout.extra)
    if in_numpy:
        kinds = [(name, NARROW[tensor.dtype], tuple(tensor.shape[3:])) for name, tensor in fields.items()]
        each = sum(_size(kind, inner) for name, kind, inner in kinds if name != NEXT or _size(kind, inner) < WIDE)
        require_memory({what: 2.0 * slots * rollout.reward[0].numel() * each})
        return Records(kinds, (slots, *rollout.reward.shape[1:]))
    return Tensors({name: tensor.new_zeros(slots, *tensor.shape[1:]) for name, tensor in fields.items()})


def _size(kind: Any, inner: tuple[int, ...]) -> int:
    """Bytes of a field of a transition."""
    return np.dtype(kind).itemsize * prod(inner)


def restored(state: Mapping[str, Tensor], slots: int, newest: int, in_numpy: bool) -> Transitions:
    """Restore a ring from its `state_dict`.

    Args:
        state: the rows that were written.
        slots: the number of all rows.
        newest: the slot of the last one.
        in_numpy: whether as numpy records.
    """
    fields = {name: rows.transpose(0, 1) for name, rows in state.items()}
    held, members, envs = fields["reward"].shape
    if not in_numpy:
        whole = {name: rows.new_zeros(slots, *rows.shape[1:]) for name, rows in fields.items()}
        for name, rows in fields.items():
            whole[name][:held] = rows
        return Tensors(whole)
    kinds = [(name, rows.numpy().dtype, tuple(rows.shape[3:])) for name, rows in fields.items()]
    ring = Records(kinds, (slots, members, envs))
    ring.put(lambda name: fields[name].numpy(), 0, held)
    last = slice(newest, newest + 1)  # once more: what is in the next slot is no step after it
    ring.put(lambda name: fields[name][last].numpy(), newest, 1)
    return ring


class Tensors:
    """Ring storage as one tensor for each field."""

    def __init__(self, fields: dict[str, Tensor]) -> None:
        self.names, self._fields = tuple(fields), fields

    @property
    def shape(self) -> Sequence[int]:
        return self._fields["reward"].shape

    def field(self, name: str) -> Tensor:
        return self._fields[name]

    def write(self, rollout: Rollout, begin: int) -> None:
        places = _places(begin, len(rollout.reward), self.shape[0])
        for name, ring in self._fields.items():
            rows = rollout.extra[name] if name in rollout.extra else rollout.tensor(name)
            for into, of in places:
                ring[into] = rows[of]

    def sample(self, at: Tensor, weight: Tensor | float, extra: Mapping[str, Tensor]) -> Rollout:
        rows = {name: field.flatten(0, 2) for name, field in self._fields.items()}
        weights = torch.zeros(at.shape, device=at.device)
        torch.mul(rows["valid"][at[0]], weight, out=weights[0])
        return _drawn(lambda name: rows[name][at], weights, extra, self.names)

    def state_dict(self, held: int) -> dict[str, Tensor]:
        return {name: rows[:held].transpose(0, 1) for name, rows in self._fields.items()}


class Records:
    """Ring storage as numpy records: all fields of a transition are adjacent in memory, so gathering one is one read.

    Large fields, such as images, lie apart: of a segment only its first and its last observation are read. Large
    observations are stored once, see `NextObservations`.

    Args:
        kinds: of the fields: (name, type, shape).
        shape: (slots, M, N).
    """

    def __init__(self, kinds: Sequence[tuple[str, Any, tuple[int, ...]]], shape: Sequence[int]) -> None:
        wide = self._wide = {name for name, kind, inner in kinds if _size(kind, inner) >= WIDE}
        dtype = np.dtype([kind for kind in kinds if kind[0] not in wide], align=True)
        self.names, self.shape, ring = tuple(name for name, *_ in kinds), shape, np.zeros(shape, dtype)
        self._apart = {name: np.zeros((*shape, *inner), kind) for name, kind, inner in kinds if name in wide - {NEXT}}
        self._next = NextObservations(self._apart["obs"]) if NEXT in wide else None
        self._fields = {name: ring[name] for name in self.names if name not in wide} | self._apart
        # As pieces of memory numpy copies them several times faster than as records of fields, or as rows of numbers.
        self._records = ring.reshape(-1).view(np.dtype((np.void, dtype.itemsize)))
        # name → (type, place in a record, type as it is read, type of its numbers where they are read as one piece)
        self._parts: dict[str, tuple[np.dtype, int, np.dtype, np.dtype | None]] = {}
        for name, (kind, offset, *_) in (dtype.fields or {}).items():
            if kind.base == np.int32:
                self._parts[name] = kind, offset, np.dtype(np.int64), None
            else:
                piece = np.dtype((np.void, kind.itemsize)) if kind.shape else kind
                self._parts[name] = piece, offset, piece, kind if kind.shape else None

    def field(self, name: str) -> np.ndarray:
        return self._fields[name]

    def write(self, rollout: Rollout, begin: int) -> None:
        self.put(
            lambda name: rollout.extra[name].numpy() if name in rollout.extra else rollout.array(name),
            begin,
            len(rollout.reward),
        )

    def put(self, rows: Callable[[str], np.ndarray], begin: int, length: int) -> None:
        """Write the rows [T, M, N, ...] of every field, by its name."""
        for into, of in _places(begin, length, self.shape[0]):
            for name, ring in self._fields.items():
                ring[into] = rows(name)[of]
        if self._next is not None:
            self._next.write(rows(NEXT), begin)

    def sample(self, at: np.ndarray, weight: np.ndarray | float, extra: Mapping[str, Tensor]) -> Rollout:
        make, valid = self._taken(at)
        weights = np.zeros(at.shape, np.float32)
        np.multiply(valid, weight, out=weights[0], casting="same_kind")
        member, segment = np.arange(at.shape[1])[:, None], np.arange(at.shape[2])

        def picked(name: str, row: Tensor | None) -> np.ndarray:
            return self._gathered(name, at[:1] if row is None else at[None, row.numpy(), member, segment])

        return _drawn(make, weights, extra, self.names, {name: partial(picked, name) for name in self._wide})

    def _gathered(self, name: str, at: np.ndarray) -> np.ndarray:
        """A field that lies apart, of the transitions with these numbers."""
        rows = taken(self._apart[name], at) if name != NEXT or self._next is None else self._next.take(at)
        return rows.astype(np.int64) if rows.dtype == np.int32 else rows

    def _taken(self, at: np.ndarray) -> tuple[Callable[[str], np.ndarray], np.ndarray]:
        """Fields of the records with these numbers [n, M, B], by name; and whether the first rows are valid [M, B]."""
        records, parts = self._records.take(at), self._parts

        def make(name: str) -> np.ndarray:
            if name in self._wide:
                return self._gathered(name, at)
            kind, offset, wide, numbers = parts[name]
            field = records.getfield(kind, offset).astype(wide)
            return field if numbers is None else field.view(numbers)

        kind, offset, *_ = parts["valid"]
        return make, records[0].getfield(kind, offset)

    def state_dict(self, held: int) -> dict[str, Tensor]:
        fields = {name: field[:held].copy() for name, field in self._fields.items()}
        if self._next is not None:
            fields[NEXT] = self._next.first(held)
        return {name: torch.from_numpy(fields[name]).transpose(0, 1) for name in self.names}


def _drawn(
    make: Callable[[str], Array],
    weights: Array,
    extra: Mapping[str, Tensor],
    stored: tuple[str, ...],
    pick: Pick | None = None,
) -> Rollout:
    """A sample; those of the stored names that are no fields of a rollout were prepared by an algorithm."""
    if not KNOWN.issuperset(stored):
        extra = {**{name: torch.as_tensor(make(name)) for name in stored if name not in KNOWN}, **extra}
        stored = tuple(name for name in stored if name in KNOWN)
    return Rollout.lazily(make, weights, extra, stored, pick)


def _places(begin: int, length: int, slots: int) -> list[tuple[slice, slice]]:
    """(slots, rows) of a rollout that is written from slot `begin` on; what does not fit goes to the front."""
    fit = min(length, slots - begin)
    places = [(slice(begin, begin + fit), slice(0, fit))]
    return places if fit == length else [*places, (slice(0, length - fit), slice(fit, length))]
