"""Violations of the Gymnasium interface by an environment, as exceptions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np

# What the code of others may raise when an environment is made.
REFUSALS = (
    *(gymnasium.error.Error, ImportError, TypeError, ValueError, KeyError, AssertionError, AttributeError),
    *(RuntimeError, OSError),
)


class EnvironmentFault(Exception):
    """An environment violated its interface. The message is half a sentence that begins with "its"."""


def fault_of(what: str, error: Exception) -> EnvironmentFault:
    """An exception of a step or reset as a fault; faults stay what they are."""
    if isinstance(error, EnvironmentFault):
        return error
    said = " ".join(str(error).split())
    return EnvironmentFault(f"its {what} raised {type(error).__name__}" + (f": {said}" if said else ""))


def first_line(error: Exception) -> str:
    """The first line of what an exception says, or its kind."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def array_of(value: Any) -> np.ndarray:
    """A value as an array; of type object and shape () where rows have different lengths."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.asarray(None)


def shown(value: Any) -> str:
    """A value for a message, shortened."""
    text = " ".join((str(value.tolist()) if isinstance(value, np.ndarray | np.generic) else repr(value)).split())
    return text if len(text) <= 80 else text[:77] + "..."


@contextmanager
def silent() -> Iterator[None]:
    """Context manager: suppress Gymnasium's report of an exception in a process of `AsyncVectorEnv`.

    It would print a traceback, and fail where that holds a percent sign; the exception itself is raised again here.
    """
    before = gymnasium.logger.min_level
    gymnasium.logger.min_level = gymnasium.logger.ERROR + 1
    try:
        yield
    finally:
        gymnasium.logger.min_level = before
