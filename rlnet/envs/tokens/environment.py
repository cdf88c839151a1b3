"""The settings of token MDPs, and the environments that they describe."""

from collections.abc import Sequence
from dataclasses import field, replace
from typing import Any

import torch
from omegaconf import MISSING

from rlnet.config import EnvConfig, register_environment, require
from rlnet.envs.base import Environment, Simulation, from_model
from rlnet.envs.simulate import OnDevice
from rlnet.envs.tokens.simulation import TokenSimulation
from rlnet.envs.tokens.tasks import imported, make_task
from rlnet.envs.tokens.tree import Reference, Tokens, build_tree, prefixes, tree_rows

MOST_FEATURES = 10**8  # numbers of all states together


@register_environment("tokens")
class TokensConfig(EnvConfig):
    """A prompt, then a token at a time until the end token or `length` of them, and a reward for the completion.

    As long as there are at most `max_states` prefixes it is a finite model; beyond, the same without one.
    """

    task: str = MISSING  # sum, sort, brackets, targets, addition, or function: your own
    symbols: str = MISSING  # what completions are written in, a character for each token; one more token ends them
    prompts: list[str] = field(default_factory=lambda: [""])  # of one length; equally likely
    length: int = MISSING  # the most tokens of a completion, its end included
    digits: int = 2  # of task=addition: of each number; its prompts are all sums of two
    targets: dict[str, float] = field(default_factory=dict)  # of task=targets: what completions are worth; others 0
    reward: str | None = None  # of task=function: module:function of (prompt, completion), both texts
    # module:function, learned from in place of the true reward, which is scored beside it.
    proxy: str | None = None
    max_states: int = 300_000
    # The reference policy: supervised steps on demonstrations, of which a share `skill` are right, the others random.
    skill: float = 0.5
    reference_steps: int = 600
    reference_batch: int = 128
    reference_rate: float | None = None  # of Adam; null: 0.1 where every state has its own numbers, else 0.003
    reference_seed: int = 0

    def check(self) -> None:
        """Raise ConfigError where a number is out of range."""
        for name in ("length", "digits", "max_states", "reference_batch"):
            require(getattr(self, name) >= 1, f"env.{name}", getattr(self, name), "must be at least 1")
        for name in ("reference_steps", "reference_seed"):
            require(getattr(self, name) >= 0, f"env.{name}", getattr(self, name), "must be at least 0")
        require(self.digits <= 3, "env.digits", self.digits, "must be at most 3: all pairs of numbers are prompts")
        require(0 <= self.skill <= 1, "env.skill", self.skill, "must be a share in [0, 1]")
        rate = self.reference_rate
        require(rate is None or 0 < rate < float("inf"), "env.reference_rate", rate, "must be above 0")
        require(self.length <= 1000, "env.length", self.length, "must be at most 1000")
        allowed = "must be null: a completion has at most env.length tokens"
        require(self.max_episode_steps is None, "env.max_episode_steps", self.max_episode_steps, allowed)
        tasks: dict[str, tuple[str, Any]] = {
            "reward": ("function", None), "targets": ("targets", {}), "digits": ("addition", 2),
        }  # fmt: skip
        for name, (task, default) in tasks.items():
            value, allowed = getattr(self, name), f"is a setting of env.task={task} alone"
            require(self.task == task or value == default, f"env.{name}", value, allowed)
        allowed = "are all sums of two numbers with env.task=addition; leave it out"
        require(self.task != "addition" or list(self.prompts) == [""], "env.prompts", list(self.prompts), allowed)

    def foreign_code(self) -> str | None:
        """The functions of the user that would be imported."""
        for name in ("reward", "proxy"):
            if getattr(self, name) is not None:
                return f"env.{name}={getattr(self, name)}"
        return None

    def outcomes(self) -> dict[str, float]:
        """Those of the tree, where it is enumerated."""
        prompts = 100**self.digits if self.task == "addition" else len(self.prompts)
        states = prompts * sum(len(self.symbols) ** k for k in range(self.length))
        if states > self.max_states:
            return {}
        settings = f"env.length={self.length} env.symbols={self.symbols} env.max_states={self.max_states}"
        return {settings: float(states) * (len(self.symbols) + 1)}

    def build(self) -> Environment:
        """The tree of prefixes as a finite model, or without one a simulation of the same."""
        own = self.task, self.symbols, self.prompts, self.length, dict(self.targets), self.digits, self.reward
        task = make_task(*own)
        numbers = self.reference_steps, self.reference_batch, self.reference_rate, self.skill, self.reference_seed
        tokens = Tokens(task, Reference(*numbers))
        paid = task.reward if self.proxy is None else imported(self.proxy, "env.proxy")
        actions = len(task.symbols) + 1
        if prefixes(task) > self.max_states:
            allowed = f"needs at most env.max_states={self.max_states} prefixes: the true reward is scored by the model"
            require(self.proxy is None, "env.proxy", self.proxy, allowed)

            def build(seeds: Sequence[int], envs: int, device: torch.device | str | None) -> Simulation:
                simulation = TokenSimulation(tokens, seeds, envs, paid)
                return simulation if device is None else OnDevice(simulation, device)

            why = f"{prefixes(task):,} prefixes are more than env.max_states={self.max_states:,}"
            about = self.name, None, actions, None, None, (tokens.width,), None, self.max_episode_steps, build
            return Environment(*about, no_model=why, tokens=tokens)
        rows = tree_rows(tokens)
        tokens = replace(tokens, rows=rows)
        small = rows.size * tokens.kinds <= MOST_FEATURES
        features = tokens.one_hot(rows) if small else None
        true = None if self.proxy is None else build_tree(task).reward
        model = build_tree(task, paid)
        made = from_model(self.name, model, features, self.max_episode_steps)
        return replace(made, tokens=tokens, true_reward=true)
