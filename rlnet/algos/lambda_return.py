"""The offline λ-return algorithm: whole episodes, targets from the values as they were before (S&B section 12.1).

`one_by_one` learns from one state after the other, as the book does, instead of from all of them in one step.
"""

from torch import Tensor

from rlnet import returns
from rlnet.algos.contract import Algorithm, Hyper, Metrics, Params, Setting, by_given, ends, regression
from rlnet.data import Rollout


def prepare(setting: Setting, params: Params, batch: Rollout, hyper: Hyper) -> dict[str, Tensor]:
    """G^λ of every row, S&B eq. 12.3."""
    discount, trace = ends(batch, hyper, hyper["lambda_"])
    next_value = setting.v(params, batch.next_obs)
    return {"target": returns.lambda_return(batch.reward, discount, trace, next_value)}


def loss(
    setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper
) -> tuple[Tensor, Metrics]:
    """½·(G^λ − V(S))², S&B eq. 12.4."""
    loss, error = regression(batch.extra["target"], setting.v(params, batch.obs), batch.weight)
    return loss, {"loss/td_error": error}


ALGORITHM = Algorithm(
    roles=("v",),
    act=by_given,
    loss=loss,
    judged="given",
    source="S&B section 12.1",
    whole_episodes=True,
    prepare=prepare,
    hyper={"lambda_": (0.0, 1.0)},
    options={"one_by_one": (False, True)},
    facts=lambda options: {"one_by_one": options["one_by_one"]},
)
