"""True online TD(λ): exactly the online λ-return algorithm, at the cost of TD(λ) (S&B section 12.5).

That holds for functions that are linear in their parameters, and one environment per member.
"""

from rlnet.algos.algorithm import Algorithm, by_given
from rlnet.algos.td_lambda import online

ALGORITHM = Algorithm(
    roles=("v",),
    act=by_given,
    online=online,
    judged="given",
    source="S&B section 12.5",
    one_by_one=True,
    traces="dutch",
    hyper={"lambda_": (0.0, 1.0)},
)
