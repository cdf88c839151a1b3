"""Double DQN: the current network chooses the action, the target network values it (van Hasselt et al. 2016)."""

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, SemiGradient, Target, by_values
from rlnet.algos.context import AlgorithmContext, Hyper, Params, Q
from rlnet.algos.loss_terms import REPLAY_HYPER, segment_end, segment_return, take
from rlnet.data.rollout import Rollout


def target(context: AlgorithmContext, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """R + … + γ^n·Q⁻(S_n, argmax_a Q(S_n, a))."""
    end = segment_end(batch)
    best = context.q(params, end).argmax(-1)
    return Target(segment_return(batch, hyper, batch.reward, take(context.q(target_params, end), best)))


ALGORITHM = Algorithm(
    roles=(Q,),
    acting=Acting(by_values),
    objective=SemiGradient(target),
    data=Data(replay=True),
    judged=Judged.GREEDY,
    hyper=REPLAY_HYPER,
    source="van Hasselt et al. 2016",
)
