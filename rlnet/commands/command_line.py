"""The command line: composing configs with Hydra, and doing their jobs."""

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from rlnet.commands.arguments import given_keys, loading, prepared
from rlnet.commands.failures import EXPECTED, failed, told
from rlnet.commands.sweeps import short, told_at_the_end
from rlnet.config import ALGORITHMS, CONFIGS, ENVIRONMENTS, Config, import_named, register
from rlnet.config.hydra_versions import OF_MAIN
from rlnet.experiment import sweeps
from rlnet.experiment.run_folder import as_typed, claimed, keep_settings
from rlnet.experiment.sweeps import FAILED, FINISHED, JobRecord
from rlnet.learning.interrupts import raise_at_once


def launch(
    name: str,
    job: Callable[[Any, Path], None],
    finish: Callable[[Path], None] | None = None,
    *,
    claim: bool = True,
    again: str = "hydra.sweep.dir={0}",
) -> int:
    """Compose `configs/NAME.yaml` with the overrides of the command line and do the job.

    Args:
        name: the primary config.
        job: called with the checked config and the output folder; in a sweep (-m) once for each combination.
        finish: called with the folder of a sweep, once all its jobs have ended.
        claim: whether the folder is claimed here, and what the job was started with written into it; else the job does.
        again: the argument by which the same sweep goes on, of its folder {0}.

    Returns:
        The exit code.
    """
    register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach this function instead of being printed by Hydra
    raise_at_once()
    jobs = Jobs(job, claim, given_keys(sys.argv[1:]))
    try:
        sys.argv[1:] = prepared(sys.argv[1:])
        if {"--help", "-h"} & set(sys.argv):  # which lists what can be named
            ENVIRONMENTS.complete()
            ALGORITHMS.complete()
        import_named(sys.argv[1:])
        main = hydra.main(config_path=str(CONFIGS.resolve()), config_name=name, **OF_MAIN)
        with told_at_the_end(finish, again) as outcome:
            main(jobs.call)()
    except (*EXPECTED, KeyboardInterrupt) as error:
        return failed(error)
    return outcome.code if jobs.failure is None else failed(jobs.failure)


class Jobs:
    """What Hydra calls for each job. A launcher of sweeps may pickle it and call it in another process.

    A single job that fails leaves its error in `failure`. A job of a sweep notes in the folder of the sweep what became
    of it, and the others go on; started again it does nothing where it is finished, and goes on where it had begun.

    Args:
        job, claim: as of `rlnet.commands.command_line.launch`.
        given: the keys of the command line.
    """

    def __init__(self, job: Callable[[Any, Path], None], claim: bool, given: set[str]) -> None:
        with loading():
            from rlnet.config import stored, trust, validation  # noqa: F401 (so that they are there when they are needed)
        self._job, self._claim, self._given = job, claim, given
        self.failure: Exception | None = None  # kept, so that Hydra does not print its own account

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"failure": None, "_caller": (list(sys.argv), list(sys.orig_argv), os.getcwd())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In another process: as the process was that started the sweep."""
        argv, typed, cwd = state.pop("_caller")
        vars(self).update(state)
        sys.argv[:], sys.orig_argv[:] = argv, typed
        os.environ["HYDRA_FULL_ERROR"] = "1"
        if os.getcwd() != cwd:
            os.chdir(cwd)
        register()
        import_named(argv[1:])

    def call(self, composed: DictConfig) -> None:
        """Check a composed config and do its job."""
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            self._call_in_sweep(composed)
            return
        try:
            self._do(*self._checked(composed))
        except EXPECTED as error:
            self.failure = error

    def _call_in_sweep(self, composed: DictConfig) -> None:
        """`call`, with what became of the job in the record that the sweep keeps of it."""
        settings = HydraConfig.get()
        sweep, number = Path(settings.sweep.dir), int(settings.job.num)
        overrides, folder = as_typed(settings.overrides.task), settings.runtime.output_dir
        before = sweeps.known(sweep, number, overrides)
        record = JobRecord(number, overrides, os.path.relpath(folder, sweep))
        lock = sweeps.taken(sweep, str(number))  # None: another process does this job, which its folder will say
        try:
            config, place = self._checked(composed)
            begun = sweeps.check_same(place, config, f"hydra.sweep.dir={settings.sweep.dir}")
            if begun and before is not None and before.state == FINISHED:
                print(f"{record.name}: is finished already, in {place}")
                return
            sweeps.note(sweep, record)
            if begun and isinstance(config, Config):
                config = replace(config, resume=str(place))
            self._do(config, place, going_on=begun)
        except KeyboardInterrupt:
            raise
        except Exception as error:  # noqa: BLE001 (of a job; the others go on, and it is told at the end)
            said = told(error)
            if said is None:
                traceback.print_exc()
                said = f"{type(error).__name__}: {error}", 1
            sweeps.note(sweep, replace(record, state=FAILED, sentence=said[0], code=said[1]))
        else:
            sweeps.note(sweep, replace(record, state=FINISHED))
        finally:
            if lock is not None:
                lock.close()

    def _do(self, config: Any, folder: Path, going_on: bool = False) -> None:
        if not self._claim:
            self._job(config, folder)
            return
        with claimed(folder, going_on=going_on):
            keep_settings(folder, asdict(config))
            self._job(config, folder)

    def _checked(self, composed: DictConfig) -> tuple[Any, Path]:
        """The checked config of a job, and its output folder."""
        from rlnet.config.trust import check_trusted
        from rlnet.config.validation import from_hydra

        config, settings = from_hydra(composed), HydraConfig.get()
        if getattr(config, "resume", None) is not None and not config.trust:
            check_trusted(config, f"resume={config.resume}", self._given)
        tuned = settings.runtime.choices.get("tuned")
        if tuned not in (None, "null"):
            from rlnet.experiment.tuned import check_tuned

            check_tuned(config, tuned)
        typed = str(settings.sweep.dir if settings.mode == RunMode.MULTIRUN else settings.run.dir)
        return config, short(Path(settings.runtime.output_dir), typed)
