"""Sarsa(λ): on-policy TD control with eligibility traces (S&B sections 12.7 and, with dutch traces, 12.8)."""

from dataclasses import replace

from rlnet.algos.algorithm import Acting, Algorithm, Data, Judged, TraceStep, TraceUpdate, Update, by_values
from rlnet.algos.context import AlgorithmContext, Hyper, Params, Q
from rlnet.algos.loss_terms import ends, take
from rlnet.algos.sarsa import next_values
from rlnet.data.rollout import Rollout


def trace_step(context: AlgorithmContext, params: Params, batch: Rollout, hyper: Hyper) -> TraceStep:
    """δ = R + γ·Q(S', A') − Q(S, A), z = γλ·z + ∇Q(S, A)."""
    discount, _ = ends(batch, hyper, lambda_=0.0)
    decay = (hyper["gamma"] * hyper["lambda_"]).expand_as(discount)
    value = take(context.q(params, batch.state), batch.action)
    return TraceStep(value, next_values(context, params, batch, hyper), discount, decay)


ALGORITHM = Algorithm(
    roles=(Q,),
    acting=Acting(by_values),
    objective=TraceUpdate(trace_step, "accumulating"),
    data=Data(lookback=1),
    update=Update(row_by_row=True),
    judged=Judged.BEHAVIOUR,
    hyper={"lambda_": (0.0, 1.0)},
    options={"traces": ("accumulating", "replacing", "dutch")},
    configure=lambda algorithm, options: replace(algorithm, objective=TraceUpdate(trace_step, options["traces"])),
    source="S&B section 12.7",
)
