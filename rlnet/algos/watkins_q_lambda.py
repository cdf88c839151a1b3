"""Watkins's Q(λ): Q-learning with traces that reach back to the last exploratory action (S&B section 12.10)."""

from rlnet.algos.algorithm import Algorithm, Hyper, Params, Setting, Sight, by_values
from rlnet.algos.loss_terms import ends, take
from rlnet.data.rollout import Rollout


def online(setting: Setting, params: Params, batch: Rollout, hyper: Hyper) -> Sight:
    """δ = R + γ·max_a Q(S', a) − Q(S, A), z = γλ·z + ∇Q(S, A) where A is greedy, ∇Q(S, A) where it is not."""
    discount, _ = ends(batch, hyper, lambda_=0.0)
    q, next_q = setting.q(params, batch.obs), setting.q(params, batch.next_obs)
    value = take(q, batch.action)
    decay = hyper["gamma"] * hyper["lambda_"] * (value == q.amax(-1))
    return Sight(value, next_q.amax(-1), discount, decay)


ALGORITHM = Algorithm(
    roles=("q",),
    act=by_values,
    online=online,
    judged="greedy",
    source="S&B section 12.10",
    one_by_one=True,
    hyper={"lambda_": (0.0, 1.0)},
    options={"traces": ("accumulating", "replacing")},
    facts=lambda options: {"traces": options["traces"]},
)
