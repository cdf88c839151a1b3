"""REINFORCE with a learned value baseline (S&B section 13.4; Williams 1992)."""

from torch import Tensor

from rlnet.algos.contract import (
    POLICY_HYPER,
    Algorithm,
    Hyper,
    Metrics,
    Params,
    Setting,
    by_policy,
    complete_returns,
    policy_gradient,
    regression,
)
from rlnet.data import Rollout


def loss(
    setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """−γ^t·(G − V(S))·log π(A|S) + c·½·(G − V(S))², over the steps whose return was sampled to its end."""
    ret, weight, share = complete_returns(batch, hyper)
    v = setting.v(params, batch.obs)
    value_loss, error = regression(ret, v, weight)
    policy_loss, metrics = policy_gradient(setting, params, batch, hyper, (ret - v).detach(), weight)
    metrics |= {"loss/mc_error": error, "loss/complete_returns": share}
    return policy_loss + hyper["value_coefficient"].squeeze(-1) * value_loss, metrics


ALGORITHM = Algorithm(
    roles=("pi", "v"),
    act=by_policy,
    loss=loss,
    judged="behaviour",
    source="S&B section 13.4",
    continuous=True,
    whole_episodes=True,
    complete_returns=True,
    hyper=POLICY_HYPER,
)
