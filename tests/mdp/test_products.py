"""Products and choices of small models, by SciPy's and NumPy's loops or without them."""

import sys

import numpy as np
import scipy.sparse as sp
from mdp.test_methods import lake

from rlnet.mdp import solve
from rlnet.mdp.operators import products


def test_the_greedy_rows_attain_the_maximum():
    rng = np.random.default_rng(0)
    for width, m in ((1, 5), (4, 30), (3, 400)):
        q = rng.integers(3, size=(width, m)).astype(float)
        rows = products.greedy_rows(q, q.max(axis=0), np.arange(width * m).reshape(width, m))
        np.testing.assert_array_equal(rows % m, np.arange(m))
        np.testing.assert_array_equal(q.ravel()[rows], q.max(axis=0))


def test_products_do_without_what_scipy_keeps_to_itself(monkeypatch):
    usual = solve(lake(50), 0.99, tol=1e-6)
    monkeypatch.setitem(sys.modules, "scipy.sparse._sparsetools", None)
    products.csr_product.cache_clear()
    try:
        a = sp.random(20, 30, density=0.3, format="csr", rng=np.random.default_rng(0))
        x, y = np.arange(30.0), np.ones(20)
        products.csr_product()(20, 30, a.indptr, a.indices, a.data, x, y)
        np.testing.assert_allclose(y, 1.0 + a @ x)
        found = solve(lake(50), 0.99, tol=1e-6, verify=True)
    finally:
        monkeypatch.undo()
        products.csr_product.cache_clear()
    assert found.method == usual.method == "policy_iteration (banded LU)"
    assert np.abs(found.v - usual.v).max() <= found.error_bound + usual.error_bound
