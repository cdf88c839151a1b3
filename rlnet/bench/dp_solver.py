"""Client of a solver process of the DP benchmark, which answers in lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import numpy as np


class SolverError(RuntimeError):
    """A solver refused, ended or took too long; the message says which."""


class Solver:
    """A solver process that holds one problem; `ask` solves it once.

    Args:
        python: the interpreter in which the solver is installed.
        name: "package:method", see `rlnet.bench.dp_peer`.
        problem: what `dp_peer` takes: a file, or the name and size of a problem that it makes itself.
        gamma: γ.
        limit: seconds granted for building, and for each answer.
        folder: where the values are passed.
    """

    def __init__(self, python: str, name: str, problem: str, gamma: float, limit: float, folder: Path) -> None:
        self.name, self.limit, self.values = name, limit, folder / f"{name.replace(':', '.')}.npy"
        script = str(Path(__file__).with_name("dp_peer.py"))
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}  # each as it is by default
        if name.startswith("rlnet"):
            paths = [str(Path(__file__).parents[2]), environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        else:
            environment.pop("PYTHONPATH", None)
        self.process = subprocess.Popen(
            [python, script, name, problem, str(gamma), str(self.values)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.lines: Queue[str] = Queue()
        self.errors: list[str] = []
        Thread(target=_read, args=(self.process.stdout, self.lines.put), daemon=True).start()
        Thread(target=_read, args=(self.process.stderr, self.errors.append), daemon=True).start()

    def answer(self) -> dict:
        """The next line of JSON. SolverError after `limit` seconds, or if the process ended."""
        while True:
            try:
                line = self.lines.get(timeout=self.limit)
            except Empty:
                raise SolverError(f"no answer within {self.limit:g} s") from None
            if not line:
                raise SolverError(self._last_words())
            if line.startswith("{"):
                return json.loads(line)

    def _last_words(self) -> str:
        code = self.process.wait(timeout=10)
        said = [line.strip() for line in self.errors if line.strip()]
        return said[-1] if said else f"the process ended with code {code}"

    def ask(self, epsilon: float) -> dict:
        """Solve once: what `dp_peer.main` answers, and v."""
        try:
            self.process.stdin.write(f"solve {epsilon}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise SolverError(self._last_words()) from None
        return {**self.answer(), "v": np.load(self.values)}

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


def _read(stream, put) -> None:
    for line in stream:
        put(line)
    put("")
