"""The loop: collect → update → log → compare → checkpoint; and going on from a checkpoint."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rlnet.algos.contract import Hyper
from rlnet.build import build
from rlnet.cadence import Cadence, Capped
from rlnet.compare import Comparison, Tables
from rlnet.config import Config, ConfigError, EpochsConfig, RunFailed, require
from rlnet.data import Rollout, minibatches, rows_in_order
from rlnet.members import member_settings
from rlnet.record import Record, write_arrays, write_checkpoint, write_json
from rlnet.report.live import progress
from rlnet.run import Run
from rlnet.threads import set_threads
from rlnet.verdict import arrays, document

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# The name in the log of what an exploration's schedule gives.
SCHEDULED_AS = {
    "epsilon_greedy": "explore/epsilon",
    "softmax": "explore/temperature",
    "count_bonus": "explore/bonus",
}
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
    record = Record(folder, config)
    try:
        if config.resume is not None:
            _resume(state, record, Path(config.resume))
        first = _judged(state)
        scalars = _loop(state, record, first)
        return _finish(state, record, scalars, first)
    except KeyboardInterrupt:
        write_checkpoint(folder / "checkpoint.pt", state.state_dict())
        raise KeyboardInterrupt(f"interrupted; go on with: python scripts/train.py resume={folder}") from None
    finally:
        record.close()


def _judged(state: Run) -> Judgement | None:
    if state.problem.solutions is None:
        return None
    return Judgement(int(state.steps.max()), *state.compare())


def _loop(state: Run, record: Record, first: Judgement | None) -> dict[str, np.ndarray]:
    """Update until every member has done its steps; the last row of the log."""
    config, exact, step = state.config, first is not None, int(state.steps.max())
    log, save = Cadence(config.log_every, step), Cadence(config.checkpoint_every, step)
    compare = Capped(config.compare_every, step, config.compare_share)
    scores = first.comparison.scalars if exact else {}
    clock, before, fresh = time.perf_counter(), int(state.steps.sum()), False
    row: dict[str, np.ndarray] = {}
    with progress(config.steps, done=step) as display:
        while int(state.steps.min()) < config.steps:
            metrics = learn(state, state.collect())
            step = int(state.steps.max())
            done = int(state.steps.min()) >= config.steps
            if exact and (done or compare.due(step)):
                with compare.timed():
                    scores, fresh = state.compare()[1].scalars, True
            if log.due(step) or done:
                _report_diverged(state)
                row = _row(state, metrics(), clock, before)
                if exact:
                    row["time/compare_share"] = np.full(len(state.steps), compare.share)
                display.update(step, **_shown(row | scores))
                # A score stands in the row of the step that it was computed at, and nowhere else.
                row |= scores if fresh else {name: np.full(len(state.steps), np.nan) for name in scores}
                record.row(state.steps.cpu().numpy(), row)
                clock, before, fresh = time.perf_counter(), int(state.steps.sum()), False
            if save.due(step) or done:
                write_checkpoint(record.folder / "checkpoint.pt", state.state_dict())
    return row


def learn(state: Run, rollout: Rollout) -> Callable[[], dict[str, Tensor]]:
    """Take the optimiser steps that a rollout is worth: on itself, on its minibatches, or on what replay holds.

    Returns:
        What works out, until the next rollout is collected, the metrics of the last step, or where rows are learned
        from one by one their means: [M] each.
    """
    if state.replay is not None:
        return _learn_from_replay(state, rollout)
    algorithm, hyper = state.problem.algorithm, state.hyper()
    if algorithm.prepare is not None:
        with torch.no_grad():
            extra = algorithm.prepare(state.problem.setting, state.learner.params, rollout, hyper)
        rollout = replace(rollout, extra=extra)
    metrics = _learn_from_rollout(state, rollout, hyper)
    state.count(rollout)
    return metrics


def _learn_from_rollout(state: Run, rollout: Rollout, hyper: Hyper) -> Callable[[], dict[str, Tensor]]:
    algorithm, learner, algo, rate = state.problem.algorithm, state.learner, state.config.algo, state.learning_rate
    if algorithm.one_by_one:
        steps = [learner.step(row, hyper, rate) for row in rows_in_order(rollout, algorithm.lookback)]
        return lambda: _means([step.metrics for step in steps])
    if not isinstance(algo, EpochsConfig):
        step = learner.step(rollout, hyper, rate)
        return lambda: step.metrics
    stops = "stop_at_kl" in hyper and bool((hyper["stop_at_kl"] < torch.inf).any())
    for batch in _epochs(state, rollout, algo):
        step = learner.step(batch, hyper, rate)
        if stops:  # a member whose policy has moved far enough stops until the next rollout
            rate = rate * (1 - step.metrics["stop"]).unsqueeze(-1)
    return lambda: {name: value for name, value in step.metrics.items() if name != "stop"}


def _epochs(state: Run, rollout: Rollout, algo: EpochsConfig) -> Iterator[Rollout]:
    """The minibatches of all epochs."""
    if algo.minibatches == 1:  # all rows, whose order does not matter
        yield from repeat(next(minibatches(rollout, None, 1)), algo.epochs)
        return
    for _ in range(algo.epochs):
        order = state.shuffle.permutation(rollout.weight.shape[0] * rollout.weight.shape[2])
        yield from minibatches(rollout, order, algo.minibatches)


def _means(steps: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Means of metrics [M] over steps, leaving out the steps in which a member had nothing to learn from (NaN)."""
    return {name: torch.stack([metrics[name] for metrics in steps]).nanmean(0) for name in (steps or [{}])[0]}


def _learn_from_replay(state: Run, rollout: Rollout) -> Callable[[], dict[str, Tensor]]:
    learner, replay, algo = state.learner, state.replay, state.algo
    replay.add(rollout)
    state.count(rollout)
    while len(replay) < algo.learning_starts:
        rollout = state.collect()
        replay.add(rollout)
        state.count(rollout)
    hyper, rate, more = state.hyper(), state.learning_rate, {}
    for _ in range(algo.updates):
        batch = replay.sample(state.correction) if replay.prioritised else replay.sample()
        step = learner.step(batch, hyper, rate)
        if replay.prioritised:
            allowed = f"algo={algo.name} does not say by how much a row missed its target; leave it at 0"
            require(step.error is not None, "algo.priority", algo.priority, allowed)
            replay.prioritise(batch, step.error)
            more = {"replay/correction": state.correction.squeeze(-1)}
        state.updates += 1
        if algo.target_rate is not None:
            learner.follow(algo.target_rate)
        elif state.updates % algo.target_every == 0:
            learner.follow(1.0)
    return lambda: {**step.metrics, **more}


def _row(state: Run, metrics: Mapping[str, Tensor], since: float, steps_before: int) -> dict[str, np.ndarray]:
    """One row of the log: episodes, losses, exploration, learning rate, speed; [M] each."""
    tensors = state.collector.episodes() | dict(metrics)
    if state.config.exploration.name in SCHEDULED_AS:
        tensors[SCHEDULED_AS[state.config.exploration.name]] = state.explore.squeeze(-1)
    if state.learner.layout.noisy:
        tensors["explore/sigma"] = state.learner.layout.deviations(state.learner.theta).abs().mean(1)
    tensors["optimizer/learning_rate"] = state.learning_rate.squeeze(-1)
    row = {name: tensor.double().cpu().numpy() for name, tensor in tensors.items()}
    speed = (int(state.steps.sum()) - steps_before) / max(time.perf_counter() - since, 1e-9)
    return row | {"time/steps_per_second": np.full(len(state.steps), speed)}


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
