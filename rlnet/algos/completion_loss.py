"""A loss function of your own over groups of completions, by import path: `algo.options.loss=my_module:my_loss`.

The function gets what losses of fine-tuning are usually written in, of N completions of at most T tokens, those of
a group in consecutive rows; it names the arguments that it wants:

- `log_prob` [N, T]: log π of the tokens, with gradient; `old_log_prob`: of the policy that wrote them, without;
  `reference_log_prob`: log π_ref. All are 0 behind the end of a completion.
- `mask` [N, T]: 1 for the tokens of a completion, its end token included, 0 behind it.
- `reward` [N], `group` G, `beta` β, `length` T.

It returns a scalar, which is minimised. `leave_one_out` below is an example.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, LossGradient, Update, by_policy
from rlnet.algos.context import PI, AlgorithmContext, Hyper, Metrics, Options, Params
from rlnet.algos.grpo import played, taken
from rlnet.config import ConfigError, require
from rlnet.config.import_paths import IMPORT_PATH, imported_function, said
from rlnet.data.rollout import Rollout

KEY = "algo.options.loss"
ARGUMENTS = ("log_prob", "old_log_prob", "reference_log_prob", "mask", "reward", "group", "beta", "length")
UserLoss = Callable[..., Tensor]


def leave_one_out(
    log_prob: Tensor, reference_log_prob: Tensor, mask: Tensor, reward: Tensor, group: int, beta: float
) -> Tensor:
    """REINFORCE, each completion less the mean of the others of its group; log π/π_ref is subtracted from the reward.

    Its expected gradient is minus that of E[R] − β·KL(π ‖ π_ref).
    """
    divergence = ((log_prob - reference_log_prob) * mask).sum(1).detach()
    value = (reward - beta * divergence).view(-1, group)
    others = (value.sum(1, keepdim=True) - value) / (group - 1)
    return -((value - others).flatten() * (log_prob * mask).sum(1)).mean()


def prepare(context: AlgorithmContext, params: Params, batch: Rollout, hyper: Hyper) -> dict[str, Tensor]:
    """log π_ref of the taken actions, and log π of the policy that took them: [T, M, N]."""
    state, _ = played(batch)
    found = {"log_prob": taken(context, context.policy(params, state), batch.action)}
    if context.reference is not None:
        found["reference"] = taken(context, context.reference_policy(state), batch.action)
    return found


def loss(
    function: UserLoss,
    names: tuple[str, ...],
    path: str,
    context: AlgorithmContext,
    params: Params,
    target_params: Params,
    batch: Rollout,
    hyper: Hyper,
) -> tuple[Tensor, Metrics]:
    """The loss of each member by the function of the user, which is called once for each: [M]."""
    state, valid = played(batch)
    own = taken(context, context.policy(params, state), batch.action)
    old = batch.extra["log_prob"]
    reference = batch.extra.get("reference", old)
    given = {"log_prob": own, "old_log_prob": old, "reference_log_prob": reference}
    tokens = {name: torch.where(valid > 0, x, 0.0).movedim(0, -1) for name, x in given.items()}  # [M, N, T]
    tokens |= {"mask": valid.movedim(0, -1), "reward": (batch.reward * valid).sum(0)}
    count, beta = own.shape[1], hyper["beta"].flatten().tolist()
    fixed: dict[str, Any] = {"group": context.options["group"], "length": context.longest}
    members = {name: x.unbind(0) for name, x in tokens.items()} | {"beta": beta if len(beta) == count else beta * count}
    losses = [
        _called(function, path, {name: fixed[name] if name in fixed else members[name][m] for name in names})
        for m in range(count)
    ]
    log_ratio = ((own.detach() - reference) * valid).sum(0)
    return torch.stack(losses), {"loss/kl": log_ratio.mean(-1)}


def _called(function: UserLoss, path: str, values: dict[str, Any]) -> Tensor:
    """What the function gives; ConfigError where it fails, or gives no scalar that can be differentiated."""
    try:
        result = function(**values)
    except Exception as error:  # a function of the user may raise anything
        raise ConfigError(f"{KEY}={path}: fails ({said(error, __file__)})") from error
    shown = f"a tensor of shape {tuple(result.shape)}" if isinstance(result, Tensor) else f"{result!r}"
    if not isinstance(result, Tensor) or result.dim() > 0:
        raise ConfigError(f"{KEY}={path}: gives {shown}; must be a scalar tensor")
    if torch.is_grad_enabled() and not result.requires_grad:
        raise ConfigError(f"{KEY}={path}: gives a loss that does not depend on log_prob; nothing would be learned")
    return result


def chosen(algorithm: Algorithm, options: Options) -> Algorithm:
    """The record with the loss of the user; ConfigError where there is none, or it asks for what is not known."""
    path = str(options["loss"])
    function = imported_function(path, KEY, f"some of {', '.join(ARGUMENTS)}")
    try:
        asked = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:  # of functions that are not written in Python
        raise ConfigError(f"{KEY}={path}: has no arguments that can be read; write it in Python") from error
    every = any(one.kind is one.VAR_KEYWORD for one in asked)
    asked = [one for one in asked if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    for one in asked:
        allowed = f"asks for {one.name}; arguments are {', '.join(ARGUMENTS)}"
        known = one.kind is not one.POSITIONAL_ONLY and (one.name in ARGUMENTS or one.default is not one.empty)
        require(known, KEY, path, allowed)
    names = ARGUMENTS if every else tuple(one.name for one in asked if one.name in ARGUMENTS)
    require("log_prob" in names, KEY, path, "must have an argument log_prob, or nothing would be learned")
    return replace(algorithm, objective=LossGradient(partial(loss, function, names, path)))


ALGORITHM = Algorithm(
    roles=(PI,),
    acting=Acting(by_policy),
    objective=LossGradient(partial(loss, leave_one_out, tuple(inspect.signature(leave_one_out).parameters), "")),
    data=Data(whole_episodes=True),
    update=Update(prepare=prepare),
    judged=Judged.BEHAVIOUR,
    hyper={"beta": (0.0, float("inf"))},
    options={"group": range(2, 2**20), "loss": IMPORT_PATH},
    configure=chosen,
    regularisation=lambda hyper: hyper["beta"],
    source="Ahmadian et al. 2024",  # of the example
)
