"""On-policy Monte Carlo control: learn Q of the exploring policy from complete returns (S&B section 5.4)."""

from rlnet.algos.algorithm import Algorithm, Hyper, Params, Setting, Target, by_values
from rlnet.algos.loss_terms import complete_returns
from rlnet.algos.returns import first_visits
from rlnet.data.rollout import Rollout


def target(setting: Setting, params: Params, target_params: Params, batch: Rollout, hyper: Hyper) -> Target:
    """G, over the steps whose return was sampled to its end."""
    ret, weight, share = complete_returns(batch, hyper)
    if setting.options["visits"] == "first":
        weight = weight * first_visits(batch.obs * setting.actions.outputs + batch.action)
    return Target(ret, weight, {"loss/complete_returns": share}, "loss/mc_error")


ALGORITHM = Algorithm(
    roles=("q",),
    act=by_values,
    target=target,
    judged="behaviour",
    source="S&B section 5.4",
    whole_episodes=True,
    complete_returns=True,
    options={"visits": ("every", "first")},
)
