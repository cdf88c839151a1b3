"""Tasks of completing a prompt, whose rewards are exact functions of the two texts.

Texts are strings with a character for each token. A task also demonstrates: right and random completions are the data
on which a reference policy is pretrained.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rlnet.config import ConfigError, require
from rlnet.config.import_paths import imported_function, said

Reward = Callable[[str, str], float]  # (prompt, completion) → a number
Right = Callable[[np.random.Generator, str], str]  # (generator, prompt) → a completion that earns the most

LARGEST = float(np.finfo(np.float32).max)  # of rewards: rollouts hold them in single precision
DIGITS = "0123456789"
BRACKETS = {"(": ")", "[": "]", "{": "}", "<": ">"}


@dataclass(frozen=True)
class Task:
    """A task: prompts, the symbols of completions, and the reward of each completion."""

    prompts: tuple[str, ...]  # of one length
    symbols: str  # a character for each; one more token ends the completion
    length: int  # L, the most tokens of a completion, its end included
    reward: Reward
    right: Right | None = None  # None: nobody can say

    @cached_property
    def alphabet(self) -> str:
        """All characters that a network sees: the symbols, then those of the prompts alone."""
        return self.symbols + "".join(sorted(set("".join(self.prompts)) - set(self.symbols)))

    def demonstration(self, generator: np.random.Generator, prompt: str, skill: float) -> str:
        """A completion: with probability `skill` a right one, else random symbols of a random length below L."""
        if self.right is not None and generator.random() < skill:
            return self.right(generator, prompt)
        count = int(generator.integers(self.length))
        return "".join(self.symbols[k] for k in generator.integers(len(self.symbols), size=count))


# ---------------------------------------------------------------------------------------------- sums of digits


def digits_add_up(prompt: str, completion: str) -> float:
    """1 where the digits of the completion add up to the number that the prompt is, else 0."""
    return float(sum(map(int, completion)) == int(prompt) and completion != "")


def _digits(length: int, symbols: str) -> Right:
    def right(generator: np.random.Generator, prompt: str) -> str:
        # One symbol after the other, each as far as the rest can still be written.
        rest, largest, text = int(prompt), max(map(int, symbols)), ""
        while rest > 0:
            room = length - 1 - len(text)  # tokens before the end
            fits = [c for c in symbols if int(c) <= rest and rest - int(c) <= largest * (room - 1)]
            if not fits:
                return text
            text += fits[generator.integers(len(fits))]
            rest -= int(text[-1])
        return text or symbols[0]

    return right


# ---------------------------------------------------------------------------------------------- order and brackets


def is_sorted(prompt: str, completion: str) -> float:
    """1 where the completion is the prompt in rising order, else 0."""
    return float(completion == "".join(sorted(prompt)))


def is_balanced(prompt: str, completion: str) -> float:
    """1 where every bracket is closed in order, prompt and completion together and the completion not empty, else 0."""
    return float(_open(prompt + completion) == [] and completion != "")


def _open(text: str) -> list[str] | None:
    """The brackets that would close what is open in a text, innermost last; None where one is closed out of order."""
    opened: list[str] = []
    for character in text:
        if character in BRACKETS:
            opened.append(BRACKETS[character])
        elif not opened or opened.pop() != character:
            return None
    return opened


def _closed_by(prompt: str, symbols: str, length: int) -> bool:
    """Whether so many of the symbols can close what is open in a prompt, at least one pair where nothing is."""
    opened = _open(prompt)
    return opened is not None and set(opened) <= set(symbols) and max(len(opened), 2 * (not opened)) <= length


def _balanced(length: int, symbols: str) -> Right:
    kinds = [c for c in symbols if c in BRACKETS and BRACKETS[c] in symbols]

    def right(generator: np.random.Generator, prompt: str) -> str:
        opened, text = _open(prompt) or [], ""
        while opened or not text:
            if opened and (len(opened) + 2 > length - 1 - len(text) or generator.random() < 0.5):
                text += opened.pop()
            else:
                text += kinds[generator.integers(len(kinds))]
                opened.append(BRACKETS[text[-1]])
        return text

    return right


# ---------------------------------------------------------------------------------------------- sums in characters


def is_sum(prompt: str, completion: str) -> float:
    """1 where the completion of "12+34=" is "46", else 0."""
    first, second = prompt.rstrip("=").split("+")
    return float(completion == str(int(first) + int(second)))


def _sum(generator: np.random.Generator, prompt: str) -> str:
    return str(sum(map(int, prompt.rstrip("=").split("+"))))


def all_sums(digits: int) -> tuple[str, ...]:
    """Every prompt of two numbers of so many digits, with zeros in front: "07+12="."""
    numbers = [f"{n:0{digits}d}" for n in range(10**digits)]
    return tuple(f"{a}+{b}=" for a in numbers for b in numbers)


# ---------------------------------------------------------------------------------------------- making them


def imported(path: str, key: str) -> Reward:
    """The user's reward function `module:name`, checked at every call.

    Raises:
        ConfigError: there is none, or where it is called: it fails, or gives no finite number.
    """
    function = imported_function(path, key, "a prompt and a completion, both strings")

    def reward(prompt: str, completion: str) -> float:
        of = f"the completion {completion!r} of {prompt!r}"
        try:
            value = function(prompt, completion)
        except Exception as error:
            raise ConfigError(f"{key}={path}: fails for {of} ({said(error, __file__)})") from error
        try:
            number = math.nan if isinstance(value, str | bytes) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not abs(number) <= LARGEST:
            raise ConfigError(f"{key}={path}: gives {value!r} for {of}; must be a finite number")
        return number

    return reward


def make_task(
    kind: str,
    symbols: str,
    prompts: Sequence[str],
    length: int,
    targets: Mapping[str, float],
    digits: int,
    reward: str | None,
) -> Task:
    """The task of a config; see `TokensConfig` for its arguments.

    Raises:
        ConfigError: a setting that does not fit the task.
    """
    own: dict[str, tuple[Reward, Right | None]] = {
        "sum": (digits_add_up, _digits(length, symbols) if set(symbols) <= set(DIGITS) else None),
        "sort": (is_sorted, lambda generator, prompt: "".join(sorted(prompt))),
        "brackets": (is_balanced, _balanced(length, symbols)),
        "addition": (is_sum, _sum),
    }
    if kind == "targets":
        require(len(targets) > 0, "env.targets", dict(targets), "must give the reward of at least one completion")
        best = [text for text, value in targets.items() if value == max(targets.values())]
        own[kind] = (
            lambda prompt, completion: targets.get(completion, 0.0),
            lambda generator, prompt: best[generator.integers(len(best))],
        )
    if kind == "function":
        if reward is None:
            raise ConfigError("env.reward=None: task=function needs the import path of a function")
        own[kind] = imported(reward, "env.reward"), None
    allowed = f"allowed are {', '.join(sorted({*own, 'targets', 'function'}))}"
    require(kind in own, "env.task", kind, allowed)
    shown = all_sums(digits) if kind == "addition" else tuple(prompts)
    task = Task(shown, symbols, length, *own[kind])
    _check(kind, task, targets)
    return task


def _check(kind: str, task: Task, targets: Mapping[str, float]) -> None:
    symbols, prompts = task.symbols, task.prompts
    require(len(symbols) >= 1, "env.symbols", symbols, "must be at least one character")
    require(len(set(symbols)) == len(symbols), "env.symbols", symbols, "must be different characters")
    require(len(prompts) >= 1, "env.prompts", list(prompts), "must be at least one text (an empty one will do)")
    require(len(set(prompts)) == len(prompts), "env.prompts", list(prompts), "must be different texts")
    same = len({len(prompt) for prompt in prompts}) == 1
    require(same, "env.prompts", list(prompts)[:5], "must be texts of the same length; put characters in front")
    if kind == "sum":
        require(set(symbols) <= set(DIGITS), "env.symbols", symbols, "task=sum is written in digits")
        numbers = all(p != "" and set(p) <= set(DIGITS) for p in prompts)
        require(numbers, "env.prompts", list(prompts), "task=sum needs prompts that are numbers")
    if kind == "addition":
        require(set(DIGITS) <= set(symbols), "env.symbols", symbols, f"task=addition is written in the digits {DIGITS}")
        needed = max(len(str(sum(map(int, p.rstrip("=").split("+"))))) for p in (prompts[0], prompts[-1]))
        require(
            task.length >= needed, "env.length", task.length, f"must be at least {needed}, to write the largest sum"
        )
    if kind == "brackets":
        pairs = [c for c in symbols if c in BRACKETS and BRACKETS[c] in symbols]
        others = set(symbols) - set(BRACKETS) - set(BRACKETS.values())
        require(bool(pairs) and not others, "env.symbols", symbols, "task=brackets is written in pairs of ()[]{}<>")
        allowed = f"must be brackets that at most env.length={task.length} of {symbols} can close"
        closable = all(_closed_by(prompt, symbols, task.length) for prompt in prompts)
        require(closable, "env.prompts", list(prompts)[:5], allowed)
    if kind == "targets":
        for text, value in targets.items():
            writable = set(text) <= set(symbols) and len(text) <= task.length
            require(writable, f"env.targets.{text}", value, f"is no completion of at most {task.length} of {symbols}")
            require(bool(np.isfinite(value)), f"env.targets.{text}", value, "must be a finite number")
    if kind == "sort":
        longest = len(prompts[0])
        fits = longest <= task.length and set("".join(prompts)) <= set(symbols)
        require(fits, "env.prompts", list(prompts)[:5], f"must be at most env.length={task.length} of {symbols}")
