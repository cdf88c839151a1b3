"""`score`: comparison of any values or policies, such as another library's networks, with the exact solution."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from rlnet.compare.certificates import action_values
from rlnet.compare.judge import greedy_policy, time_limit
from rlnet.compare.names import BOUNDS, MEANINGS
from rlnet.compare.scores import AGAINST_OPTIMAL, AGAINST_POLICY, Truth, score_member
from rlnet.compare.sentence import sentence
from rlnet.mdp import FiniteMDP, solve
from rlnet.mdp.evaluation import policy_matrix
from rlnet.mdp.from_env.tested_env import step_limit
from rlnet.mdp.model.builders import as_numbers
from rlnet.mdp.model.validation import check_count
from rlnet.mdp.notebook import html_table

Values = np.ndarray | Callable[[np.ndarray], Any]

GUARANTEES = set(BOUNDS.values())  # stand beside what they guarantee


@dataclass(frozen=True)
class Score:
    """Result of `score`; `print` shows it as a table, `result["exact/regret"]` is one number of it."""

    verdict: str  # in one sentence
    scalars: dict[str, float]  # by the names of the logs, exact/...
    mdp: FiniteMDP = field(repr=False)
    gamma: float
    against: str  # "optimal" or "policy"
    pi: np.ndarray = field(repr=False)  # [S, A], the judged policy
    v: np.ndarray | None = field(repr=False)  # [S]
    q: np.ndarray | None = field(repr=False)  # [S, A]
    v_exact: np.ndarray = field(repr=False)  # [S]
    q_exact: np.ndarray = field(repr=False)  # [S, A]

    def __getitem__(self, name: str) -> float:
        return self.scalars[name]

    def __str__(self) -> str:
        lines = [self.verdict, self._head(), "", f"{'score':<24}{'value':>12}{'guaranteed':>14}  meaning"]
        rows = (f"{name:<24}{value:>12}{bound:>14}  {text}" for name, value, bound, text in self._rows())
        return "\n".join([*lines, *rows])

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        head = ("score", "value", "guaranteed", "meaning")
        return f"<p>{escape(self.verdict)}</p>{html_table(self._head(), self._rows(), head)}"

    def _head(self) -> str:
        return f"{self.mdp.n_states} states, {self.mdp.n_actions} actions, γ = {self.gamma:g}"

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [
            (
                name.removeprefix("exact/"),
                _number(self.scalars[name]),
                _number(self.scalars.get(BOUNDS.get(name, ""))),
                text,
            )
            for name, text in MEANINGS.items()
            if name in self.scalars and name not in GUARANTEES
        ]


def _number(x: float | None) -> str:
    return "" if x is None else "none" if math.isinf(x) else f"{0.0 if abs(x) < 1e-12 else x:.5g}"


def score(
    env_or_mdp: Any,
    *,
    v: Values | None = None,
    q: Values | None = None,
    pi: Values | None = None,
    gamma: float,
    against: str | None = None,
    max_steps: int | None = None,
) -> Score:
    """Score any network against the exact solution of a finite problem.

    Args:
        env_or_mdp: a FiniteMDP, or a Gymnasium environment that has one (`FiniteMDP.from_env`); of an environment the
            time limit is taken too.
        v: state values [S], q: action values [S, A], pi: probabilities [S, A] or actions int [S]; at least one of
            them. Arrays, tensors, or functions that are called once with what is observed in all states: int64 [S] =
            0 .. S − 1, or the observations of the environment [S, ...] where they are others (`mdp.observations`).
        gamma: the discount, in [0, 1].
        against: "optimal" compares v and q with V*, Q*, "policy" with V^π, Q^π. By default "policy" for v with pi
            (actor-critics), else "optimal".
        max_steps: a time limit of episodes; by default the environment's.

    Without `pi`, the judged policy is the one greedy for q, or by one step of lookahead for v.

    Raises:
        ValueError: nothing to score, an array of a wrong shape or with numbers that are not finite, no distribution.
        NoModelError: the environment has no finite model.
        ImproperPolicyError, UnboundedValueError: γ = 1 and there is no finite optimum.
    """
    if v is None and q is None and pi is None:
        raise ValueError("nothing to score: give v, q or pi")
    mdp = env_or_mdp if isinstance(env_or_mdp, FiniteMDP) else FiniteMDP.from_env(env_or_mdp)
    if max_steps is None and not isinstance(env_or_mdp, FiniteMDP):
        max_steps = step_limit(env_or_mdp)
    if max_steps is not None:
        max_steps = check_count("max_steps", max_steps, 1)
    v_table = None if v is None else _table("v", v, mdp, (mdp.n_states,))
    q_table = None if q is None else _table("q", q, mdp, (mdp.n_states, mdp.n_actions))
    optimal = solve(mdp, gamma)
    if pi is not None:
        policy = policy_matrix(mdp, _array(pi, mdp))
    elif q_table is not None:
        policy = greedy_policy(mdp, q_table)
    else:
        policy = greedy_policy(mdp, action_values(mdp, v_table * ~mdp.terminal, gamma))
    if against is None:
        against = AGAINST_POLICY if pi is not None and q is None else AGAINST_OPTIMAL
    limit = None if max_steps is None else time_limit(mdp, gamma, max_steps)
    scores = score_member(Truth(mdp, optimal, limit), policy, against, v=v_table, q=q_table)
    said = sentence(scores.scalars, against, "greedy" if pi is None else "behaviour")
    exact = scores.v_exact, scores.q_exact
    return Score(said, scores.scalars, mdp, gamma, against, policy, scores.v, q_table, *exact)


def _array(values: Values, mdp: FiniteMDP) -> np.ndarray:
    seen = np.arange(mdp.n_states) if mdp.observations is None else mdp.observations
    found = values(seen) if callable(values) else values
    if hasattr(found, "detach"):  # a torch tensor
        found = found.detach().cpu()
    return np.asarray(found)


def _table(name: str, values: Values, mdp: FiniteMDP, shape: tuple[int, ...]) -> np.ndarray:
    """The values of all states, float64; ValueError where they do not fit the model. [S, 1] is read as [S]."""
    table = _array(values, mdp)
    if len(shape) == 1 and table.shape == (*shape, 1):
        table = table[:, 0]
    if table.shape != shape:
        raise ValueError(f"{name} has shape {table.shape}, the model needs {shape}")
    table = as_numbers(table, name)
    counts = ~mdp.terminal if len(shape) == 1 else mdp.available
    if not np.isfinite(table[counts]).all():
        where = np.argwhere(counts & ~np.isfinite(table))[0].tolist()
        raise ValueError(
            f"{name}: the value of {'state' if len(where) == 1 else 'state, action'} {where} is not finite"
        )
    return np.where(counts, table, 0.0 if len(shape) == 1 else -np.inf)
