"""`solve`: V*, Q* and the optimal actions of a model (S&B ch. 4), with proved error bounds."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from rlnet.mdp.certificates.extended_precision import verified
from rlnet.mdp.errors import ImproperPolicyError, UnboundedValueError, name_states
from rlnet.mdp.games.solving import require_plain, solve_game
from rlnet.mdp.model.finite_mdp import FiniteMDP, require_model
from rlnet.mdp.model.validation import check_count, check_gamma, check_temperature, check_tolerance
from rlnet.mdp.operators.linear_systems import SingularChainError
from rlnet.mdp.solution import Solution, report_tolerance
from rlnet.mdp.solvers.entropy_regularized import soft_solution
from rlnet.mdp.solvers.finite_horizon import finite_horizon
from rlnet.mdp.solvers.methods import ITERATIVE, METHODS, SOLVERS
from rlnet.mdp.solvers.protocol import Problem, Result
from rlnet.mdp.solvers.scales import by_scale
from rlnet.mdp.solvers.value_iteration import Progress


def solve(
    mdp: FiniteMDP,
    gamma: float,
    *,
    tol: float = 1e-8,
    method: str = "auto",
    temperature: float = 0.0,
    horizon: int | None = None,
    device: str = "cpu",
    verify: bool = False,
    max_sweeps: int | None = None,
    callback: Callable[[int, float, float], None] | None = None,
) -> Solution:
    """Solve a model: v*(s) = max_a q*(s, a), q* = r + γ P v* (S&B eq. 3.19-3.20), with all optimal actions.

    - `tol`: the largest |v − v*| asked for. `Solution.error_bound` is proved; where it exceeds `tol`, `converged` is
      False and a ToleranceWarning says so.
    - `method`: "policy_iteration" (LU evaluations), "modified_policy_iteration", "value_iteration", "gauss_seidel"
      (compiled sweeps), "linear_programming" (HiGHS, for small problems), or "auto": up to some thousand states policy
      iteration (by paths, dense, band or sparse factors), or value iteration where it settles fast; modified policy
      iteration, compiled, beyond. `Solution.method` says what was done.
    - `temperature` τ > 0 maximises Σ γ^t (R + τ H(π(·|S_t))): v = τ log Σ_a exp(q/τ), and the policy is softmax(q/τ).
    - `horizon` H: at most H steps are left. Then v is [H + 1, S] (v[t]: at time t; v[H] = 0), q and policy [H, S, A].
    - `device`: "cpu", or "cuda" for torch sweeps on the GPU.
    - `verify`: recompute the residual from the model's own arrays in extended precision.
    - `max_sweeps`: stop after about so many `Solution.sweeps`; the bound says how far they came.
    - `callback(sweeps, bound, seconds)` is called between sweeps with the bound so far (inf before there is one).
      KeyboardInterrupt, also out of the callback, ends an iterative method with the best values and their bound.

    A two-player zero-sum game (a model with a `sign`) is solved in the view of whoever moves, v*(s) = max_a E[R +
    sign·γ·v*(S')]: by backward induction where every play ends, else, at γ < 1, by value iteration.

    At γ = 1, v* is the best that policies reach which end, or go on for ever without reward.

    Raises:
        ImproperPolicyError: γ = 1, and from some states no such policy exists.
        UnboundedValueError: γ = 1, and a loop has positive reward.
        ArithmeticError: `verify` contradicts the bound.
        ValueError: an argument out of its range, or options that do not go together.
    """
    began = time.perf_counter()
    require_model(mdp)
    gamma = _checked(gamma, tol, method, temperature, horizon, device, verify, max_sweeps)
    if mdp.sign is not None and horizon is None:
        require_plain(temperature, method, device, verify)
        return solve_game(mdp, gamma, tol, Progress(callback, began, max_sweeps))
    if horizon is not None:
        horizon = check_count("horizon", horizon, 0)
        return finite_horizon(mdp, gamma, horizon, temperature, None, tol, began)
    if temperature > 0.0:
        return soft_solution(mdp, gamma, temperature, tol, began)
    progress = Progress(callback, began, max_sweeps)
    found = by_scale(mdp, gamma, tol, lambda part: _answer(Problem(part, device), gamma, tol, method, progress, verify))
    return _solution(found, gamma, tol, progress)


def _answer(problem: Problem, gamma: float, tol: float, method: str, progress: Progress, verify: bool) -> Result:
    """The answer of the first of the method's solvers that has one."""
    try:
        for solver in SOLVERS[method]:
            result = solver.try_solve(problem, gamma, tol, progress)
            if result is not None:
                break
        else:
            raise AssertionError("the last solver of a method takes every model")
    except (ImproperPolicyError, UnboundedValueError) as error:
        raise _with_names(error, problem.mdp) from None
    if verify:
        verified(problem.mdp, result.v, gamma, result.bound)
    return result


def _solution(found: Result, gamma: float, tol: float, progress: Progress) -> Solution:
    v, q, policy, bound, done, bounds, loss = found
    stopped, sweeps = progress.interrupted, progress.sweeps
    met = report_tolerance(bound, tol, stopped)
    seconds = time.perf_counter() - progress.began
    return Solution(v, q, policy, float(bound), sweeps, seconds, done, gamma, met, stopped, 0.0, bounds, float(loss))


def _checked(
    gamma: float,
    tol: float,
    method: str,
    temperature: float,
    horizon: int | None,
    device: str,
    verify: bool,
    max_sweeps: int | None,
) -> float:
    gamma = check_gamma(gamma)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if device != "cpu" and not (isinstance(device, str) and device.startswith("cuda")):
        raise ValueError(f"device must be 'cpu' or 'cuda', not {device!r}")
    check_tolerance(tol)
    check_temperature(temperature)
    if max_sweeps is not None:
        check_count("max_sweeps", max_sweeps, 1)
    special = "horizon" if horizon is not None else "temperature" if temperature > 0 else None
    if special and (method != "auto" or device != "cpu" or verify or max_sweeps is not None):
        options = "method, device, verify and max_sweeps"
        raise ValueError(f"{special} is solved by its own method on the CPU: leave {options} at their defaults")
    if device != "cpu" and method not in ("auto", *ITERATIVE):
        raise ValueError(f"device={device!r} takes a method that sweeps: auto, {', '.join(ITERATIVE)}")
    return gamma


def _with_names(error: ValueError, mdp: FiniteMDP) -> ValueError:
    states = np.asarray(error.args[0])
    names = name_states(states, mdp.labels)
    named: ImproperPolicyError | UnboundedValueError
    if isinstance(error, UnboundedValueError):
        named = UnboundedValueError(f"gamma=1: a policy collects unbounded reward in states {names}; use gamma < 1")
    elif isinstance(error, SingularChainError):
        named = ImproperPolicyError(
            f"gamma=1: from states {names} policies end with a probability that is lost in rounding; use gamma < 1"
        )
    else:
        named = ImproperPolicyError(
            f"gamma=1: no policy ends, or stops collecting reward, from states {names}; use gamma < 1"
        )
    named.states = states
    return named
