"""Functions that are differentiated, as they are or compiled by torch.compile."""

import logging
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")
_log = logging.getLogger(__name__)


class Differentiated:
    """A function that is called and differentiated; compiled, until the compiler fails on it, which is warned of.

    Args:
        function: as it is.
        wanted: whether to compile it. Without a compiler for the device a warning is logged.
        device: on which it computes.
    """

    def __init__(self, function: Callable[..., Any], wanted: bool, device: torch.device) -> None:
        self._plain = self._current = function
        self.compiled = wanted and _can_compile(device)
        self._failures: tuple[type[Exception], ...] = ()
        if self.compiled:
            from torch._dynamo.exc import TorchDynamoException

            self._current, self._failures = torch.compile(function), (TorchDynamoException,)

    def run(self, compute: Callable[[Callable[..., Any]], Result]) -> Result:
        """The result of a computation that calls the function and differentiates what it returns."""
        try:
            return compute(self._current)
        except self._failures as error:
            said = next(iter(str(error).strip().splitlines()), type(error).__name__)
            _log.warning("compile=true: the compiler fails (%s); going on without compiling", said[:200])
            self._current, self._failures, self.compiled = self._plain, (), False
            return compute(self._plain)


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
