"""Start and end of a sweep: recording its jobs, and reporting those that failed or did not finish."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from rlnet.commands.failures import EXPECTED, failed, say, told
from rlnet.experiment import sweeps
from rlnet.experiment.sweeps import FAILED, FINISHED
from rlnet.learning.interrupts import exit_code

MOST_TOLD = 20  # jobs, of which a sweep prints a sentence each
NO_ANSWER = "; it is not running, or asks for a token (RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH)"
PAUSE = 1.0  # seconds between two looks at jobs that go on by themselves


class SweepCallback(Callback):
    """What Hydra calls at the beginning of a sweep, in the process that starts it."""

    begun: ClassVar[list[tuple[Path, str]]] = []  # folders of the sweeps that this process has started, as typed

    def on_multirun_start(self, config: DictConfig, **others: Any) -> None:
        """Write down which jobs there will be."""
        typed = str(config.hydra.sweep.dir)
        self.begun.append((Path(typed).absolute(), typed))
        sweeps.plan(Path(typed), _jobs(config))


def _jobs(config: DictConfig) -> list[list[str]] | None:
    """The overrides of each job; None where another sweeper than Hydra's own decides about them."""
    sweeper = config.hydra.sweeper
    if not str(sweeper.get("_target_", "")).endswith(".BasicSweeper"):
        return None
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    own = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    typed = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    assert isinstance(typed, list)
    overrides = OverridesParser.create().parse_overrides([*own, *map(str, typed)])
    return [list(job) for batch in BasicSweeper.split_arguments(overrides, None) for job in batch]


@dataclass
class Outcome:
    """Exit code of a command, set when it has ended."""

    code: int = 0  # the exit code


@contextmanager
def told_at_the_end(finish: Callable[[Path], None] | None, again: str) -> Iterator[Outcome]:
    """Context manager for the jobs of a command: reports at their end on a sweep.

    Args:
        finish: called with the folder of a sweep in which something was done.
        again: as of `rlnet.commands.command_line.launch`.

    Yields:
        Its exit code, once it has ended: of a sweep 1 where a job failed or did not come to its end, else 2 where the
        input of one cannot be used.
    """
    SweepCallback.begun.clear()
    stop: Exception | None = None
    outcome = Outcome()
    try:
        yield outcome
    except KeyboardInterrupt as error:
        if not SweepCallback.begun:
            raise
        how = again.format(Path(SweepCallback.begun[-1][1]))
        said = f"{error or 'interrupted'}; the same sweep goes on where it was with {how}"
        outcome.code = say(said, exit_code(error))
        return
    except Exception as error:
        if not SweepCallback.begun:
            raise
        stop = error
        for folder, _ in SweepCallback.begun:
            _wait(folder)
    codes = [_ended(folder, typed, finish, stop, again) for folder, typed in SweepCallback.begun]
    outcome.code = max(codes, key=(0, 2, 1).index, default=0)


def _wait(folder: Path) -> None:
    """Wait for the jobs of a sweep that go on in processes of their own, although their launcher has broken off."""
    going = sweeps.at_work(folder)
    if going:
        print(f"Waiting for {', '.join(one.name for one in going[:MOST_TOLD])}", file=sys.stderr)
    while sweeps.at_work(folder):
        time.sleep(PAUSE)


def _ended(folder: Path, typed: str, finish: Callable[[Path], None] | None, stop: Exception | None, again: str) -> int:
    """Tell what became of the jobs of a sweep; its exit code."""
    jobs = sweeps.planned(folder)
    if not jobs and stop is None:
        return say(f"{typed}: the sweep has no jobs; a range, such as range(1,1), or a glob of its values is empty", 2)
    begun = [one for one in jobs if sweeps.known(folder, one.number, one.overrides) is not None]
    code = 0 if stop is None else _stopped(stop, any(one.state == FINISHED for one in jobs))
    if stop is not None and not begun:
        return code
    if finish is not None and any((folder / one.folder / "metrics.csv").is_file() for one in jobs):
        finish(short(folder, typed))
    wrong = [one for one in sweeps.told_apart(jobs) if one.state != FINISHED]
    for one in wrong[:MOST_TOLD]:
        say(f"{one.name}: {one.sentence if one.state == FAILED else 'is not finished'}", one.code)
    if len(wrong) > MOST_TOLD:
        say(f"{len(wrong) - MOST_TOLD} more of {len(jobs)} jobs failed or are not finished", 1)
    if any(one.state != FAILED for one in wrong):
        print(f"The same sweep goes on where it was with {again.format(Path(typed))}", file=sys.stderr)
    own = [one.code if one.state == FAILED else 1 for one in wrong]
    return max([code, *own], key=(0, 2, 1).index)


def _stopped(error: Exception, done: bool) -> int:
    """Print why a sweep broke off before its jobs came to their end; the exit code."""
    if isinstance(error, ConnectionError):  # of a cluster that is not there, or does not let us in
        said = " ".join(str(error).split())[:300]
        return say(f"{said}{NO_ANSWER if 'Ray' in said else ''}", 1 if done else 2)
    if isinstance(error, EXPECTED) and told(error) is not None:
        return failed(error)
    said = next(iter(str(error).strip().splitlines()), "without a word")[:300]
    return say(f"the launcher broke off: {type(error).__name__}: {said}", 1 if done else 2)


def short(folder: Path, typed: str) -> Path:
    """The folder as seen from here, where it lies below or was typed like that: shorter to read and to type."""
    if folder.is_relative_to(Path.cwd()):
        return folder.relative_to(Path.cwd())
    return folder if Path(typed).is_absolute() else Path(os.path.relpath(folder))
