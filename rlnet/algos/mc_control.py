"""On-policy Monte Carlo control: learn Q of the exploring policy from complete returns (S&B section 5.4)."""

from torch import Tensor

from rlnet.algos.contract import (
    Algorithm,
    Hyper,
    Metrics,
    Params,
    Setting,
    by_values,
    complete_returns,
    regression,
    take,
)
from rlnet.data import Rollout
from rlnet.returns import first_visits


def loss(
    setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """½·(G − Q(S, A))² over the steps whose return was sampled to its end."""
    ret, weight, share = complete_returns(batch, hyper)
    q = setting.q(params, batch.obs)
    if setting.options["visits"] == "first":
        weight = weight * first_visits(batch.obs * q.shape[-1] + batch.action)
    loss, error = regression(ret, take(q, batch.action), weight)
    return loss, {"loss/mc_error": error, "loss/complete_returns": share}


ALGORITHM = Algorithm(
    roles=("q",),
    act=by_values,
    loss=loss,
    judged="behaviour",
    source="S&B section 5.4",
    whole_episodes=True,
    complete_returns=True,
    options={"visits": ("every", "first")},
)
