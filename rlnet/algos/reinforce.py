"""REINFORCE with rewards to go, with or without a learned value baseline (S&B section 13.3-13.4; Williams 1992).

`baseline` b is 1 with the baseline and 0 without; V is learned either way, to be compared with V^π. The baseline does
not change the expected gradient, which is that of J where `state_discount` is 1 and all returns are complete.
"""

from torch import Tensor

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, LossGradient, by_policy
from rlnet.algos.context import PI, AlgorithmContext, Hyper, Metrics, Params, V
from rlnet.algos.loss_terms import POLICY_HYPER, baseline_of_others, complete_returns, policy_gradient, regression
from rlnet.data.rollout import Rollout


def loss(
    context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """−γ^(κ·t)·((G − b·V(S))·log π(A|S) + c_H·H(π(·|S))) + c·½·(G − V(S))², over complete returns alone."""
    ret, weight, share = complete_returns(batch, hyper)
    v = context.v(params, batch.state)
    value_loss, error = regression(ret, v, weight)
    missed = (ret - v).detach()
    others = baseline_of_others(context, batch, hyper, missed, weight)
    advantage = ret - hyper["baseline"] * (v.detach() + others)
    policy_loss, metrics = policy_gradient(context, params, batch, hyper, advantage, weight)
    metrics |= {"loss/mc_error": error, "loss/complete_returns": share}
    return policy_loss + hyper["value_coefficient"].squeeze(-1) * value_loss, metrics


ALGORITHM = Algorithm(
    roles=(PI, V),
    acting=Acting(by_policy, continuous=True),
    objective=LossGradient(loss),
    data=Data(whole_episodes=True, complete_returns=True),
    judged=Judged.BEHAVIOUR,
    hyper={**POLICY_HYPER, "baseline": (0.0, 1.0)},
    source="S&B section 13.4",
)
