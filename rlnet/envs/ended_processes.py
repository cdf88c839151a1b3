"""Processes of `AsyncVectorEnv` that are gone: why they ended, and closing without waiting for them."""

import signal
from multiprocessing.connection import wait

from gymnasium.vector import AsyncVectorEnv, VectorEnv
from gymnasium.vector.async_vector_env import AsyncState

from rlnet.envs.faults import EnvironmentFault

PATIENCE = 10.0  # seconds for a process that closed its pipe to be gone


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
