"""TD(λ) prediction with eligibility traces, online (S&B section 12.2; Sutton 1988)."""

from dataclasses import replace

from rlnet.algos.algorithm import Acting, Algorithm, Judged, TraceStep, TraceUpdate, Update, by_given
from rlnet.algos.context import AlgorithmContext, Hyper, Params, V
from rlnet.algos.loss_terms import ends
from rlnet.data.rollout import Rollout


def trace_step(context: AlgorithmContext, params: Params, batch: Rollout, hyper: Hyper) -> TraceStep:
    """δ = R + γ·V(S') − V(S), z = γλ·z + ∇V(S), S&B eq. 12.5-12.7."""
    discount, _ = ends(batch, hyper, lambda_=0.0)
    decay = (hyper["gamma"] * hyper["lambda_"]).expand_as(discount)
    return TraceStep(context.v(params, batch.state), context.v(params, batch.next_state), discount, decay)


ALGORITHM = Algorithm(
    roles=(V,),
    acting=Acting(by_given),
    objective=TraceUpdate(trace_step, "accumulating"),
    update=Update(row_by_row=True),
    judged=Judged.GIVEN,
    hyper={"lambda_": (0.0, 1.0)},
    options={"traces": ("accumulating", "replacing")},
    configure=lambda algorithm, options: replace(algorithm, objective=TraceUpdate(trace_step, options["traces"])),
    source="S&B section 12.2",
)
