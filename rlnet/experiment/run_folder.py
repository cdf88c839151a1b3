"""Output folders: exclusive lock, protection of earlier results, and the record of commands."""

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from rlnet.config import ConfigError
from rlnet.config.files import check_folder, read_yaml
from rlnet.experiment.checkpoints import write_whole

try:
    import fcntl
except ImportError:  # not a POSIX system: nothing there guards a folder
    fcntl = None  # type: ignore[assignment]

RESULTS = (
    "metrics.csv",
    "solution.npz",
    "audit.json",
    "estimator.json",
    "trl.json",
)  # a folder that holds one of them must not be written into
STORED = ".hydra"
# Groups that may get keys which no config lists.
OPEN = ("vary.", "env.kwargs.", "env.targets.", "network.kwargs.", "search.space.", "options.")
_held: set[Path] = set()  # locks of a process do not keep out the process itself


@contextmanager
def claimed(folder: Path, *, going_on: bool = False) -> Iterator[None]:
    """Context manager: lock a folder exclusively. The lock ends with the process, however that ends.

    Args:
        folder: made where it is missing.
        going_on: whether the folder holds the run that goes on there; otherwise it must not hold one.

    Raises:
        ConfigError: the folder holds a run, or another job writes into it now.
    """
    if not going_on:
        _refuse_results(folder)
    check_folder(folder)
    stored, place = folder / STORED, folder.resolve()
    busy = ConfigError(f"hydra.run.dir={folder}: another job writes into this folder now; choose another, or wait")
    if place in _held:
        raise busy
    try:
        stored.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"hydra.run.dir={folder}: a file stands where a folder is needed") from error
    with (stored / "lock").open("a") as lock:
        if fcntl is not None:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # processes that are forked do not inherit it
            except (BlockingIOError, PermissionError):
                raise busy from None
        if not going_on:
            _refuse_results(folder)
        _held.add(place)
        try:
            yield
        finally:
            _held.discard(place)


def _refuse_results(folder: Path) -> None:
    for name in RESULTS:
        if (folder / name).exists():
            raise ConfigError(
                f"hydra.run.dir={folder}: already holds a run; choose another folder, or go on with it: resume={folder}"
            )


def keep_settings(
    folder: Path,
    config: Mapping[str, Any],
    began: int = 0,
    source: Path | None = None,
    given: Sequence[str] | None = None,
) -> None:
    """Write the settings of a job into .hydra: config.yaml, and overrides.yaml where settings were typed.

    commands.yaml lists all starts of a run: `command`, as it was typed, `step`, from which it went on, the `steps` that
    it was to have, and `overrides`, all that was set, where that is known.

    Args:
        folder: of the job.
        config: all its settings.
        began: the step at which the run begins or goes on.
        source: another folder, whose run goes on in this one.
        given: the settings as KEY=VALUE, where they do not come from the command line.
    """
    stored = folder / STORED
    past = commands(folder if source is None else source)
    start: dict[str, Any] = {"step": began, "steps": config.get("steps")}
    if given is not None:
        start |= {"command": f"rlnet.train({', '.join(map(repr, given))})", "overrides": list(given)}
    elif HydraConfig.initialized():
        start |= {"command": _typed(), "overrides": as_typed(HydraConfig.get().overrides.task)}
    else:
        start["command"] = "rlnet.learning.training_loop.train(config, folder)"
    stored.mkdir(parents=True, exist_ok=True)
    _write(stored / "config.yaml", dict(config))
    if "overrides" in start:
        own = [item for item in start["overrides"] if override_key(item) != "resume"]
        start["overrides"] = own
        _write(stored / "overrides.yaml", own)
    _write(stored / "commands.yaml", [*past, start])


def override_key(override: str) -> str:
    """The key of `KEY=VALUE`, `+KEY=VALUE`, `++KEY=VALUE` or `~KEY`."""
    return override.partition("=")[0].lstrip("+~")


def opened(overrides: Sequence[str]) -> list[str]:
    """Overrides as Hydra needs them for open groups: `vary.gamma=0.9` as `++vary.gamma=0.9`, or `vary={gamma: 0.9}`."""
    begins = (*OPEN, *(f"{group[:-1]}={{" for group in OPEN))
    return [f"++{item}" if item.startswith(begins) else item for item in overrides]


def as_typed(overrides: Sequence[str]) -> list[str]:
    """The inverse of `opened`: overrides as the user typed them."""
    return [item[2:] if item.startswith("++") and item[2:].startswith(OPEN) else item for item in overrides]


def program(command: str) -> str:
    """A command of rlnet as the user calls it: `rlnet train`, or `python scripts/train.py`."""
    return f"rlnet {command}" if sys.argv[0].startswith("rlnet ") else f"python scripts/{command}.py"


def _typed() -> str:
    """The command line as it was typed; in a process that a launcher has started, as it was handed on."""
    called, words = sys.argv[0], sys.orig_argv[1:]
    name = called.removeprefix("rlnet ")
    if name not in words:
        return shlex.join([*(["rlnet"] if name != called else ["python"]), name, *as_typed(sys.argv[1:])])
    if name == called:
        return shlex.join(["python", *words])
    module = ["python", "-m"] if words[:2] == ["-m", "rlnet"] else []
    return shlex.join([*module, "rlnet", *words[words.index(name) :]])


def commands(folder: Path) -> list[dict[str, Any]]:
    """The starts of the run in a folder, the first one first: see `keep_settings`; [] where none are known."""
    path = folder / STORED / "commands.yaml"
    if not path.is_file():
        return []
    return cast(list[dict[str, Any]], OmegaConf.to_container(read_yaml(path, computed=True), resolve=False))


def _write(path: Path, content: dict[str, Any] | list[Any]) -> None:
    write_whole(path, lambda part: OmegaConf.save(OmegaConf.create(content), part))


def shown(folder: Path) -> str:
    """The folder quoted for a shell."""
    return shlex.quote(os.fspath(folder))
