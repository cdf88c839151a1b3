"""Hyperparameter search with Optuna: trials are runs in subfolders of the study.

Several processes may work on one study, on machines that share its folder or its storage: each asks for a trial, runs
it and reports its objective. A trial whose process was killed is resumed from its last checkpoint by the next process
of the same folder that asks for a trial.
"""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from rlnet.config import Config, ConfigError, RunFailed
from rlnet.config.optional import needed
from rlnet.config.population import with_setting
from rlnet.config.search import SearchConfig
from rlnet.config.search_ranges import Range, check_search
from rlnet.config.validation import check
from rlnet.experiment import sweeps
from rlnet.experiment.run_folder import fcntl, override_key
from rlnet.experiment.sweeps import FAILED, FINISHED, PRUNED, RECORDS, JobRecord
from rlnet.learning.training_loop import train

JOURNAL = "study.journal"
# Seconds, and how often a storage is tried: processes of other folders may be making the tables of the same database.
PAUSE, TRIES = 0.5, 3


class _Pruned(Exception):
    """The pruner has stopped the trial."""

    def __init__(self, step: int) -> None:
        super().__init__(f"at step {step}")


def search(config: Config, folder: Path, given: Sequence[str]) -> str:
    """Run trials until the study has `search.trials` of them; returns a sentence about the best one.

    Args:
        config: a checked config with `search`.
        folder: of the study.
        given: the settings as KEY=VALUE, for the record of each trial.

    Raises:
        ConfigError: Optuna is not installed, its storage cannot be reached, the ends of a range cannot be used, or the
            objective is not logged.
    """
    own = config.search
    assert own is not None
    optuna, space = needed("optuna", "search", "search=optuna"), check_search(config)
    single = replace(config, search=None)
    for path, one in space.items():
        for end in (one.low, one.high):
            check(with_setting(single, {path: end}))
    (folder / RECORDS).mkdir(parents=True, exist_ok=True)
    study = _study(optuna, own, folder, config)
    kept = [item for item in given if override_key(item).partition(".")[0] not in ("search", "hydra")]
    while (found := _next(optuna, study, own, folder, space)) is not None:
        trial, lock = found
        try:
            _run(optuna, study, trial, single, own, folder, kept)
        finally:
            lock.close()
    return _said(optuna, study, own)


def _study(optuna: Any, own: SearchConfig, folder: Path, config: Config) -> Any:
    """The study, made or found in its storage."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruners = {
        "median": lambda: optuna.pruners.MedianPruner(),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(config.log_every, config.steps),
        "none": lambda: optuna.pruners.NopPruner(),
    }
    place = own.storage or str(folder / JOURNAL)
    direction = "maximize" if own.maximized else "minimize"
    for left in reversed(range(TRIES)):
        try:
            with _alone(folder):
                study = optuna.create_study(
                    storage=_storage(optuna, place),
                    study_name=own.study,
                    direction=direction,
                    pruner=pruners[own.pruner](),
                    load_if_exists=True,
                )
            break
        except Exception as error:
            if not left:
                said = " ".join(str(error).split())[:200]
                raise ConfigError(f"search.storage={place}: cannot be used ({type(error).__name__}: {said})") from error
            time.sleep(PAUSE)
    if study.direction.name.lower() != direction:
        raise ConfigError(
            f"search.study={own.study}: is there already, and is to {study.direction.name.lower()}; name another"
        )
    return study


def _storage(optuna: Any, place: str) -> Any:
    """A storage of Optuna: a database by its address, or a journal by the name of its file."""
    if "://" in place:
        return place
    journal = optuna.storages.journal
    return optuna.storages.JournalStorage(
        journal.JournalFileBackend(place, lock_obj=journal.JournalFileOpenLock(place))
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Context manager: one process at a time decides which trial is next."""
    with (folder / RECORDS / "study.lock").open("a") as file:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def _next(
    optuna: Any, study: Any, own: SearchConfig, folder: Path, space: Mapping[str, Range]
) -> tuple[Any, IO[str]] | None:
    """The next trial: one whose process was killed, or else a new one; None where all trials are done or running."""
    running, here = optuna.trial.TrialState.RUNNING, str(folder.resolve())
    with _alone(folder):
        trials = study.get_trials(deepcopy=False)
        for one in trials:
            if one.state == running and one.user_attrs.get("folder") == here and set(one.params) == set(space):
                lock = sweeps.taken(folder, f"trial_{one.number}")
                if lock is not None:
                    return optuna.trial.Trial(study, one._trial_id), lock
        if len(trials) >= own.trials:
            return None
        # Whichever process asks, trial n of the same history is the same.
        seed = int(np.random.SeedSequence([own.seed, len(trials)]).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.sampler = (
                optuna.samplers.RandomSampler(seed=seed)
                if own.sampler == "random"
                else optuna.samplers.TPESampler(seed=seed, constant_liar=True)
            )
        float_ = optuna.distributions.FloatDistribution
        trial = study.ask({path: float_(one.low, one.high, log=one.log) for path, one in space.items()})
        trial.set_user_attr("folder", here)
        lock = sweeps.taken(folder, f"trial_{trial.number}")
        assert lock is not None
        return trial, lock


def _run(
    optuna: Any, study: Any, trial: Any, single: Config, own: SearchConfig, folder: Path, given: Sequence[str]
) -> None:
    """Run a trial to its end, or until it is pruned, and tell the study."""
    state, values = optuna.trial.TrialState, dict(trial.params)
    config, place = with_setting(single, values), folder / f"trial_{trial.number}"
    words = [f"{path}={value!r}" for path, value in values.items()]
    if sweeps.check_same(place, config, f"hydra.run.dir={folder}"):
        config = replace(config, resume=str(place))
    record = JobRecord(trial.number, words, place.name)
    sweeps.note(folder, record)

    def on_row(step: int, scores: Mapping[str, np.ndarray]) -> None:
        value = _objective(own, scores)
        if value is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of steps that were reported before the run was killed
                trial.report(value, step)
            if step < config.steps and trial.should_prune():
                raise _Pruned(step)

    try:
        reached = _objective(own, train(config, place, [*given, *words], on_row).scalars)
    except _Pruned as stop:
        study.tell(trial, state=state.PRUNED)
        sweeps.note(folder, replace(record, state=PRUNED, sentence=str(stop)))
    except RunFailed as error:
        study.tell(trial, state=state.FAIL)
        sweeps.note(folder, replace(record, state=FAILED, sentence=str(error), code=1))
    except ConfigError as error:
        study.tell(trial, state=state.FAIL)
        sweeps.note(folder, replace(record, state=FAILED, sentence=str(error), code=2))
        raise
    else:
        if reached is None:
            study.tell(trial, state=state.FAIL)
        else:
            study.tell(trial, reached)
        said = "not finite" if reached is None else f"{reached:.5g}"
        print(f"trial {trial.number} ({' '.join(words)}): {own.objective} = {said}")
        sweeps.note(folder, replace(record, state=FINISHED))


def _objective(own: SearchConfig, scores: Mapping[str, np.ndarray]) -> float | None:
    """The mean of the objective over members; None where it was not computed, or is not finite.

    Raises:
        ConfigError: it is not logged.
    """
    if own.objective not in scores:
        names = ", ".join(name for name in scores if not name.startswith("time/"))
        raise ConfigError(f"search.objective={own.objective}: is not logged by this run; what is: {names}")
    value = float(np.mean(scores[own.objective]))
    return value if np.isfinite(value) else None


def _said(optuna: Any, study: Any, own: SearchConfig) -> str:
    trials = study.get_trials(deepcopy=False)
    complete = [one for one in trials if one.state == optuna.trial.TrialState.COMPLETE]
    pruned = sum(one.state == optuna.trial.TrialState.PRUNED for one in trials)
    if not complete:
        raise RunFailed(f"search: none of {len(trials)} trials came to its end with a finite {own.objective}")
    best = study.best_trial
    settings = " ".join(f"{path}={value!r}" for path, value in best.params.items())
    return (
        f"Of {len(trials)} trials ({pruned} pruned) trial {best.number} is best: "
        f"{own.objective} = {best.value:.5g} with {settings}"
    )
