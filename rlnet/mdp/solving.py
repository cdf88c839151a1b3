"""V*, Q* and the optimal actions (S&B ch. 4): picks a method, runs it, and bounds what it found."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rlnet.mdp.certificates.extended_precision import verified
from rlnet.mdp.certificates.undiscounted import undiscounted_bound
from rlnet.mdp.errors import ImproperPolicyError, UnboundedValueError, name_states
from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.model.graph import end_components, steps_to_end
from rlnet.mdp.model.topological_order import Ordered, ordered, seems_acyclic
from rlnet.mdp.model.validation import check_count, check_gamma, check_temperature, check_tolerance
from rlnet.mdp.operators.bellman import EPS, System, max_norm, system_of
from rlnet.mdp.operators.linear_systems import SingularChainError
from rlnet.mdp.solution import Solution, report_tolerance
from rlnet.mdp.solvers.linear_programming import linear_programme
from rlnet.mdp.solvers.optimal_actions import costly_loss, discounted_loss, listed_pairs, near_pairs
from rlnet.mdp.solvers.policy_iteration import (
    DIRECT_STATES,
    UnboundedLoopError,
    discounted_bound,
    greedy_and_proper,
    made_proper,
    policy_iteration,
    warm_start,
)
from rlnet.mdp.solvers.scales import Found, by_scale
from rlnet.mdp.solvers.small.action_table import solve_table, table_of
from rlnet.mdp.solvers.small.undiscounted import free_steps
from rlnet.mdp.solvers.value_iteration import Progress, certify, discounted
from rlnet.mdp.solvers.variants import finite_horizon, soft_solution

if TYPE_CHECKING:  # numba is imported by the large problems alone
    from rlnet.mdp.solvers.compiled.sweeps import PackedSweeps

ITERATIVE = ("value_iteration", "gauss_seidel", "modified_policy_iteration")
METHODS = ("auto", *ITERATIVE, "policy_iteration", "linear_programming")
AHEAD = 15  # backups between two evaluations: they take about as long as one
SORTED = "in topological order"


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
    """The optimal value: v*(s) = max_a q*(s, a), q* = r + γ P v* (S&B eq. 3.19-3.20), with all optimal actions.

    - `tol`: the largest |v − v*| asked for. `Solution.error_bound` is proved; where it exceeds `tol`, `converged` is
      False and a ToleranceWarning says so.
    - `method`: "policy_iteration" (LU evaluations), "modified_policy_iteration", "value_iteration", "gauss_seidel"
      (compiled sweeps), "linear_programming" (HiGHS, for small problems), or "auto": up to some thousand states policy
      iteration (by paths, dense, band or sparse factors), or modified policy or value iteration where they settle
      fast; modified policy iteration, compiled, beyond. `Solution.method` says what was done.
    - `temperature` τ > 0 maximises Σ γ^t (R + τ H(π(·|S_t))): v = τ log Σ_a exp(q/τ), and the policy is softmax(q/τ).
    - `horizon` H: at most H steps are left. Then v is [H + 1, S] (v[t]: at time t; v[H] = 0), q and policy [H, S, A].
    - `device`: "cpu", or "cuda" for torch sweeps on the GPU.
    - `verify`: recompute the residual from the model's own arrays in extended precision, and raise ArithmeticError
      if it contradicts the bound.
    - `callback(sweeps, bound, seconds)` is called between sweeps with the bound so far (inf before there is one).
      KeyboardInterrupt, also out of the callback, ends an iterative method with the best values and their bound.

    At γ = 1, v* is the best that policies reach which end, or go on for ever without reward. Raises ImproperPolicyError
    where no such policy exists from some states, UnboundedValueError where a loop pays, ValueError for an argument out
    of its range.
    """
    began = time.perf_counter()
    gamma = _checked(gamma, tol, method, temperature, horizon, device, verify, max_sweeps)
    if horizon is not None:
        horizon = check_count("horizon", horizon, 0)
        return finite_horizon(mdp, gamma, horizon, temperature, None, tol, began)
    if temperature > 0.0:
        return soft_solution(mdp, gamma, temperature, tol, began)
    progress = Progress(callback, began, max_sweeps)
    found = by_scale(mdp, gamma, tol, lambda part: _found(part, gamma, tol, method, progress, device, verify))
    return _solution(found, gamma, tol, progress)


def _found(
    mdp: FiniteMDP, gamma: float, tol: float, method: str, progress: Progress, device: str, verify: bool
) -> Found:
    large = method == "auto" and (mdp.n_states > DIRECT_STATES or device != "cpu")
    method = "modified_policy_iteration" if large else method
    sort = large and device == "cpu" and seems_acyclic(mdp)
    table = table_of(mdp) if method == "auto" else None
    found = None if table is None else solve_table(table, gamma, tol, progress)
    if found is not None:
        *values, bound, done = found
        arrays = table.laid_out(*values, bound)
        if verify:
            verified(mdp, arrays[0], gamma, bound)
        slack = 2.0 * bound
        if gamma < 1.0:
            loss = discounted_loss(bound, slack, gamma)
        else:
            loss = costly_loss(bound, slack, table.system.cost, max_norm(values[0]))
        return Found(*arrays, bound, done, loss=loss)
    arrays, loss, bound, done = _by_method(mdp, gamma, tol, method, progress, device, sort, verify)
    return Found(*arrays, bound, done, loss=loss)


def _by_method(
    mdp: FiniteMDP, gamma: float, tol: float, method: str, progress: Progress, device: str, sort: bool, verify: bool
):
    """((v [S], q [S, A], policy [S, A]), the loss of the worst listed policy, bound, what was done)."""
    listed, system = None, None
    try:
        free = free_steps(system_of(mdp), tol, progress) if gamma == 1.0 and method == "auto" else None
        if free is not None:
            (v, q, bound, listed), done = free, "policy_iteration (dense LU)"
        elif gamma == 1.0:
            v, q, bound, done, system = _at_one(mdp, tol, method, progress, device, sort)
        elif method in ITERATIVE:
            v, q, bound, done, system = _swept(mdp, gamma, tol, method, progress, device, sort)
        else:
            v, q, bound, done, system = _direct(mdp, gamma, tol, method, progress)
    except (ImproperPolicyError, UnboundedValueError) as error:
        raise _with_names(error, mdp) from None
    if verify:
        verified(mdp, v, gamma, bound)
    if gamma == 1.0:
        system = system_of(mdp) if system is None else system
        best, loss = listed_pairs(system, v, q, bound, tol) if listed is None else listed
        return _laid_out(mdp, v, q, best), loss, bound, done
    # q may be off by as much as v, on both sides of the comparison; a bound that failed leaves rounding alone.
    slack = 32.0 * EPS * float(np.abs(v).max(initial=0.0)) + (2.0 * bound if np.isfinite(bound) else 0.0)
    if method in ITERATIVE and device == "cpu":
        from rlnet.mdp.solvers.compiled.sweeps import tabulated

        arrays = v, *tabulated(mdp, q, slack)
    else:
        arrays = _laid_out(mdp, v, q, near_pairs(mdp.pair_ptr, q, slack))
    return arrays, discounted_loss(bound, slack, gamma), bound, done


def _direct(mdp: FiniteMDP, gamma: float, tol: float, method: str, progress: Progress):
    system = system_of(mdp)
    first, how, ahead = None, "LU", 0
    if method == "linear_programming" and mdp.n_pairs:
        first = linear_programme(system, gamma)
        how = "HiGHS gave up; LU" if first is None else "HiGHS, then LU"
    elif method == "auto" and mdp.n_pairs:
        v, first, bound, sweeps = warm_start(system, gamma, tol)
        progress.sweeps += sweeps
        if bound <= tol:
            progress.report(bound)
            return v, system.q(v, gamma), bound, "value_iteration (Jacobi)", system
        method, ahead = "policy_iteration", AHEAD
    v, _ = policy_iteration(system, gamma, first, progress, ahead)
    return v, system.q(v, gamma), discounted_bound(system, v, gamma), f"{method} ({how})", system


def _swept(mdp: FiniteMDP, gamma: float, tol: float, method: str, progress: Progress, device: str, sort: bool):
    order = ordered(system_of(mdp)) if sort else None
    sweeps = _sweeps(mdp, gamma, device) if order is None else _in_order(order, gamma)
    try:
        sweeps.start()
        bound, done = discounted(sweeps, tol, method, progress)
    except KeyboardInterrupt:
        progress.interrupted = True
        bound, done = certify(sweeps), f"{method}, interrupted"
    v, q = sweeps.values(), sweeps.action_values()
    if order is None:
        return v, q, bound, done, None
    return v[order.rank], q[order.pair_rank], bound, f"{done}, {SORTED}", None


def _in_order(order: Ordered, gamma: float) -> PackedSweeps:
    """Sweeps from the ends backwards. The first settles what is acyclic, and over-relaxation would unsettle it."""
    from rlnet.mdp.solvers.compiled.sweeps import PackedSweeps

    sweeps = PackedSweeps(order.system, gamma)
    sweeps.keep_order(relax=not order.acyclic)
    return sweeps


def _at_one(mdp: FiniteMDP, tol: float, method: str, progress: Progress, device: str, sort: bool):
    system = system_of(mdp)
    proper = made_proper(system)
    smaller, pairs = proper.system, proper.pairs
    try:
        if method in ITERATIVE:
            v, bound, done = _swept_at_one(smaller, pairs, tol, method, progress, device, sort)
        else:
            if method == "linear_programming" and len(pairs):
                first = linear_programme(smaller, 1.0)
                pairs = pairs if first is None else _proper_or(smaller, first, pairs)
            v, pairs = policy_iteration(smaller, 1.0, pairs, progress)
            bound = undiscounted_bound(smaller, v, pairs, tol)
            done = f"{'policy_iteration' if method == 'auto' else method} (LU)"
    except UnboundedLoopError as loop:
        raise UnboundedValueError(proper.members(loop.states)) from None
    except SingularChainError as late:
        raise SingularChainError(proper.members(late.args[0])) from None
    v = v[proper.of]
    return v, system.q(v, 1.0), bound, done, system


def _sweeps(model: FiniteMDP | System, gamma: float, device: str):
    if device == "cpu":
        from rlnet.mdp.solvers.compiled.sweeps import PackedSweeps

        return PackedSweeps(model, gamma)
    from rlnet.mdp.solvers.gpu.sweeps import TorchSweeps

    return TorchSweeps(model, gamma, device)


def _swept_at_one(
    system: System, pairs: np.ndarray, tol: float, method: str, progress: Progress, device: str, sort: bool
):
    from rlnet.mdp.solvers.undiscounted import from_below, reached, undiscounted

    order = ordered(system) if sort else None
    if order is None:
        sweeps, place, number = _sweeps(system, 1.0, device), np.arange(system.n), np.arange(len(system.pair_state))
    else:
        sweeps, place, number = _in_order(order, 1.0), order.rank, order.pair_rank
    first = np.full(system.n, -1, dtype=np.int64)
    first[place[system.first_pairs()[0]]] = number[pairs]
    try:
        bound, done = undiscounted(sweeps, tol, method, progress, first, _patience(system, method))
        settled = np.isfinite(bound) or progress.exhausted
        if not settled:
            from_below(sweeps, tol, progress, first)
    except KeyboardInterrupt:
        progress.interrupted = True
        bound = reached(sweeps, progress)
        return sweeps.values()[place], bound, f"{method}, interrupted"
    if not settled:
        # Exact policy iteration finds the loop that pays, or the value if there is one.
        pairs = greedy_and_proper(system, sweeps.values()[place], pairs)
        v, pairs = policy_iteration(system, 1.0, pairs, progress)
        return v, undiscounted_bound(system, v, pairs, tol), f"{method}, then policy_iteration (LU)"
    return sweeps.values()[place], bound, done if order is None else f"{done}, {SORTED}"


def _patience(system: System, method: str) -> int:
    """Rounds without progress before sweeping is given up for exact policy iteration. Without a reward inside a loop,
    sweeping must settle, but some policy may go on for very long; with one, the loop may pay, or cancel out. A round
    is one sweep of value iteration, hundreds of the others."""
    suspects = (system.reward > 0.0) & ~system.ends
    if suspects.any():
        _, inside = end_components(system.pair_state, system.transition, ~system.ends)
        if (suspects & inside).any():
            return 200 if method == "value_iteration" else 10
    return 100_000 if method == "value_iteration" else 8


def _proper_or(system: System, pairs: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`pairs` if that policy ends from everywhere, else `other`."""
    use = np.zeros(len(system.pair_state), dtype=bool)
    use[pairs] = True
    steps = steps_to_end(system.pair_state, system.transition, system.ends, use)
    return pairs if np.isfinite(steps[system.first_pairs()[0]]).all() else other


def _laid_out(mdp: FiniteMDP, v: np.ndarray, q: np.ndarray, best: np.ndarray):
    """(v [S], q [S, A], policy [S, A]) from q and the optimal ones among the pairs, [P]."""
    table = np.full((mdp.n_states, mdp.n_actions), -np.inf)
    table[mdp.pair_state, mdp.pair_action] = q
    policy = np.zeros((mdp.n_states, mdp.n_actions))
    policy[mdp.pair_state[best], mdp.pair_action[best]] = 1.0
    policy /= np.maximum(policy.sum(axis=1, keepdims=True), 1.0)
    return v, table, policy


def _solution(found: Found, gamma: float, tol: float, progress: Progress) -> Solution:
    bound, stopped = float(found.bound), progress.interrupted
    met = report_tolerance(bound, tol, stopped)
    seconds = time.perf_counter() - progress.began
    arrays, proved = (found.v, found.q, found.policy), {"bounds": found.bounds, "policy_loss": float(found.loss)}
    return Solution(*arrays, bound, progress.sweeps, seconds, found.done, gamma, met, stopped, **proved)


def _checked(gamma, tol, method, temperature, horizon, device, verify, max_sweeps) -> float:
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
