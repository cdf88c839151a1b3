"""Workers: the members of a population in one process, or divided among several.

Members depend on nothing but themselves, so a share of them may learn anywhere. Each share is a population of its own,
a whole `TrainingState`, in a process that is forked once the problem is built and solved. All shares take the same
number of updates between two looks: what comes together from them is what one process would have, counters included.
"""

import multiprocessing
import pickle
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from torch import Tensor

from rlnet.config import Config, RunFailed
from rlnet.config.population import joined, part_of, split
from rlnet.learning.interrupts import ignored_by_children
from rlnet.learning.resources import before_fork, set_threads
from rlnet.learning.training_state import TrainingState
from rlnet.learning.updates import learn

# The name in the log of what an exploration's schedule gives.
SCHEDULED_AS = {
    "epsilon_greedy": "explore/epsilon",
    "softmax": "explore/temperature",
    "count_bonus": "explore/bonus",
}
TURN = 0.5  # seconds of updates between two moments at which a run can be interrupted


class Share:
    """A part of the members that learns in one process."""

    def __init__(self, run: TrainingState) -> None:
        self.run = run
        self._metrics: Callable[[], Mapping[str, Tensor]] = dict

    def advance(self, updates: int) -> Tensor:
        """Collect and learn so many times; returns the steps of each member, [M]."""
        for _ in range(updates):
            self._metrics = learn(self.run, self.run.collect())
        return self.run.steps

    def alive(self) -> Tensor:
        """Whether each member still learns: bool [M, 1]."""
        return self.run.learner.alive

    def row(self) -> dict[str, np.ndarray]:
        """Current scalars of the log (episodes, losses, exploration, learning rate): [M] each."""
        run = self.run
        tensors = run.collector.episodes() | dict(self._metrics())
        if run.config.exploration.name in SCHEDULED_AS:
            tensors[SCHEDULED_AS[run.config.exploration.name]] = run.explore.squeeze(-1)
        if run.learner.layout.noisy:
            tensors["explore/sigma"] = run.learner.layout.deviations(run.learner.theta).abs().mean(1)
        tensors["optimizer/learning_rate"] = run.learning_rate.squeeze(-1)
        return {name: tensor.double().cpu().numpy() for name, tensor in tensors.items()}

    def scores(self) -> dict[str, np.ndarray]:
        """The scores against the exact solution: [M] each."""
        return self.run.compare()[1].scalars

    def state(self) -> dict[str, Any]:
        """`TrainingState.state_dict` without the config."""
        return {name: part for name, part in self.run.state_dict().items() if name != "config"}


class Shares:
    """Runs the population in `processes` workers; call `close()`.

    Args:
        run: of all members, as it begins or goes on. In one process it is the one that learns; with several it has the
            steps, and the rest after `gather`.
        processes: 1, or at most what `rlnet.learning.resources.processes` allows.
    """

    def __init__(self, run: TrainingState, processes: int = 1) -> None:
        self.run = run
        self._alone = Share(run) if processes == 1 else None
        self._members: list[Sequence[int]] = [range(len(run.steps))]
        self._others: list[_Process] = []
        self._pace = TURN  # seconds that an update took in the last turn
        if self._alone is None:
            before_fork()
            parts = split(run.config, processes)
            self._members = [members for _, members in parts]
            # What a run that goes on has done; a share that is new begins by itself as the whole would.
            state = Share(run).state() if int(run.steps.max()) > 0 else None
            for config, members in parts:
                serve = partial(_serve, run, config, members, processes, state)
                self._others.append(_Process(serve, self._others))

    def advance(self, until: int) -> None:
        """Learn until a member has done `until` steps or all have done theirs, or for about `TURN` seconds."""
        config, steps = self.run.config, self.run.steps
        each = config.algo.envs * config.algo.rollout  # an update adds at most so many
        left = min(until - int(steps.max()), config.steps - int(steps.min()))
        updates = max(1, min(-(-left // each), int(TURN / self._pace)))
        began = time.perf_counter()
        steps.copy_(self._ask("advance", updates))
        self._pace = max((time.perf_counter() - began) / updates, 1e-9)

    def row(self) -> dict[str, np.ndarray]:
        """Current scalars of the log, [M] each; also updates which members have diverged."""
        self.run.learner.alive.copy_(self._ask("alive"))
        return self._ask("row")

    def scores(self) -> dict[str, np.ndarray]:
        """The scores against the exact solution: [M] each."""
        return self._ask("scores")

    def state_dict(self) -> dict[str, Any]:
        """`TrainingState.state_dict` of all members as they are now."""
        if self._alone is not None:
            return self.run.state_dict()
        return {**self._ask("state"), "diverged": self.run.diverged, "config": asdict(self.run.config)}

    def gather(self, state: Mapping[str, Any]) -> None:
        """Copy a `state_dict` into the run."""
        if self._alone is None:
            self.run.load_state_dict(state)

    def close(self) -> None:
        """End the processes."""
        for other in self._others:
            other.close()

    def _ask(self, name: str, *arguments: Any) -> Any:
        """Call a method of `Share` in every process, and join the results."""
        if self._alone is not None:
            return getattr(self._alone, name)(*arguments)
        for other in self._others:
            other.ask(name, *arguments)
        answers = [other.answer() for other in self._others]
        for failed, said in answers:
            if failed:
                raise said
        return joined([said for _, said in answers], self._members)


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

    def ask(self, name: str, *arguments: Any) -> None:
        """Request a call of a method of the share."""
        try:
            self._connection.send_bytes(pickle.dumps((name, arguments)))
        except BrokenPipeError:
            raise self._gone() from None

    def answer(self) -> tuple[bool, Any]:
        """Receive the answer: whether it failed, and what it returned or raised."""
        try:
            return pickle.loads(self._connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            raise self._gone() from None

    def _gone(self) -> RunFailed:
        self._process.join(1)
        code = self._process.exitcode
        return RunFailed(
            f"a process of the population was ended from outside (exit code {code}); processes=1 needs none"
        )

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
            name, arguments = pickle.loads(asked.recv_bytes())
        except (EOFError, ConnectionError):
            return
        try:
            if share is None:
                share = Share(TrainingState(config, run.problem.of(members)))
                set_threads(share.run, processes)
                if state is not None:
                    share.run.load_state_dict({**part_of(state, members), "config": asdict(config)})
            answer = False, getattr(share, name)(*arguments)
        except Exception as error:  # noqa: BLE001 (raised again by the process that asked)
            error.add_note(traceback.format_exc())
            answer = True, error
        try:
            asked.send_bytes(pickle.dumps(answer))
        except ConnectionError:  # who asked is gone
            return
