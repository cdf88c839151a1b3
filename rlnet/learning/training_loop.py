"""The training loop: collect → update → compare → log → checkpoint; and resuming from a checkpoint."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rlnet.compare.episodes import scalar_names, scalars
from rlnet.config import Config, ConfigError
from rlnet.experiment.checkpoints import write_checkpoint
from rlnet.experiment.evaluation_files import BESIDE
from rlnet.experiment.loggers import check_installed
from rlnet.experiment.problem import build
from rlnet.experiment.reference import write_reference
from rlnet.experiment.run_files import Record
from rlnet.experiment.run_folder import STORED, claimed, keep_settings
from rlnet.learning.evaluation import FINAL, cadence, evaluate, policies
from rlnet.learning.final_files import End, Judgement, Result, finish
from rlnet.learning.interrupts import Interrupted, put_off
from rlnet.learning.messages import report_diverged, warn_flattened, warn_idle, warn_not_saved, with_advice
from rlnet.learning.resources import processes, set_threads
from rlnet.learning.resuming import Past, check_steps, restored
from rlnet.learning.training_state import TrainingState
from rlnet.learning.triggers import SAVING, SAVING_GRACE, SAVING_SHARE, Cadence, Capped, Pace, Timed
from rlnet.learning.updates import learn, logged, updates_until
from rlnet.learning.workers import Workers
from rlnet.report.live import progress

OnRow = Callable[[int, Mapping[str, np.ndarray]], None]  # (step, scalars of the row: name → [M])


def train(config: Config, folder: Path, given: Sequence[str] | None = None, on_row: OnRow | None = None) -> Result:
    """Train, and write the files of the run to a folder.

    Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 are obeyed between two updates, with a checkpoint.

    Args:
        config: a checked config.
        folder: where the files go; must not hold a run yet, unless it is the one of `config.resume` itself.
        given: the settings as KEY=VALUE, for the record, where they do not come from the command line.
        on_row: called with each row of the log, once it is written: the step, and every scalar as [M], NaN where it was
            not computed. What it raises ends the run.

    Raises:
        ConfigError: settings that do not fit together, a folder that holds a run, or one that another job writes into.
        DivergedError: the gradients of all members became infinite or NaN.
        Interrupted: by a signal.
    """
    source = None if config.resume is None else Path(config.resume)
    here = source is not None and source.resolve() == folder.resolve()
    if source is not None and not (source / STORED / "config.yaml").is_file():
        raise ConfigError(f"resume={source}: must be the folder of a run; it holds no {STORED}/config.yaml")
    check_installed(config.logger)
    state = TrainingState(config, build(config, folder=source))
    with closing(state.collector):
        return _train(state, folder, source, here, given, on_row)


def _train(
    state: TrainingState,
    folder: Path,
    source: Path | None,
    here: bool,
    given: Sequence[str] | None,
    on_row: OnRow | None,
) -> Result:
    """`train` from a run that is built; `here`: whether it goes on in its own folder."""
    config = state.config
    warn_idle(config)
    warn_flattened(state)
    set_threads(state)
    count = processes(state)
    with claimed(folder, going_on=here), closing(Record(folder, config)) as record:
        first = _judged(state)
        past = None if source is None else restored(state, source)
        done = int(state.steps.max())
        check_steps(state, source)
        keep_settings(folder, asdict(replace(config, resume=None)), done, None if here else source, given)
        reference = state.problem.context.reference
        if reference is not None:
            write_reference(folder, config, reference)
        if past is None:
            record.begin()
        else:
            record.go_on(past.rows, done, copied=not here)
        try:
            with nullcontext() if count == 1 else closing(Workers(state, count)) as workers:
                loop = Loop(state, workers, record, first, past, on_row)
                if past is not None and not here:  # from now on the new folder needs the old one no more
                    loop.checkpoint()
                scalars, last = loop.go()
            return Result(state, *finish(End.of(state, scalars, last, loop.evaluated), record, first))
        except KeyboardInterrupt as stop:
            raise with_advice(stop, folder) from None


def _judged(state: TrainingState) -> Judgement | None:
    if state.problem.solutions is None:
        return None
    return Judgement(int(state.steps.max()), *state.compare())


class Loop:
    """The loop of updates, with periodic logging, comparison and checkpoints.

    Args:
        state: of the run.
        workers: who updates it, where it is shared out among processes; None: this process does.
        record: who writes.
        first: the scores at the beginning; None where there is nothing exact.
        past: of a run that goes on.
        on_row: as of `train`.
    """

    def __init__(
        self,
        state: TrainingState,
        workers: Workers | None,
        record: Record,
        first: Judgement | None,
        past: Past | None,
        on_row: OnRow | None = None,
    ) -> None:
        self.state, self.workers, self.record, self.on_row = state, workers, record, on_row
        self.last: Judgement | None = None  # of the final networks
        config, self.step = self.state.config, int(self.state.steps.max())
        self.log = Cadence(config.log_every, self.step)
        self.save = Capped(config.checkpoint_every, self.step, SAVING_SHARE, grace=SAVING_GRACE, told=SAVING)
        self.compare = Capped(config.compare_every, self.step, config.compare_share)
        every = cadence(config, state.problem.environment)
        self.evaluation = Timed(every, self.step) if every else None
        self.evaluated: dict[str, Any] | None = None  # the final episodes
        self.episodes: dict[str, np.ndarray] = {}  # the numbers of the last evaluation, where no row has them yet
        self.pace = Pace()
        self.metrics: Callable[[], dict[str, Tensor]] = dict  # of the last update
        self.exact, self.scores = first is not None, {} if first is None else first.comparison.scalars
        self.fresh = False  # whether the scores are newer than the last row
        self.clock, self.before = time.perf_counter(), int(self.state.steps.sum())
        self.keep = past is None or past.newest  # whether the newest checkpoint is worth keeping
        self.told = False  # whether it was said what checkpoints do not hold
        if past is not None:
            self.compare.load_state_dict(past.stored["compare"])
            if past.stored.get("evaluation") is not None:
                self.episodes = {k: x.cpu().numpy() for k, x in past.stored["evaluation"].items()}
            if past.stored["scores"] is not None:
                self.scores, self.fresh = {k: x.cpu().numpy() for k, x in past.stored["scores"].items()}, True

    def go(self) -> tuple[dict[str, np.ndarray], Judgement | None]:
        """Go on to the end; the last row of the log, and the scores of the final networks. `evaluated` is then known.

        Raises:
            Interrupted: a signal came; what was done until then is in the checkpoint.
        """
        state, config, stored, saved = self.state, self.state.config, None, False
        row = {} if self.step == 0 else dict(self.record.last_row())
        with put_off() as asked, progress(config.steps, done=self.step) as display:
            while int(state.steps.min()) < config.steps and asked.number is None:
                exact = self.compare if self.exact else None
                due = [one for one in (self.log, self.save, exact, self.evaluation) if one is not None]
                saved = False
                self._advance(min(one.next for one in due))
                self.step = int(state.steps.max())
                done = int(state.steps.min()) >= config.steps
                # What is due now is done to its end, whatever comes: a checkpoint lies between two turns of this loop.
                if self.exact and (self.compare.due(self.step) or done):
                    with self.compare.timed():
                        self._compare(final=done)
                if self.evaluation is not None and (self.evaluation.due(self.step) or done):
                    with self.evaluation.timed():
                        self._evaluate(final=done)
                if self.log.due(self.step) or done:
                    row = self._row()
                    display.update(self.step, **_shown(row | self.scores))
                if self.save.due(self.step) or done:
                    with self.save.timed():
                        stored, saved = self.checkpoint(), True
            if asked.number is not None:
                if not saved:
                    self.checkpoint()
                raise Interrupted(asked.number)
        if self.exact and self.last is None:  # all steps had been done before
            self._compare(final=True)
        if self.evaluation is not None and self.evaluated is None:
            self._evaluate(final=True)
        if stored is not None and self.workers is not None:
            self.workers.gather(stored)
        return row, self.last

    def _advance(self, until: int) -> None:
        """Learn until a member has done `until` steps or all have done theirs, or for about `TURN` seconds."""
        state = self.state
        updates = self.pace.updates(updates_until(state.config, state.steps, until))
        with self.pace.timed(updates):
            if self.workers is not None:
                self.workers.advance(updates)
            else:
                for _ in range(updates):
                    self.metrics = learn(state, state.collect())

    def _compare(self, final: bool) -> None:
        """Score the networks as they are; where they are the final ones, all that the files need is kept."""
        if final:
            both = self.state.compare() if self.workers is None else self.workers.compare()
            self.last = Judgement(self.step, *both)
            self.scores = self.last.comparison.scalars
        else:
            self.scores = self.state.compare()[1].scalars if self.workers is None else self.workers.scores()
        self.fresh = True

    def _evaluate(self, final: bool) -> None:
        """Play episodes by the networks as they are; the final ones are kept for the files."""
        config, timed = self.state.config, cast(Timed, self.evaluation)
        number = FINAL if final else self.step // timed.every
        count = config.evaluation.final_episodes if final else config.evaluation.episodes
        if self.workers is None:
            found = evaluate(self.state.trained(), number, count, self.state.earlier)
        else:
            found = self.workers.evaluate(number, count)
        self.evaluated = found if final else None
        self.episodes = scalars({name: part for name, part in found.items() if name not in BESIDE})

    def _row(self) -> dict[str, np.ndarray]:
        members = len(self.state.steps)
        row = logged(self.state, self.metrics()) if self.workers is None else self.workers.logged()
        report_diverged(self.state)
        speed = (int(self.state.steps.sum()) - self.before) / max(time.perf_counter() - self.clock, 1e-9)
        row |= {"time/steps_per_second": np.full(members, speed)}
        if self.exact:
            row["time/compare_share"] = np.full(members, self.compare.share)
        # Scores stand in one row, the first one after they were computed.
        row |= self.scores if self.fresh else {name: np.full(members, np.nan) for name in self.scores}
        if self.evaluation is not None:
            row["time/evaluation_share"] = np.full(members, self.evaluation.share)
            empty = np.full(members, np.nan)
            problem = self.state.problem
            names = policies(self.state.config, problem.algorithm.judged)
            row |= dict.fromkeys(scalar_names(names, bool(problem.environment.events)), empty)
            row |= self.episodes
        self.record.row(self.state.steps.cpu().numpy(), row)
        if self.on_row is not None:
            self.on_row(self.step, row)
        self.clock, self.before, self.fresh = time.perf_counter(), int(self.state.steps.sum()), False
        self.episodes = {}
        return row

    def checkpoint(self) -> dict[str, Any]:
        """Write a checkpoint, and return it."""
        scores = {name: torch.as_tensor(x) for name, x in self.scores.items()} if self.fresh else None
        parts = {"record": self.record.place(), "scores": scores, "compare": self.compare.state_dict()}
        parts["evaluation"] = {name: torch.as_tensor(x) for name, x in self.episodes.items()} or None
        stored = {**(self.state if self.workers is None else self.workers).state_dict(), **parts}
        write_checkpoint(self.record.folder, stored, keep=self.keep)
        if not self.told:
            warn_not_saved(stored)
        self.keep = self.told = True
        return stored


def _shown(row: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Scalars of the progress display: means over members."""
    names = {"ret": "return/mean", "regret": "exact/regret", "nash_conv": "exact/nash_conv"}
    names |= {"nash_conv_search": "exact/nash_conv_search", "value_error": "exact/v_rmse"}
    finite = {short: row[name][~np.isnan(row[name])] for short, name in names.items() if name in row}
    return {short: float(values.mean()) for short, values in finite.items() if len(values)}
