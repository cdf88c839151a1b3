"""Safe readers of the files of a run: JSON, YAML, CSV and .npz, without links, code or excessive size.

A folder may come from a stranger, may have been cut short by a full disk or edited by hand. What is read here is never
executed, imported or unpickled, is no link to elsewhere, fits into memory, and holds no control characters that a
terminal would obey; anything else is a `ConfigError` that names the file.
"""

import csv
import json
import math
import os
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlnet.config.memory import available, size
from rlnet.config.settings import ConfigError

# What goes wrong where a file is not what it should be.
MALFORMED = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
    csv.Error,
    yaml.YAMLError,
    zipfile.BadZipFile,
    zlib.error,
    OmegaConfBaseException,
)
LINK = "is a link; a run's folder must hold its own files, so copy it there"
MISFIT = "its files do not fit together"
PARTS = (".hydra", "settings", ".sweep")  # the folders inside of that of a run or sweep
LARGEST_YAML = 2**24  # bytes; a config is a page or two, and a map of 4,000 × 4,000 cells
EXPANDED = 20  # memory that a parsed text takes, in its own bytes, about
ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)")  # of JSON
REFERENCE = re.compile(r"\$\{\.*[A-Za-z_]\w*(\.\w+)*\}")  # to another setting: nothing is computed


@contextmanager
def reading(path: Path, what: str = "cannot be read") -> Iterator[None]:
    """Context manager: errors of malformed content become a `ConfigError` that names the path."""
    try:
        yield
    except ConfigError:
        raise
    except MALFORMED as error:
        raise ConfigError(f"{path}: {what} ({_why(error)})") from error
    except OSError as error:
        raise ConfigError(f"{path}: {what} ({error.strerror or error})") from error


def _why(error: BaseException) -> str:
    said = str(error).strip().splitlines()
    return printable(f"{type(error).__name__}: {said[0][:200]}" if said else type(error).__name__)


def printable(text: str, keep: str = "") -> str:
    """The text with control, bidirectional and broken characters as escapes like \\x1b."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        one if one in keep or unicodedata.category(one) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else _escaped(one)
        for one in text
    )


def _escaped(one: str) -> str:
    return one.encode("unicode_escape", "backslashreplace").decode("ascii")


def plain(tree: Any, keep: str = "") -> Any:
    """Nested lists and mappings with every string, keys too, made `printable`."""
    if isinstance(tree, str):
        return printable(tree, keep)
    if isinstance(tree, Mapping):
        return {plain(key): plain(value, keep) for key, value in tree.items()}
    return [plain(item, keep) for item in tree] if isinstance(tree, list) else tree


def _is_plain(text: str) -> bool:
    """Whether `plain` would change nothing of a text of several lines."""
    line = text.replace("\n", "").replace("\r", "")
    return line.isascii() and line.isprintable()


def _means_plain(text: str) -> bool:
    """Whether `plain` would change nothing of what a JSON text means: in its characters and its escapes."""
    escapes = [one for one in set(ESCAPE.findall(text)) if one[1] not in ("\\", '"')]
    meant = [json.loads(f'"{one}"') for one in escapes]
    return _is_plain(text) and all(one == printable(one) for one in meant)


def check_folder(folder: Path) -> None:
    """Raise ConfigError if a run's folder holds a symbolic link, which could redirect reading or writing."""
    with reading(folder):
        for part in (folder, *(folder / name for name in PARTS)):
            if part.is_dir():
                for entry in sorted(part.iterdir()):
                    if entry.is_symlink():
                        raise ConfigError(f"{entry}: {LINK}")


def regular(path: Path, most: float = math.inf) -> Path:
    """The path, if it is a regular file (no link) of at most so many bytes.

    Raises:
        ConfigError: it is not.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({_why(error)})") from error
    if stat.S_ISLNK(found.st_mode):
        raise ConfigError(f"{path}: {LINK}")
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{path}: is not a {'file but a folder' if stat.S_ISDIR(found.st_mode) else 'regular file'}")
    if found.st_size > most:
        raise ConfigError(f"{path}: has {size(found.st_size)}, more than the {size(most)} that can be read here")
    return path


def _text(path: Path, most: float = math.inf) -> str:
    return regular(path, min(most, available() / EXPANDED)).read_text(encoding="utf-8")


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    with reading(path):
        text = _text(path)
        content = json.loads(text)
        return content if _means_plain(text) else plain(content)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, by the names in its first line; all of them whole."""
    with reading(path):
        text = _text(path)
        rows = list(csv.DictReader(text.splitlines()))
        if not _is_plain(text):
            rows = [plain(row) for row in rows]
        whole = [row for row in rows if None not in row and None not in row.values()]
        if len(whole) < len(rows):
            raise ConfigError(f"{path}: row {rows.index(next(r for r in rows if r not in whole)) + 1} is incomplete")
        return rows


def read_yaml(path: Path, references: bool = True, computed: bool = False) -> Any:
    """The content of a YAML file, as OmegaConf has it, with nothing resolved.

    Args:
        path: of the file.
        references: whether a value may be another setting: ${env.gamma}.
        computed: whether it may be computed, from environment variables, files, or by code: ${oc.env:HOME}.

    Raises:
        ConfigError: it may not, or the file is no YAML, or not of this kind.
    """
    with reading(path):
        text = _text(path, LARGEST_YAML)
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ConfigError(f"{path}: uses YAML aliases, which the config of a run never does")
        content = OmegaConf.create(text)
        raw = OmegaConf.to_container(content, resolve=False)
        for value in _strings(raw):
            fine = computed or "${" not in value or (references and "${" not in REFERENCE.sub("", value))
            if not fine:
                raise ConfigError(
                    f"{path}: {printable(value)[:200]!r} would be evaluated; add trust=true if you trust this folder"
                )
        return OmegaConf.create(plain(raw, keep="\n"))


def _strings(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _strings(key)
            yield from _strings(value)
    elif isinstance(tree, list):
        for item in tree:
            yield from _strings(item)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of numbers of an .npz file.

    Raises:
        ConfigError: it is none, holds anything else, or more than fits into memory.
    """
    with reading(path), zipfile.ZipFile(regular(path)) as archive:
        members, room = archive.infolist(), available() / 2
        total = sum(member.file_size for member in members)
        if total > room:
            raise ConfigError(f"{path}: unpacks to {size(total)}, more than the {size(room)} that can be read here")
        arrays = {}
        for member in members:
            name = printable(member.filename.removesuffix(".npy"))
            if member.flag_bits & 1:
                raise ConfigError(f"{path}: cannot be read ({name} is encrypted)")
            with archive.open(member) as file:
                shape, dtype = _header(file)
            if dtype.kind not in "biuf" or math.prod(shape) * dtype.itemsize > member.file_size:
                raise ConfigError(f"{path}: cannot be read ({name} is no array of numbers, {dtype} {list(shape)})")
            with archive.open(member) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
            arrays[name] = array.astype(dtype.newbyteorder("="), copy=False)  # torch knows no other order of bytes
        return arrays


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"version {version} of the format")
    shape, _, dtype = read[version](file)
    return shape, dtype


def read_values(path: Path) -> dict[str, np.ndarray]:
    """values.npz.

    Raises:
        ConfigError: it holds no policies or no visits, or cannot be read.
    """
    values = read_arrays(path)
    for name in ("v_exact", "pi", "pi_exact", "visits"):
        if name not in values:
            raise ConfigError(f"{path}: holds no {name}; it is not the values.npz of a run")
    return values


def check_values(path: Path, values: dict[str, np.ndarray], members: int, states: int, actions: int) -> None:
    """Raise ConfigError where an array of values.npz has another shape than [M, S] or [M, S, A], or is no policy."""
    for name, array in values.items():
        by_pair = (members, states, actions)
        shapes = {"v": (members, states), "q": by_pair, "pi": by_pair}
        wanted = {"visits": by_pair, "pi_reference": by_pair[1:]}.get(name)
        wanted = wanted or shapes.get(name.partition("_")[0], array.shape)
        if array.shape != wanted:
            raise ConfigError(f"{path}: {name} has the shape {list(array.shape)}, for this run it is {list(wanted)}")
    for name in {"pi", "pi_exact", "pi_reference"} & set(values):
        if not ((values[name] >= 0) & (values[name] <= 1 + 1e-6)).all():
            raise ConfigError(f"{path}: {name} holds numbers that are not probabilities")
    if values["visits"].dtype.kind not in "iu" or (values["visits"] < 0).any():
        raise ConfigError(f"{path}: visits must be counts: whole numbers of at least 0")
