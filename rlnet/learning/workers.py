"""Worker processes: the members of a population are distributed among several processes.

Members are independent of each other. Each process has a share of them, a complete `TrainingState`, and is forked after
the problem is built and solved. All shares make the same number of updates between two requests, and rollouts of whole
episodes have the same number of rows in all of them: the result is that of a single process, bit for bit, counters
included.
"""

import multiprocessing
import pickle
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from rlnet.compare import Comparison, Tables
from rlnet.config import Config, RunFailed
from rlnet.config.population import joined, part_of, split
from rlnet.learning.evaluation import evaluate
from rlnet.learning.interrupts import ignored_by_children
from rlnet.learning.resources import before_fork, set_threads
from rlnet.learning.training_state import TrainingState
from rlnet.learning.updates import learn, logged


class Share:
    """The members of a population that are trained in one process."""

    def __init__(self, state: TrainingState) -> None:
        self.state = state
        self._metrics: Callable[[], Mapping[str, Tensor]] = dict

    def advance(self, updates: int) -> Tensor:
        """Collect and learn so many times; returns the steps of each member, [M]."""
        for _ in range(updates):
            self._metrics = learn(self.state, self.state.collect())
        return self.state.steps

    def alive(self) -> Tensor:
        """Whether each member still learns: bool [M, 1]."""
        return self.state.learner.alive

    def logged(self) -> dict[str, np.ndarray]:
        """See `rlnet.learning.updates.logged`."""
        return logged(self.state, self._metrics())

    def scores(self) -> dict[str, np.ndarray]:
        """The scores against the exact solution: [M] each."""
        return self.state.compare()[1].scalars

    def compare(self) -> dict[str, dict[str, Any]]:
        """The fields of what `TrainingState.compare` returns."""
        return {type(part).__name__: vars(part) for part in self.state.compare()}

    def evaluate(self, number: int, episodes: int) -> dict[str, Any]:
        """See `rlnet.learning.evaluation.evaluate`."""
        return evaluate(self.state.trained(), number, episodes, self.state.earlier)

    def state_dict(self) -> dict[str, Any]:
        """`TrainingState.state_dict` without the config."""
        return {name: part for name, part in self.state.state_dict().items() if name != "config"}


class Workers:
    """Runs a population in several processes; call `close()`.

    Args:
        run: of all members, as it begins or goes on. It is kept up to date with the steps, and with the rest by
            `gather`.
        processes: 2, or at most what `rlnet.learning.resources.processes` allows.
    """

    def __init__(self, run: TrainingState, processes: int) -> None:
        before_fork()
        self.run, parts = run, split(run.config, processes)
        self._members = [members for _, members in parts]
        self._others: list[_Process] = []
        # What a run that goes on has done; a share that is new begins by itself as the whole would.
        state = Share(run).state_dict() if int(run.steps.max()) > 0 else None
        for config, members in parts:
            serve = partial(_serve, run, config, members, processes, state)
            self._others.append(_Process(serve, self._others))

    def advance(self, updates: int) -> None:
        """Collect and learn so many times."""
        self.run.steps.copy_(self._ask(Share.advance, updates))

    def logged(self) -> dict[str, np.ndarray]:
        """The numbers of the log, [M] each. Which members have diverged is known to the run from then on."""
        self.run.learner.alive.copy_(self._ask(Share.alive))
        return self._ask(Share.logged)

    def scores(self) -> dict[str, np.ndarray]:
        """The scores against the exact solution: [M] each."""
        return self._ask(Share.scores)

    def compare(self) -> tuple[Tables, Comparison]:
        """As `TrainingState.compare`."""
        both = self._ask(Share.compare)
        return Tables(**both["Tables"]), Comparison(**both["Comparison"])

    def evaluate(self, number: int, episodes: int) -> dict[str, Any]:
        """See `rlnet.learning.evaluation.evaluate`."""
        return self._ask(Share.evaluate, number, episodes)

    def state_dict(self) -> dict[str, Any]:
        """`TrainingState.state_dict` of all members as they are now."""
        return {**self._ask(Share.state_dict), "diverged": self.run.diverged, "config": asdict(self.run.config)}

    def gather(self, state: Mapping[str, Any]) -> None:
        """Bring the run up to date with what `state_dict` gave."""
        self.run.load_state_dict(state)

    def close(self) -> None:
        """End the processes."""
        for other in self._others:
            other.close()

    def _ask(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of `Share` in all processes, and join the results of all members."""
        for other in self._others:
            other.send((method, arguments))
        while True:
            answers = [other.receive() for other in self._others]
            for answer in answers:
                if isinstance(answer, _Failed):
                    raise answer.error
            if not isinstance(answers[0], _Steps):
                return joined(answers, self._members)
            most = max(answers)  # all processes do the same, and so all of them ask
            for other in self._others:
                other.send(most)


class _Steps(int):
    """Message of a process: the number of steps of its rollout; the answer is the largest of all processes."""


class _Failed(NamedTuple):
    """Message of a process: the method raised this error."""

    error: Exception


class _Process:
    """A worker process with a share of the members, forked from this one.

    Args:
        serve: what it does: (its end of the pipe, ends of pipes that it inherits and that are not its own) → None.
        elder: the processes that there are already.
    """

    def __init__(self, serve: Callable[[Connection, list[Connection]], None], elder: list["_Process"]) -> None:
        context = multiprocessing.get_context("fork")
        self._connection, theirs = context.Pipe()
        inherited = [self._connection, *(other._connection for other in elder)]
        self._process = context.Process(target=serve, args=(theirs, inherited), daemon=True)
        with warnings.catch_warnings(), ignored_by_children():
            # Newer Pythons warn of forking beside threads; those that there may be here (of NumPy's and torch's
            # libraries, of exact sweeps) are at rest, and none is needed in the child.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        theirs.close()

    def send(self, message: Any) -> None:
        """Send a method to be called with its arguments, or what was asked for."""
        try:
            self._connection.send_bytes(pickle.dumps(message))
        except BrokenPipeError:
            raise self._gone() from None

    def receive(self) -> Any:
        """Receive what the method returned, `_Failed`, or `_Steps`."""
        try:
            return pickle.loads(self._connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            raise self._gone() from None

    def _gone(self) -> RunFailed:
        self._process.join(1)
        code = self._process.exitcode
        return RunFailed(f"a worker process was killed (exit code {code}); processes=1 uses none")

    def close(self) -> None:
        """End the process, by closing its pipe."""
        self._connection.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(
    run: TrainingState,
    config: Config,
    members: list[int],
    processes: int,
    state: Mapping[str, Any] | None,
    asked: Connection,
    inherited: list[Connection],
) -> None:
    """Main function of a worker process: answer requests until the pipe closes.

    Args:
        run: of all members.
        config, members: of the share, see `split`.
        processes: how many share the cores.
        state: of all members, to go on from; None at the beginning.
        asked, inherited: see `_Process`.
    """
    for connection in inherited:
        connection.close()
    share: Share | None = None
    while True:
        try:
            method, arguments = pickle.loads(asked.recv_bytes())
        except (EOFError, ConnectionError):
            return
        try:
            if share is None:
                share = Share(TrainingState(config, run.problem.of(members)))
                set_threads(share.state, processes)
                if run.problem.algorithm.data.whole_episodes:
                    share.state.collector.shown = partial(_steps_of_all, asked)
                if state is not None:
                    share.state.load_state_dict({**part_of(state, members), "config": asdict(config)})
            answer = method(share, *arguments)
        except Exception as error:  # noqa: BLE001 (raised again by the process that asked)
            error.add_note(traceback.format_exc())
            answer = _Failed(error)
        try:
            asked.send_bytes(pickle.dumps(answer))
        except ConnectionError:  # who asked is gone
            return


def _steps_of_all(asked: Connection, steps: int) -> int:
    """The largest number of steps of the rollouts that all processes have just collected."""
    asked.send_bytes(pickle.dumps(_Steps(steps)))
    return pickle.loads(asked.recv_bytes())
