"""Monte Carlo prediction: learn V of a given policy from complete returns (S&B section 5.1, eq. 6.1).

Every visit of a state counts, or (`visits=first`) only the first one in an episode, whose returns are independent.
"""

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, SemiGradient, Target, by_given
from rlnet.algos.context import AlgorithmContext, Hyper, Params, V
from rlnet.algos.loss_terms import complete_returns
from rlnet.algos.returns import first_visits
from rlnet.data.rollout import Rollout


def target(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """The target: the return G, over the steps whose return was sampled to its end."""
    ret, weight, share = complete_returns(batch, hyper)
    if context.options["visits"] == "first":
        weight = weight * first_visits(batch.obs)
    return Target(ret, weight, {"loss/complete_returns": share}, "loss/mc_error")


ALGORITHM = Algorithm(
    roles=(V,),
    acting=Acting(by_given),
    objective=SemiGradient(target),
    data=Data(whole_episodes=True, complete_returns=True),
    judged=Judged.GIVEN,
    options={"visits": ("every", "first")},
    source="S&B section 5.1",
)
