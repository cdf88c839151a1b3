"""Monte Carlo prediction: learn V of a given policy from complete returns (S&B section 5.1, eq. 6.1).

Every visit of a state counts, or (`visits=first`) only the first one in an episode, whose returns are independent.
"""

from torch import Tensor

from rlnet.algos.contract import Algorithm, Hyper, Metrics, Params, Setting, by_given, complete_returns, regression
from rlnet.data import Rollout
from rlnet.returns import first_visits


def loss(
    setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """½·(G − V(S))² over the steps whose return was sampled to its end."""
    ret, weight, share = complete_returns(batch, hyper)
    if setting.options["visits"] == "first":
        weight = weight * first_visits(batch.obs)
    loss, error = regression(ret, setting.v(params, batch.obs), weight)
    return loss, {"loss/mc_error": error, "loss/complete_returns": share}


ALGORITHM = Algorithm(
    roles=("v",),
    act=by_given,
    loss=loss,
    judged="given",
    source="S&B section 5.1",
    whole_episodes=True,
    complete_returns=True,
    options={"visits": ("every", "first")},
)
