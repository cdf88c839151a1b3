"""Failures of a command: one sentence on standard error, and the exit code.

Exit codes: 0 done, 1 the run failed, 2 the input cannot be used, 130 interrupted, 143, 129 and 138 stopped by SIGTERM,
SIGHUP and SIGUSR1.
"""

import difflib
import errno
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable
from dataclasses import fields

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from rlnet.commands.arguments import CHOICES
from rlnet.config import ENVIRONMENTS, SCHEMAS, ConfigError, RunFailed
from rlnet.config.files import printable
from rlnet.experiment.run_folder import override_key
from rlnet.learning.interrupts import described, exit_code

EXPECTED = (ConfigError, RunFailed, MemoryError, OSError, RuntimeError, HydraException, OmegaConfBaseException)
OUT_OF_MEMORY = re.compile("can't allocate memory|out of memory|Cannot allocate memory", re.IGNORECASE)
FULL = "; make room, and go on with resume= from the last checkpoint, if there is one"
ADVICE = {errno.ENOSPC: FULL, errno.EDQUOT: FULL}
# Launchers of sweeps that other packages bring along, and the extra that installs them.
LAUNCHERS = {"joblib": "sweep", "submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray"}


def answer(job: Callable[[], int]) -> int:
    """Run a job outside of Hydra; returns its exit code, or that of its failure, which is printed."""
    try:
        return job()
    except (*EXPECTED, KeyboardInterrupt) as error:
        return failed(error)


def failed(error: BaseException) -> int:
    """Print one sentence on what is `EXPECTED`, or a signal; returns the exit code. Others are raised again."""
    if isinstance(error, BrokenPipeError):  # the reader has closed the output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    said = told(error)
    if said is None:
        raise error
    _let_go(error)
    return say(*said)


def _let_go(error: BaseException | None) -> None:
    """Free what the calls that failed still hold: emulators of Atari complain at the exit of what is left of them."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def told(error: BaseException) -> tuple[str, int] | None:
    """One sentence on what is `EXPECTED`, or a signal, and the exit code; None for others."""
    if isinstance(error, KeyboardInterrupt):
        return str(error) or described(exit_code(error) - 128), exit_code(error)
    if isinstance(error, ConfigError | RunFailed):
        return str(error), 2 if isinstance(error, ConfigError) else 1
    if isinstance(error, HydraException | OmegaConfBaseException):
        return explain(error, sys.argv[1:]), 2
    text = str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(text)):
        said = text.strip().splitlines()
        return f"there is not enough memory{f' ({said[0]})' if said else ''}; make the problem smaller", 1
    if isinstance(error, RuntimeError) and text == "can't start new thread":
        return f"there is not enough memory, or there are too many processes ({text}); see ulimit -a", 1
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        if isinstance(error, FileExistsError | NotADirectoryError):
            return f"{where}a file stands where a folder is needed", 2
        return f"{where}{error.strerror or error}{ADVICE.get(error.errno or 0, '')}", 1
    return None


def say(sentence: str, code: int) -> int:
    """Print an error; returns the exit code."""
    print(f"error: {printable(sentence)}", file=sys.stderr)
    return code


def explain(error: Exception, argv: list[str]) -> str:
    """One sentence for an error of Hydra or OmegaConf: which key, what it was, what is allowed."""
    text = str(error)
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(error, OverrideParseException):
        key, _, value = error.override.partition("=")
        quoted = '"' + value.replace("\\", r"\\").replace('"', r"\"") + '"'
        advice = f"quote a text with special characters once more, as in {shlex.quote(key + '=' + quoted)}"
        return f"{error.override}: cannot be read as KEY=VALUE; {advice}"
    if found := re.search(r"ConfigError raised while resolving interpolation: (.*)", text):
        return found.group(1)
    if found := re.search(
        r"Could not (?:find|load) 'hydra/launcher/(\w+)'|target 'hydra_plugins.hydra_(\w+)_launcher", text
    ):
        name = found.group(1) or found.group(2)
        if name in LAUNCHERS:
            return (
                f"hydra/launcher={name}: needs a package that is not installed: pip install 'rlnet[{LAUNCHERS[name]}]'"
            )
    if found := re.search(r"Could not find '([^']+)/([^']+)'", text):
        group, option = found.groups()
        options = re.findall(r"^\t(\S+)$", text, re.MULTILINE)
        close = difflib.get_close_matches(option, options, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"{group}={option}: allowed are {', '.join(options)}{hint}"
    if found := re.search(r"In 'tuned/([^']+)'.*(Key '.+' not in '\w+')", text, re.DOTALL):
        name, reason = found.groups()
        chosen = [item for item in argv if override_key(item) in CHOICES]
        keys = ", ".join(f"{override_key(item)}=" for item in chosen)
        said = f"these settings were tuned to another choice ({reason}); leave {keys} out, or leave out tuned="
        return f"tuned={name} {' '.join(chosen)}: {said}"
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found.group(1)
        given = next((item for item in argv if item.lstrip("+~").startswith(key)), key)
        of_one = re.fullmatch(
            r"([^=]+=)choice\((.*)\)", given
        )  # of a sweep, in which each job has a choice of the group
        several = next((item for item in argv if item.startswith(key.partition(".")[0] + "=") and "," in item), None)
        if of_one and several:
            given = of_one.group(1) + of_one.group(2)
            return f"{given}: not every choice of {several} has such a key; {_alternatives(key, cause)} in one of them"
        return f"{given}: there is no such key; {_alternatives(key, cause)}"
    if found := re.search(r"Error merging override (.+)", text):
        reason = str(cause).splitlines()[0]
        if (listed := re.match(r"([^=]+)=\[(.*)\]$", found.group(1))) and "could not be converted to" in reason:
            key, values = listed.groups()
            members = f"vary.{key}=[{values}] where members may differ in it, or " if "to Float" in reason else ""
            reason = f"must be one value; several are {members}-m {key}={values}, a run for each"
        if "DictConfig with ListConfig" in reason:
            reason = f"is a group of keys, each with its own value, as in {found.group(1).partition('=')[0]}.KEY=..."
        elif "ListConfig" in reason or "is not a list" in reason:
            key, _, value = found.group(1).partition("=")
            reason = f"must be a list, as in {key}=[{value}]"
        return f"{found.group(1)}: {reason}"
    if found := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{found.group(1)}: has no value; give one as {found.group(1)}=..."
    if found := re.search(r"Ambiguous value for argument '(.*)'", text):
        key, _, value = found.group(1).partition("=")
        return f"{found.group(1)}: several values need -m, a run for each; a list is written {key}=[{value}]"
    if found := re.search(r"Multiple values for (\S+)\.", text):
        return f"{found.group(1)}: is given more than once; give it once"
    return " ".join(line.strip() for line in text.splitlines()[:2] if line.strip())


def _alternatives(key: str, cause: BaseException | None) -> str:
    """Suggestion for an unknown key: a similar name beside it or in another group, or the names that its parent has."""
    parent = getattr(cause, "parent_node", None)
    names = sorted(str(name) for name in parent) if isinstance(parent, DictConfig) else []
    prefix, _, last = key.rpartition(".")
    others: dict[str, str] = {}
    root = parent._get_root() if isinstance(parent, DictConfig) else None
    if isinstance(root, DictConfig):
        for group, own in root.items_ex(resolve=False):
            others |= {str(name): f"{group!s}.{name!s}" for name in own} if isinstance(own, DictConfig) else {}
        others |= {str(name): str(name) for name in root}  # before those of a group: gamma, and not env.gamma
    if names and any(last in known for known in _other_choices(prefix)):
        return f"other choices of {prefix}= have it; allowed here are {', '.join(names)}"
    beside = difflib.get_close_matches(last, names, n=1)
    elsewhere = difflib.get_close_matches(last, others, n=1, cutoff=0.65)
    if elsewhere and (last in others or not beside):
        return f"did you mean {others[elsewhere[0]]}?"
    if beside:
        return f"did you mean {prefix + '.' if prefix else ''}{beside[0]}?"
    return f"allowed here are {', '.join(names)}" if names else f"{prefix or key} has no keys of its own"


def _other_choices(group: str) -> list[set[str]]:
    """The settings of each choice of a group such as `algo`."""
    schemas = [schema for name, schema in SCHEMAS.items() if name.startswith(f"{group}/")]
    schemas += [ENVIRONMENTS[kind] for kind in ENVIRONMENTS.known()] if group == "env" else []
    return [{item.name for item in fields(schema)} for schema in schemas]
