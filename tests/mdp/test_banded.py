"""Newton's method on band matrices and fast-mixing value iteration, against dense solves in extended precision."""

import numpy as np
import pytest
import scipy.sparse as sp
from mdp.test_agreement import discounted_truth
from mdp.test_methods import garnet, lake
from mdp_problems import dense, random_mdp

from rlnet.bench.dp_problems import lake as lake_columns
from rlnet.mdp import FiniteMDP, ToleranceWarning, solve
from rlnet.mdp.operators.bellman import max_norm
from rlnet.mdp.operators.linear_systems import DiscountedSystem, SingularChainError
from rlnet.mdp.solvers.small import banded_newton as bands
from rlnet.mdp.solvers.small import table_solvers as tables
from rlnet.mdp.solvers.small.action_table import Table
from rlnet.mdp.solvers.small.banded_newton import Bands, Factors, newton
from rlnet.mdp.solvers.small.span_value_iteration import mixed
from rlnet.mdp.solvers.value_iteration import Progress

BANDED, MIXED = "policy_iteration (banded LU)", "value_iteration (Jacobi, span)"


def neighbours(seed, n=60, far=3, ends=0.1):
    """States that reach others at most `far` away: 2 or 3 actions, loops, ends, states without actions."""
    rng = np.random.default_rng(seed)
    terminal = rng.random(n) < 0.1
    terminal[0] = False
    counts = rng.integers(2, 4, n) * ~terminal
    pair_state = np.repeat(np.arange(n), counts)
    pair_action = np.concatenate([np.arange(c) for c in counts])
    pair = np.repeat(np.arange(len(pair_state)), rng.integers(1, 5, len(pair_state)))
    to = np.clip(pair_state[pair] + rng.integers(-far, far + 1, len(pair)), 0, n - 1)
    chance = rng.exponential(size=len(pair))
    return FiniteMDP.from_coo(
        pair_state[pair],
        pair_action[pair],
        to,
        chance / np.bincount(pair, chance)[pair],
        rng.integers(-3, 4, len(pair)) * 10.0 ** rng.integers(-3, 4, len(pair)),
        terminal[to] | (rng.random(len(pair)) < ends),
        n_states=n,
        n_actions=3,
        terminal=terminal,
    )


def shuffled(mdp, seed=0):
    """(the same model with its states in another order, the new number of each state)."""
    rank = np.random.default_rng(seed).permutation(mdp.n_states)
    pair = np.repeat(np.arange(mdp.n_pairs), np.diff(mdp.outcome_ptr))
    other = FiniteMDP.from_coo(
        rank[mdp.pair_state[pair]],
        mdp.pair_action[pair],
        rank[mdp.next_state],
        mdp.probability,
        mdp.reward,
        mdp.terminated,
        n_states=mdp.n_states,
        n_actions=mdp.n_actions,
        terminal=mdp.terminal[np.argsort(rank)],
    )
    return other, rank


def parts(mdp, gamma, tol):
    """A table, and what its solvers take besides."""
    table = Table(mdp)
    return table, (table.system, gamma, tol, Progress())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("far", "off"), [(3, 1e-12), (17, 1e-5)])  # in double and in single precision
def test_factors_solve_what_a_dense_solve_does(seed, far, off):
    table = Table(neighbours(seed, far=far))
    rng, gamma, m = np.random.default_rng(seed), 0.97, table.m
    band = Bands(table.sparse, rng.normal(size=table.width * table.m), table.width)
    band.at(gamma)
    factors, rows = Factors(band), table.sparse.toarray().reshape(table.width, m, m)
    b = rng.normal(size=m) * 1e8
    mean = band.reward.reshape(table.width, m).mean(axis=0)
    x = np.linalg.solve(np.eye(m) - bands.FIRST_GAMMA * rows.mean(axis=0), mean)
    np.testing.assert_allclose(band.first, x, rtol=0, atol=off * np.abs(x).max())
    for _ in range(3):  # one buffer serves policy after policy
        choice = rng.integers(table.width, size=m)
        assert factors.of(choice * m + np.arange(m))
        x = np.linalg.solve(np.eye(m) - gamma * rows[choice, np.arange(m)], b)
        np.testing.assert_allclose(factors.solve(b, np.abs(b).max()), x, rtol=0, atol=off * np.abs(x).max())


@pytest.mark.parametrize("costly", [False, True])
@pytest.mark.parametrize(("gamma", "tol"), [(0.0, 1e-6), (0.5, 1e-6), (0.9, 1e-6), (0.99, 1e-6), (0.9999, 1e-2)])
def test_newton_agrees_with_extended_precision(gamma, tol, costly):
    for seed in range(8):
        mdp = neighbours(seed, ends=0.1 * (seed % 2))
        table, given = parts(mdp, gamma, tol)
        assert table.bands.narrow
        table.bands.kept, table.bands.ahead = bands.KEPT[costly], bands.AHEAD[costly]
        x, q, top, bound = newton(table.bands, *given)
        truth = discounted_truth(mdp, gamma)
        assert np.abs(x - truth[table.states]).max() <= bound <= tol
        _, q_laid, policy = table.laid_out(x, q, top, bound)
        transition, reward = dense(mdp)
        exact, listed = reward + gamma * (transition @ truth), mdp.available
        assert np.abs(q_laid[listed] - exact[listed]).max() <= gamma * bound + 1e-9
        exact = np.where(listed, exact, -np.inf)
        best = listed & (exact >= exact.max(axis=1, keepdims=True))
        assert (policy[best] > 0).all()


@pytest.mark.parametrize("gamma", [0.5, 0.99, 1.0])
@pytest.mark.parametrize(("holes", "soon"), [(0.0, False), (0.01, False), (0.2, True)])
def test_newton_starts_from_a_few_backups_where_steps_cost_and_episodes_end_soon(holes, soon, gamma):
    columns = lake_columns(30, step=-1.0, goal=0.0, holes=holes)
    mdp = FiniteMDP.from_coo(**columns | {"n_states": 900, "n_actions": 4})
    table, given = parts(mdp, gamma, 1e-6)
    x, _, _, bound = newton(table.bands, *given)
    assert table.bands.work > bands.COSTLY
    assert table.bands.first.tolist() == table.bands._settled().tolist() if soon else table.bands._settled() is None
    truth = solve(mdp, gamma, method="policy_iteration")
    assert np.abs(x - truth.v[table.states]).max() <= bound + truth.error_bound
    assert bound <= 1e-6
    assert truth.error_bound < 1e-8


@pytest.mark.parametrize(("below", "above"), [(0, 3), (4, 0), (7, 2), (150, 150)])
def test_direct_solves_agree_whatever_the_factors(below, above):
    """Of bands and of sparse matrices; transposed, for several right-hand sides, and with entries given twice."""
    rng, n, gamma = np.random.default_rng(0), 200, 0.95
    row = np.repeat(np.arange(n), 5)
    column = np.clip(row + rng.integers(-below, above + 1, len(row)), 0, n - 1)
    p = sp.csr_matrix((np.full(len(row), 0.2), column, np.arange(0, len(row) + 1, 5)), shape=(n, n))
    system, matrix = DiscountedSystem(p, gamma), np.eye(n) - gamma * p.toarray()
    assert (system.band is None) == (below == 150)
    for b in (rng.normal(size=n), rng.normal(size=(n, 3))):
        np.testing.assert_allclose(system.solve(b), np.linalg.solve(matrix, b), atol=1e-12)
        np.testing.assert_allclose(system.solve(b, transposed=True), np.linalg.solve(matrix.T, b), atol=1e-12)


def test_a_chain_of_neighbours_that_never_ends_is_singular():
    ring = sp.csr_matrix((np.ones(200), ([*range(200)], [1, *range(199)])), shape=(200, 200))
    assert DiscountedSystem(ring, 0.5).band == (1, 1)
    with pytest.raises(SingularChainError):
        DiscountedSystem(ring, 1.0)


def test_every_order_of_the_states_gives_the_same_values():
    mdp = lake(30)
    other, rank = shuffled(mdp)
    here, there = solve(mdp, 0.99, verify=True), solve(other, 0.99, verify=True)
    assert here.method == there.method == BANDED
    assert Table(mdp).bands.order is None
    assert Table(other).bands.order is not None
    assert np.abs(here.v - there.v[rank]).max() <= here.error_bound + there.error_bound < 1e-7
    finite = np.isfinite(here.q)
    assert np.abs(here.q[finite] - there.q[rank][finite]).max() <= here.error_bound + there.error_bound
    np.testing.assert_array_equal(here.policy, there.policy[rank])


@pytest.mark.slow
def test_auto_takes_bands_for_neighbours_and_span_bounds_where_everything_mixes():
    cases = (lake(20), BANDED), (lake(50, step=-1.0), BANDED), (garnet(400), MIXED), (garnet(2500), MIXED)
    for mdp, method in cases:
        auto = solve(mdp, 0.99, tol=1e-7, verify=True)
        other = solve(mdp, 0.99, tol=1e-7, method="modified_policy_iteration")
        assert auto.method == method
        assert auto.error_bound <= 1e-7
        assert np.abs(auto.v - other.v).max() <= auto.error_bound + other.error_bound


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.9, 0.99])
def test_both_agree_on_random_small_problems(gamma):
    """Wherever a table can be made: models of all kinds, most of them neither narrow nor fast-mixing."""
    rng, swept = np.random.default_rng(5), 0
    for _ in range(150):
        mdp = random_mdp(rng)
        table, given = parts(mdp, gamma, 1e-6)
        if not table.useful or table.moves:
            continue
        truth = discounted_truth(mdp, gamma)[table.states]
        x, *_, bound = newton(table.bands, *given)
        assert np.abs(x - truth).max() <= bound <= 1e-6
        found = mixed(table.sparse, table.reward, *given)
        if found is not None:
            swept += 1
            v, q, top, bound = found
            assert np.abs(v - truth).max() <= bound <= 1e-6
            np.testing.assert_array_equal(q.reshape(table.width, -1).max(axis=0), top)
    assert swept > 20


def test_slow_mixing_ends_the_sweeps_early_and_singular_factors_the_newton_steps():
    table, given = parts(lake(20), 0.999, 1e-6)
    assert mixed(table.sparse, table.reward, *given) is None
    assert given[-1].sweeps < 20
    # Two states that pass a token on: rounding alone is 1e9 times as large in the bound as in a backup.
    swap = FiniteMDP.from_arrays(np.array([[[0.0, 1.0]], [[1.0, 0.0]]]), np.array([[1.0], [0.0]]))
    table, given = parts(swap, 1.0 - 1e-9, 1e-6)
    assert newton(Bands(sp.csr_matrix([[0.0, 1.0], [1.0, 0.0]]), table.reward, 1), *given) is None


def test_what_neither_can_solve_goes_to_sparse_factors(monkeypatch):
    monkeypatch.setattr(bands, "WORK", (0.0, 0.0))
    mdp = lake(20)
    sparse = solve(mdp, 0.99, verify=True)
    assert sparse.method == "policy_iteration (LU)"
    monkeypatch.undo()
    banded = solve(lake(20), 0.99)
    assert banded.method == BANDED
    assert np.abs(banded.v - sparse.v).max() <= banded.error_bound + sparse.error_bound
    np.testing.assert_array_equal(banded.policy, sparse.policy)


def test_a_step_with_kept_factors_that_misleads_is_taken_back():
    """Mostly loops, and few far moves: the factors of one policy say little about the next."""
    rng, n = np.random.default_rng(2), 800
    state = np.repeat(np.arange(n), 12)
    to = np.where(rng.random(len(state)) < 0.9, state, (state + rng.integers(-300, 301, len(state))) % n)
    chance = rng.exponential(size=(4 * n, 3))
    mdp = FiniteMDP.from_coo(
        state,
        np.tile(np.repeat(np.arange(4), 3), n),
        to,
        (chance / chance.sum(axis=1, keepdims=True)).ravel(),
        np.repeat(rng.normal(size=4 * n), 3),
        n_states=n,
        n_actions=4,
    )
    table, given = parts(mdp, 0.99, 1e-6)
    assert newton(table.bands, *given) is not None
    assert given[-1].sweeps < 20
    auto, exact = solve(mdp, 0.99), solve(mdp, 0.99, method="policy_iteration")
    assert np.abs(auto.v - exact.v).max() <= auto.error_bound + exact.error_bound


def test_wide_bands_are_for_what_mixes_slowly(monkeypatch):
    monkeypatch.setattr(bands, "NARROW", np.inf)
    assert solve(lake(20), 0.99, verify=True).method == BANDED
    assert solve(garnet(400), 0.99, verify=True).method == MIXED


@pytest.mark.parametrize("model", [lambda: lake(20), lambda: garnet(400)])
def test_limits_and_interrupts_leave_a_bound_that_holds(model):
    exact = solve(model(), 0.99, method="policy_iteration")

    def stop(sweeps, bound, seconds):
        if sweeps == 2:
            raise KeyboardInterrupt

    for options in ({"max_sweeps": 2}, {"callback": stop}):
        with pytest.warns(ToleranceWarning):
            early = solve(model(), 0.99, **options)
        assert early.sweeps == 2
        assert not early.converged
        assert early.interrupted == ("callback" in options)
        assert 1e-8 < np.abs(early.v - exact.v).max() <= early.error_bound + exact.error_bound


def test_dense_factors_take_over_where_bands_give_up(monkeypatch):
    mdp = neighbours(0)
    monkeypatch.setattr(tables, "newton", lambda *given: None)
    assert solve(mdp, 0.9).method == "policy_iteration (dense LU)"


def test_the_largest_entry_is_nan_if_any_is():
    assert max_norm(np.array([1.0, -3.0, 2.0])) == 3.0
    assert np.isnan(max_norm(np.array([5.0, np.nan, 7.0])))  # no bound may be made of the rest
