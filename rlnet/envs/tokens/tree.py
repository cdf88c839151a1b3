"""The tree of prefixes of a task: numbered, written in tokens, and as a finite model.

States are the prefixes that can still go on: for each prompt those of 0 .. L − 1 symbols, shorter ones first, those of
one length in the order of their symbols. Action a < V − 1 writes a symbol, V − 1 ends the completion.
"""

import itertools
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from rlnet.envs.tokens.tasks import Reward, Task
from rlnet.mdp import FiniteMDP

NOTHING = -1  # in a row of tokens: not written yet


@dataclass(frozen=True, eq=False)
class Reference:
    """Settings of the reference policy, trained by supervised steps on demonstrations of the task."""

    steps: int
    batch: int
    learning_rate: float | None  # None: what suits the network
    skill: float  # the share of demonstrations that are right
    seed: int


@dataclass(frozen=True, eq=False)
class Tokens:
    """Description of a token environment for language models."""

    task: Task
    reference: Reference
    rows: np.ndarray | None = field(
        default=None, repr=False
    )  # int64 [S, W] of the states; None where there are too many

    @property
    def shape(self) -> tuple[int, int, int]:
        """(prompts, symbols, L): what the tree of prefixes looks like."""
        return len(self.task.prompts), len(self.task.symbols), self.task.length

    @property
    def width(self) -> int:
        """W: a token for the beginning, those of the prompt, and L − 1 of the completion."""
        return len(self.task.prompts[0]) + self.task.length

    @property
    def kinds(self) -> int:
        """The number of different tokens that a network sees: the alphabet, and the beginning token."""
        return len(self.task.alphabet) + 1

    @cached_property
    def empty(self) -> np.ndarray:
        """The rows of tokens of the prompts, with nothing written: int64 [P, W]."""
        return np.array([self.row(prompt) for prompt in self.task.prompts])

    def row(self, prompt: str, completion: str = "") -> np.ndarray:
        """A prefix in tokens, int64 [W]: the beginning, the prompt, what was written, and then `NOTHING`."""
        alphabet = self.task.alphabet
        written = [len(alphabet), *(alphabet.index(c) for c in prompt + completion)]
        return np.array(written + [NOTHING] * (self.width - len(written)), np.int64)

    def demonstrations(
        self, generator: np.random.Generator, count: int, indexed: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Completions that show the task, step by step.

        Args:
            generator: what they are drawn by.
            count: how many.
            indexed: whether observations are state indices; else they are rows of tokens.

        Returns:
            observations int64 [L, count], or float32 [L, count, W], and actions int64 [L, count]: the symbols, then the
            end, then `NOTHING`.
        """
        task, places = self.task, generator.integers(len(self.task.prompts), size=count)
        actions = np.full((task.length, count), NOTHING, np.int64)
        for n, which in enumerate(places):
            text = task.demonstration(generator, task.prompts[which], self.reference.skill)
            taken = [*map(task.symbols.index, text), len(task.symbols)][: task.length]
            actions[: len(taken), n] = taken
        written = np.where(actions == len(task.symbols), NOTHING, actions)
        if indexed:
            return self._states(places, written), actions
        first = len(task.prompts[0]) + 1
        rows = np.repeat(self.empty[places][None].astype(np.float32), task.length, 0)
        for t in range(1, task.length):
            rows[t:, :, first + t - 1] = written[t - 1]
        return rows, actions

    def _states(self, prompts: np.ndarray, written: np.ndarray) -> np.ndarray:
        """The states in which symbols [L, count] are written; behind an end the last one stays."""
        each, count = prefixes(self.task) // len(self.task.prompts), len(self.task.symbols)
        states, own = np.zeros_like(written), np.zeros_like(prompts)
        for t, symbol in enumerate(written):
            states[t] = own
            own = np.where(symbol == NOTHING, own, 1 + own * count + symbol) % each
        return states + prompts * each

    def one_hot(self, rows: np.ndarray) -> np.ndarray:
        """The tokens of rows as zeros and ones, float32 [..., W·kinds]."""
        hot = rows[..., None] == np.arange(self.kinds)
        return hot.reshape(*rows.shape[:-1], -1).astype(np.float32)


def prefixes(task: Task) -> int:
    """The number of states of the tree."""
    return len(task.prompts) * sum(len(task.symbols) ** k for k in range(task.length))


def completions(task: Task) -> int:
    """The number of different completions of all prompts together."""
    return prefixes(task) + len(task.prompts) * len(task.symbols) ** task.length


def texts(task: Task) -> list[str]:
    """The symbols of every state, in the order of the states of one prompt."""
    return ["".join(t) for k in range(task.length) for t in itertools.product(task.symbols, repeat=k)]


def tree_rows(tokens: Tokens) -> np.ndarray:
    """Every state in tokens: int64 [S, W]."""
    task, first = tokens.task, len(tokens.task.prompts[0]) + 1
    each, count = prefixes(task) // len(task.prompts), len(task.symbols)
    rows = np.full((len(task.prompts), each, tokens.width), NOTHING, np.int64)
    rows[:, :, :first] = tokens.empty[:, None, :first]
    begin = 0
    for k in range(task.length):
        number, size = np.arange(count**k), count**k
        for place in range(k):
            rows[:, begin : begin + size, first + place] = number // count ** (k - 1 - place) % count
        begin += size
    return rows.reshape(-1, tokens.width)


def build_tree(task: Task, reward: Reward | None = None) -> FiniteMDP:
    """The finite model: deterministic; every completion is paid when it is finished, prompts are equally likely.

    Args:
        task: what is completed.
        reward: in place of the task's own.
    """
    pay, symbols = task.reward if reward is None else reward, task.symbols
    count, written = len(symbols), texts(task)
    each = len(written)
    inner = each - count ** (task.length - 1)  # prefixes behind which another one can stand
    ended = np.array([[pay(p, text) for text in written] for p in task.prompts])  # [P, each]
    cut = np.array([[pay(p, text + c) for text in written[inner:] for c in symbols] for p in task.prompts])
    states, actions = len(task.prompts) * each, count + 1
    own = np.arange(each)
    successor, terminated = np.repeat(own[:, None], actions, 1), np.ones((each, actions), bool)
    # A prefix of k symbols stands at begin(k) + number, its continuations at begin(k + 1) + number·count + symbol.
    successor[:inner, :count] = 1 + np.arange(inner * count).reshape(inner, count)
    terminated[:inner, :count] = False
    reward_of = np.zeros((len(task.prompts), each, actions))
    reward_of[:, :, count] = ended
    reward_of[:, inner:, :count] = cut.reshape(len(task.prompts), each - inner, count)
    begin = each * np.arange(len(task.prompts))
    pairs = states * actions
    start = np.zeros(states)
    start[begin] = 1 / len(begin)
    return FiniteMDP(
        pair_ptr=np.arange(states + 1) * actions,
        pair_action=np.tile(np.arange(actions), states),
        outcome_ptr=np.arange(pairs + 1),
        next_state=(successor + begin[:, None, None]).reshape(-1),
        probability=np.ones(pairs),
        reward=reward_of.reshape(-1),
        terminated=np.tile(terminated, (len(begin), 1)).reshape(-1),
        start=start,
        n_actions=actions,
        labels=tuple(f"{prompt}›{text}" for prompt in task.prompts for text in written),
        action_labels=(*symbols, "end"),
    )
