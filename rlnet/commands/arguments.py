"""The arguments of a command line, made ready for Hydra."""

import gc
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from rlnet.config import ENVIRONMENTS, SCHEMAS, ConfigError
from rlnet.config.files import check_folder, read_yaml
from rlnet.experiment.run_folder import opened
from rlnet.experiment.run_folder import override_key as _key


def prepared(argv: list[str]) -> list[str]:
    """The arguments as Hydra is to see them: numbers whole, `resume=` expanded, names in folders checked."""
    return _for_ray(_for_each_job(_named_safely(opened(with_stored_overrides(_flags_first(readable(argv)))))))


def given_keys(argv: Sequence[str]) -> set[str]:
    """The keys of the command line."""
    return {_key(item) for item in argv}


@contextmanager
def loading() -> Iterator[None]:
    """Context manager for imports: garbage collection is off meanwhile, which makes them faster."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _flags_first(argv: Sequence[str]) -> list[str]:
    """The arguments with -m in front: Hydra reads no settings behind one that stands among them."""
    return sorted(argv, key=lambda item: item not in SEVERAL)


def with_stored_overrides(argv: list[str]) -> list[str]:
    """Expand `resume=DIR` to the overrides that DIR was started with, and to DIR as the output folder."""
    for argument in argv:
        if argument.startswith("resume=") and argument != "resume=null":
            folder = Path(argument.removeprefix("resume=").strip("'\""))
            path = folder / ".hydra" / "overrides.yaml"
            if not path.is_file():
                raise ConfigError(f"{argument}: must be the folder of a run; it holds no .hydra/overrides.yaml")
            check_folder(folder)
            trust, given = _trusted(argv), given_keys(argv)
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


def _trusted(argv: Sequence[str]) -> bool:
    """Whether the command line, and not a folder, says trust=true."""
    return any(_key(item) == "trust" and item.partition("=")[2].lower() == "true" for item in argv)


def _named_safely(argv: Sequence[str]) -> list[str]:
    """The arguments, with names of settings in those of folders checked where they are resolved: Hydra makes the output
    folder before anything else is checked.
    """
    safe = re.compile(r"\$\{(env\.name|algo\.name)\}")
    return [safe.sub(r"${file_name:\1}", item) if _key(item).startswith("hydra.") else item for item in argv]


def _for_each_job(argv: list[str]) -> list[str]:
    """The arguments, with the settings of a group that a sweep chooses from given to each job, and not to the default
    choice of the group, by which Hydra composes the sweep itself and which may have no such setting.
    """
    if not SEVERAL & set(argv):
        return argv
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    def swept(item: str) -> bool:
        try:
            return OverridesParser.create().parse_override(item).is_sweep_override()
        except OverrideParseException:  # Hydra will complain of it
            return False

    several = {item for item in argv if "=" in item and item[0] != "-" and swept(item)}
    groups = {item.partition("=")[0].rpartition("@")[2] for item in several}
    found = []
    for item in argv:
        key, _, value = item.partition("=")
        theirs = "tuned" in groups or any(key.startswith(f"{group}.") for group in groups)
        one = theirs and "." in key and value and item not in several and not key.startswith(("hydra.", "-", "~"))
        found.append(f"{key}=choice({value})" if one else item)
    return found


def _for_ray(argv: list[str]) -> list[str]:
    """The arguments, with no size of Ray's object store: Hydra's launcher sets one, which a running cluster refuses."""
    key = "hydra.launcher.ray.init.object_store_memory"
    given = "hydra/launcher=ray" in argv and key not in given_keys(argv)
    return [*argv, f"+{key}=null"] if given else argv


def readable(argv: list[str]) -> list[str]:
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
        if not key:
            raise ConfigError(f"{item!r}: must be KEY=VALUE, as in env=gridworld steps=20000")
        if equals and not value and key in FOLDERS:
            raise ConfigError(f"{item}: names no folder; that of the shell is {key}=.")
        if key in GROUPS and (not value or value[0] in "[{"):
            raise ConfigError(f"{item}: must be one name, as rlnet train --help lists them; several need -m: {key}=A,B")
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
        raise ConfigError(f"{item}: must be a whole number below 10^18")
    return str(int(number))


def _whole_numbers() -> frozenset[str]:
    """The keys of all schemas that hold an integer, by their last name."""
    whole: set[str] = set()
    others: set[str] = set()
    for schema in [*SCHEMAS.values(), *(ENVIRONMENTS[kind] for kind in ENVIRONMENTS.known())]:
        for item in fields(schema):
            (whole if item.type in (int, int | None) else others).add(item.name)
    return frozenset(whole - others)


CHOICES = ("env", "algo", "network", "exploration", "schedule", "optimizer")  # groups of settings
GROUPS = (*CHOICES, "tuned", "search")  # of which one file is chosen
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")
SEVERAL = {"-m", "--multirun"}  # flags of a sweep
# Options of Hydra that are followed by a word.
VALUED = ("-cn", "-cp", "-cd", "-p", "-i", "--config-name", "--config-path", "--config-dir", "--package", "--info")
REAL = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)[eE][+-]?\d+")  # 1e5, 1.5e-3
