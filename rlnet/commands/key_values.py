"""Commands on a finished run, with settings KEY=VALUE: checked, each error in one sentence."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlnet.commands.failures import answer
from rlnet.config import ConfigError
from rlnet.experiment.run_folder import program

Reader = Callable[[str], Any]  # text → value; ValueError with what is allowed


def whole(least: int) -> Reader:
    """Reads a whole number of at least so much, of 18 digits at most."""

    def read(text: str) -> int:
        if not text.isdecimal() or len(text) > 18 or int(text) < least:
            raise ValueError(f"must be a whole number of at least {least}, below 10^18")
        return int(text)

    return read


def one_of(*allowed: str) -> Reader:
    """Reads one of some words."""

    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"allowed are {', '.join(allowed)}")
        return text

    return read


def truth(text: str) -> bool:
    """Reads true or false."""
    return bool(one_of("true", "false")(text) == "true")


def positive(text: str) -> float:
    """Reads a number above 0 and at most 1000."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1000:
        raise ValueError("must be a number above 0, at most 1000")
    return value


def read_folders(words: Sequence[str]) -> tuple[list[Path], bool]:
    """The folders among some words, and whether `trust=true` is one of these.

    Raises:
        ConfigError: there are no folders.
    """
    folders = [Path(word) for word in words if word != "trust=true"]
    if not folders:
        raise ConfigError("trust=true: name the folders of runs, too")
    return folders, "trust=true" in words


def read_settings(given: Sequence[str], readers: Mapping[str, Reader], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a command line, with defaults for the others.

    Raises:
        ConfigError: an unknown key, one that is given twice, or a value that cannot be used.
    """
    found: dict[str, Any] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or key not in readers:
            raise ConfigError(f"{item}: must be KEY=VALUE with one of the keys {', '.join(readers)}")
        if key in found:
            raise ConfigError(f"{item}: {key} is given more than once; give it once")
        try:
            found[key] = readers[key](value)
        except ValueError as error:
            raise ConfigError(f"{item}: {error}") from error
    return {**defaults, **found}


def on_folder(
    name: str,
    description: str | None,
    readers: Mapping[str, Reader],
    defaults: Mapping[str, Any],
    job: Callable[[Path, dict[str, Any]], int],
    flags: Mapping[str, str] | None = None,
) -> int:
    """Do what `rlnet NAME FOLDER [KEY=VALUE ...]` asks for; the exit code, 2 for what cannot be used.

    Args:
        name, description: of the command.
        readers, defaults: as for `read_settings`.
        job: called with the folder, the settings, and which flags were given; gives the exit code.
        flags: options --NAME without a value, and what they do.
    """
    parser = argparse.ArgumentParser(
        prog=program(name),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="the folder of a run")
    parser.add_argument("settings", nargs="*", default=[], metavar="KEY=VALUE", help=f"{'=, '.join(readers)}=")
    for flag, meaning in (flags or {}).items():
        parser.add_argument(f"--{flag}", action="store_true", help=meaning)
    given = vars(parser.parse_intermixed_args())
    folder, settings = given.pop("folder"), given.pop("settings")
    return answer(lambda: job(folder, read_settings(settings, readers, defaults) | given))
