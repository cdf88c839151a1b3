"""On-policy Monte Carlo control: learn Q of the exploring policy from complete returns (S&B section 5.4)."""

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, SemiGradient, Target, by_values
from rlnet.algos.context import AlgorithmContext, Hyper, Params, Q
from rlnet.algos.loss_terms import complete_returns
from rlnet.algos.returns import first_visits
from rlnet.data.rollout import Rollout


def target(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """The target: the return G, over the steps whose return was sampled to its end."""
    ret, weight, share = complete_returns(batch, hyper)
    if context.options["visits"] == "first":
        weight = weight * first_visits(batch.obs * context.actions.outputs + batch.action)
    return Target(ret, weight, {"loss/complete_returns": share}, "loss/mc_error")


ALGORITHM = Algorithm(
    roles=(Q,),
    acting=Acting(by_values),
    objective=SemiGradient(target),
    data=Data(whole_episodes=True, complete_returns=True),
    judged=Judged.BEHAVIOUR,
    options={"visits": ("every", "first")},
    source="S&B section 5.4",
)
