"""Exact decomposition of the error of V or Q into approximation, distribution, bootstrapping and the rest.

    x − x̂ = (Π_w x̂ − x̂) + (Π_d x̂ − Π_w x̂) + (x_∞ − Π_d x̂) + (x − x_∞)

x̂ the exact values, w the weights of the comparison, d those of the data, Π the best fit by the function class, x_∞ the
fixed point of the exact expected updates: approximation, distribution of the data, bootstrapping, and the rest, which
is sampling and optimisation. Each has a size, the root mean square under w, and a share ⟨part, error⟩/⟨error, error⟩;
shares add up to 1 and may be negative, where one part undoes what another one does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlnet.algos.context import Q
from rlnet.compare import judge_policy
from rlnet.config.population import alone
from rlnet.diagnosis.classes import class_of
from rlnet.diagnosis.targets import NotDefined, Units, data_weights, target_of, units_of
from rlnet.learning.training_state import TrainingState

APPROXIMATION, DISTRIBUTION, BOOTSTRAPPING, REST = "approximation", "distribution", "bootstrapping", "sampling"
UNSPLIT = "everything else"  # instead of the last three, where the target of the algorithm has no operator


@dataclass(frozen=True)
class Split:
    """Decomposition of an error. M members, n units."""

    units: Units
    error: np.ndarray  # [M, n]
    parts: dict[str, np.ndarray]  # name → [M, n]; their sum is the error
    weights: np.ndarray  # [M, n], w
    target: str  # what the algorithm's values are pulled towards
    data: str  # where the weights d are from
    reason: str | None  # why there is no bootstrapping part

    def sizes(self) -> dict[str, np.ndarray]:
        """The root mean square of each part, and of the whole as `error`: [M]."""
        whole = {"error": self.error, **self.parts}
        return {name: np.sqrt((self.weights * x**2).sum(1)) for name, x in whole.items()}

    def shares(self) -> dict[str, np.ndarray]:
        """⟨part, error⟩/⟨error, error⟩ [M]; NaN where there is no error."""
        square = (self.weights * self.error**2).sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return {name: (self.weights * x * self.error).sum(1) / square for name, x in self.parts.items()}


def split(run: TrainingState, values: dict[str, np.ndarray], members: Sequence[int]) -> Split:
    """Decompose the error of some members.

    Args:
        run: with the learned parameters.
        values: the arrays of values.npz.
        members: which.

    Raises:
        NotDefined: the values that are compared are no output of the networks.
    """
    problem, config = run.problem, run.config
    mdp, kind = problem.mdp, "Q" if Q in problem.algorithm.roles else "V"
    units, chosen = units_of(mdp, kind), list(members)
    policies, configs = values["pi"][chosen], [alone(config, m) for m in chosen]
    learned, exact = (units.pick(values[name][chosen]) for name in (kind.lower(), f"{kind.lower()}_exact"))
    judged = [judge_policy(mdp, pi, problem.exact[m]) for pi, m in zip(policies, chosen, strict=True)]
    compared = np.stack([units.spread(one.weights, None, mdp.available) for one in judged])
    functions = class_of(config, problem, run.learner, units, chosen)
    fitted = functions.fit(exact, compared)
    parts = {APPROXIMATION: fitted - exact}
    target, data, reason = "", "", None
    try:
        weighted = [
            data_weights(one, problem, units, pi, visits)
            for one, pi, visits in zip(configs, policies, values["visits"][chosen], strict=True)
        ]
        shown, data = np.stack([w for w, _ in weighted]), weighted[0][1]
        targets = [target_of(one, problem, units, pi) for one, pi in zip(configs, policies, strict=True)]
        target = targets[0].name
        refitted = functions.fit(exact, shown)
        # Without a bootstrap the target is the exact value itself, and its best fit the fixed point.
        fixed = refitted if targets[0].operator is None else functions.fixed_points(targets, shown, exact)
        parts |= {DISTRIBUTION: refitted - fitted, BOOTSTRAPPING: fixed - refitted, REST: learned - fixed}
    except NotDefined as why:
        reason = str(why)
        parts[UNSPLIT] = learned - fitted
    return Split(units, learned - exact, parts, compared, target, data, reason)
