"""Monte Carlo prediction, every visit: learn V of a given policy from complete returns (S&B section 5.1, eq. 6.1)."""

from torch import Tensor

from rlnet.algos.contract import Algorithm, Hyper, Metrics, Params, Setting, by_given, complete_returns, regression
from rlnet.data import Rollout


def loss(
    setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """½·(G − V(S))² over the steps whose return was sampled to its end."""
    ret, weight, share = complete_returns(batch, hyper)
    loss, error = regression(ret, setting.v(params, batch.obs), weight)
    return loss, {"loss/mc_error": error, "loss/complete_returns": share}


ALGORITHM = Algorithm(
    roles=("v",), act=by_given, loss=loss, judged="given", source="S&B section 5.1", whole_episodes=True
)
