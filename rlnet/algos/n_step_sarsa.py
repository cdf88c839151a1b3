"""n-step Sarsa: n rewards, then the action value of the action taken (S&B section 7.2).

A row is learned from once the n rows after it are known; at a truncation the target takes the expectation over the next
action, as in Sarsa.
"""

from dataclasses import replace

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, SemiGradient, Target, by_values
from rlnet.algos.context import AlgorithmContext, Hyper, Params, Q
from rlnet.algos.loss_terms import ends
from rlnet.algos.returns import n_step_return
from rlnet.algos.sarsa import next_values
from rlnet.data.rollout import Rollout


def target(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """R + … + γ^n·Q(S_n, A_n), S&B eq. 7.5."""
    next_value = next_values(context, target_params, batch, hyper)
    return Target(n_step_return(batch.reward, *ends(batch, hyper, 1.0), next_value, context.options["n_step"]))


ALGORITHM = Algorithm(
    roles=(Q,),
    acting=Acting(by_values),
    objective=SemiGradient(target),
    judged=Judged.BEHAVIOUR,
    options={"n_step": range(1, 100_000)},
    configure=lambda algorithm, options: replace(algorithm, data=Data(lookback=options["n_step"])),
    source="S&B section 7.2",
)
