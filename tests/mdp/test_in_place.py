"""Policy sweeps in place by a product that overwrites its own vector, and the choices and products beneath them."""

import sys

import numpy as np
import pytest
import scipy.sparse as sp
from mdp.test_agreement import discounted_truth
from mdp.test_banded import BANDED, IN_PLACE, neighbours, shuffled
from mdp.test_methods import lake

from rlnet.mdp import solve
from rlnet.mdp.operators import products
from rlnet.mdp.solvers.small import in_place
from rlnet.mdp.solvers.small.action_table import Table
from rlnet.mdp.solvers.small.banded_newton import newton
from rlnet.mdp.solvers.small.in_place import InPlace, swept
from rlnet.mdp.solvers.value_iteration import Progress


@pytest.mark.parametrize(("gamma", "relaxed"), [(0.7, 1.35), (0.9, 1.0)])  # what is handed on must die out
def test_a_sweep_is_gauss_seidel(gamma, relaxed):
    table, rng = Table(neighbours(0)), np.random.default_rng(0)
    m, rows = table.m, table.sparse.toarray()
    sweeps = InPlace(table.bands, gamma)
    assert sweeps.relaxed == relaxed
    at = rng.integers(table.width, size=m) * m + np.arange(m)
    v = rng.normal(size=m)
    held = np.append(v, 1.0)
    products.csr_product()(m, m + 1, sweeps.ptr, *sweeps.policy(at), held, held[:m])
    for s in range(m):
        v[s] += relaxed * (table.reward[at[s]] + gamma * rows[at[s]] @ v - v[s])
    np.testing.assert_allclose(held, np.append(v, 1.0), rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize(("gamma", "tol"), [(0.0, 1e-6), (0.5, 1e-6), (0.9, 1e-6), (0.99, 1e-6)])
def test_sweeps_agree_with_extended_precision(gamma, tol):
    settled = 0
    for seed in range(12):
        mdp = neighbours(seed, ends=0.1 * (seed % 2))
        table = Table(mdp)
        found = swept(table.bands, table.system, gamma, tol, Progress())
        if found is not None:
            settled += 1
            v, q, top, bound = found
            truth = discounted_truth(mdp, gamma)[table.states]
            assert np.abs(v - truth).max() <= bound <= tol
            np.testing.assert_array_equal(q.reshape(table.width, -1).max(axis=0), top)
    assert settled >= 4


def test_large_lakes_are_swept_in_any_order_of_the_states():
    mdp = lake(50)
    other, rank = shuffled(mdp)
    here, there = solve(mdp, 0.99, tol=1e-6, verify=True), solve(other, 0.99, tol=1e-6, verify=True)
    exact = solve(mdp, 0.99, method="policy_iteration")
    assert here.method == there.method == IN_PLACE
    for v, bound in ((here.v, here.error_bound), (there.v[rank], there.error_bound)):
        assert np.abs(v - exact.v).max() <= bound + exact.error_bound < 2e-6


def test_slow_policies_are_left_to_bands_and_so_is_everything_without_such_products(monkeypatch):
    found = solve(neighbours(0, n=1500, ends=0.0), 0.999, tol=1e-3, verify=True)
    assert found.method == BANDED
    assert found.converged
    monkeypatch.setattr(in_place, "overwrites", lambda: False)
    assert solve(lake(50), 0.99, tol=1e-6).method == BANDED


def test_limits_and_interrupts_leave_a_bound_that_holds():
    exact = solve(lake(50), 0.99, method="policy_iteration")
    table = Table(lake(50))
    for most in (1, 20):
        v, *_, bound = swept(table.bands, table.system, 0.99, 1e-6, Progress(max_sweeps=most))
        assert 1e-6 < np.abs(v - exact.v[table.states]).max() <= bound + exact.error_bound

    def stop(sweeps, bound, seconds):
        raise KeyboardInterrupt

    progress = Progress(stop)
    v, *_, bound = swept(table.bands, table.system, 0.99, 1e-6, progress)
    assert progress.interrupted
    assert np.abs(v - exact.v[table.states]).max() <= bound + exact.error_bound


def test_the_greedy_rows_attain_the_maximum():
    rng = np.random.default_rng(0)
    for width, m in ((1, 5), (4, 30), (3, 400)):
        q = rng.integers(3, size=(width, m)).astype(float)
        rows = products.greedy_rows(q, q.max(axis=0), np.arange(width * m).reshape(width, m))
        np.testing.assert_array_equal(rows % m, np.arange(m))
        np.testing.assert_array_equal(q.ravel()[rows], q.max(axis=0))


def test_products_do_without_what_scipy_keeps_to_itself(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.sparse._sparsetools", None)
    products.csr_product.cache_clear()
    products.overwrites.cache_clear()
    try:
        assert not products.overwrites()
        a = sp.random(20, 30, density=0.3, format="csr", rng=np.random.default_rng(0))
        x, y = np.arange(30.0), np.ones(20)
        products.csr_product()(20, 30, a.indptr, a.indices, a.data, x, y)
        np.testing.assert_allclose(y, 1.0 + a @ x)
        found = solve(lake(50), 0.99, tol=1e-6, verify=True)
    finally:
        monkeypatch.undo()
        products.csr_product.cache_clear()
        products.overwrites.cache_clear()
    assert found.method == BANDED
    assert solve(lake(50), 0.99, tol=1e-6).method == IN_PLACE


def test_both_ways_agree_from_the_same_values():
    table = Table(lake(20))
    ways = [way(table.bands, table.system, 0.95, 1e-6, Progress()) for way in (newton, swept)]
    assert np.abs(ways[0][0] - ways[1][0]).max() <= ways[0][-1] + ways[1][-1] <= 2e-6
