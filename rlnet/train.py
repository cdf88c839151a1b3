"""The loop: collect → update → log → compare → checkpoint; and going on from a checkpoint."""

import logging
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import numpy as np
import torch

from rlnet.build import build
from rlnet.cadence import Cadence, Capped
from rlnet.compare import Comparison, Tables
from rlnet.config import Config, ConfigError, RunFailed, require
from rlnet.members import member_settings
from rlnet.record import Record, write_arrays, write_checkpoint, write_json
from rlnet.report.live import progress
from rlnet.run import Run
from rlnet.shares import Shares
from rlnet.threads import processes, set_threads
from rlnet.verdict import arrays, document

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_log = logging.getLogger(__name__)
LONGER = "a larger algo.rollout and env.max_episode_steps, a smaller gamma, or a TD method would use them all"


class DivergedError(RunFailed):
    """No member is left whose gradient is finite."""


@dataclass(frozen=True)
class Result:
    """What a run ends with."""

    run: Run
    tables: Tables | None  # None without a finite model, like the comparison
    comparison: Comparison | None
    scalars: dict[str, np.ndarray]  # the last row of the log, [M] each
    files: list[Path]


@dataclass(frozen=True)
class Judgement:
    """What was learned by a step, and its scores."""

    step: int
    tables: Tables
    comparison: Comparison


def run(config: Config, folder: Path) -> Result:
    """Train, and leave the record of it in a folder.

    Args:
        config: a checked config.
        folder: where the files go; must not hold a run yet.

    Raises:
        ConfigError: settings that do not fit together, or a folder that holds a run.
        DivergedError: the gradients of all members became infinite or NaN.
    """
    state = Run(config, build(config))
    set_threads(state)
    count = processes(state)
    record = Record(folder, config)
    try:
        if config.resume is not None:
            _resume(state, record, Path(config.resume))
        first = _judged(state)
        with closing(Shares(state, count)) as shares:
            try:
                scalars = _loop(shares, record, first)
            except KeyboardInterrupt:
                if not shares.in_order:  # a second Ctrl-C
                    raise KeyboardInterrupt("interrupted within an update, which no checkpoint keeps") from None
                write_checkpoint(folder / "checkpoint.pt", shares.state_dict())
                raise KeyboardInterrupt(f"interrupted; go on with: python scripts/train.py resume={folder}") from None
        return _finish(state, record, scalars, first)
    finally:
        record.close()


def _judged(state: Run) -> Judgement | None:
    if state.problem.solutions is None:
        return None
    return Judgement(int(state.steps.max()), *state.compare())


def _loop(shares: Shares, record: Record, first: Judgement | None) -> dict[str, np.ndarray]:
    """Update until every member has done its steps; the last row of the log."""
    state, exact = shares.run, first is not None
    config, step, members = state.config, int(state.steps.max()), len(state.steps)
    log, save = Cadence(config.log_every, step), Cadence(config.checkpoint_every, step)
    compare = Capped(config.compare_every, step, config.compare_share)
    scores = first.comparison.scalars if exact else {}
    clock, before, fresh = time.perf_counter(), int(state.steps.sum()), False
    row: dict[str, np.ndarray] = {}
    with progress(config.steps, done=step) as display:
        while int(state.steps.min()) < config.steps:
            shares.advance(min(cadence.next for cadence in ((log, save, compare) if exact else (log, save))))
            step = int(state.steps.max())
            done = int(state.steps.min()) >= config.steps
            if exact and (done or compare.due(step)):
                with compare.timed():
                    scores, fresh = shares.scores(), True
            if log.due(step) or done:
                row = shares.row()
                _report_diverged(state)
                speed = (int(state.steps.sum()) - before) / max(time.perf_counter() - clock, 1e-9)
                row |= {"time/steps_per_second": np.full(members, speed)}
                if exact:
                    row["time/compare_share"] = np.full(members, compare.share)
                display.update(step, **_shown(row | scores))
                # A score stands in the row of the step that it was computed at, and nowhere else.
                row |= scores if fresh else {name: np.full(members, np.nan) for name in scores}
                record.row(state.steps.cpu().numpy(), row)
                clock, before, fresh = time.perf_counter(), int(state.steps.sum()), False
            if save.due(step) or done:
                stored = shares.state_dict()
                write_checkpoint(record.folder / "checkpoint.pt", stored)
    shares.gather(stored)
    return row


def _shown(row: Mapping[str, np.ndarray]) -> dict[str, float]:
    """What the live display shows: means over members."""
    names = {"ret": "return/mean", "regret": "exact/regret", "value_error": "exact/v_rmse"}
    finite = {short: row[name][~np.isnan(row[name])] for short, name in names.items() if name in row}
    return {short: float(values.mean()) for short, values in finite.items() if len(values)}


def _report_diverged(state: Run) -> None:
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


def _resume(state: Run, record: Record, source: Path) -> None:
    path = source / "checkpoint.pt"
    if not path.is_file():
        raise ConfigError(f"resume={source}: must be the folder of a run; it holds no checkpoint.pt")
    try:
        checkpoint = torch.load(path, map_location=state.config.device, weights_only=True)
        state.load_state_dict(checkpoint)
        record.replay(source / "metrics.csv", until=int(state.steps.max()))
    except ConfigError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError) as error:
        raise ConfigError(
            f"resume={source}: its checkpoint.pt or metrics.csv cannot be read ({type(error).__name__})"
        ) from error
    done, steps = int(state.steps.min()), state.config.steps
    require(done < steps, "steps", steps, f"resume={source} has done {done} already; give more")


def _finish(state: Run, record: Record, scalars: dict[str, np.ndarray], first: Judgement | None) -> Result:
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

        last = _judged(state)
        tables, comparison = last.tables, last.comparison
        scalars = scalars | comparison.scalars
        visits = state.visits.cpu().numpy()
        write_arrays(folder / "values.npz", arrays(config, state.problem, tables, comparison, visits))
        ends = state.steps.tolist(), state.diverged.tolist()
        write_json(folder / "comparison.json", document(config, state.problem, *ends, comparison.scalars))
        _picture(state, record, first)
        save_png(_picture(state, record, last), folder / "values.png")
        files += [folder / name for name in ("values.npz", "comparison.json", "values.png")]
    record.hparams(scalars)
    return Result(state, tables, comparison, scalars, [*files, *sorted(folder.glob("events.out.tfevents.*"))])


def _picture(state: Run, record: Record, judgement: Judgement) -> "Figure":
    """Learned values, exact values and the error of the first member, to TensorBoard."""
    from rlnet.report.figures import image_array, values_figure
    from rlnet.report.panels import learned_and_exact

    problem, comparison = state.problem, judgement.comparison
    policies = judgement.tables.policy[0], problem.solutions[0].policy
    panels = learned_and_exact(comparison.v[0], comparison.v_exact[0], *policies, problem.against)
    figure = values_figure(problem.environment.mdp, panels)
    record.image("values", image_array(figure), judgement.step)
    return figure
