"""Environments as compressed pickles in tensors, for checkpoints."""

import pickle
import zlib
from io import BytesIO
from typing import Any

import torch
from cloudpickle import CloudPickler
from gymnasium.utils import EzPickle
from gymnasium.vector import AsyncVectorEnv
from torch import Tensor


class _Whole(CloudPickler):
    """Pickler that refuses what keeps the arguments it was made with in place of its state, as `EzPickle` does."""

    def persistent_id(self, obj: Any) -> None:
        if isinstance(obj, EzPickle) and type(obj).__getstate__ is EzPickle.__getstate__:
            raise pickle.PicklingError(f"{type(obj).__name__} is pickled without its state (by EzPickle)")


def pickled(environment: Any) -> Tensor:
    """An environment as uint8 [bytes]; raises what pickling it raises."""
    if isinstance(environment, AsyncVectorEnv):
        raise pickle.PicklingError("its environments have processes of their own (env.stepping=async)")
    buffer = BytesIO()
    _Whole(buffer).dump(environment)
    return torch.frombuffer(bytearray(zlib.compress(buffer.getvalue(), 1)), dtype=torch.uint8)


def unpickled(saved: Tensor) -> Any:
    """The environment of `pickled`. Runs code that the bytes name: only for what you saved yourself."""
    return pickle.loads(zlib.decompress(saved.cpu().numpy().tobytes()))
