"""What is no model, no policy or no option is refused in one sentence that names it."""

import re

import numpy as np
import pytest

from rlnet.mdp import FiniteMDP, InvalidMDPError, evaluate, occupancy, solve

HALF, NOTHING = np.full((2, 2, 2), 0.5), np.zeros((2, 2))
MODEL = FiniteMDP.from_arrays(HALF, NOTHING + 1.0)
NUMBERS = (np.nan, "x", None, [0.5])


def changed(array, index, value):
    array = array.astype(float)
    array[index] = value
    return array


def one(*outcomes, **options):
    return FiniteMDP.from_outcomes({0: {0: list(outcomes)}}, **options)


def columns(state=(0,), action=(0,), to=(0,), chance=(1.0,), reward=(0.0,), ended=(False,), n_states=None):
    return FiniteMDP.from_coo(*(np.array(x) for x in (state, action, to, chance, reward, ended)), n_states=n_states)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: FiniteMDP.from_arrays(changed(HALF, (1, 0), [0.4, 0.5]), NOTHING),
            "state 1, action 0: .* sum to 0.9,",
        ),
        (lambda: FiniteMDP.from_arrays(changed(HALF, (1, 0), [-0.5, 1.5]), NOTHING), "state 1, action 0: .*: -0.5"),
        (lambda: FiniteMDP.from_arrays(changed(HALF, (1, 0, 0), np.nan), NOTHING), "state 1, action 0: .*: nan"),
        (lambda: FiniteMDP.from_arrays(changed(HALF, (1, 0, 0), np.inf), NOTHING), "state 1, action 0: .* sum to inf,"),
        (lambda: FiniteMDP.from_arrays(HALF, changed(NOTHING, (0, 1), np.nan)), "state 0, action 1: reward .*: nan"),
        (lambda: FiniteMDP.from_arrays(HALF, changed(NOTHING, (0, 1), -np.inf)), "state 0, action 1: reward .*: -inf"),
        (lambda: FiniteMDP.from_arrays("abc", NOTHING), "transition must hold real numbers, not <U3"),
        (lambda: FiniteMDP.from_arrays(HALF * 1j, NOTHING), "transition must hold real numbers, not complex128"),
        (lambda: FiniteMDP.from_arrays(HALF, NOTHING.astype(str)), "reward must hold real numbers, not <U"),
        (lambda: FiniteMDP.from_arrays(np.zeros((0, 1, 0)), np.zeros((0, 1))), "at least one state"),
        (lambda: FiniteMDP.from_arrays(HALF, NOTHING, terminal=np.zeros(3, bool)), r"terminal must have shape \(2,\)"),
        (lambda: FiniteMDP.from_arrays(HALF, NOTHING, start=np.array([0.4, 0.4])), "start: probabilities sum to 0.8"),
        (lambda: FiniteMDP.from_outcomes({}), "at least one state"),
        (lambda: FiniteMDP.from_outcomes([{}]), "outcomes must be a dictionary"),
        (lambda: FiniteMDP.from_outcomes({0: [(1.0, 0, 0.0, False)]}), "state 0 must be a dictionary"),
        (lambda: FiniteMDP.from_outcomes({0: {0: []}}), "state 0, action 0: no outcome"),
        (lambda: FiniteMDP.from_outcomes({4: {0: [(1.0, 0, 0.0, True)]}}, n_states=2), r"state 4, .* outside 0\.\.1"),
        (lambda: FiniteMDP.from_outcomes({0.5: {0: [(1.0, 0, 0.0, True)]}}), "state must hold integers"),
        (lambda: one(3), r"state 0, action 0: an outcome is .*, not 3"),
        (lambda: one((1.0, 0, 0.0)), r"state 0, action 0: an outcome is .*, not \(1.0, 0, 0.0\)"),
        (lambda: one((1.0, 5, 0.0, False), n_states=2), r"state 0, action 0: successor outside 0\.\.1: 5"),
        (lambda: one((1.0, -1, 0.0, False), n_states=2), r"state 0, action 0: successor outside 0\.\.1: -1"),
        (lambda: one((1.0, 0, None, False)), "state 0, action 0: reward is not finite"),
        (lambda: one((1.0, "a", 0.0, False)), "next_state must hold integers"),
        (lambda: one((1.0, 1, 0.0, False), n_states=2), "state 1 has no action and is not said to be terminal"),
        (lambda: one((1.0, 0, 0.0, False), (1.0, 0, 0.0, False)), "state 0, action 0: probabilities sum to 2, not 1"),
        (lambda: columns(to=[9], n_states=2), r"state 0, action 0: successor outside 0\.\.1: 9"),
        (lambda: columns(state=[7], n_states=2), r"state 7, action 0: state is outside 0\.\.1"),
        (lambda: columns(action=[-1]), "state 0, action -1: action is outside"),
        (lambda: columns(chance=[np.nan]), "state 0, action 0: probability .*: nan"),
        (lambda: columns(chance=["a"]), "probability must hold real numbers"),
        (lambda: columns(reward=[np.inf]), "state 0, action 0: reward is not finite: inf"),
        (lambda: columns(to=[1], n_states=2), "state 0, action 0: successor 1 has no action"),
        (lambda: columns(ended=[True, False]), "one common length"),
    ],
)
def test_what_is_no_model(build, message):
    with pytest.raises(InvalidMDPError, match=message):
        build()


@pytest.mark.parametrize("count", [-1, 0, 1.5, "x"])
def test_numbers_of_states_are_whole(count):
    with pytest.raises(ValueError, match=f"n_states must be a whole number ≥ 1, not {count!r}"):
        one((1.0, 0, 0.0, False), n_states=count)


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("gamma", (-0.1, 1.1, np.inf, *NUMBERS), r"gamma must lie in \[0, 1\], not "),
        ("tol", (0, -1.0, np.inf, *NUMBERS), "tol must be a finite positive number, not "),
        ("temperature", (-1.0, np.inf, *NUMBERS), "temperature must be a finite number ≥ 0, not "),
        ("horizon", (-1, 1.5, np.inf, np.nan, "x"), "horizon must be a whole number ≥ 0, not "),
        ("max_sweeps", (0, -1, 1.5, "x"), "max_sweeps must be a whole number ≥ 1, not "),
        ("device", ("x", None, 3), "device must be 'cpu' or 'cuda', not "),
        ("method", ("x", None, 3), "method must be one of auto, .*, not "),
    ],
)
def test_what_is_no_option(key, values, message):
    for value in values:
        options = {"gamma": 0.9, key: value}
        said = message + re.escape(repr(value))
        with pytest.raises(ValueError, match=said):
            solve(MODEL, **options)
        if key not in ("max_sweeps", "device", "method"):
            with pytest.raises(ValueError, match=said):
                evaluate(MODEL, np.array([0, 0]), **options)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ([0], r"policy must be float \[S, A\] = \(2, 2\) or int \[S\], not int64 \(1,\)"),
        ([0, 2], "action 2 is not available in state 1"),
        ([-1, 0], "action -1 is not available in state 0"),
        ([0.5, 0.5], r"policy must be .* not float64 \(2,\)"),
        ([True, False], r"policy must be .* not bool \(2,\)"),
        ([[1.0, 1.0], [1.0, 0.0]], "probabilities in state 0 sum to 2, not 1"),
        ([[0.0, 1.0], [0.0, 0.0]], "probabilities in state 1 sum to 0, not 1"),
        ([[1.0, 0.0], [1.5, -0.5]], "state 1, action 1: probability -0.5"),
        ([[1.0, 0.0], [np.nan, 1.0]], "state 1, action 0: probability nan"),
        ("x", r"policy must be .* not <U1 \(\)"),
        (None, r"policy must be .* not object \(\)"),
    ],
)
def test_what_is_no_policy(policy, message):
    for question in (evaluate, occupancy):
        with pytest.raises(ValueError, match=message):
            question(MODEL, policy if policy is None or isinstance(policy, str) else np.array(policy), 0.9)


@pytest.mark.parametrize("shape", [(3, 2, 2), (1, 2)])
def test_policies_in_time_have_the_length_of_the_horizon(shape):
    policy = np.full(shape, 0.5) if len(shape) == 3 else np.zeros(shape, int)
    with pytest.raises(ValueError, match=r"policy must be .* with H = 2, not "):
        evaluate(MODEL, policy, 0.9, horizon=2)
