"""The offline λ-return algorithm: λ-returns of whole episodes as targets (S&B section 12.1).

The targets use the values from before the update. `one_by_one` takes an optimiser step for each state in time order, as
the book does, in place of one step for all of them.
"""

from dataclasses import replace

from torch import Tensor

from rlnet.algos import returns
from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, SemiGradient, Target, Update, by_given
from rlnet.algos.context import AlgorithmContext, Hyper, Params, V
from rlnet.algos.loss_terms import ends
from rlnet.data.rollout import Rollout


def prepare(context: AlgorithmContext, params: Params, batch: Rollout, hyper: Hyper) -> dict[str, Tensor]:
    """λ-returns G^λ of every row, from the values before the update, S&B eq. 12.3."""
    discount, trace = ends(batch, hyper, hyper["lambda_"])
    next_value = context.v(params, batch.next_state)
    return {"target": returns.lambda_return(batch.reward, discount, trace, next_value)}


def target(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """The target: λ-returns G^λ, S&B eq. 12.4."""
    return Target(batch.extra["target"])


ALGORITHM = Algorithm(
    roles=(V,),
    acting=Acting(by_given),
    objective=SemiGradient(target),
    data=Data(whole_episodes=True),
    update=Update(prepare=prepare),
    judged=Judged.GIVEN,
    hyper={"lambda_": (0.0, 1.0)},
    options={"one_by_one": (False, True)},
    configure=lambda algorithm, options: replace(
        algorithm, update=replace(algorithm.update, row_by_row=options["one_by_one"])
    ),
    source="S&B section 12.1",
)
