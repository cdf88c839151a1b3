"""True online TD(λ): exactly the online λ-return algorithm, at the cost of TD(λ) (S&B section 12.5).

That holds for functions that are linear in their parameters, and one environment per member.
"""

from rlnet.algos.algorithm import Acting, Algorithm, Judged, TraceUpdate, Update, by_given
from rlnet.algos.context import V
from rlnet.algos.td_lambda import trace_step

ALGORITHM = Algorithm(
    roles=(V,),
    acting=Acting(by_given),
    objective=TraceUpdate(trace_step, "dutch"),
    update=Update(row_by_row=True),
    judged=Judged.GIVEN,
    hyper={"lambda_": (0.0, 1.0)},
    source="S&B section 12.5",
)
