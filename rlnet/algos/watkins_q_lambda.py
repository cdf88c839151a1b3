"""Watkins's Q(λ): Q-learning with traces that reach back to the last exploratory action (S&B section 12.10)."""

from dataclasses import replace

from rlnet.algos.algorithm import Acting, Algorithm, Judged, TraceStep, TraceUpdate, Update, by_values
from rlnet.algos.context import AlgorithmContext, Hyper, Params, Q
from rlnet.algos.loss_terms import ends, take
from rlnet.data.rollout import Rollout


def trace_step(context: AlgorithmContext, params: Params, batch: Rollout, hyper: Hyper) -> TraceStep:
    """δ = R + γ·max_a Q(S', a) − Q(S, A), z = γλ·z + ∇Q(S, A) where A is greedy, ∇Q(S, A) where it is not."""
    discount, _ = ends(batch, hyper, lambda_=0.0)
    q, next_q = context.q(params, batch.state), context.q(params, batch.next_state)
    value = take(q, batch.action)
    decay = hyper["gamma"] * hyper["lambda_"] * (value == q.amax(-1))
    return TraceStep(value, next_q.amax(-1), discount, decay)


ALGORITHM = Algorithm(
    roles=(Q,),
    acting=Acting(by_values),
    objective=TraceUpdate(trace_step, "accumulating"),
    update=Update(row_by_row=True),
    judged=Judged.GREEDY,
    hyper={"lambda_": (0.0, 1.0)},
    options={"traces": ("accumulating", "replacing")},
    configure=lambda algorithm, options: replace(algorithm, objective=TraceUpdate(trace_step, options["traces"])),
    source="S&B section 12.10",
)
