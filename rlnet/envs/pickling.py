"""Environments as compressed pickles in tensors, for checkpoints."""

import pickle
import zlib
from typing import Any, cast

import torch
from gymnasium.vector.utils import CloudpickleWrapper
from torch import Tensor


def pickled(environment: Any) -> Tensor:
    """An environment as uint8 [bytes]; raises what pickling it raises."""
    return torch.frombuffer(
        bytearray(zlib.compress(pickle.dumps(CloudpickleWrapper(environment)), 1)), dtype=torch.uint8
    )


def unpickled(saved: Tensor) -> Any:
    """The environment of `pickled`. Runs code that the bytes name: only for what you saved yourself."""
    return cast(Any, pickle.loads(zlib.decompress(saved.cpu().numpy().tobytes()))).fn
