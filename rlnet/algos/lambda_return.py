"""The offline λ-return algorithm: whole episodes, targets from the values as they were before (S&B section 12.1).

`one_by_one` learns from one state after the other, as the book does, instead of from all of them in one step.
"""

from torch import Tensor

from rlnet.algos import returns
from rlnet.algos.algorithm import Algorithm, Hyper, Params, Setting, Target, by_given
from rlnet.algos.loss_terms import ends
from rlnet.data.rollout import Rollout


def prepare(setting: Setting, params: Params, batch: Rollout, hyper: Hyper) -> dict[str, Tensor]:
    """G^λ of every row, S&B eq. 12.3."""
    discount, trace = ends(batch, hyper, hyper["lambda_"])
    next_value = setting.v(params, batch.next_obs)
    return {"target": returns.lambda_return(batch.reward, discount, trace, next_value)}


def target(setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """G^λ, S&B eq. 12.4."""
    return Target(batch.extra["target"])


ALGORITHM = Algorithm(
    roles=("v",),
    act=by_given,
    target=target,
    judged="given",
    source="S&B section 12.1",
    whole_episodes=True,
    prepare=prepare,
    hyper={"lambda_": (0.0, 1.0)},
    options={"one_by_one": (False, True)},
    facts=lambda options: {"one_by_one": options["one_by_one"]},
)
