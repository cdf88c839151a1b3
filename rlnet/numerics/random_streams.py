"""Random streams: every member of a population has generators of its own.

A stream is named by (member seed, purpose). Member k of a population therefore draws what it would draw alone,
and a change in how one part of the program uses randomness does not shift the numbers of another.

The generator is PCG64DXSM, begun by `numpy.random.SeedSequence([seed, purpose])`. It can jump to any place of its
sequence, so that a stream's state is its seed and how many numbers were drawn. They are drawn on the CPU: the same
numbers on every device.
"""

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Gathering is made of many small operations, each of which numpy does several times faster than torch: on the CPU it
# exchanges arrays of numpy, on another device tensors.
Array = Any  # numpy.ndarray or Tensor: what both can do has no static type

_PURPOSES = (
    "network",
    "environment",
    "behaviour",
    "replay",
    "reset",
    "update",
    "noise",
    "search",
    "evaluation",
    "again",
    "contest",
)
# A uniform number of exactly 1 − 2⁻⁵³ can round up to the end of a cumulative sum; this keeps every draw inside.
_BELOW_ONE = 1.0 - 1e-12


def derive_seed(seed: int, purpose: str, number: int | None = None) -> int:
    """The 63-bit seed of the stream (seed, purpose), or of the one with this number among several.

    Raises ValueError for a purpose that is not one of the program's streams, or a negative seed.
    """
    words = _sequence(seed, purpose, number).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def _sequence(seed: int, purpose: str, number: int | None = None) -> np.random.SeedSequence:
    if purpose not in _PURPOSES:
        raise ValueError(f"purpose={purpose!r}: allowed are {', '.join(_PURPOSES)}")
    if seed < 0:
        raise ValueError(f"seed={seed}: must be a non-negative integer")
    return np.random.SeedSequence([seed, _PURPOSES.index(purpose), *([] if number is None else [number])])


class Streams:
    """Random streams of M members for one purpose. All are at the same place of their sequences.

    Args:
        seeds: the M member seeds.
        purpose: what the numbers are for; see `derive_seed`.
        device: where the numbers go.
    """

    def __init__(self, seeds: Sequence[int], purpose: str, device: torch.device | str = "cpu") -> None:
        self.purpose = purpose
        self.device = torch.device(device)
        self.reseed(seeds)

    @property
    def members(self) -> int:
        """M, the number of members."""
        return len(self._seeds)

    def reseed(self, seeds: Sequence[int]) -> None:
        """Start every member's stream again, from a new seed each."""
        self._begin(seeds, 0)

    def _begin(self, seeds: Sequence[int], drawn: int) -> None:
        self._seeds, self._drawn = list(seeds), drawn
        self._generators: list[np.random.Generator] = []  # made for the first number

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1) as float64 [M, *shape]; member m's slice depends on its own stream alone."""
        if not self._generators:
            bits = [np.random.PCG64DXSM(_sequence(seed, self.purpose)) for seed in self._seeds]
            self._generators = [np.random.Generator(own.advance(self._drawn)) for own in bits]
        out = np.empty((self.members, math.prod(shape)))
        for row, generator in zip(out, self._generators, strict=True):
            generator.random(out=row)
        self._drawn += out.shape[1]
        np.minimum(out, _BELOW_ONE, out=out)
        return torch.from_numpy(out.reshape(self.members, *shape)).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers as float64 [M, *shape], by inverting their distribution."""
        return torch.special.ndtri(self.uniform(*shape).clamp_(min=1.0 - _BELOW_ONE))

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform integers in [0, high) as int64 [M, *shape]."""
        return (self.uniform(*shape) * high).long()

    def permutation(self, *shape: int) -> Tensor:
        """Uniformly random permutations along the last axis: int64 [M, *shape]."""
        numbers = self.uniform(*shape)
        if self.device.type == "cpu":  # numpy sorts several times faster
            return torch.from_numpy(np.argsort(numbers.numpy()))
        return numbers.argsort()

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: all that is needed to continue with the same numbers."""
        return {"seeds": torch.tensor(self._seeds, dtype=torch.int64), "drawn": self._drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        self._begin(state["seeds"].tolist(), state["drawn"])


class BlockUniform:
    """An endless sequence of float64 [M, *shape] uniforms, drawn `block` at a time.

    Drawing costs a Python loop over members; a block pays it once for many steps.

    Args:
        streams: of the members, on the CPU where `library` is numpy.
        shape: of what each member gets at once.
        block: how many of those are drawn together; affects speed alone.
        library: numpy or torch, whose arrays come out.
    """

    def __init__(self, streams: Streams, shape: tuple[int, ...], block: int = 64, library: ModuleType = torch) -> None:
        self.streams, self.shape, self.block, self._library = streams, shape, block, library
        self._numbers: Array = None  # [M, block, *shape], once something was drawn
        self._next = block

    def next(self) -> Array:
        """The next [M, *shape] uniforms."""
        if self._next == self.block:
            self._draw()
            self._next = 0
        self._next += 1
        return self._numbers[:, self._next - 1]

    def _draw(self) -> None:
        self._numbers = as_array(self.streams.uniform(self.block, *self.shape), self._library)

    def skip(self) -> None:
        """Skip what `next` would return."""
        if self._next == self.block:
            self.next()
        else:
            self._next += 1

    def reseed(self, seeds: Sequence[int]) -> None:
        """Discard the rest of the block and start every member's stream again."""
        self.streams.reseed(seeds)
        self._next = self.block

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: where the block began, and how much of it was taken."""
        state = self.streams.state_dict()
        if self._next < self.block:
            state["drawn"] -= self.block * math.prod(self.shape)
        return {"streams": state, "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        self.streams.load_state_dict(state["streams"])
        self._numbers, self._next = None, state["next"]
        if self._next < self.block:
            self._draw()


def as_array(tensor: Tensor, library: ModuleType) -> Array:
    """A tensor as a numpy array in the same memory, or (library torch) unchanged."""
    return tensor.numpy() if library is np else tensor
