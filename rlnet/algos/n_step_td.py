"""n-step TD prediction: n rewards before the bootstrap (S&B section 7.1).

A row waits for the n − 1 rows after it. `one_by_one` gathers a whole episode and then goes through it as the book's box
does, one state after the other, each target from the values as they are by then: nobody acts on V, so nothing is lost.
"""

from rlnet.algos.algorithm import Algorithm, Hyper, Params, Setting, Target, by_given
from rlnet.algos.loss_terms import ends
from rlnet.algos.returns import n_step_return
from rlnet.data.rollout import Rollout


def target(setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """R + … + γ^n·V(S_n), S&B eq. 7.2."""
    next_value = setting.v(target_params, batch.next_obs)
    return Target(n_step_return(batch.reward, *ends(batch, hyper, 1.0), next_value, setting.options["n_step"]))


ALGORITHM = Algorithm(
    roles=("v",),
    act=by_given,
    target=target,
    judged="given",
    source="S&B section 7.1",
    options={"n_step": range(1, 100_000), "one_by_one": (False, True)},
    facts=lambda options: {
        "lookback": options["n_step"] - 1,
        "whole_episodes": options["one_by_one"],
        "one_by_one": options["one_by_one"],
    },
)
