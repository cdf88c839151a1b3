"""TRL's trainers beside exact gradients: `rlnet audit trl=all`, or `trl=GRPOTrainer options.loss_type=bnpo`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from rlnet.config import ConfigError, TrainerAuditConfig, require
from rlnet.config.optional import needed
from rlnet.diagnosis.enumeration import Texts
from rlnet.diagnosis.estimator_audit import ARCSINE, FORWARD, PREFERENCES, REGULARISED, REWARD
from rlnet.diagnosis.objectives import Match, Objectives, match
from rlnet.diagnosis.trl_trainers import PROMPTS, Models, expected_update, own_update, preferred_update

ALL = "all"
MOST_GROUPS = 10_000  # of all prompts; the loss of a trainer is called on each
SAME = 1e-6  # how near to 1 a cosine is called exact: the trainers' advantages are in single precision
# The options that change a loss. What changes the completions instead is not seen here, where they are enumerated.
OPTIONS = {
    "GRPOTrainer": (
        "loss_type", "scale_rewards", "importance_sampling_level", "use_bias_correction_kl", "top_entropy_quantile",
        "entropy_coef", "mask_truncated_completions", "epsilon", "epsilon_high", "delta", "sapo_temperature_neg",
        "sapo_temperature_pos", "vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg",
    ),
    "RLOOTrainer": (
        "normalize_advantages", "reward_clip_range", "mask_truncated_completions", "epsilon", "epsilon_high",
    ),
    "DPOTrainer": (
        "loss_type", "label_smoothing", "f_divergence_type", "f_alpha_divergence_coef", "ld_alpha", "use_weighting",
        "discopop_tau",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """A trainer of TRL with options, and the options of rlnet's algorithm that should be the same."""

    trainer: str
    options: Mapping[str, Any]
    own: Mapping[str, Any] | None  # None: nothing is said to be the same
    no_kl: bool = False  # at β = 0, TRL's default

    @property
    def title(self) -> str:
        """Its options as they are given to TRL."""
        shown = {**self.options, **({"beta": 0.0} if self.no_kl else {})}
        return ", ".join(f"{name}={value}" for name, value in shown.items()) or "defaults"


TOKENS = {"kl": "ratio_k3", "kl_of": "token", "kl_in": "loss", "ratio": "token"}
WHOLE = {"advantage": "loo", "length": "sum", "kl": "k1", "kl_of": "sequence", "kl_in": "reward", "ratio": "sequence"}
CENTRED = {"loss_type": "dr_grpo", "scale_rewards": "none"}
UNBIASED = {**TOKENS, "advantage": "mean", "length": "constant"}
TABLE = (
    Variant("RLOOTrainer", {}, WHOLE),
    Variant("RLOOTrainer", {}, WHOLE, no_kl=True),
    Variant("GRPOTrainer", CENTRED, UNBIASED, no_kl=True),
    Variant("GRPOTrainer", CENTRED, UNBIASED),
    Variant("GRPOTrainer", {**CENTRED, "use_bias_correction_kl": False}, {**UNBIASED, "kl": "k3"}),
    Variant("GRPOTrainer", {"loss_type": "dapo"}, {**TOKENS, "advantage": "std", "length": "batch"}),
    Variant("GRPOTrainer", {"loss_type": "grpo"}, {**TOKENS, "advantage": "std", "length": "mean"}),
    Variant("GRPOTrainer", {}, {**TOKENS, "advantage": "std", "length": "batch"}, no_kl=True),
    Variant("DPOTrainer", {}, {}),
)


@dataclass(frozen=True)
class Row:
    """What is said about a trainer."""

    trainer: str
    title: str  # its options
    matches: Mapping[str, Match]  # beside exact gradients, by the objective
    own: Match | None  # beside the update of rlnet's algorithm of the same definition

    @property
    def nearest(self) -> str:
        """The objective whose gradient is nearest."""
        return max(self.matches, key=lambda name: self.matches[name].cosine)

    @property
    def aim(self) -> str:
        """The objective that the trainer's method is described by."""
        if self.trainer == "DPOTrainer":
            return PREFERENCES
        return REGULARISED if REGULARISED in self.matches else REWARD

    @property
    def verdict(self) -> str:
        """Which gradient it is, in words."""
        name = self.nearest
        found = self.matches[name]
        if abs(found.cosine - 1) < SAME:
            return f"the gradient of {name}" + ("" if abs(found.scale - 1) < 1e-4 else f", times {found.scale:.4g}")
        return f"the gradient of none of these; {found.angle:.2f}° from that of {name}"


@dataclass(frozen=True)
class TrainerAudit:
    """Result of an audit of trainers."""

    rows: tuple[Row, ...]
    group: int
    beta: float
    length: int
    prompts: int
    completions: int  # of a prompt
    groups: int  # of all prompts, each of which the loss of a trainer was called on
    versions: Mapping[str, str]


def audit_trainers(config: TrainerAuditConfig, tell: Callable[[str], None] = lambda line: None) -> TrainerAudit:
    """The expected updates of TRL's trainers beside exact gradients.

    Args:
        config: which trainers, and at which group size, β and length.
        tell: called with a line for each trainer, before it is audited.

    Raises:
        ConfigError: TRL is not installed, has no such trainer or option, or there are too many groups.
    """
    variants = chosen(config)
    kinds = 2 ** (config.length + 1) - 1
    groups = len(PROMPTS) * math.comb(kinds + config.group - 1, config.group)
    allowed = f"would be {groups:,} groups of {kinds} completions; at most {MOST_GROUPS:,} are enumerated"
    require(groups <= MOST_GROUPS, f"group={config.group} length", config.length, allowed)
    needed("trl", "trl", f"trl={config.trl}")
    with _quiet():
        models = Models(config.group, config.beta, config.length)
        gradients, rows = gradients_of(models), []
        for k, variant in enumerate(variants):
            tell(f"{k + 1} of {len(variants)}: {variant.trainer}, {variant.title}")
            rows.append(audited(models, gradients, variant))
    versions = {name: version(name) for name in ("trl", "transformers")}
    return TrainerAudit(tuple(rows), config.group, config.beta, config.length, len(PROMPTS), kinds, groups, versions)


def chosen(config: TrainerAuditConfig) -> tuple[Variant, ...]:
    """What the settings ask for: the table, or one trainer with options of the user."""
    if config.trl == ALL:
        require(not config.options, "options", dict(config.options), f"are those of one trainer: {', '.join(OPTIONS)}")
        return TABLE if config.beta > 0 else tuple(row for row in TABLE if row.no_kl)
    require(config.trl in OPTIONS, "trl", config.trl, f"allowed are {ALL}, {', '.join(OPTIONS)}")
    for name, value in config.options.items():
        allowed = {
            "beta": "is a setting of the audit: beta=...",
            "num_generations": "is a setting of the audit: group=...",
            "max_completion_length": "is a setting of the audit: length=...",
        }.get(name, f"allowed are {', '.join(OPTIONS[config.trl])}: those that change the loss")
        require(name in OPTIONS[config.trl], f"options.{name}", value, allowed)
    allowed = "must be above 0 with DPOTrainer"
    require(config.beta > 0 or config.trl != "DPOTrainer", "beta", config.beta, allowed)
    return (Variant(config.trl, dict(config.options), None),)


def gradients_of(models: Models) -> dict[str, Tensor]:
    """Exact gradients by the parameters of the policy, by the objective."""
    objectives, beta = Objectives(models.known, models.log_reference, models.log_policy), models.beta
    texts = [Texts.of(models.known, p) for p in range(len(PROMPTS))]
    values = {
        REWARD: objectives.reward,
        REGULARISED: objectives.reward - beta * objectives.kl,
        FORWARD: objectives.reward - beta * objectives.forward,
        ARCSINE: objectives.arcsine,
        PREFERENCES: -objectives.preferences(texts, beta),
    }
    return {name: models.carried(objectives.gradient(value)) for name, value in values.items()}


def audited(models: Models, gradients: Mapping[str, Tensor], variant: Variant) -> Row:
    """The row of a trainer.

    Raises:
        ConfigError: TRL refuses the options.
    """
    preferring, beta = variant.trainer == "DPOTrainer", 0.0 if variant.no_kl else models.beta
    options = {"beta": beta, **variant.options}
    with _refusals(variant):
        update = (preferred_update if preferring else expected_update)(models, variant.trainer, options)
    same = None
    if variant.own is not None:
        same = match(update[None], own_update(models, "dpo" if preferring else "grpo", dict(variant.own), beta))
    asked = set(gradients) - (set() if preferring else {PREFERENCES}) - (set() if beta else {REGULARISED, FORWARD})
    matches = {name: match(update[None], own) for name, own in gradients.items() if name in asked}
    return Row(variant.trainer, variant.title, matches, same)


@contextmanager
def _quiet() -> Iterator[None]:
    """Context manager: small models in one thread, and without what the packages say about how they are used."""
    import datasets
    from transformers.utils import logging

    threads, level = torch.get_num_threads(), logging.get_verbosity()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        datasets.enable_progress_bars()
        logging.enable_progress_bar()
        logging.set_verbosity(level)
        torch.set_num_threads(threads)


@contextmanager
def _refusals(variant: Variant) -> Iterator[None]:
    """Context manager: what TRL refuses is bad input, told in its words."""
    try:
        yield
    except (ValueError, TypeError, NotImplementedError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(
            f"trl={variant.trainer} with {variant.title}: TRL {version('trl')} refuses it: {said}"
        ) from error
