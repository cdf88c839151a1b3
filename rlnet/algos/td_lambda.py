"""TD(λ) prediction with eligibility traces, online (S&B section 12.2; Sutton 1988)."""

from rlnet.algos.algorithm import Algorithm, Hyper, Params, Setting, Sight, by_given
from rlnet.algos.loss_terms import ends
from rlnet.data.rollout import Rollout


def online(setting: Setting, params: Params, batch: Rollout, hyper: Hyper) -> Sight:
    """δ = R + γ·V(S') − V(S), z = γλ·z + ∇V(S), S&B eq. 12.5-12.7."""
    discount, _ = ends(batch, hyper, lambda_=0.0)
    decay = (hyper["gamma"] * hyper["lambda_"]).expand_as(discount)
    return Sight(setting.v(params, batch.obs), setting.v(params, batch.next_obs), discount, decay)


ALGORITHM = Algorithm(
    roles=("v",),
    act=by_given,
    online=online,
    judged="given",
    source="S&B section 12.2",
    one_by_one=True,
    hyper={"lambda_": (0.0, 1.0)},
    options={"traces": ("accumulating", "replacing")},
    facts=lambda options: {"traces": options["traces"]},
)
