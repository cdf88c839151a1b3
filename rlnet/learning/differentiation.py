"""Functions that are differentiated, as they are or compiled by torch.compile."""

import logging
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch

_log = logging.getLogger(__name__)


class Differentiated:
    """A function that is called and differentiated; compiled, until the compiler fails on it, which is warned of.

    Args:
        function: as it is.
        wanted: whether to compile it. Without a compiler for the device a warning is logged.
        device: on which it computes.
    """

    def __init__(self, function: Callable[..., Any], wanted: bool, device: torch.device) -> None:
        self._plain = self.current = function
        self.compiled = wanted and _can_compile(device)
        self.failures: tuple[type[Exception], ...] = ()  # by which the compiler says that it fails
        if self.compiled:
            from torch._dynamo.exc import TorchDynamoException

            self.current, self.failures = torch.compile(function), (TorchDynamoException,)

    def uncompiled(self, error: Exception) -> Callable[..., Any]:
        """Go on with the function as it is after a failure of the compiler, which is warned of."""
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        _log.warning("compile=true: the compiler fails (%s); going on without compiling", said[:200])
        self.current, self.failures, self.compiled = self._plain, (), False
        return self.current


def _can_compile(device: torch.device) -> bool:
    """Whether torch.compile finds its compiler; warns where it does not."""
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cuda" and find_spec("triton") is None:
        _log.warning("compile=true: triton is not installed; going on without compiling")
    elif shutil.which(compiler) is None:
        _log.warning("compile=true: there is no compiler %s (CXX names another); going on without compiling", compiler)
    else:
        return True
    return False
