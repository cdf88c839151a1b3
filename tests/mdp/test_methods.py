"""Methods, options and certificates of `solve` and `evaluate` on problems of some size."""

import subprocess
import sys

import numpy as np
import pytest
from mdp_problems import cliff, example_3_5, figure_4_1, random_mdp
from support import quick

from rlnet.mdp import FiniteMDP, ImproperPolicyError, ToleranceWarning, UnboundedValueError, evaluate, solve
from rlnet.mdp.solvers import undiscounted
from rlnet.mdp.solvers.gpu import sweeps
from rlnet.mdp.solvers.gpu.sweeps import TorchSweeps
from rlnet.mdp.solvers.methods import SOLVERS
from rlnet.mdp.solvers.value_iteration import Progress, discounted

ITERATIVE = ("modified_policy_iteration", "value_iteration", "gauss_seidel")


def lake(side, step=0.0, goal=1.0, holes=0.1):
    """A slippery lake: each move goes where it is told, or to either side of that, with probability 1/3 each."""
    n, rng = side * side, np.random.default_rng(0)
    ends = rng.random(n) < holes
    ends[0], ends[-1] = False, True
    s = np.flatnonzero(~ends)
    moves = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)])
    slips = (np.arange(4)[:, None] + np.array([-1, 0, 1])) % 4
    row = np.clip((s // side)[:, None, None] + moves[slips, 0], 0, side - 1)
    column = np.clip((s % side)[:, None, None] + moves[slips, 1], 0, side - 1)
    to = (row * side + column).ravel()
    return FiniteMDP.from_coo(
        np.repeat(s, 12),
        np.tile(np.repeat(np.arange(4), 3), len(s)),
        to,
        np.full(len(to), 1 / 3),
        step + goal * (to == n - 1),
        ends[to],
        n_states=n,
        n_actions=4,
    )


def garnet(n, seed=0):
    """n states, 4 actions, 5 random successors each; nothing ends."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(5), size=4 * n).ravel()
    pairs = np.arange(4 * n)
    return FiniteMDP.from_coo(
        np.repeat(pairs // 4, 5),
        np.repeat(pairs % 4, 5),
        rng.integers(0, n, 20 * n),
        p,
        np.repeat(rng.normal(size=4 * n), 5),
        n_states=n,
        n_actions=4,
    )


def ragged(n):
    """One to 80 random successors, a tenth of the outcomes end, some of them in a state that goes on."""
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 6, 2 * n)
    counts[0] = 80
    pair = np.repeat(np.arange(2 * n), counts)
    p = rng.exponential(size=len(pair))
    p /= np.add.reduceat(p, np.cumsum(counts) - counts)[pair]
    columns = (pair // 2, pair % 2, rng.integers(0, n, len(pair)), p, rng.normal(size=len(pair)))
    return FiniteMDP.from_coo(*columns, rng.random(len(pair)) < 0.1, n_states=n, n_actions=2)


def noisy(n):
    """Three rewards for every successor of a random model."""
    base = garnet(n)
    pair = np.repeat(np.arange(base.n_pairs), np.diff(base.outcome_ptr))
    columns = (base.pair_state[pair], base.pair_action[pair], base.next_state, base.probability / 3)
    rewards = (base.reward[:, None] + [-1.0, 0.25, 0.75]).ravel()
    return FiniteMDP.from_coo(*(np.repeat(x, 3) for x in columns), rewards, n_states=n, n_actions=4)


@pytest.mark.parametrize("method", quick(ITERATIVE, ["modified_policy_iteration"]))
@pytest.mark.parametrize(
    "make", quick([lambda: lake(40), lambda: garnet(1500), lambda: ragged(1500), lambda: noisy(1500)], 1)
)
def test_sweeps_meet_their_bound_against_lu(make, method):
    mdp = make()
    exact = solve(mdp, 0.97, method="policy_iteration")
    swept = solve(mdp, 0.97, method=method, tol=1e-6, verify=True)
    assert swept.converged
    assert swept.error_bound <= 1e-6
    bound = swept.error_bound + exact.error_bound
    assert np.abs(swept.v - exact.v).max() <= bound
    assert np.abs(swept.q[mdp.available] - exact.q[mdp.available]).max() <= bound
    assert (swept.q[~mdp.available] == -np.inf).all()
    optimal = mdp.available & (exact.q >= exact.v[:, None] - exact.error_bound)
    assert (swept.policy[optimal] > 0.0).all()
    # What is listed is within two bounds of the best of the values found, which are within one of the true ones.
    assert (exact.v[:, None] - exact.q)[swept.policy > 0.0].max() <= 5.0 * bound
    np.testing.assert_array_equal(swept.policy, _even(swept.policy > 0.0))
    assert swept.method.startswith(method)


def _even(chosen):
    return chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1)


@pytest.mark.parametrize("method", ITERATIVE)
def test_sweeps_at_gamma_one_meet_their_bound(method):
    mdp = lake(20, step=-1.0, goal=0.0, holes=0.02)
    exact = solve(mdp, 1.0, method="policy_iteration")
    swept = solve(mdp, 1.0, method=method, tol=1e-5, verify=True)
    assert swept.converged
    assert np.abs(swept.v - exact.v).max() <= swept.error_bound + exact.error_bound
    free = lake(12)
    swept, exact = solve(free, 1.0, method=method, tol=1e-5), solve(free, 1.0, method="linear_programming")
    assert np.abs(swept.v - exact.v).max() <= swept.error_bound + exact.error_bound


def test_auto_looks_ahead_between_evaluations(monkeypatch):
    """The greedy step carries a better value by one state, backups carry it by many: fewer evaluations."""
    monkeypatch.setitem(SOLVERS, "auto", SOLVERS["auto"][1:])  # or band matrices do better
    mdp = lake(40)
    plain = solve(mdp, 0.99, method="policy_iteration")
    ahead = solve(mdp, 0.99, verify=True)
    assert np.abs(ahead.v - plain.v).max() <= ahead.error_bound + plain.error_bound < 1e-10
    np.testing.assert_array_equal(ahead.policy, plain.policy)
    assert ahead.sweeps - 30 < plain.sweeps / 3  # 30 backups come first


@pytest.mark.slow
def test_auto_takes_sweeps_for_large_problems_and_splits_them_over_threads():
    mdp = lake(260)
    solution = solve(mdp, 0.95, tol=1e-6, verify=True)
    assert solution.method.startswith("modified_policy_iteration")
    assert solution.error_bound <= 1e-6
    again = solve(mdp, 0.95, tol=1e-6)
    np.testing.assert_array_equal(solution.v, again.v)  # threads leave no trace in the numbers
    value = evaluate(mdp, solution.policy, 0.95, tol=1e-6, verify=True)
    assert value.method.startswith("sweeps")
    # Actions within twice the bound count as optimal, so that mixing them may lose that much a step.
    assert np.abs(value.v - solution.v).max() <= 1e-6 + 4e-6 / 0.05


def test_evaluate_by_sweeps_at_gamma_one():
    mdp = lake(150, step=-1.0, goal=0.0)
    policy = np.full((mdp.n_states, 4), 0.25)
    value = evaluate(mdp, policy, 1.0, tol=1e-6, verify=True)
    assert value.converged
    assert value.method.startswith("sweeps")


def test_ragged_outcomes_are_swept_too():
    rng = np.random.default_rng(3)
    n, counts = 400, np.where(np.arange(400) % 50 == 0, 300, 2)
    mdp = FiniteMDP.from_coo(
        np.repeat(np.arange(n), counts),
        np.zeros(counts.sum(), dtype=int),
        rng.integers(0, n, counts.sum()),
        np.repeat(1 / counts, counts),
        np.repeat(rng.normal(size=n), counts),
        n_states=n,
    )
    exact = solve(mdp, 0.9, method="policy_iteration")
    for method in ITERATIVE:
        assert np.abs(solve(mdp, 0.9, method=method).v - exact.v).max() <= 1e-7


def test_the_same_sweeps_in_torch():
    for mdp in (lake(30), garnet(300), cliff()):
        exact = solve(mdp, 0.95)
        sweeps = TorchSweeps(mdp, 0.95, "cpu")
        bound, _ = discounted(sweeps, 1e-6, "modified_policy_iteration", Progress())
        assert bound <= 1e-6
        assert np.abs(sweeps.values() - exact.v).max() <= bound + exact.error_bound
        np.testing.assert_allclose(sweeps.action_values(), exact.q[mdp.pair_state, mdp.pair_action], atol=1e-5)


@pytest.mark.parametrize("gamma", [0.95, 1.0])
def test_the_device_path_on_the_cpu(gamma, monkeypatch):
    """All that `device="cuda"` does, with tensors on the CPU in the place of a GPU."""
    monkeypatch.setattr(sweeps, "TorchSweeps", lambda model, gamma, device: TorchSweeps(model, gamma, "cpu"))
    for mdp in (lake(20, step=-1.0, goal=0.0), cliff()):
        exact = solve(mdp, gamma, method="policy_iteration")
        for method in ("auto", "value_iteration"):
            solution = solve(mdp, gamma, method=method, device="cuda", tol=1e-6, verify=True)
            assert solution.method.startswith("modified" if method == "auto" else method)
            assert np.abs(solution.v - exact.v).max() <= solution.error_bound + exact.error_bound < 1.1e-6
            np.testing.assert_array_equal(solution.policy > 0, exact.policy > 0)
    early = interrupted(lake(20, step=-1.0, goal=0.0), gamma, "value_iteration", 9, device="cuda")
    assert np.isfinite(early.error_bound)
    with pytest.raises(UnboundedValueError):
        solve(FiniteMDP.from_outcomes({0: {0: [(1.0, 0, 1, False)], 1: [(1.0, 0, 0, True)]}}), 1.0, device="cuda")


def test_cuda_solves_with_the_same_certificate():
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no GPU"):
            solve(cliff(), 0.9, device="cuda")
        pytest.skip("torch finds no GPU here")
    mdp = lake(50, step=-1.0, goal=0.0)
    for gamma in (0.95, 1.0):
        solution = solve(mdp, gamma, device="cuda", tol=1e-6, verify=True)
        exact = solve(mdp, gamma, method="policy_iteration")
        assert np.abs(solution.v - exact.v).max() <= solution.error_bound + exact.error_bound


def test_soft_values_solve_their_equation_and_tend_to_the_hard_ones():
    for mdp, gamma in ((example_3_5(), 0.9), (figure_4_1(), 1.0), (cliff(), 0.99)):
        tau = 0.3
        soft = solve(mdp, gamma, temperature=tau)
        acts = ~mdp.terminal
        with np.errstate(divide="ignore"):
            log_sum = tau * np.log(np.exp((soft.q - soft.v[:, None]) / tau)[acts].sum(axis=1)) + soft.v[acts]
        np.testing.assert_allclose(soft.v[acts], log_sum, atol=1e-8)
        np.testing.assert_allclose(evaluate(mdp, soft.policy, gamma, temperature=tau).v, soft.v, atol=1e-7)
        assert soft.converged
        hard = solve(mdp, gamma)
        assert (soft.v >= hard.v - 1e-9).all()
        cold = solve(mdp, gamma, temperature=1e-4)
        np.testing.assert_allclose(cold.v, hard.v, atol=2e-2)


def test_soft_values_that_are_infinite_are_refused():
    loop = FiniteMDP.from_outcomes({0: {0: [(1.0, 0, -0.1, False)], 1: [(1.0, 0, -0.1, True)], 2: [(1, 0, -0.1, 0)]}})
    with pytest.raises(UnboundedValueError, match="states 0"):
        solve(loop, 1.0, temperature=1.0)
    trap = FiniteMDP.from_outcomes({0: {0: [(1.0, 0, -1.0, False)]}})
    with pytest.raises(ImproperPolicyError, match="states 0"):
        solve(trap, 1.0, temperature=1.0)


def test_soft_value_iteration_on_a_larger_problem(monkeypatch):
    from rlnet.mdp.solvers import entropy_regularized

    mdp = garnet(500)
    newton = solve(mdp, 0.95, temperature=0.2)
    monkeypatch.setattr(entropy_regularized, "SOFT_DIRECT_STATES", 10)
    swept = solve(mdp, 0.95, temperature=0.2)
    assert "value iteration" in swept.method
    assert np.abs(newton.v - swept.v).max() <= newton.error_bound + swept.error_bound


def test_finite_horizon_is_backward_induction():
    mdp, gamma, rng = random_mdp(np.random.default_rng(2)), 0.8, np.random.default_rng(0)
    horizon = 6
    solution = solve(mdp, gamma, horizon=horizon)
    v = np.zeros(mdp.n_states)
    for t in reversed(range(horizon)):
        q = np.full((mdp.n_states, mdp.n_actions), -np.inf)
        q[mdp.pair_state, mdp.pair_action] = mdp.expected_reward + gamma * (mdp.transition @ v)
        v = np.where(mdp.terminal, 0.0, q.max(axis=1))
        np.testing.assert_allclose(solution.v[t], v, atol=1e-12)
        np.testing.assert_allclose(solution.q[t], q, atol=1e-12)
    assert solve(mdp, gamma, horizon=0).v.shape == (1, mdp.n_states)
    np.testing.assert_allclose(solve(mdp, gamma, horizon=400).v[0], solve(mdp, gamma).v, atol=1e-9)
    policy = mdp.available * rng.random(mdp.available.shape)
    policy /= np.maximum(policy.sum(axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(
        evaluate(mdp, policy, gamma, horizon=400).v[0], evaluate(mdp, policy, gamma).v, atol=1e-9
    )
    soft = solve(mdp, gamma, horizon=400, temperature=0.5)
    np.testing.assert_allclose(soft.v[0], solve(mdp, gamma, temperature=0.5).v, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "method must be one of auto"),
        ({"tol": 0.0}, "tol must be a finite positive number"),
        ({"temperature": -1.0}, "temperature"),
        ({"horizon": -1}, "horizon"),
        ({"horizon": 3, "method": "value_iteration"}, "horizon is solved by its own method"),
        ({"temperature": 1.0, "device": "cuda"}, "temperature is solved by its own method"),
        ({"temperature": 1.0, "verify": True}, "temperature .* leave .*verify"),
        ({"horizon": 3, "max_sweeps": 5}, "horizon .* leave .*max_sweeps"),
        ({"device": "cuda", "method": "policy_iteration"}, "device='cuda' takes a method that sweeps"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        solve(cliff(), 0.9, **options)


def interrupted(mdp, gamma, method, after, **options):
    """`solve`, interrupted at the callback number `after`, and the bound is above the true error."""
    exact, seen = solve(mdp, gamma, tol=1e-9), []

    def stop(sweeps, bound, seconds):
        seen.append(sweeps)
        if len(seen) == after:
            raise KeyboardInterrupt

    with pytest.warns(ToleranceWarning, match="interrupted"):
        solution = solve(mdp, gamma, method=method, callback=stop, tol=1e-11, verify=True, **options)
    assert solution.interrupted
    assert not solution.converged
    assert seen[-1] >= after
    assert np.abs(solution.v - exact.v).max() <= solution.error_bound + exact.error_bound
    return solution


@pytest.mark.parametrize("method", ITERATIVE)
def test_an_interrupt_leaves_values_with_their_bound(method):
    assert np.isfinite(interrupted(lake(40), 0.99, method, 12).error_bound)


@pytest.mark.parametrize("method", ITERATIVE)
def test_an_interrupt_leaves_values_with_their_bound_without_discount_too(method):
    mdp = lake(20, step=-1.0, goal=0.0)
    interrupted(mdp, 1.0, method, 1)  # too early perhaps for a bound, but not for the values
    bounds = [interrupted(mdp, 1.0, method, after).error_bound for after in (4, 9)]
    assert bounds[1] < 0.5 * bounds[0] < 20.0
    with pytest.warns(ToleranceWarning, match="not reached"):
        assert solve(mdp, 1.0, method=method, max_sweeps=20, verify=True).error_bound < 2.0


def test_a_second_interrupt_ends_the_search_for_a_bound(monkeypatch):
    def impatient(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(undiscounted, "_steps", impatient)
    assert interrupted(lake(20, step=-1.0, goal=0.0), 1.0, "value_iteration", 5).error_bound == np.inf


def test_overshooting_policy_sweeps_do_not_grow_along_the_index():
    # A corridor walked up the index with probability .9: 1.45 × .9 > 1, so that 4000 states would multiply to 10^400.
    n = 4000
    s = np.arange(n)
    columns = (np.repeat(s, 4), np.tile([0, 0, 1, 1], n), np.stack([s + 1, s - 1, s - 1, s + 1], axis=1).ravel())
    chance = np.tile([0.9, 0.1], 2 * n)
    ends = columns[2] == n
    to = np.where(ends, 0, np.maximum(columns[2], 0))
    mdp = FiniteMDP.from_coo(*columns[:2], to, chance, np.full(4 * n, -1.0), ends, n_states=n)
    with pytest.warns(ToleranceWarning):
        early = solve(mdp, 0.999, method="modified_policy_iteration", max_sweeps=12)
    assert np.abs(early.v).max() < 1e6
    assert solve(mdp, 0.999, method="modified_policy_iteration").converged


def test_a_limit_on_sweeps_is_said():
    with pytest.warns(ToleranceWarning, match="not reached"):
        solution = solve(lake(40), 0.99, method="value_iteration", max_sweeps=5)
    assert solution.sweeps == 5
    assert not solution.converged


def test_verification_notices_a_wrong_bound():
    from rlnet.mdp.certificates.extended_precision import verified

    mdp = cliff()
    v = solve(mdp, 0.9).v
    verified(mdp, v, 0.9, 1e-9)
    with pytest.raises(ArithmeticError, match="contradicts"):
        verified(mdp, v + 0.1, 0.9, 1e-3)


def test_small_problems_import_neither_numba_nor_torch():
    code = (
        "import sys, numpy as np; from rlnet.mdp import FiniteMDP, solve;"
        "m = FiniteMDP.from_arrays(np.full((8, 2, 8), 1 / 8), np.ones((8, 2))); solve(m, 0.9);"
        "assert not {'numba', 'torch', 'gymnasium'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
