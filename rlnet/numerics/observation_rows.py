"""Layout of structured observations in the rows of one tensor: numbers as float32, images as they are.

An observation of several parts is one row, so that rollouts, replay and checkpoints hold one tensor of observations,
whatever the environment. Without byte images a row is float32 [F]. With some, it is uint8: first the bytes of all
float32 numbers, then the images, each pixel in one byte.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """One part of an observation."""

    path: str  # where it stands in the observation, as ["key"][index]; "" for the whole
    shape: tuple[int, ...]
    scale: float = 1.0  # networks see its numbers divided by this
    in_bytes: bool = False  # a row holds its numbers as uint8

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)

    @property
    def is_image(self) -> bool:
        """Whether it has rows and columns: a shape of two axes or more, without an empty one."""
        return len(self.shape) > 1 and self.size > 0


@dataclass(frozen=True)
class RowLayout:
    """Where the parts of an observation lie in its row, in their order."""

    parts: tuple[Part, ...]

    @cached_property
    def is_packed(self) -> bool:
        """Whether rows are uint8, else float32."""
        return any(part.in_bytes for part in self.parts)

    @cached_property
    def numbers(self) -> int:
        """F, how many numbers a network sees: at least one, which is 0 where there are none."""
        return max(1, sum(part.size for part in self.parts))

    @cached_property
    def length(self) -> int:
        """Elements of a row."""
        plain = sum(part.size for part in self.parts if not part.in_bytes)
        return 4 * plain + sum(part.size for part in self.parts if part.in_bytes) if self.is_packed else self.numbers

    @property
    def images(self) -> tuple[int, ...]:
        """Which parts are images."""
        return tuple(k for k, part in enumerate(self.parts) if part.is_image)

    def pack(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        """Rows [B, length] of the parts, [B, size] each, of any type of numbers."""
        plain = [x for x, part in zip(columns, self.parts, strict=True) if not part.in_bytes]
        count = len(columns[0]) if columns else 1
        whole = np.concatenate([np.zeros((count, 0), np.float32), *plain], axis=1, dtype=np.float32, casting="unsafe")
        if not self.is_packed:
            return whole if whole.shape[1] else np.zeros((count, 1), np.float32)
        pixels = [x for x, part in zip(columns, self.parts, strict=True) if part.in_bytes]
        return np.concatenate([whole.view(np.uint8), *pixels], axis=1, dtype=np.uint8, casting="unsafe")

    def split(self, rows: Tensor) -> list[Tensor]:
        """The parts [..., size], float32 and divided by their scales, of rows [..., length].

        Rows [..., numbers] that `floats` gave are split likewise.
        """
        if rows.dtype is not torch.uint8:
            return list(rows[..., : sum(self._sizes)].split(self._sizes, dim=-1))
        plain = [part.size for part in self.parts if not part.in_bytes]
        numbers: Iterator[Tensor] = iter(())  # a split into no parts cannot be exported
        if plain:
            head = rows.new_zeros((*rows.shape[:-1], 0), dtype=torch.float32)
            if sum(plain) > 0:  # a copy: memory that begins anywhere cannot be looked at as float32
                head = rows[..., : 4 * sum(plain)].clone(memory_format=torch.contiguous_format).view(torch.float32)
            numbers = iter(head.split(plain, dim=-1))
        pixels = iter(rows[..., 4 * sum(plain) :].split([part.size for part in self.parts if part.in_bytes], dim=-1))
        return [next(pixels).float().div_(part.scale) if part.in_bytes else next(numbers) for part in self.parts]

    def floats(self, rows: Tensor) -> Tensor:
        """All numbers of rows in one vector, float32 [..., numbers]; of unpacked rows, these themselves."""
        return torch.cat(self.split(rows), dim=-1) if rows.dtype is torch.uint8 else rows

    @cached_property
    def _sizes(self) -> list[int]:
        return [part.size for part in self.parts]
