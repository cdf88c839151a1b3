"""The protocol of solvers: each answers within its bound or declines, and `solve` takes the first answer."""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import scipy as sp
from mdp.test_agreement import discounted_truth, undiscounted_truth
from mdp.test_methods import garnet, lake
from mdp_problems import cliff, random_mdp

from rlnet.mdp import FiniteMDP, solve
from rlnet.mdp.operators import linear_systems
from rlnet.mdp.solvers.methods import METHODS, SOLVERS
from rlnet.mdp.solvers.protocol import Problem
from rlnet.mdp.solvers.small.table_solvers import SMALL, TableSolver
from rlnet.mdp.solvers.value_iteration import Progress

# Every solver, and each method of the tables by itself.
EVERY = tuple(dict.fromkeys(solver for method in METHODS for solver in SOLVERS[method]))
EVERY += tuple(TableSolver((method,)) for method in SMALL.methods)
LAST = [SOLVERS[method][-1] for method in METHODS]  # these must answer


def name(solver):
    methods = getattr(solver, "methods", ((solver.__class__, ""),))
    return "-".join(values.__name__ for values, _ in methods) + str(getattr(solver, "method", ""))


@pytest.mark.parametrize("solver", EVERY, ids=name)
@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
def test_every_solver_is_within_its_bound_or_declines(solver, gamma):
    rng = np.random.default_rng(7)
    models = [random_mdp(rng, ends=0.3) for _ in range(25)]
    for mdp in models:
        if gamma == 1.0:
            if np.prod(np.maximum(np.diff(mdp.pair_ptr), 1)) > 64:
                continue
            truth = undiscounted_truth(mdp)
            if isinstance(truth, type):
                continue
        else:
            truth = discounted_truth(mdp, gamma)
        found = solver.try_solve(Problem(mdp), gamma, 1e-6, Progress())
        assert found is not None or solver not in LAST
        if found is not None:
            assert np.abs(found.v - truth).max() <= found.bound
            assert found.q.shape == found.policy.shape == (mdp.n_states, mdp.n_actions)
            np.testing.assert_allclose(found.policy.sum(axis=1), ~mdp.terminal)


def test_every_table_solver_has_models_of_its_own():
    models = cliff(), lake(10), garnet(60), garnet(400)
    answered = {solve(mdp, 0.99, tol=1e-6).method for mdp in models}
    assert answered == {
        "policy_iteration (paths)",
        "policy_iteration (banded LU)",
        "policy_iteration (dense LU)",
        "value_iteration (Jacobi, span)",
    }


def test_the_first_answer_is_taken_and_none_is_asked_after_it(monkeypatch):
    asked = []

    class Asked:
        def __init__(self, solver):
            self.solver = solver

        def try_solve(self, *given):
            asked.append(self.solver)
            return self.solver.try_solve(*given) if self.solver is not None else None

    first, second = SOLVERS["value_iteration"][0], SOLVERS["gauss_seidel"][0]
    monkeypatch.setitem(SOLVERS, "value_iteration", (Asked(None), Asked(first), Asked(second)))
    assert solve(lake(5), 0.9, method="value_iteration").converged
    assert asked == [None, first]


def test_compiled_sweeps_and_large_models_are_for_the_last():
    problem = Problem(lake(8), device="cuda")
    for solver in SOLVERS["auto"][:-1]:
        assert solver.try_solve(problem, 0.9, 1e-6, Progress()) is None


MAKERS = {
    "dense": lambda: random_mdp(np.random.default_rng(3)),
    "mixing": lambda: garnet(60, 3),
    "banded": lambda: lake(8),
    "paths": cliff,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_one_model_can_be_solved_by_several_threads(kind):
    """Solvers of small models write into a table that is kept with the model: no two may do so at once."""
    make, gammas = MAKERS[kind], [0.5, 0.9, 0.95, 0.99] * 4
    alone = [solve(make(), gamma) for gamma in gammas]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(5):
            mdp = make()
            with ThreadPoolExecutor(8) as pool:
                for found, expected in zip(pool.map(partial(solve, mdp), gammas), alone, strict=True):
                    assert np.abs(found.v - expected.v).max() <= found.error_bound + expected.error_bound
                    assert np.array_equal(found.policy, expected.policy)
    finally:
        sys.setswitchinterval(before)


MAKERS_WITHOUT_AN_END = {
    "ring": lambda: FiniteMDP.from_arrays(np.eye(3)[[1, 2, 0]][:, None], np.ones((3, 1))),
    "chain": lambda: FiniteMDP.from_arrays(np.full((3, 1, 3), 1 / 3), np.arange(3.0)[:, None]),
}


@pytest.mark.parametrize("gamma", [0.0, 0.9])
@pytest.mark.parametrize("kind", MAKERS | MAKERS_WITHOUT_AN_END)
def test_writing_into_a_solution_changes_no_later_one(kind, gamma):
    """What a model keeps between solves is nobody else's."""
    mdp = (MAKERS | MAKERS_WITHOUT_AN_END)[kind]()
    first = solve(mdp, gamma)
    kept = [x.copy() for x in (first.v, first.q, first.policy)]
    for x in (first.v, first.q, first.policy):
        x[...] = 7.0
    again = solve(mdp, gamma)
    assert again.sweeps == first.sweeps
    for x, expected in zip((again.v, again.q, again.policy), kept, strict=True):
        np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("states", [5, 50, 300])
def test_visits_without_factors_are_found_where_the_method_breaks_down_at_first(states, monkeypatch):
    """From a start that is left for good, over a state that is too: the first residuals have no state in common."""
    rng = np.random.default_rng(states)
    p = rng.random((states, states)) * (rng.random((states, states)) < 0.5)
    p[:, :3] = 0.0
    p[[0, 1]] = 0.0
    p[[0, 1], [1, 2]] = 1.0
    p /= np.maximum(p.sum(1, keepdims=True), 1.0)
    begin = np.eye(states)[0]
    exact = np.linalg.solve(np.eye(states) - 0.95 * p.T, begin)
    np.testing.assert_allclose(
        linear_systems.discounted_visits(sp.sparse.csr_matrix(p), begin, 0.95), exact, atol=1e-10
    )
    monkeypatch.setattr(linear_systems, "BEGINNINGS", 1)
    assert linear_systems.discounted_visits(sp.sparse.csr_matrix(p), begin, 0.95) is None
