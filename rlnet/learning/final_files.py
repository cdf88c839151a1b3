"""The files of a run at its end: the final comparison with the exact solution, in numbers and pictures."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from rlnet.compare import Comparison, Tables
from rlnet.config import Config
from rlnet.experiment.checkpoints import write_whole
from rlnet.experiment.comparison_files import Scored, arrays, document
from rlnet.experiment.evaluation_files import POSITIONS, write_evaluation
from rlnet.experiment.problem import Problem
from rlnet.experiment.reference import FILE
from rlnet.experiment.run_files import Record, write_arrays, write_json
from rlnet.learning.final_positions import positions
from rlnet.learning.training_state import TrainingState

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


@dataclass(frozen=True)
class End:
    """A population at the end of its training."""

    config: Config
    problem: Problem
    steps: list[int]  # [M]
    diverged: list[int]  # [M], the step by which the gradient was not finite, −1 for others
    visits: np.ndarray | None  # [M, S, A]; None without a finite model
    scalars: dict[str, np.ndarray]  # the last row of the log, [M] each
    last: Judgement | None  # the scores; None where there is nothing exact
    evaluated: Mapping[str, Any] | None = None  # the final episodes, see `rlnet.learning.evaluation`; None without
    positions: Mapping[str, np.ndarray] | None = None  # of a game without a finite model, see `positions`

    @classmethod
    def of(cls, state: TrainingState, scalars: dict[str, np.ndarray], last: Judgement | None, evaluated: Any) -> "End":
        """The end of a run, with `scalars`, `last` and `evaluated`."""
        environment, visits = state.problem.environment, None if state.visits is None else state.tried()
        game = environment.board is not None and environment.mdp is None
        seen = positions(state.trained().of(0)) if game else None
        return cls(
            state.config,
            state.problem,
            state.steps.tolist(),
            state.diverged.tolist(),
            visits,
            scalars,
            last,
            evaluated,
            seen,
        )


def finish(
    end: End, record: Record, first: Judgement | None
) -> tuple[Scored | None, dict[str, np.ndarray], list[Path]]:
    """Write the final comparison, the pictures (of the beginning too: matplotlib takes a second to begin) and settings.

    Args:
        end: final state of the population.
        record: writer of the run's files.
        first: scores at the start, for their picture; None: no picture.

    Returns:
        The final scores, all final numbers, and the files of the run.
    """
    config, problem, folder, scalars = end.config, end.problem, record.folder, end.scalars
    complete = scalars.get("loss/complete_returns", np.ones(1))
    if (complete < 0.99).any():
        share = f"only {100 * float(complete.mean()):.0f} % of the returns of the last update were sampled to their end"
        _log.warning("%s; the others were not learned from, which favours short episodes: %s", share, LONGER)
    files = [folder / "metrics.csv", folder / "checkpoint.pt"]
    if problem.context.reference is not None:
        files.append(folder / FILE)
    scored = None
    if end.last is not None:
        from rlnet.report.figures import save_png  # what draws is loaded when there is something to draw

        last, comparison = end.last, end.last.comparison
        scalars = scalars | comparison.scalars
        values = arrays(config, problem, last.tables, comparison, cast(np.ndarray, end.visits))
        write_arrays(folder / "values.npz", values)
        content = document(config, problem, last.tables, end.steps, end.diverged, comparison.scalars)
        there = {name: array for name, array in values.items() if array is not None}
        scored = Scored(config, problem, content["drawn"], comparison.scalars, there, content["verdict"])
        write_json(folder / "comparison.json", content)
        files += [folder / name for name in ("values.npz", "comparison.json")]
        if comparison.v is not None:  # a method without values has none to draw
            # A run that goes on after its end has shown its first values.
            if first is not None and record.shows_images and not (folder / "values.png").exists():
                record.image("values", _picture(problem, first, content["drawn"]), first.step)
            image = _picture(problem, last, content["drawn"])
            record.image("values", image, last.step)
            write_whole(folder / "values.png", lambda part: save_png(image, part))
            files.append(folder / "values.png")
    if end.positions is not None:
        write_arrays(folder / POSITIONS, end.positions)
        files.append(folder / POSITIONS)
    if end.evaluated is not None:
        files += write_evaluation(folder, config, problem, end.evaluated, end.steps)
    record.hparams(scalars)
    return scored, scalars, [*files, *sorted(folder.glob("events.out.tfevents.*"))]


def _picture(problem: Problem, judgement: Judgement, drawn: Mapping[str, Any]) -> np.ndarray:
    """Learned values, exact values and the error of the member that is drawn everywhere, uint8 [height, width, 3]."""
    from rlnet.report.figures import image_array, values_figure
    from rlnet.report.panels import learned_and_exact

    comparison, m = judgement.comparison, drawn["member"]
    policies = judgement.tables.policy[m], problem.exact[m].policy
    note = f", {drawn['name']}" if drawn["name"] else ""
    learned = cast(np.ndarray, comparison.v)[m]
    panels = learned_and_exact(learned, comparison.v_exact[m], *policies, problem.against, note, problem.approximation)
    return image_array(values_figure(problem.mdp, panels))
