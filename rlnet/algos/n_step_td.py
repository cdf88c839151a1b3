"""n-step TD prediction: n rewards before the bootstrap (S&B section 7.1).

A row is learned from once the n − 1 rows after it are known. `one_by_one` first samples the whole episode and then
updates one state after the other, each target from the current values, as the box of the book does: the given policy
does not depend on V, so the updates are the same.
"""

from dataclasses import replace

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, SemiGradient, Target, Update, by_given
from rlnet.algos.context import AlgorithmContext, Hyper, Options, Params, V
from rlnet.algos.loss_terms import ends
from rlnet.algos.returns import n_step_return
from rlnet.data.rollout import Rollout


def target(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """R + … + γ^n·V(S_n), S&B eq. 7.2."""
    next_value = context.v(target_params, batch.next_state)
    return Target(n_step_return(batch.reward, *ends(batch, hyper, 1.0), next_value, context.options["n_step"]))


def configure(algorithm: Algorithm, options: Options) -> Algorithm:
    """Configure the lookback of n steps, and whether rows are learned from one after the other."""
    data = Data(lookback=options["n_step"] - 1, whole_episodes=options["one_by_one"])
    return replace(algorithm, data=data, update=Update(row_by_row=options["one_by_one"]))


ALGORITHM = Algorithm(
    roles=(V,),
    acting=Acting(by_given),
    objective=SemiGradient(target),
    judged=Judged.GIVEN,
    options={"n_step": range(1, 100_000), "one_by_one": (False, True)},
    configure=configure,
    source="S&B section 7.1",
)
