"""Off-policy Monte Carlo prediction by importance sampling (S&B sections 5.5 and 5.9).

`ordinary` weighs the return with ρ = Π π(A|S)/b(A|S) of the rest of the episode, `per_decision` each reward with the
ratios up to it: both are unbiased. `weighted` weighs the squared error with ρ: biased but consistent, of less variance.
"""

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, SemiGradient, Target, by_given
from rlnet.algos.context import AlgorithmContext, Hyper, Params, V
from rlnet.algos.loss_terms import complete_returns, ends, ratio
from rlnet.algos.returns import importance_sampled_return, product_of_ratios
from rlnet.data.rollout import Rollout


def target(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """The target ρ·G (ordinary importance sampling), or G with weight ρ (weighted, S&B eq. 5.6)."""
    ret, weight, share = complete_returns(batch, hyper)
    discount, trace = ends(batch, hyper, lambda_=1.0)
    rho, kind = ratio(context, batch), context.options["sampling"]
    if kind == "weighted":
        weight = weight * product_of_ratios(rho, trace)
    elif kind == "ordinary":
        ret = product_of_ratios(rho, trace) * ret
    else:
        ret = importance_sampled_return(batch.reward, discount, trace, ret.new_zeros(ret.shape), rho)
    return Target(ret, weight, {"loss/complete_returns": share}, "loss/mc_error")


ALGORITHM = Algorithm(
    roles=(V,),
    acting=Acting(by_given),
    objective=SemiGradient(target),
    data=Data(whole_episodes=True, complete_returns=True, off_policy=True),
    judged=Judged.GIVEN,
    options={"sampling": ("weighted", "ordinary", "per_decision")},
    source="S&B section 5.5",
)
