"""Processes of `AsyncVectorEnv` that end: how they tell an error, why they are gone, closing without waiting."""

import signal
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.queues import Queue
from typing import Any

import gymnasium
from gymnasium.vector import AsyncVectorEnv, VectorEnv
from gymnasium.vector.async_vector_env import AsyncState, _async_worker

from rlnet.envs.faults import EnvironmentFault, first_line

PATIENCE = 10.0  # seconds for a process that closed its pipe to be gone


def worker(
    index: int, env_fn: Callable[[], gymnasium.Env], pipe: Connection, parent_pipe: Connection, *rest: Any
) -> None:
    """The process of one environment: Gymnasium's, but for an environment that cannot be made.

    Of that Gymnasium would print a traceback here, and the parent would not learn of it.
    """
    try:
        env = env_fn()
    except Exception as error:  # noqa: BLE001 (told to the parent, as those of a step are)
        errors = next(one for one in rest if isinstance(one, Queue))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which the parent ends it, at once
        parent_pipe.close()  # else a parent that is killed would be waited for
        pipe.recv()  # the first command, which it answers
        errors.put((index, EnvironmentFault, f"{type(error).__name__}: {first_line(error)}", ""))
        pipe.send((None, False))
        return
    _async_worker(index, lambda: env, pipe, parent_pipe, *rest)


def explained(vector: VectorEnv, error: Exception) -> Exception:
    """An exception of a call into a vector environment; where one of its processes is gone, an `EnvironmentFault`."""
    if not isinstance(vector, AsyncVectorEnv) or not isinstance(error, EOFError | ConnectionError):
        return error
    gone = wait([process.sentinel for process in vector.processes], PATIENCE)
    codes: list[int] = []
    for process in vector.processes:
        if process.sentinel in gone:
            process.join(PATIENCE)  # its pipe is closed a moment before it can be asked how it ended
            codes += [] if process.exitcode is None else [process.exitcode]
    return EnvironmentFault(f"its process {_how(codes[0])}") if codes else error


def _how(code: int) -> str:
    """How a process ended, by its exit code: minus the number of a signal that killed it."""
    if code >= 0:
        return f"ended by itself, with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (", as where memory runs out" if name == "SIGKILL" else "")


def close(vector: VectorEnv) -> None:
    """Close a vector environment; where a process is gone or has not answered yet, all its processes are killed.

    Gymnasium would wait for an answer that never comes.
    """
    if isinstance(vector, AsyncVectorEnv) and not vector.closed:
        asked = [pipe is not None for pipe in vector.parent_pipes]  # None: of one that ended after it told its error
        gone = any(a and not process.is_alive() for a, process in zip(asked, vector.processes, strict=True))
        if gone or vector._state is not AsyncState.DEFAULT:
            for process in vector.processes:
                process.kill()
            vector._state = AsyncState.DEFAULT
            vector.close(terminate=True)
    vector.close()
