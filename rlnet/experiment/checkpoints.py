"""Checkpoints on disk: the newest and the one before it, each with a checksum.

A checkpoint is what `torch.save` writes, and `torch.load(path, weights_only=True)` reads it. The comment at the end of
that zip archive is the SHA-256 of all the bytes before it, which is compared before anything is read: a flipped bit,
a file that was cut short and one that something else has written are told apart from a sound one.

Tensors of int64 are stored in the smallest type that holds their numbers: counts, states and actions are most of what a
small run keeps beside its parameters.
"""

import hashlib
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from rlnet.config import ConfigError

NEWEST, PREVIOUS = "checkpoint.pt", "checkpoint_previous.pt"
MARK = b"rlnet sha256 "
SEAL = len(MARK) + 64  # bytes
PIECE = 2**20  # bytes that are read at once
NARROWED = "narrowed"  # the entry of a file that lists the tensors which were int64


class DamagedError(ConfigError):
    """A damaged file of a run, in whose place another may be used."""


def write_checkpoint(folder: Path, state: Mapping[str, Any], *, keep: bool = True) -> None:
    """Write a checkpoint atomically; the newest one before it is kept as the previous.

    Args:
        folder: where to.
        state: tensors, numbers, strings and None, in mappings and lists.
        keep: False leaves the previous one as it is: where the newest cannot be used.
    """

    def rotate() -> None:
        if keep and (folder / NEWEST).exists():
            os.replace(folder / NEWEST, folder / PREVIOUS)

    write_sealed(folder / NEWEST, state, rotate)


def write_sealed(path: Path, state: Mapping[str, Any], before: Callable[[], None] | None = None) -> None:
    """Write tensors, numbers and strings atomically, with a checksum at the end.

    Args:
        path: of the file.
        state: what it holds: see `write_checkpoint`.
        before: called before it gets its name.
    """

    def write(part: Path) -> None:
        with part.open("wb") as file:
            try:
                torch.save(_narrowed(state), file)
            except RuntimeError as error:  # torch's account of a file that took no more; what the system said is behind
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None
        _seal(part)

    write_whole(path, write, before)


def require_place(path: Path, *ends: str, option: str = "") -> None:
    """Check that a file of one of some kinds can be written, before anything is computed for it.

    Args:
        path: its name.
        ends: what it may end in, as in ".csv".
        option: what the user gave it by, for the sentence: "out=".

    Raises:
        ConfigError: another name, no such folder, a folder in its place, or no permission.
    """
    if path.suffix not in ends or not path.parent.is_dir():
        raise ConfigError(f"{option}{path}: must be the name of a {' or '.join(ends)} file in a folder that there is")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"{option}{path}: cannot be written")


def write_whole(path: Path, write: Callable[[Path], Any], before: Callable[[], None] | None = None) -> None:
    """Write a file atomically: temporary file, fsync, rename.

    Args:
        path: its name.
        write: writes the file that it is given.
        before: called before it gets its name.
    """
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)  # what an ended process left, or a link that would be followed
    with writing(path):
        try:
            write(part)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        if before is not None:
            before()
        os.replace(part, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Context manager for writing a file: an `OSError` inside becomes one that names this path."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the newest first."""
    return [folder / name for name in (NEWEST, PREVIOUS) if (folder / name).is_file()]


def read_checkpoint(path: Path, device: str = "cpu") -> dict[str, Any]:
    """Read and verify a checkpoint, or another file of `write_sealed`.

    Args:
        path: of the file.
        device: where its tensors go.

    Raises:
        DamagedError: a file whose checksum is missing or does not match, or that cannot be read.
    """
    try:
        _check(path)
        return _widened(torch.load(path, map_location=device, weights_only=True))
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError) as error:
        if isinstance(error, DamagedError):
            raise
        raise DamagedError(f"{path}: cannot be read ({type(error).__name__})") from error


def _narrowed(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state with its int64 tensors in smaller types where those hold their numbers, and the list of them.

    Tensors that are parts of others are copied: of those torch would write the whole.
    """
    paths: list[list[str | int]] = []

    def narrow(node: Any, path: list[str | int]) -> Any:
        if isinstance(node, Mapping):
            return {name: narrow(value, [*path, name]) for name, value in node.items()}
        if isinstance(node, list):
            return [narrow(value, [*path, k]) for k, value in enumerate(node)]
        if not isinstance(node, torch.Tensor):
            return node
        if node.dtype != torch.int64 or not node.numel():
            return node.clone() if node.untyped_storage().nbytes() > node.nbytes else node
        least, most = (int(end) for end in node.aminmax())
        for kind in (torch.int8, torch.int16, torch.int32):
            info = torch.iinfo(kind)
            if info.min <= least and most <= info.max:
                paths.append(path)
                return node.to(kind)
        return node.clone()

    return {**narrow(state, []), NARROWED: paths}


def _widened(stored: dict[str, Any]) -> dict[str, Any]:
    """The state of which `_narrowed` made what is stored."""
    for *above, last in stored.pop(NARROWED, []):
        node: Any = stored
        for name in above:
            node = node[name]
        node[last] = node[last].long()
    return stored


def _seal(path: Path) -> None:
    """Append the checksum to a zip archive, as its comment."""
    with path.open("rb+") as file:
        file.seek(-2, os.SEEK_END)
        file.write(struct.pack("<H", SEAL))
        file.seek(0)
        digest = _digest(file, os.fstat(file.fileno()).st_size)
        file.seek(0, os.SEEK_END)
        file.write(MARK + digest.encode())


def _check(path: Path) -> None:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size - SEAL
        file.seek(max(size, 0))
        seal = file.read()
        if size < 0 or not seal.startswith(MARK):
            raise DamagedError(f"{path}: cannot be read: it has no checksum at its end; it was cut short")
        file.seek(0)
        if _digest(file, size).encode() != seal.removeprefix(MARK):
            raise DamagedError(f"{path}: cannot be read: it is damaged, its checksum differs")


def _digest(file: Any, size: int) -> str:
    """SHA-256 of the first bytes."""
    digest = hashlib.sha256()
    while size > 0:
        piece = file.read(min(size, PIECE))
        if not piece:
            break
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest()


def misfit(own: Any, stored: Any, path: str = "") -> str | None:
    """The first mismatch in structure or shape between a stored state and one's own; None where they match.

    Keys, kinds, and types and sizes of tensors are compared, not their numbers. None of one's own fits anything:
    what is made at first use.

    Args:
        own: mappings, lists, tensors, numbers, strings and None.
        stored: what should be like it.
        path: where both stand, for the answer.
    """
    if own is None:
        return None
    if isinstance(own, Mapping):
        if not isinstance(stored, Mapping) or own.keys() != stored.keys():
            return f"{path or 'it'} has not the parts {', '.join(map(str, own))}"
        found = (misfit(own[name], stored[name], f"{path}.{name}".lstrip(".")) for name in own)
        return next((sentence for sentence in found if sentence is not None), None)
    if isinstance(own, list):
        if not isinstance(stored, list) or len(own) != len(stored):
            return f"{path} has not {len(own)} items"
        found = (misfit(mine, theirs, f"{path}[{k}]") for k, (mine, theirs) in enumerate(zip(own, stored, strict=True)))
        return next((sentence for sentence in found if sentence is not None), None)
    if isinstance(own, torch.Tensor):
        if not isinstance(stored, torch.Tensor):
            return f"{path} is not a tensor"
        if (own.shape, own.dtype) != (stored.shape, stored.dtype):
            return f"{path} is {_kind(stored)}, not {_kind(own)}"
    elif type(own) is not type(stored):
        return f"{path} is {stored!r:.40}, not of type {type(own).__name__}"
    return None


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
