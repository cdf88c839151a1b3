"""Inspection of an environment's object graph: variables by their paths, and random generators.

Objects are followed through attributes, dictionaries and sequences; for generators, also through the closures of
functions and the global names that they use.
"""

from __future__ import annotations

import copy
import pickle
import random
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

Path = tuple[tuple[str, Any], ...]  # ("attr", name) or ("item", key) from the environment on

PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic)
LARGEST_ARRAY = 1 << 12  # elements; what is larger is a table or a picture, no variable
LARGEST_LIST = 256
MOST_OBJECTS = 20_000  # to be followed
# Without influence on what a step does.
IGNORED = {"_np_random_seed", "metadata", "_metadata", "spec", "_cached_spec", "render_mode"}
LIBRARIES = ("gymnasium", "numpy", "torch", "scipy", "random", "builtins", "pygame", "rlnet", "copy", "math", "typing")


def is_generator(x: Any) -> bool:
    """Whether x is a random number generator of numpy, of Python or of torch."""
    torch = sys.modules.get("torch")
    kinds = (np.random.Generator, np.random.RandomState, np.random.BitGenerator, random.Random)
    return isinstance(x, kinds) or (torch is not None and isinstance(x, torch.Generator))


def global_generators() -> list[Any]:
    """The generators behind `numpy.random`, `random` and, where it is loaded, `torch`."""
    torch = sys.modules.get("torch")
    return [np.random.mtrand._rand, random._inst, *([] if torch is None else [torch.default_generator])]


def saved(generator: Any) -> tuple[Any, Callable[[], None]]:
    """(comparable state, function that restores it) of a generator; the state is None for the operating system's."""
    if isinstance(generator, np.random.Generator):
        generator = generator.bit_generator
    if isinstance(generator, np.random.BitGenerator):
        state = generator.state
        return pickle.dumps(state), partial(setattr, generator, "state", state)
    if isinstance(generator, np.random.RandomState):
        state = generator.get_state(legacy=False)
        return pickle.dumps(state), partial(generator.set_state, state)
    if isinstance(generator, random.SystemRandom):
        return None, lambda: None
    if isinstance(generator, random.Random):
        now = generator.getstate()
        return now, partial(generator.setstate, now)
    state = generator.get_state()  # of torch
    return state.numpy().tobytes(), partial(generator.set_state, state)


class Insides:
    """The variables and random generators that can be reached from an object.

    Args:
        root: the environment.
        skipped: objects that are not looked into.
        opaque: whether only `.env` of an object counts, as of wrappers that change nothing.
    """

    def __init__(self, root: Any, skipped: list[Any], opaque: Callable[[Any], bool]) -> None:
        self.variables: dict[Path, Any] = {}
        self.generators: list[Any] = []
        self._functions: list[Any] = []
        self._classes: list[type] = []
        self._seen = {id(x) for x in skipped}
        self._follow(root, opaque)

    def _follow(self, root: Any, opaque: Callable[[Any], bool]) -> None:
        stack: list[tuple[Path, Any]] = [((), root)]
        while stack and len(self._seen) < MOST_OBJECTS:
            path, x = stack.pop()
            if isinstance(x, PLAIN):
                self.variables[path] = x
                continue
            if id(x) in self._seen:
                continue
            self._seen.add(id(x))
            if is_generator(x):
                self.generators.append(x)
            elif (value := _value(x)) is not None:
                self.variables[path] = value
            elif callable(x) and not hasattr(x, "step"):
                self._functions.append(x)
            elif not isinstance(x, types.ModuleType | type):
                self._classes.append(type(x))
                stack += [((*path, step), child) for step, child in _children(x, opaque(x))]

    def shared_generators(self) -> list[Any]:
        """Generators that the code names: in closures, defaults and global names, of its own functions and classes."""
        found: list[Any] = []
        own, visited = {id(x) for x in self.generators}, dict[int, Any]()
        stack = [*self._functions, *(m for c in self._classes for m in _methods(c))]
        while stack and len(visited) < MOST_OBJECTS:
            x = stack.pop()
            if id(x) in visited or isinstance(x, (*PLAIN, np.ndarray, types.ModuleType)):
                continue
            visited[id(x)] = x  # held, so that its id stays its own
            if is_generator(x):
                found += [] if id(x) in own else [x]
            elif isinstance(x, types.FunctionType):
                stack += _named(x)
            elif isinstance(x, partial):
                stack += [x.func, *x.args, *x.keywords.values()]
            elif isinstance(x, types.MethodType | types.BuiltinMethodType | types.MethodWrapperType):
                stack += [getattr(x, "__func__", None), x.__self__]
            elif isinstance(x, type):
                stack += _methods(x)
            elif not type(x).__module__.startswith(LIBRARIES) or isinstance(x, dict | list | tuple | deque):
                stack += [*(child for _, child in _children(x, False)), *_methods(type(x))]
        return found


def get(root: Any, path: Path) -> Any:
    """The object at a path; KeyError, IndexError or AttributeError where there is none."""
    for kind, key in path:
        root = getattr(root, key) if kind == "attr" else root[key]
    return root


def put(root: Any, path: Path, value: Any) -> bool:
    """Replace the object at a path; False where it cannot be replaced (in a tuple, or missing)."""
    try:
        holder, (kind, key) = get(root, path[:-1]), path[-1]
        if kind == "attr":
            setattr(holder, key, copy.deepcopy(value))
        else:
            holder[key] = copy.deepcopy(value)
    except (KeyError, IndexError, AttributeError, TypeError):
        return False
    return True


def same(x: Any, y: Any) -> bool:
    """Whether two variables are equal; NaN equals NaN."""
    numbers = (int, float, np.bool_, np.integer, np.floating)
    if isinstance(x, numbers) and isinstance(y, numbers):
        return bool(x == y) or bool(x != x and y != y)
    if type(x) is not type(y):
        return False
    if isinstance(x, np.ndarray | np.generic):
        return x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes()
    if hasattr(x, "numpy"):
        return same(x.numpy(), y.numpy())
    return x == y or (x != x and y != y)


def spelled(path: Path) -> str:
    """A path as Python code."""
    text = "".join(f".{key}" if kind == "attr" else f"[{key!r}]" for kind, key in path)
    while text.startswith(".env."):
        text = text.removeprefix(".env")
    return f"env{text}"


def _value(x: Any) -> Any:
    """A copy of x if it is one variable: a small array or tensor, or a list, deque or set of plain values."""
    if isinstance(x, np.ndarray):
        return x.copy() if x.size <= LARGEST_ARRAY and x.dtype != object else None
    if isinstance(x, list | deque | set) and len(x) <= LARGEST_LIST and all(isinstance(y, PLAIN) for y in x):
        return copy.copy(x)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor) and x.numel() <= LARGEST_ARRAY:
        return x.detach().cpu().clone()
    return None


def _children(x: Any, opaque: bool) -> Iterator[tuple[tuple[str, Any], Any]]:
    from gymnasium import Space
    from gymnasium.envs.registration import EnvSpec

    if isinstance(x, EnvSpec | np.ndarray):
        return
    if isinstance(x, dict):
        yield from ((("item", key), child) for key, child in list(x.items()))
    elif isinstance(x, list | tuple | deque):
        if len(x) > LARGEST_LIST and all(isinstance(y, PLAIN) for y in x):
            return
        yield from ((("item", i), child) for i, child in enumerate(x))
    elif isinstance(x, Space):
        yield ("attr", "_np_random"), x._np_random
    elif opaque:
        yield ("attr", "env"), x.env
    else:
        slots = (s for c in type(x).__mro__ for s in np.atleast_1d(c.__dict__.get("__slots__", ())).tolist())
        held = {s: getattr(x, s) for s in slots if isinstance(s, str) and not s.startswith("__") and hasattr(x, s)}
        held |= getattr(x, "__dict__", {})
        yield from ((("attr", name), child) for name, child in held.items() if name not in IGNORED)


def _methods(kind: type) -> list[Any]:
    """What the bodies of a class and of its bases hold, apart from those of libraries."""
    found = []
    for base in kind.__mro__:
        if not base.__module__.startswith(LIBRARIES):
            for x in vars(base).values():
                x = getattr(x, "__func__", getattr(x, "fget", x))
                if not isinstance(x, PLAIN) and not isinstance(x, types.GetSetDescriptorType):
                    found.append(x)
    return found


def _named(function: types.FunctionType) -> list[Any]:
    """The objects that a function closes over, has as defaults, or names."""
    if function.__module__ is None or function.__module__.startswith(LIBRARIES):
        return []
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    found = [*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    codes, names = [function.__code__], set()
    while codes:
        code = codes.pop()
        names |= set(code.co_names)
        codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    for name in names & function.__globals__.keys():
        x = function.__globals__[name]
        if isinstance(x, types.ModuleType) and not x.__name__.startswith(LIBRARIES):
            found += [getattr(x, inner) for inner in names if hasattr(x, inner)]
        elif not isinstance(x, (*PLAIN, types.ModuleType)):
            found.append(x)
    return found
