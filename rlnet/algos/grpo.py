"""Group-relative policy optimisation (GRPO; Shao et al. 2024), with its published variants as options.

The baseline comes from the G episodes with the same start (a group); there is no critic. Meant for completions of
language models: return R(y) of a completion y of |y| tokens, reference policy π_ref. The options:

- `advantage`: `mean` R − mean of the group; `std` the same over the group's deviation (+ 1e-4); `loo` R − the mean of
  the G − 1 others.
- `length`: weight of a token in the loss. `sum`: Σ_t over a completion, mean over completions (the policy gradient);
  `mean`: 1/|y| of it; `constant`: 1/L of it, L the longest possible; `batch`: the mean over all tokens of the update.
- `kl`: the estimator of KL(π ‖ π_ref), `k1` `k2` `k3` `ratio_k3` of `rlnet.algos.kl_estimators`, or `none`; `kl_of`:
  of each `token`, or of the `sequence`; `kl_in`: subtracted from the `reward`, or added to the `loss`.
- `resample`: how often at most a group with equal returns is sampled again, with a new prompt (dynamic sampling, DAPO;
  Yu et al. 2025).
- `ratio`: whether the clipped ratio π/π_old is that of each `token`, or of the `sequence`.
"""

import math
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, LossGradient, Update, by_policy
from rlnet.algos.context import PI, AlgorithmContext, Hyper, Metrics, Options, Params
from rlnet.algos.kl_estimators import penalty
from rlnet.algos.loss_terms import mean, total
from rlnet.config import require
from rlnet.data.rollout import Observation, Rollout
from rlnet.policies.distributions import Density

OPTIONS = {
    "group": range(2, 2**20),
    "advantage": ("mean", "std", "loo"),
    "length": ("sum", "mean", "constant", "batch"),
    "kl": ("none", "k1", "k2", "k3", "ratio_k3"),
    "kl_of": ("token", "sequence"),
    "kl_in": ("reward", "loss"),
    "resample": range(2**20),
    "ratio": ("token", "sequence"),
}
NUMBERS = {"beta": (0.0, math.inf), "clip_low": (0.0, 1.0), "clip_high": (0.0, math.inf)}


def played(batch: Rollout) -> tuple[Observation, Tensor]:
    """Observations of the episodes, and the mask of the rows that belong to them, [T, M, N] of zeros and ones.

    Rows after the end of an episode get the first observation: distinct texts would cost forward passes for nothing.
    """
    valid = batch.weight > 0
    state = batch.state
    shape = valid.shape + (1,) * (state.obs.dim() - valid.dim())
    return state._replace(obs=torch.where(valid.view(shape), state.obs, state.obs[:1])), valid.to(batch.reward.dtype)


def taken(context: AlgorithmContext, policy: Tensor, action: Tensor) -> Tensor:
    """log π(a|s) of the taken actions: [T, M, N]."""
    return cast(Density, context.actions).log_prob(policy, action)


def equal_groups(batch: Rollout, group: int) -> Tensor:
    """Whether an episode is of a group with equal returns, which have no advantage: bool [M, N]."""
    _, valid = played(batch)
    own = (batch.reward * valid).sum(0).unflatten(-1, (-1, group))
    return (own == own[..., :1]).all(-1, keepdim=True).expand_as(own).flatten(-2)


def drawn_again(options: Options, batch: Rollout, draws: int) -> Tensor | None:
    """Dynamic sampling: the episodes of groups with equal returns, `resample` times at most (Yu et al. 2025)."""
    return equal_groups(batch, options["group"]) if draws < options.get("resample", 0) else None


def compared(ret: Tensor, group: int, how: str) -> Tensor:
    """Group-relative advantages [M, N] of returns [M, N], G consecutive episodes a group; `how`: option `advantage`."""
    own = ret.unflatten(-1, (-1, group))
    centred = own - own.mean(-1, keepdim=True)
    if how == "loo":
        centred = centred * (group / (group - 1))
    elif how == "std":
        centred = centred / (own.std(-1, keepdim=True) + 1e-4)
    return centred.flatten(-2)


def token_weights(valid: Tensor, how: str, longest: int) -> Tensor:
    """Weight of each token in the loss, [T, M, N]; `how`: option `length`; `longest`: L."""
    episodes = valid.shape[2]
    if how == "batch":
        return valid / valid.sum((0, 2), keepdim=True)
    if how == "mean":
        return valid / (episodes * valid.sum(0))
    return valid / (episodes * (longest if how == "constant" else 1))


def prepare(context: AlgorithmContext, params: Params, batch: Rollout, hyper: Hyper) -> dict[str, Tensor]:
    """log π_ref of the taken actions; with several epochs also log π_old and the advantages: [T, M, N] each.

    With a single epoch π_old = π, so the loss computes both from its own forward pass.
    """
    state, _ = played(batch)
    found: dict[str, Tensor] = {}
    if context.reference is not None:
        found["reference"] = taken(context, context.reference_policy(state), batch.action)
    if context.epochs == 1:
        return found
    old = taken(context, context.policy(params, state), batch.action)
    return {**found, "log_prob": old, "advantage": advantages(context, batch, old, found.get("reference", old), hyper)}


def advantages(context: AlgorithmContext, batch: Rollout, old: Tensor, reference: Tensor, hyper: Hyper) -> Tensor:
    """The advantage of each episode, on all of its rows: [T, M, N].

    Args:
        context, batch, hyper: as of a loss.
        old: log π of the taken actions under the policy that took them, without gradient.
        reference: log π_ref of them.
    """
    options = context.options
    _, valid = played(batch)
    ret = (batch.reward * valid).sum(0)
    if options["kl"] != "none" and options["kl_in"] == "reward":
        estimate, of_tokens = penalty(options, old, reference, old, valid)
        ret = ret - hyper["beta"] * (estimate.sum(0) if of_tokens else estimate)
    return compared(ret, options["group"], options["advantage"]).expand_as(valid)


def loss(
    context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """−Σ_t w_t·min(ρ_t·Â, clip(ρ_t, 1 − ε_low, 1 + ε_high)·Â) + β·KL, ρ = π/π_old; see `OPTIONS`."""
    state, valid = played(batch)
    options = context.options
    pi = context.policy(params, state)
    log_prob = taken(context, pi, batch.action)
    old = batch.extra.get("log_prob", log_prob.detach())
    reference = batch.extra.get("reference", old)
    if "advantage" in batch.extra:
        advantage = batch.extra["advantage"]
    else:
        advantage = advantages(context, batch, old, reference, hyper)
    weight, change = token_weights(valid, options["length"], context.longest), (log_prob - old) * valid
    if options["ratio"] == "sequence":  # each completion counts once, in its first row
        change, weight = change.sum(0, keepdim=True).expand_as(valid), torch.zeros_like(weight)
        weight[0] = 1 / weight.shape[-1]
    ratio = change.exp()
    clipped = torch.minimum(torch.maximum(ratio, 1 - hyper["clip_low"]), 1 + hyper["clip_high"])
    result = -total(torch.minimum(ratio * advantage, clipped * advantage), weight)
    if options["kl"] != "none" and options["kl_in"] == "loss":
        estimate, of_tokens = penalty(options, log_prob, reference, old, valid)
        beta = hyper["beta"].squeeze(-1)
        tokens = token_weights(valid, options["length"], context.longest)
        result = result + beta * (total(estimate, tokens) if of_tokens else estimate.mean(-1))
    log_ratio = (log_prob.detach() - reference) * valid
    metrics = {
        "loss/kl": log_ratio.sum(0).mean(-1),
        "loss/clipped": mean(((ratio != clipped) & (valid > 0)).float(), valid),
        "explore/entropy": mean(cast(Density, context.actions).entropy(pi), valid),
    }
    return result, metrics


def checked(algorithm: Algorithm, options: Options) -> Algorithm:
    """Check options against each other (ConfigError), and fix β = 0 where no KL term reads it."""
    allowed = "must be sum with algo.options.ratio=sequence, where a completion counts as a whole"
    require(
        options["ratio"] == "token" or options["length"] == "sum", "algo.options.length", options["length"], allowed
    )
    if options["kl"] == "none":  # nothing would read another β
        return replace(algorithm, hyper={**algorithm.hyper, "beta": (0.0, 0.0)})
    return algorithm


ALGORITHM = Algorithm(
    roles=(PI,),
    acting=Acting(by_policy),
    objective=LossGradient(loss),
    data=Data(whole_episodes=True, drawn_again=drawn_again),
    update=Update(prepare=prepare),
    judged=Judged.BEHAVIOUR,
    hyper=NUMBERS,
    options=OPTIONS,
    configure=checked,
    regularisation=lambda hyper: hyper["beta"],
    source="Shao et al. 2024",
)
