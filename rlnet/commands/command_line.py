"""The command line: composing configs with Hydra, and doing their jobs."""

import gc
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rlnet.commands.failures import EXPECTED, failed
from rlnet.config import ALGORITHMS, CONFIGS, ENVIRONMENTS, SCHEMAS, ConfigError, import_named, register
from rlnet.config.files import check_folder, read_yaml
from rlnet.experiment.run_folder import claimed, keep_settings, opened
from rlnet.experiment.run_folder import override_key as _key
from rlnet.learning.interrupts import raise_at_once


def launch(
    name: str,
    job: Callable[[Any, Path], None],
    finish: Callable[[Path], None] | None = None,
    *,
    claim: bool = True,
) -> int:
    """Compose `configs/NAME.yaml` with the overrides of the command line and do the job.

    Args:
        name: the primary config.
        job: called with the checked config and the output folder; in a sweep (-m) once for each combination.
        finish: called with the folder of a sweep, once all its jobs are done.
        claim: whether the folder is claimed here, and what the job was started with written into it; else the job does.

    Returns:
        The exit code.
    """
    register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach this function instead of being printed by Hydra
    raise_at_once()
    jobs = _Jobs(job, claim, _given(sys.argv[1:]))
    try:
        sys.argv[1:] = _named_safely(opened(_with_stored_overrides(_readable(sys.argv[1:]))))
        if {"--help", "-h"} & set(sys.argv):  # which lists what can be named
            ENVIRONMENTS.complete()
            ALGORITHMS.complete()
        import_named(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(CONFIGS.resolve()), config_name=name)(jobs.call)()
        if finish is not None and jobs.failure is None:
            for typed in jobs.sweeps:
                finish(_short(Path.cwd() / typed, typed))
    except (*EXPECTED, KeyboardInterrupt) as error:
        return failed(error)
    return 0 if jobs.failure is None else failed(jobs.failure)


class _Jobs:
    """The jobs that Hydra calls, one or those of a sweep; the first that fails is the last.

    Args:
        job, claim: as of `launch`.
        given: the keys of the command line.
    """

    def __init__(self, job: Callable[[Any, Path], None], claim: bool, given: set[str]) -> None:
        with loading():
            from rlnet.config import trust, validation
        self._trust, self._validation = trust, validation
        self._job, self._claim, self._given = job, claim, given
        self.sweeps: dict[str, None] = {}  # the folders of sweeps, as they were typed
        self.failure: Exception | None = None  # kept, so that Hydra does not print its own account

    def call(self, composed: DictConfig) -> None:
        """Check a composed config and do its job, unless an earlier one failed."""
        if self.failure is not None:
            return
        try:
            config, folder = self._checked(composed)
            if not self._claim:
                self._job(config, folder)
                return
            with claimed(folder):
                keep_settings(folder, asdict(config))
                self._job(config, folder)
        except EXPECTED as error:
            self.failure = error

    def _checked(self, composed: DictConfig) -> tuple[Any, Path]:
        """The checked config of a job, and its output folder."""
        config, hydra_config = self._validation.from_hydra(composed), HydraConfig.get()
        if getattr(config, "resume", None) is not None and not config.trust:
            self._trust.check_trusted(config, f"resume={config.resume}", self._given)
        tuned = hydra_config.runtime.choices.get("tuned")
        if tuned not in (None, "null"):
            from rlnet.experiment.tuned import check_tuned

            check_tuned(config, tuned)
        several = hydra_config.mode == RunMode.MULTIRUN
        typed = str(hydra_config.sweep.dir if several else hydra_config.run.dir)
        if several:
            self.sweeps[typed] = None
        return config, _short(Path(hydra_config.runtime.output_dir), typed)


@contextmanager
def loading() -> Iterator[None]:
    """Context manager for imports, without garbage collection, which would cost 0.2 s."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _short(folder: Path, typed: str) -> Path:
    """The folder as seen from here, where it lies below or was typed like that: shorter to read and to type."""
    if folder.is_relative_to(Path.cwd()):
        return folder.relative_to(Path.cwd())
    return folder if Path(typed).is_absolute() else Path(os.path.relpath(folder))


def _with_stored_overrides(argv: list[str]) -> list[str]:
    """Expand `resume=DIR` to the overrides that DIR was started with, and to DIR as the output folder."""
    for argument in argv:
        if argument.startswith("resume=") and argument != "resume=null":
            folder = Path(argument.removeprefix("resume=").strip("'\""))
            path = folder / ".hydra" / "overrides.yaml"
            if not path.is_file():
                raise ConfigError(f"{argument}: must be the folder of a run; it holds no .hydra/overrides.yaml")
            check_folder(folder)
            trust, given = _trusted(argv), _given(argv)
            with loading():
                from rlnet.config.trust import own_overrides
            written = cast(list[Any], OmegaConf.to_container(read_yaml(path, computed=True)))
            if "plugins" in given:
                written = [item for item in written if _key(str(item)) != "plugins"]
            stored = own_overrides(written, path, trust)
            text = str(folder).replace("\\", "\\\\").replace("'", "\\'")  # as Hydra quotes
            quoted = [f"resume='{text}'" if item is argument else item for item in argv]
            here = [] if {"hydra.run.dir", "hydra.sweep.dir"} & given else [f"hydra.run.dir='{text}'"]
            return [*(item for item in stored if _key(item) not in given), *quoted, *here]
    return argv


def _given(argv: Sequence[str]) -> set[str]:
    """The keys of the command line."""
    return {_key(item) for item in argv}


def _trusted(argv: Sequence[str]) -> bool:
    """Whether the command line, and not a folder, says trust=true."""
    return any(_key(item) == "trust" and item.partition("=")[2].lower() == "true" for item in argv)


def _named_safely(argv: Sequence[str]) -> list[str]:
    """The arguments, with names of settings in those of folders checked where they are resolved: Hydra makes the output
    folder before anything else is checked.
    """
    safe = re.compile(r"\$\{(env\.name|algo\.name)\}")
    return [safe.sub(r"${file_name:\1}", item) if _key(item).startswith("hydra.") else item for item in argv]


def _readable(argv: list[str]) -> list[str]:
    """Normalise arguments: whole numbers like 1e5 become integers.

    Raises:
        ConfigError: an argument that is neither KEY=VALUE nor an option.
    """
    whole = _whole_numbers()
    found: list[str] = []
    for item in argv:
        key, equals, value = item.partition("=")
        if not equals and re.fullmatch(r"[A-Za-z_][\w./@]*", item) and not (found and found[-1] in VALUED):
            raise ConfigError(f"{item}: must be KEY=VALUE, as in env=gridworld steps=20000")
        if key.rpartition(".")[2] in whole:
            value = ",".join(_whole(part, item) for part in value.split(","))  # of a sweep: several
        found.append(f"{key}={value}" if equals else item)
    return found


def _whole(value: str, item: str) -> str:
    """A whole number typed as 1e5 with its digits, anything else as it is."""
    if not REAL.fullmatch(value):
        return value
    number = Decimal(value.replace("_", ""))
    if abs(number) >= 10**18 or number != number.to_integral_value():
        raise ConfigError(f"{item}: must be a whole number")
    return str(int(number))


def _whole_numbers() -> frozenset[str]:
    """The keys of all schemas that hold an integer, by their last name."""
    whole: set[str] = set()
    others: set[str] = set()
    for schema in [*SCHEMAS.values(), *(ENVIRONMENTS[kind] for kind in ENVIRONMENTS.known())]:
        for item in fields(schema):
            (whole if item.type in (int, int | None) else others).add(item.name)
    return frozenset(whole - others)


# Options of Hydra that are followed by a word.
VALUED = ("-cn", "-cp", "-cd", "-p", "-i", "--config-name", "--config-path", "--config-dir", "--package", "--info")
REAL = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)[eE][+-]?\d+")  # 1e5, 1.5e-3
