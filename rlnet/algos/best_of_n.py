"""Best-of-n imitation: rejection fine-tuning on the best sampled completions (RAFT; Dong et al. 2023).

A supervised step imitates the best completion of each group. `sampler` names the policy that samples the groups: the
learned `policy` (RAFT, expert iteration), or the `reference`, which makes it a distillation of best-of-n sampling.
With `positive` a group is skipped whose best return is not above 0.
"""

from torch import Tensor

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, LossGradient, by_policy
from rlnet.algos.context import PI, AlgorithmContext, Hyper, Metrics, Params
from rlnet.algos.dpo import by_reference
from rlnet.algos.grpo import played, taken, total
from rlnet.data.rollout import Observation, Rollout


def act(context: AlgorithmContext, params: Params, state: Observation, hyper: Hyper) -> Tensor:
    """Act by the policy that the option `sampler` names: [..., M, N, A]."""
    who = by_policy if context.options["sampler"] == "policy" else by_reference
    return who(context, params, state, hyper)


def loss(
    context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """−Σ_t log π(y_t) of the best completion of a group, averaged over ties and over groups."""
    state, valid = played(batch)
    log_prob = taken(context, context.policy(params, state), batch.action)
    ret = (batch.reward * valid).sum(0).unflatten(-1, (-1, context.options["group"]))  # [M, groups, G]
    top = ret.amax(-1, keepdim=True)
    best = (ret == top).to(log_prob.dtype)
    share = best / best.sum(-1, keepdim=True)  # ties alike
    if context.options["positive"]:
        share = share * (top > 0)
    weight = valid * (share / share.shape[-2]).flatten(-2)
    return -total(log_prob, weight), {"loss/best_return": top.mean((1, 2))}


ALGORITHM = Algorithm(
    roles=(PI,),
    acting=Acting(act),
    objective=LossGradient(loss),
    data=Data(whole_episodes=True),
    judged=Judged.ACTOR,
    options={"group": range(2, 2**20), "sampler": ("policy", "reference"), "positive": (False, True)},
    source="Dong et al. 2023",
)
