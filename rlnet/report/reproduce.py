"""Commands that reproduce a run or a sweep."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from rlnet.config.files import printable
from rlnet.experiment.run_folder import commands, override_key, program
from rlnet.report.finished import Finished

TRAINING = re.compile(r"python \S*train\.py|rlnet train|python -m rlnet train")
NOT_A_CHANGE = ("trust", "plugins", "resume")  # what a start may say besides without being another run
AGAIN = "again"  # the folder of a run that has to be made in several steps

Start = Mapping[str, Any]  # as in .hydra/commands.yaml


def of_run(run: Finished, again: str = AGAIN) -> list[str]:
    """The commands that train a run again.

    A start that went on with the same settings adds nothing, because it ends as if the run had not been interrupted.
    One with more steps goes on from where the run had come to its end, in a folder that the first command names.

    Args:
        run: its folder holds how it was started.
        again: what that folder is called.
    """
    phases = _phases(commands(run.folder))
    if not phases or any("overrides" not in start for start in phases):  # of an older version, or not of ours
        return [_from_overrides("", run.overrides)] if run.overrides or not phases else [_said(phases[0])]
    first, several = phases[0], len(phases) > 1
    lines = [_first(first, [f"hydra.run.dir={again}"] if several else [])]
    for before, start in pairwise(phases):
        if start["step"] < before["steps"]:
            lines.append(f"# stopped at step {start['step']} of {before['steps']}, and then:")
        changed = [item for item in start["overrides"] if item not in before["overrides"]]
        lines.append(_from_overrides(_said(first), [f"resume={again}", *changed]))
    return lines


def of_sweep(runs: Sequence[Finished]) -> list[str]:
    """The commands that repeat a sweep: one where its runs come from one command, else one for each."""
    starts = [commands(run.folder) for run in runs]
    typed = {_said(each[0]) for each in starts if each}
    if all(starts) and len(typed) == 1 and all(len(_phases(each)) == 1 for each in starts) and len(runs) > 1:
        words = shlex.split(typed.pop())
        if _is_sweep(words):
            return [shlex.join(_without_folder(words))]
    names = [f"{AGAIN}_{printable(run.folder.name)}" for run in runs]
    return [line for run, name in zip(runs, names, strict=True) for line in of_run(run, name)]


def command_beside(run: Finished, name: str) -> str:
    """Another command in the form of the one that trained the run: `rlnet report`, or `python scripts/report.py`."""
    starts = commands(run.folder)
    typed = called(_said(starts[0])) if starts else program("train")
    return f"{typed[: typed.rindex('train')]}{name}{'.py' if typed.endswith('.py') else ''}"


def called(command: str) -> str:
    """The form in which a command calls the training program; that of this process where it does not."""
    found = TRAINING.match(command)
    if found is not None:
        return found.group()
    return "python -m rlnet train" if command.startswith("rlnet.train(") else program("train")


def _phases(starts: Sequence[Start]) -> list[Start]:
    """The starts (first and resumed) that determined the run."""
    phases: list[Start] = []
    for start in starts:
        if phases and _settings(start) == _settings(phases[-1]):
            continue
        phases = [start] if start["step"] == 0 else [*phases, start]
    return phases


def _settings(start: Start) -> list[str] | None:
    """The overrides that were typed; None where unknown."""
    if "overrides" not in start:
        return None
    return sorted(item for item in start["overrides"] if override_key(item) not in NOT_A_CHANGE)


def _said(start: Start) -> str:
    return printable(str(start["command"]))


def _first(start: Start, more: Sequence[str]) -> str:
    """The command of a start from nothing."""
    words = shlex.split(_said(start))
    goes_on = any(word.startswith("resume=") for word in words)  # before the first checkpoint
    if TRAINING.match(_said(start)) is None or _is_sweep(words) or goes_on:
        return _from_overrides(_said(start), [*start["overrides"], *more])
    return shlex.join([*_without_folder(words), *more])


def _is_sweep(words: Sequence[str]) -> bool:
    return "-m" in words[words.index("train") if "train" in words else 2 :] or "--multirun" in words


def _without_folder(words: Sequence[str]) -> list[str]:
    """The command without its output folder, which holds the run."""
    return [word for word in words if not word.startswith(("hydra.run.dir=", "hydra.sweep.dir="))]


def _from_overrides(command: str, overrides: Sequence[str]) -> str:
    """The settings of a run as a command of the same program as another one."""
    own = [item for item in overrides if not item.startswith("hydra.") or item.startswith(f"hydra.run.dir={AGAIN}")]
    return " ".join([called(command), *(shlex.quote(printable(item)) for item in own)])
