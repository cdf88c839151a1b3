"""DQN: Q-learning on segments of a replay, bootstrapping from a target network (Mnih et al. 2015).

With n_step > 1 a target takes n rewards before it bootstraps, uncorrected for the behaviour (Hessel et al. 2018).
"""

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, SemiGradient, Target, by_values
from rlnet.algos.context import AlgorithmContext, Hyper, Params, Q
from rlnet.algos.loss_terms import REPLAY_HYPER, segment_end, segment_return
from rlnet.data.rollout import Rollout
from rlnet.numerics.loss_derivatives import largest


def target(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """R + … + γ^n·max_a Q⁻(S_n, a)."""
    end_value = largest(context.q(target_params, segment_end(batch)))
    return Target(segment_return(batch, hyper, batch.reward, end_value))


ALGORITHM = Algorithm(
    roles=(Q,),
    acting=Acting(by_values),
    objective=SemiGradient(target),
    data=Data(replay=True),
    judged=Judged.GREEDY,
    hyper=REPLAY_HYPER,
    source="Mnih et al. 2015",
)
