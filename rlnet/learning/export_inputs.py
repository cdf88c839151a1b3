"""Inputs of an exported policy whose observations are images beside other parts: one for each part."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rlnet.numerics.observation_rows import RowLayout


def is_mixed(layout: RowLayout) -> bool:
    """Whether rows hold images in bytes beside other parts."""
    return layout.is_packed and len(layout.parts) > 1


def parts_of(layout: RowLayout, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The parts of packed rows [B, length] by name: images as they are, uint8 [B, ...], all else float32 [B, size].

    The name of ["camera"]["left"] is camera_left; a part whose name would be taken has its number in the row behind it.
    """
    found: dict[str, np.ndarray] = {}
    split = layout.split(torch.from_numpy(rows))
    for k, (part, numbers) in enumerate(zip(layout.parts, split, strict=True)):
        name = re.sub(r"\W+", "_", part.path).strip("_") or f"part_{k}"
        name = f"{name}_{k}" if name in (*found, "mask") else name
        array = numbers.numpy()
        found[name] = np.rint(array * part.scale).astype(np.uint8).reshape(-1, *part.shape) if part.in_bytes else array
    return found


def shaped_as(parts: tuple[str, ...], inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Inputs one after the other as arguments of the module: those of `parts` as one dictionary."""
    inputs = list(inputs)
    return (dict(zip(parts, inputs, strict=False)), *inputs[len(parts) :]) if parts else tuple(inputs)
