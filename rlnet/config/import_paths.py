"""Modules of the user, and functions that settings name by import path, `module:function`."""

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from rlnet.config.settings import ConfigError, require


class ImportPaths(tuple[str, ...]):
    """The allowed values of an option that is an import path: all texts `module:function`."""

    def __contains__(self, value: object) -> bool:
        module, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
        return bool(module and colon and name) and not module.startswith(".")


IMPORT_PATH = ImportPaths(("module:function",))


def search_here() -> None:
    """Have imports search the current folder too, behind all that is installed."""
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())


def import_here(module: str) -> ModuleType:
    """Import a module that is installed, or lies in the current folder; raises what it raises."""
    search_here()
    return importlib.import_module(module)


def imported_function(path: str, key: str, what: str) -> Callable[..., Any]:
    """The function at an import path.

    Args:
        path: `module:function`.
        key: the setting that names it.
        what: it must be a function of, for the message.

    Raises:
        ConfigError: there is none.
    """
    require(path in IMPORT_PATH, key, path, "must be the import path of a function, as module:function")
    module, _, name = path.partition(":")
    try:
        function = getattr(import_here(module), name)
    except Exception as error:  # a module of the user may raise anything
        raise ConfigError(f"{key}={path}: cannot be imported ({said(error, importlib.__file__)})") from error
    require(callable(function), key, path, f"must be a function of {what}")
    return function


def said(error: Exception, caller: str) -> str:
    """What an error of a function of the user says, and where; nowhere if it comes of the call in the file `caller`."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    file = None if where is None else where.tb_frame.f_code.co_filename
    place = "" if where is None or file in (None, caller) else f", {Path(str(file)).name}:{where.tb_lineno}"
    known = "" if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: "
    return f"{known}{error}" + ("" if isinstance(error, ImportError | AttributeError | SyntaxError) else place)
