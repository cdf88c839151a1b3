"""The training loop: collect → update → compare → log → checkpoint; and resuming from a checkpoint."""

import logging
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from rlnet.compare import Comparison, Tables
from rlnet.config import Config, ConfigError, RunFailed, require
from rlnet.config.population import each_setting, member_settings
from rlnet.config.validation import from_stored
from rlnet.experiment.checkpoints import (
    NEWEST,
    PREVIOUS,
    DamagedError,
    checkpoints,
    read_checkpoint,
    write_checkpoint,
    write_whole,
)
from rlnet.experiment.comparison_files import arrays, document
from rlnet.experiment.problem import build
from rlnet.experiment.run_files import Record, rows_until, write_arrays, write_json
from rlnet.experiment.run_folder import STORED, claimed, keep_settings, program, shown
from rlnet.learning.interrupts import Interrupted, described, put_off
from rlnet.learning.resources import processes, set_threads
from rlnet.learning.training_state import TrainingState, same_settings
from rlnet.learning.triggers import Cadence, Capped
from rlnet.learning.workers import Shares
from rlnet.report.live import progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_log = logging.getLogger(__name__)
LONGER = "a larger algo.rollout and env.max_episode_steps, a smaller gamma, or a TD method would use them all"


class DivergedError(RunFailed):
    """All members diverged: none has a finite gradient."""


@dataclass(frozen=True)
class Result:
    """Result of a training run."""

    run: TrainingState
    tables: Tables | None  # None without a finite model, like the comparison
    comparison: Comparison | None
    scalars: dict[str, np.ndarray]  # the last row of the log, [M] each
    files: list[Path]


@dataclass(frozen=True)
class Judgement:
    """Learned tables at a step, and their scores."""

    step: int
    tables: Tables
    comparison: Comparison


def train(config: Config, folder: Path, given: Sequence[str] | None = None) -> Result:
    """Train, and write the files of the run to a folder.

    Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 are obeyed between two updates, with a checkpoint.

    Args:
        config: a checked config.
        folder: where the files go; must not hold a run yet, unless it is the one of `config.resume` itself.
        given: the settings as KEY=VALUE, for the record, where they do not come from the command line.

    Raises:
        ConfigError: settings that do not fit together, a folder that holds a run, or one that another job writes into.
        DivergedError: the gradients of all members became infinite or NaN.
        Interrupted: by a signal.
    """
    source = None if config.resume is None else Path(config.resume)
    here = source is not None and source.resolve() == folder.resolve()
    if source is not None and not (source / STORED / "config.yaml").is_file():
        raise ConfigError(f"resume={source}: must be the folder of a run; it holds no {STORED}/config.yaml")
    state = TrainingState(config, build(config))
    with closing(state.collector):
        return _train(state, folder, source, here, given)


def _train(state: TrainingState, folder: Path, source: Path | None, here: bool, given: Sequence[str] | None) -> Result:
    """`train` from a run that is built; `here`: whether it goes on in its own folder."""
    config = state.config
    _warn_idle(config)
    set_threads(state)
    count = processes(state)
    with claimed(folder, going_on=here), closing(Record(folder, config)) as record:
        first = _judged(state)
        past = None if source is None else _restored(state, source)
        done = int(state.steps.max())
        _check_steps(state, source)
        keep_settings(folder, asdict(replace(config, resume=None)), done, None if here else source, given)
        if past is None:
            record.begin()
        else:
            record.go_on(past.rows, done, copied=not here)
        try:
            with closing(Shares(state, count)) as shares:
                scalars = Loop(shares, record, first, past).go()
            return _finish(state, record, scalars, first)
        except KeyboardInterrupt as stop:
            raise _with_advice(stop, folder) from None


@dataclass(frozen=True)
class Past:
    """State of a resumed run."""

    stored: dict[str, Any]  # its checkpoint
    rows: bytes  # of metrics.csv
    newest: bool  # whether the checkpoint is the newest one


def _restored(state: TrainingState, source: Path) -> Past | None:
    """Restore a run from the newest sound checkpoint of a folder; None where there was none yet.

    Raises:
        ConfigError: other settings than the folder's, or no checkpoint of it can be used.
    """
    said: list[str] = []
    for path in checkpoints(source):
        try:
            stored = read_checkpoint(path, state.config.device)
            rows = rows_until(source / "metrics.csv", stored["record"])
            state.load_state_dict(stored, state.config.trust)
        except DamagedError as error:
            said.append(str(error))
        except ConfigError:  # of other settings
            raise
        except (RuntimeError, ValueError, KeyError, TypeError, IndexError) as error:
            said.append(f"{path}: cannot be read ({type(error).__name__}: {str(error).splitlines()[0]})")
        else:
            if said or path.name == PREVIOUS:
                why = "; ".join(said) or f"{source / NEWEST}: is missing"
                _log.warning("%s; going on from %s, step %d", why, path.name, int(state.steps.max()))
            return Past(stored, rows, newest=path.name == NEWEST)
    if said:
        raise ConfigError(f"resume={source}: {'; '.join(said)}")
    same_settings(state.config, asdict(from_stored(source / STORED / "config.yaml", state.config.trust)))
    _log.warning("resume=%s: was stopped before its first checkpoint; it begins again", source)
    return None


def _check_steps(state: TrainingState, source: Path | None) -> None:
    """Refuse fewer steps than were done; log where no more are asked for."""
    done, steps = int(state.steps.min()), state.config.steps
    if source is None or done < steps:
        return
    had = from_stored(source / STORED / "config.yaml", state.config.trust).steps
    require(steps >= had, "steps", steps, f"resume={source} has done {done} already; give more")
    _log.warning("steps=%d: resume=%s has done %d already; its last files are written again", steps, source, done)


def _with_advice(stop: KeyboardInterrupt, folder: Path) -> Interrupted:
    """An interruption with advice on how to resume."""
    number = stop.number if isinstance(stop, Interrupted) else signal.SIGINT
    how = described(number)
    if str(stop):
        how += f" {stop}"
    if not checkpoints(folder):
        return Interrupted(number, f"{how}; before the first checkpoint: resume={shown(folder)} begins again")
    return Interrupted(number, f"{how}; go on with: {program('train')} resume={shown(folder)}")


def _warn_idle(config: Config) -> None:
    """Warn of members with a learning rate of 0."""
    rates = [one.optimizer.learning_rate for one in each_setting(config)]
    if 0 in rates:
        some = "" if set(rates) == {0} else f" in {rates.count(0)} of {len(rates)} settings"
        _log.warning("optimizer.learning_rate=0%s: nothing is learned; the scores are those of the first values", some)


def _judged(state: TrainingState) -> Judgement | None:
    if state.problem.solutions is None:
        return None
    return Judgement(int(state.steps.max()), *state.compare())


class Loop:
    """The loop of updates, with periodic logging, comparison and checkpoints.

    Args:
        shares: who updates.
        record: who writes.
        first: the scores at the beginning; None where there is nothing exact.
        past: of a run that goes on.
    """

    def __init__(self, shares: Shares, record: Record, first: Judgement | None, past: Past | None) -> None:
        self.shares, self.record, self.state, self.exact = shares, record, shares.run, first is not None
        config, self.step = self.state.config, int(self.state.steps.max())
        self.log, self.save = Cadence(config.log_every, self.step), Cadence(config.checkpoint_every, self.step)
        self.compare = Capped(config.compare_every, self.step, config.compare_share)
        self.scores = {} if first is None else first.comparison.scalars
        self.fresh = False  # whether the scores are newer than the last row
        self.clock, self.before = time.perf_counter(), int(self.state.steps.sum())
        self.keep = past is None or past.newest  # whether the newest checkpoint is worth keeping
        if past is not None:
            self.compare.load_state_dict(past.stored["compare"])
            if past.stored["scores"] is not None:
                self.scores, self.fresh = {k: x.cpu().numpy() for k, x in past.stored["scores"].items()}, True

    def go(self) -> dict[str, np.ndarray]:
        """Run to the end; returns the last row of the log.

        Raises:
            Interrupted: a signal came; what was done until then is in the checkpoint.
        """
        state, config, stored, saved = self.state, self.state.config, None, False
        row = {} if self.step == 0 else dict(self.record.last_row())
        with put_off() as asked, progress(config.steps, done=self.step) as display:
            while int(state.steps.min()) < config.steps and asked.number is None:
                saved, due = False, (self.log, self.save, self.compare) if self.exact else (self.log, self.save)
                self.shares.advance(min(cadence.next for cadence in due))
                self.step = int(state.steps.max())
                done = int(state.steps.min()) >= config.steps
                # What is due now is done to its end, whatever comes: a checkpoint lies between two turns of this loop.
                if self.exact and (self.compare.due(self.step) or done):
                    with self.compare.timed():
                        self.scores, self.fresh = self.shares.scores(), True
                if self.log.due(self.step) or done:
                    row = self._row()
                    display.update(self.step, **_shown(row | self.scores))
                if self.save.due(self.step) or done:
                    stored, saved = self._checkpoint(), True
            if asked.number is not None:
                if not saved:
                    self._checkpoint()
                raise Interrupted(asked.number)
        if stored is not None:
            self.shares.gather(stored)
        return row

    def _row(self) -> dict[str, np.ndarray]:
        members = len(self.state.steps)
        row = self.shares.row()
        _report_diverged(self.state)
        speed = (int(self.state.steps.sum()) - self.before) / max(time.perf_counter() - self.clock, 1e-9)
        row |= {"time/steps_per_second": np.full(members, speed)}
        if self.exact:
            row["time/compare_share"] = np.full(members, self.compare.share)
        # Scores stand in one row, the first one after they were computed.
        row |= self.scores if self.fresh else {name: np.full(members, np.nan) for name in self.scores}
        self.record.row(self.state.steps.cpu().numpy(), row)
        self.clock, self.before, self.fresh = time.perf_counter(), int(self.state.steps.sum()), False
        return row

    def _checkpoint(self) -> dict[str, Any]:
        """Write a checkpoint."""
        scores = {name: torch.as_tensor(x) for name, x in self.scores.items()} if self.fresh else None
        parts = {"record": self.record.place(), "scores": scores, "compare": self.compare.state_dict()}
        stored = {**self.shares.state_dict(), **parts}
        write_checkpoint(self.record.folder, stored, keep=self.keep)
        self.keep = True
        return stored


def _shown(row: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Scalars of the progress display: means over members."""
    names = {"ret": "return/mean", "regret": "exact/regret", "value_error": "exact/v_rmse"}
    finite = {short: row[name][~np.isnan(row[name])] for short, name in names.items() if name in row}
    return {short: float(values.mean()) for short, values in finite.items() if len(values)}


def _report_diverged(state: TrainingState) -> None:
    """Warn of members that the learner has frozen.

    Raises:
        DivergedError: none is left that learns.
    """
    settings, seeds, steps = member_settings(state.config), state.config.member_seeds, state.steps.tolist()
    said = [
        "".join([f"member {m} (seed {seeds[m]}", *(f", {name}={value:g}" for name, value in settings[m].items())])
        + f") diverged: its gradient was not finite by step {steps[m]}"
        for m in state.newly_diverged()
    ]
    advice = "a smaller optimizer.learning_rate or max_grad_norm may help"
    if (state.diverged >= 0).all():
        raise DivergedError(f"{said[0]}{', as did all others' if len(seeds) > 1 else ''}; {advice}")
    for sentence in said:
        _log.warning("%s; it stays at the parameters before, and the others go on; %s", sentence, advice)


def _finish(state: TrainingState, record: Record, scalars: dict[str, np.ndarray], first: Judgement | None) -> Result:
    """The final comparison, the pictures (of the beginning too: matplotlib takes a second to begin) and settings."""
    config, folder = state.config, record.folder
    complete = scalars.get("loss/complete_returns", np.ones(1))
    if (complete < 0.99).any():
        share = f"only {100 * float(complete.mean()):.0f} % of the returns of the last update were sampled to their end"
        _log.warning("%s; the others were not learned from, which favours short episodes: %s", share, LONGER)
    files = [folder / "metrics.csv", folder / "checkpoint.pt"]
    tables = comparison = None
    if first is not None:
        from rlnet.report.figures import save_png  # what draws is loaded when there is something to draw

        last = Judgement(int(state.steps.max()), *state.compare())
        tables, comparison = last.tables, last.comparison
        scalars = scalars | comparison.scalars
        visits = cast(Tensor, state.visits).cpu().numpy()
        write_arrays(folder / "values.npz", arrays(config, state.problem, tables, comparison, visits))
        ends = state.steps.tolist(), state.diverged.tolist()
        content = document(config, state.problem, tables, *ends, comparison.scalars)
        write_json(folder / "comparison.json", content)
        files += [folder / name for name in ("values.npz", "comparison.json")]
        if comparison.v is not None:  # a method without values has none to draw
            if not (folder / "values.png").exists():  # of a run that goes on after its end it is there
                _picture(state, record, first, content["drawn"])
            figure = _picture(state, record, last, content["drawn"])
            write_whole(folder / "values.png", lambda part: save_png(figure, part))
            files.append(folder / "values.png")
    record.hparams(scalars)
    return Result(state, tables, comparison, scalars, [*files, *sorted(folder.glob("events.out.tfevents.*"))])


def _picture(state: TrainingState, record: Record, judgement: Judgement, drawn: Mapping[str, Any]) -> "Figure":
    """Learned values, exact values and the error of the member that is drawn everywhere, to TensorBoard."""
    from rlnet.report.figures import image_array, values_figure
    from rlnet.report.panels import learned_and_exact

    problem, comparison, m = state.problem, judgement.comparison, drawn["member"]
    policies = judgement.tables.policy[m], problem.exact[m].policy
    note = f", {drawn['name']}" if drawn["name"] else ""
    learned = cast(np.ndarray, comparison.v)[m]
    panels = learned_and_exact(learned, comparison.v_exact[m], *policies, problem.against, note)
    figure = values_figure(problem.mdp, panels)
    record.image("values", image_array(figure), judgement.step)
    return figure
