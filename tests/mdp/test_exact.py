"""Every method against exact fractions, on models of degenerate shapes and mixed scales."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
from exact_fractions import exact, scaled_mdp
from support import share

from rlnet.mdp import FiniteMDP, ImproperPolicyError, ToleranceWarning, UnboundedValueError, solve
from rlnet.mdp.solving import METHODS

GAMMAS = (1.0, 1.0, 0.9, 0.999, 0.0)


def check(seed):
    """One random model by every method; what is true of it: a class of error, or values."""
    rng = np.random.default_rng([77, seed])
    mdp = scaled_mdp(rng)
    gamma = float(rng.choice(GAMMAS))
    truth = exact(mdp, gamma)
    for method in METHODS:
        if isinstance(truth, type):
            with pytest.raises(truth):
                solve(mdp, gamma, method=method, tol=1e-6)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ToleranceWarning)
            found = solve(mdp, gamma, method=method, tol=1e-6)
        errors = [abs(Fraction(float(v)) - t) for v, t in zip(found.v, truth, strict=True)]
        bounds = [found.error_bound] * mdp.n_states if found.bounds is None else found.bounds.tolist()
        where = f"seed {seed}, gamma {gamma}, {method}"
        assert max(bounds) <= found.error_bound < np.inf, where
        assert all(error <= bound for error, bound in zip(errors, bounds, strict=True)), where
    return truth if isinstance(truth, type) else "value"


def test_every_method_agrees_with_exact_fractions():
    assert {check(seed) for seed in range(30)} == {"value", ImproperPolicyError, UnboundedValueError}


@pytest.mark.slow
def test_every_method_agrees_with_exact_fractions_on_many_models():
    for seed in range(1000, 1000 + share(3000)):
        check(seed)


def loop(back, leaving=1.0):
    """{0 → 1; 1: end with `leaving`, or → 2 for −3; 2: `back`}, of which the loop 1 → 2 → 1 gains nothing."""
    rows = {0: {0: [(1.0, 1, 0.0, False)]}, 1: {0: [(1.0, 1, leaving, True)], 1: [(1.0, 2, -3.0, False)]}}
    return FiniteMDP.from_outcomes(rows | {2: {0: back}})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "back",
    [
        [(0.5, 1, 3.0, False), (0.5, 2, 0.0, False)],
        [(1 / 3, 1, 3.0, False), (2 / 3, 2, 0.0, False)],
        [(0.1, 1, 3.0, False), (0.9, 2, 0.0, False)],
        [(0.5, 1, 2.0, False), (0.5, 2, 1.0, False)],  # in the mean alone
    ],
)
def test_a_loop_by_chance_whose_rewards_cancel_has_a_bound(method, back):
    assert exact(loop(back), 1.0) == [1, 1, 4]
    found = solve(loop(back), 1.0, method=method)
    assert np.abs(found.v - [1.0, 1.0, 4.0]).max() <= found.error_bound <= 1e-8
