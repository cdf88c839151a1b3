"""The files of a run at its end: the final comparison with the exact solution, in numbers and pictures."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from rlnet.compare import Comparison, Tables
from rlnet.experiment.checkpoints import write_whole
from rlnet.experiment.comparison_files import Scored, arrays, document
from rlnet.experiment.evaluation_files import POSITIONS, write_evaluation
from rlnet.experiment.reference import FILE
from rlnet.experiment.run_files import Record, write_arrays, write_json
from rlnet.learning.final_positions import positions
from rlnet.learning.training_state import TrainingState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)
LONGER = "a larger algo.rollout and env.max_episode_steps, a smaller gamma, or a TD method would use them all"


@dataclass(frozen=True)
class Result:
    """Result of a training run."""

    run: TrainingState
    scored: Scored | None  # the final scores and what they are of; None without a finite model
    scalars: dict[str, np.ndarray]  # the last row of the log, [M] each
    files: list[Path]


@dataclass(frozen=True)
class Judgement:
    """Learned tables at a step, and their scores."""

    step: int
    tables: Tables
    comparison: Comparison


def finish(
    state: TrainingState,
    record: Record,
    scalars: dict[str, np.ndarray],
    first: Judgement | None,
    last: Judgement | None,
    evaluated: Mapping[str, Any] | None = None,
) -> Result:
    """Write the final comparison, the pictures (of the beginning too: matplotlib takes a second to begin) and settings.

    Args:
        state: of the run, at its end.
        record: who writes.
        scalars: the last row of the log.
        first, last: the scores at the beginning and at the end; None where there is nothing exact.
        evaluated: the final episodes, see `rlnet.learning.evaluation`; None without evaluation.
    """
    config, folder = state.config, record.folder
    complete = scalars.get("loss/complete_returns", np.ones(1))
    if (complete < 0.99).any():
        share = f"only {100 * float(complete.mean()):.0f} % of the returns of the last update were sampled to their end"
        _log.warning("%s; the others were not learned from, which favours short episodes: %s", share, LONGER)
    files = [folder / "metrics.csv", folder / "checkpoint.pt"]
    if state.problem.context.reference is not None:
        files.append(folder / FILE)
    scored = None
    if first is not None and last is not None:
        from rlnet.report.figures import save_png  # what draws is loaded when there is something to draw

        comparison = last.comparison
        scalars, visits = scalars | comparison.scalars, state.tried()
        values = arrays(config, state.problem, last.tables, comparison, visits)
        write_arrays(folder / "values.npz", values)
        ends = state.steps.tolist(), state.diverged.tolist()
        content = document(config, state.problem, last.tables, *ends, comparison.scalars)
        there = {name: array for name, array in values.items() if array is not None}
        scored = Scored(config, state.problem, content["drawn"], comparison.scalars, there, content["verdict"])
        write_json(folder / "comparison.json", content)
        files += [folder / name for name in ("values.npz", "comparison.json")]
        if comparison.v is not None:  # a method without values has none to draw
            if not (folder / "values.png").exists():  # of a run that goes on after its end it is there
                _picture(state, record, first, content["drawn"])
            figure = _picture(state, record, last, content["drawn"])
            write_whole(folder / "values.png", lambda part: save_png(figure, part))
            files.append(folder / "values.png")
    if state.problem.environment.board is not None and state.problem.environment.mdp is None:
        write_arrays(folder / POSITIONS, positions(state.trained().of(0)))
        files.append(folder / POSITIONS)
    if evaluated is not None:
        files += write_evaluation(folder, config, state.problem, evaluated, state.steps.tolist())
    record.hparams(scalars)
    return Result(state, scored, scalars, [*files, *sorted(folder.glob("events.out.tfevents.*"))])


def _picture(state: TrainingState, record: Record, judgement: Judgement, drawn: Mapping[str, Any]) -> "Figure":
    """Learned values, exact values and the error of the member that is drawn everywhere, to TensorBoard."""
    from rlnet.report.figures import image_array, values_figure
    from rlnet.report.panels import learned_and_exact

    problem, comparison, m = state.problem, judgement.comparison, drawn["member"]
    policies = judgement.tables.policy[m], problem.exact[m].policy
    note = f", {drawn['name']}" if drawn["name"] else ""
    learned = cast(np.ndarray, comparison.v)[m]
    panels = learned_and_exact(learned, comparison.v_exact[m], *policies, problem.against, note, problem.approximation)
    figure = values_figure(problem.mdp, panels)
    record.image("values", image_array(figure), judgement.step)
    return figure
