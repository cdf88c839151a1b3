"""Sarsa(λ): on-policy TD control with eligibility traces (S&B sections 12.7 and, with dutch traces, 12.8)."""

from rlnet.algos.algorithm import Algorithm, Hyper, Params, Setting, Sight, by_values
from rlnet.algos.loss_terms import ends, take
from rlnet.algos.sarsa import next_values
from rlnet.data.rollout import Rollout


def online(setting: Setting, params: Params, batch: Rollout, hyper: Hyper) -> Sight:
    """δ = R + γ·Q(S', A') − Q(S, A), z = γλ·z + ∇Q(S, A)."""
    discount, _ = ends(batch, hyper, lambda_=0.0)
    decay = (hyper["gamma"] * hyper["lambda_"]).expand_as(discount)
    value = take(setting.q(params, batch.obs), batch.action)
    return Sight(value, next_values(setting, params, batch, hyper), discount, decay)


ALGORITHM = Algorithm(
    roles=("q",),
    act=by_values,
    online=online,
    judged="behaviour",
    source="S&B section 12.7",
    one_by_one=True,
    lookback=1,
    hyper={"lambda_": (0.0, 1.0)},
    options={"traces": ("accumulating", "replacing", "dutch")},
    facts=lambda options: {"traces": options["traces"]},
)
