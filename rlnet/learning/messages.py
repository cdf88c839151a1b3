"""Messages of a training run: how to resume it, a learning rate of 0, members that diverged."""

import logging
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlnet.config import Config, LinearConfig, MlpConfig, RunFailed
from rlnet.config.population import each_setting, member_settings
from rlnet.experiment.checkpoints import checkpoints
from rlnet.experiment.run_folder import program, shown
from rlnet.learning.interrupts import Interrupted, described
from rlnet.learning.training_state import TrainingState

_log = logging.getLogger(__name__)


class DivergedError(RunFailed):
    """All members diverged: none has a finite gradient."""


def with_advice(stop: KeyboardInterrupt, folder: Path) -> Interrupted:
    """The interruption, with a sentence that says how to resume the run of `folder`."""
    number = stop.number if isinstance(stop, Interrupted) else signal.SIGINT
    how = described(number)
    if str(stop):
        how += f" {stop}"
    if not checkpoints(folder):
        return Interrupted(number, f"{how}; before the first checkpoint: resume={shown(folder)} begins again")
    return Interrupted(number, f"{how}; go on with: {program('train')} resume={shown(folder)}")


def warn_idle(config: Config) -> None:
    """Warn of members with a learning rate of 0."""
    rates = [one.optimizer.learning_rate for one in each_setting(config)]
    if 0 in rates:
        some = "" if set(rates) == {0} else f" in {rates.count(0)} of {len(rates)} settings"
        _log.warning(
            "optimizer.learning_rate=0%s: nothing is learned; the scores are those of the initial parameters", some
        )


def warn_flattened(state: TrainingState) -> None:
    """Warn where images are seen as numbers without neighbours, by a network that flattens them."""
    layout, config = state.problem.environment.layout, state.config
    images = [] if layout is None else [layout.parts[k] for k in layout.images if layout.parts[k].in_bytes]
    if images and isinstance(config.network, MlpConfig | LinearConfig):
        shapes = ", ".join(
            "×".join(map(str, part.shape)) + (f" at {part.path}" if part.path else "") for part in images
        )
        _log.warning(
            "network=%s flattens the images of %s (%s); network=cnn sees them as images, beside all other parts",
            *(config.network.name, config.env.title(), shapes),
        )


def warn_not_saved(stored: Mapping[str, Any]) -> None:
    """Warn where a checkpoint does not hold the environments."""
    reason = stored["collector"]["simulation"].get("reason")
    if reason is not None:
        _log.warning("%s; a resumed run begins new episodes", reason)


def report_diverged(state: TrainingState) -> None:
    """Warn of members that have diverged since the last call.

    Raises:
        DivergedError: all members have diverged.
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
        _log.warning("%s; it keeps its last finite parameters, and the other members go on; %s", sentence, advice)
