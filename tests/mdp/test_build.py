"""Builders: what they make of the same problem, and what they refuse."""

import itertools
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from mdp_problems import cliff, dense, random_mdp

from rlnet.mdp import FiniteMDP, InvalidMDPError, NoModelError, solve
from rlnet.mdp.model import rounding, validation


def test_builders_agree():
    rng = np.random.default_rng(0)
    for _ in range(50):
        mdp = random_mdp(rng)
        order = rng.permutation(mdp.n_outcomes)
        pair = np.repeat(np.arange(mdp.n_pairs), np.diff(mdp.outcome_ptr))
        columns = (mdp.pair_state[pair], mdp.pair_action[pair], mdp.next_state, mdp.probability, mdp.reward)
        again = FiniteMDP.from_coo(
            *(x[order] for x in (*columns, mdp.terminated)),
            n_states=mdp.n_states,
            n_actions=mdp.n_actions,
            terminal=mdp.terminal,
        )
        for one, two in zip(dense(mdp), dense(again), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-15)
        np.testing.assert_array_equal(mdp.available, again.available)
        np.testing.assert_allclose(mdp.transition.toarray(), dense(mdp)[0][mdp.pair_state, mdp.pair_action])
        np.testing.assert_allclose(mdp.expected_reward, dense(mdp)[1][mdp.pair_state, mdp.pair_action])


def test_from_arrays_takes_rewards_of_either_shape():
    rng = np.random.default_rng(1)
    transition = rng.dirichlet(np.ones(4), size=(4, 2))
    reward = rng.normal(size=(4, 2, 4))
    full = FiniteMDP.from_arrays(transition, reward)
    mean = FiniteMDP.from_arrays(transition, (transition * reward).sum(axis=2))
    np.testing.assert_allclose(solve(full, 0.9).v, solve(mean, 0.9).v)
    ended = FiniteMDP.from_arrays(transition, reward, terminal=np.array([False, False, False, True]))
    assert solve(ended, 0.9).v[3] == 0
    np.testing.assert_allclose(ended.start, [1 / 3, 1 / 3, 1 / 3, 0])
    assert ended.transition[:, 3].nnz == 0


def test_layout_and_masks():
    mdp = FiniteMDP.from_coo([2, 0, 0], [1, 2, 0], [0, 2, 1], np.ones(3), np.ones(3), [False, False, True])
    np.testing.assert_array_equal(mdp.pair_ptr, [0, 2, 2, 3])
    np.testing.assert_array_equal(mdp.pair_action, [0, 2, 1])
    np.testing.assert_array_equal(mdp.pair_state, [0, 0, 2])
    np.testing.assert_array_equal(mdp.pair_index, [[0, -1, 1], [-1, -1, -1], [-1, 2, -1]])
    np.testing.assert_array_equal(mdp.available, mdp.pair_index >= 0)
    np.testing.assert_array_equal(mdp.terminal, [False, True, False])
    np.testing.assert_allclose(mdp.start, [0.5, 0, 0.5])
    assert mdp.next_state.dtype == np.int32
    with pytest.raises(ValueError, match="read-only"):
        mdp.reward[0] = 2.0


def test_different_rewards_stay_apart_and_zero_probability_goes():
    mdp = FiniteMDP.from_outcomes(
        {0: {0: [(0.25, 0, 1, False), (0.5, 0, 2, False), (0.25, 0, 1, False), (0, 0, 9, 0)]}}
    )
    assert mdp.n_outcomes == 2
    assert dict(zip(mdp.reward, mdp.probability, strict=True)) == {1.0: 0.5, 2.0: 0.5}
    assert mdp.transition.nnz == 1


def test_states_and_actions_with_names():
    """v(a) = ½(1 + γ·v(b)), v(b) = 2 + γ·v(a) with γ = .9: v(a) = 1.4/.595."""
    mdp = FiniteMDP.from_outcomes(
        {"a": {"go": [(0.5, "b", 1.0, False), (0.5, "end", 0.0, True)]}, "b": {"go": [(1.0, "a", 2.0, False)]}}
    )
    assert (mdp.labels, mdp.action_labels) == (("a", "b", "end"), ("go",))
    np.testing.assert_allclose(solve(mdp, 0.9).v, [1.4 / 0.595, 2 + 0.9 * 1.4 / 0.595, 0.0])
    cells = FiniteMDP.from_outcomes({(0, 0): {0: [(1, (0, 1), 0, True)]}, (0, 1): {}})
    assert cells.labels == ("(0, 0)", "(0, 1)")
    np.testing.assert_array_equal(cells.terminal, [False, True])


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ({0: {0: [(1, "x", 0, True)]}}, "next_state must hold integers, or names alone, not 'x' beside"),
        ({0.5: {0: [(1, 0.5, 0, True)]}}, "state must hold integers, or names alone, not 0.5"),
        ({True: {0: [(1, True, 0, True)]}}, "state must hold integers, or names alone, not True"),
        (
            {0: {"a": [(1, 0, 0, True)], 1: [(1, 0, 0, True)]}},
            "action must hold integers, or names alone, not 'a' beside",
        ),
        ({"a": {0: [(1, ["b"], 0, True)]}}, "states must be numbers or names"),
        ({"a": {0: [(1, "b", 0, False)]}}, "state 1 has no action"),
    ],
)
def test_keys_that_are_neither_numbers_nor_names_are_named(outcomes, message):
    with pytest.raises(InvalidMDPError, match=message):
        FiniteMDP.from_outcomes(outcomes)
    with pytest.raises(InvalidMDPError, match="n_states=3: the outcomes name 1 states"):
        FiniteMDP.from_outcomes({"a": {0: [(1, "a", 0, True)]}}, n_states=3)


@pytest.mark.parametrize("name", ["terminal", "available"])
@pytest.mark.parametrize("one", [np.nan, 2, -1, "no", None])
def test_masks_hold_true_and_false_alone(name, one):
    shape = (2,) if name == "terminal" else (2, 1)
    mask = np.zeros(shape, object)
    mask[1] = one
    transition, reward = np.ones((2, 1, 2)) / 2, np.zeros((2, 1))
    for given in (mask, np.array(mask.tolist())):
        with pytest.raises(InvalidMDPError, match=f"{name} must be true or false"):
            FiniteMDP.from_arrays(transition, reward, **{name: given})
    for right in (np.int8, np.uint64, np.float32, bool, object):
        ones = FiniteMDP.from_arrays(transition, reward, **{name: np.array([0, 1]).reshape(shape).astype(right)})
        assert ones.terminal.tolist() == ([False, True] if name == "terminal" else [True, False])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_numbers_of_low_precision_sum_to_one_within_their_rounding(dtype):
    rng = np.random.default_rng(0)
    exact = rng.dirichlet(np.ones(40), size=(40, 3))
    transition, reward = exact.astype(dtype), rng.normal(size=(40, 3)).astype(dtype)
    assert np.abs(transition.astype(float).sum(2) - 1).max() > 1e-8
    s, a, t = np.nonzero(transition)
    start = transition[0, 0]
    dense = FiniteMDP.from_arrays(transition, reward, start=start)
    listed = FiniteMDP.from_coo(s, a, t, transition[s, a, t], reward[s, a], start=start)
    for mdp in (dense, listed):
        np.testing.assert_allclose(mdp.transition.sum(1), 1.0, atol=1e-14)
        assert mdp.start.sum() == pytest.approx(1.0, abs=1e-14)
        v = solve(FiniteMDP.from_arrays(exact, reward), 0.9).v
        np.testing.assert_allclose(solve(mdp, 0.9).v, v, atol=1e-4 if dtype is np.float32 else 0.1)
    wrong = transition.copy()
    wrong[2, 1] *= dtype(1.02)
    with pytest.raises(InvalidMDPError, match=r"state 2, action 1: probabilities sum to 1\.0"):
        FiniteMDP.from_arrays(wrong, reward)
    with pytest.raises(InvalidMDPError, match=r"state 2, action 1: probabilities sum to 1\.0"):
        FiniteMDP.from_coo(s, a, t, wrong[s, a, t], reward[s, a])


def test_toy_text_terminal_states_lose_their_actions():
    mdp = FiniteMDP.from_env(gymnasium.make("FrozenLake-v1"))
    np.testing.assert_array_equal(np.flatnonzero(mdp.terminal), [5, 7, 11, 12, 15])
    assert mdp.shape == (4, 4)
    assert mdp.action_labels == ("←", "↓", "→", "↑")
    assert mdp.start[0] == 1


def test_with_start():
    mdp = cliff().with_start(np.eye(48)[0])
    assert mdp.start[0] == 1
    for start in (np.ones(48), np.zeros(3), -np.eye(48)[0]):
        with pytest.raises(InvalidMDPError, match="start"):
            mdp.with_start(start)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([(0.6, 0, 0, False), (0.6, 1, 0, False)], r"state 1, action 0: probabilities sum to 1\.2"),
        ([(1.5, 0, 0, False), (-0.5, 1, 0, False)], r"state 1, action 0: probability .* -0\.5"),
        ([(np.nan, 0, 0, False)], r"state 1, action 0: probability .* nan"),
        ([(1.0, 0, np.nan, False)], r"state 1, action 0: reward is not finite: nan"),
        ([(1.0, 0, np.inf, False)], r"state 1, action 0: reward is not finite: inf"),
        ([(1.0, 5, 0, False)], r"state 1, action 0: successor outside 0\.\.1: 5"),
        ([(1.0, -1, 0, False)], r"state 1, action 0: successor outside 0\.\.1: -1"),
        ([], r"state 1, action 0: no outcome"),
        ([(0.0, 0, 0, False)], r"state 1, action 0: probabilities sum to 0"),
        ([(1.0, 0, 0)], r"state 1, action 0: an outcome is"),
        ([(1.0, 0, 0, "no")], "terminated must be true or false .*, not 'no'"),
        ([(1.0, 0, 0, None)], "terminated must be true or false .*, not None"),
        ([(1.0, 0, 0, np.nan)], "terminated must be true or false .*, not nan"),
        ([(1.0, 0, 0, 2)], "terminated must be true or false .*, not 2"),
    ],
)
def test_bad_rows_are_named(row, message):
    good = {0: [(1.0, 0, 0, False)]}
    with pytest.raises(InvalidMDPError, match=message):
        FiniteMDP.from_outcomes({0: good, 1: {0: row}}, n_states=2)


def test_bad_arrays_are_named():
    transition = np.full((2, 2, 2), 0.5)
    transition[1, 0] = [0.6, 0.6]
    with pytest.raises(InvalidMDPError, match=r"state 1, action 0: probabilities sum to 1\.2"):
        FiniteMDP.from_arrays(transition, np.zeros((2, 2)))
    transition[1, 0] = [1.5, -0.5]
    with pytest.raises(InvalidMDPError, match=r"state 1, action 0: probability"):
        FiniteMDP.from_arrays(transition, np.zeros((2, 2)))
    transition[1, 0] = 0
    with pytest.raises(InvalidMDPError, match=r"state 1, action 0: probabilities sum to 0"):
        FiniteMDP.from_arrays(transition, np.zeros((2, 2)))
    with pytest.raises(InvalidMDPError, match=r"reward must be"):
        FiniteMDP.from_arrays(transition, np.zeros((2, 3)))
    with pytest.raises(InvalidMDPError, match=r"transition must be"):
        FiniteMDP.from_arrays(np.ones((2, 2)), np.zeros((2, 2)))


def test_states_without_an_action_must_be_so_by_intent():
    with pytest.raises(InvalidMDPError, match="successor 1 has no action"):
        FiniteMDP.from_coo([0], [0], [1], [1.0], [0.0])
    with pytest.raises(InvalidMDPError, match="state 1 has no action and is not said"):
        FiniteMDP.from_coo([0], [0], [1], [1.0], [0.0], terminal=np.array([False, False]))
    with pytest.raises(InvalidMDPError, match="state 1 is said to be terminal"):
        FiniteMDP.from_coo([0, 1], [0, 0], [1, 0], [1.0, 1], [0.0, 0], terminal=np.array([False, True]))
    with pytest.raises(InvalidMDPError, match="1 has no action"):
        FiniteMDP.from_outcomes({0: {0: [(1.0, 1, 0, False)]}}, n_states=2)
    mdp = FiniteMDP.from_coo([0], [0], [1], [1.0], [0.0], terminal=np.array([False, True]))
    assert mdp.terminated.all()


def test_indices_out_of_range_and_drawing():
    with pytest.raises(InvalidMDPError, match=r"state 0, action 3: action is outside 0\.\.1"):
        FiniteMDP.from_coo([0], [3], [0], [1.0], [0.0], n_actions=2)
    with pytest.raises(InvalidMDPError, match=r"state must hold integers"):
        FiniteMDP.from_coo([0.5], [0], [0], [1.0], [0.0])
    with pytest.raises(InvalidMDPError, match="one common length"):
        FiniteMDP.from_coo([0], [0, 1], [0], [1.0], [0.0])
    one = ([0], [0], [0], [1.0], [0.0])
    for options in (
        {"labels": ("a", "b")},
        {"shape": (2, 2)},
        {"cell": np.array([0])},
        {"shape": (2, 2), "cell": np.array([4])},
        {"action_labels": ("a", "b")},
        {"start": np.array([0.5])},
    ):
        with pytest.raises(InvalidMDPError):
            FiniteMDP.from_coo(*one, **options)


def test_probabilities_within_tolerance_are_rescaled():
    mdp = FiniteMDP.from_coo([0, 0], [0, 0], [0, 1], [0.5, 0.5 + 5e-9], [0.0, 0.0], [False, True])
    assert mdp.probability.sum() == pytest.approx(1.0, abs=1e-15)


CLOCK = itertools.count()  # chance that no generator of Gymnasium's shows


class Line(gymnasium.Env):
    """0..4, left or right, ends at 4."""

    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(0, 4, (1,))

    def __init__(self, chance=0.0, random_start=False, secret=False, clock=False):
        self.chance, self.random_start, self.secret, self.clock = chance, random_start, secret, clock

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.x = int(self.np_random.integers(4)) if self.random_start else 0
        return np.array([self.x], dtype=np.float32), {}

    def step(self, action):
        self.steps += 1
        right = action == 1
        if self.chance:
            right ^= self.np_random.random() < self.chance
        if self.clock:
            right ^= next(CLOCK) % 2 == 1
        self.x = min(max(self.x + (1 if right else -1), 0), 4)
        reward = -1.0 - (self.steps > 3 if self.secret else 0)
        return np.array([self.x], dtype=np.float32), reward, self.x == 4, self.steps >= 2, {}


def test_exploring_a_deterministic_environment():
    mdp = FiniteMDP.from_env(gymnasium.wrappers.TimeLimit(Line(), 2))
    assert mdp.n_states == 5
    assert solve(mdp, 1.0).v @ mdp.start == pytest.approx(-4)


@pytest.mark.parametrize(
    ("options", "limit", "message"),
    [
        ({"chance": 0.5}, 100, "acts by chance"),
        ({"chance": 1e-9}, 100, "acts by chance"),  # however seldom
        ({"clock": True}, 100, "acts by chance"),
        ({"random_start": True}, 100, "starts by chance"),
        ({"secret": True}, 100, "is not a Markov state"),
        ({}, 3, "more than max_states=3"),
    ],
)
def test_environments_that_cannot_be_explored(options, limit, message):
    with pytest.raises(NoModelError, match=message):
        FiniteMDP.from_env(Line(**options), max_states=limit)


def test_no_model_is_said_why():
    with pytest.raises(NoModelError, match="not Discrete"):
        FiniteMDP.from_env(gymnasium.make("Pendulum-v1"))
    lake = gymnasium.make("FrozenLake-v1")
    with pytest.raises(NoModelError, match="TransformReward changes rewards"):
        FiniteMDP.from_env(gymnasium.wrappers.TransformReward(lake, lambda r: 2 * r))


def test_an_environment_may_hand_out_its_model():
    env = Line()
    env.mdp = cliff()
    assert FiniteMDP.from_env(env) is env.mdp


def _coo(seed):
    """Outcomes in order, with duplicates, and rows that sum to 1 within the tolerance only."""
    rng = np.random.default_rng(seed)
    pair = np.repeat(np.arange(60), rng.integers(1, 7, 60))
    p = rng.exponential(size=len(pair))
    p /= np.bincount(pair, p)[pair] * (1.0 + 5e-9 * rng.choice([-1, 0, 1], 60)[pair])
    columns = [pair // 2, pair % 2, rng.integers(0, 4, len(pair)), p, rng.integers(0, 2, len(pair)) / 2]
    return [*columns, rng.random(len(pair)) < 0.3]


@pytest.fixture
def compiled_everywhere(monkeypatch):
    for module in (rounding, validation):
        monkeypatch.setattr(module, "COMPILED_OUTCOMES", 0)


def test_compiled_passes_build_the_same_model(monkeypatch):
    for seed in range(20):
        monkeypatch.undo()
        plain = FiniteMDP.from_coo(*_coo(seed), n_states=30)
        monkeypatch.setattr(rounding, "COMPILED_OUTCOMES", 0)
        monkeypatch.setattr(validation, "COMPILED_OUTCOMES", 0)
        compiled = FiniteMDP.from_coo(*_coo(seed), n_states=30)
        assert compiled.n_outcomes == plain.n_outcomes < len(_coo(seed)[0])
        np.testing.assert_array_equal(compiled.outcome_ptr, plain.outcome_ptr)
        order = [
            np.lexsort((m.terminated, m.reward, m.next_state, np.repeat(np.arange(m.n_pairs), np.diff(m.outcome_ptr))))
            for m in (compiled, plain)
        ]
        for name in ("next_state", "reward", "terminated"):
            np.testing.assert_array_equal(getattr(compiled, name)[order[0]], getattr(plain, name)[order[1]])
        np.testing.assert_allclose(compiled.probability[order[0]], plain.probability[order[1]], rtol=1e-14)
        total = np.add.reduceat(compiled.probability, compiled.outcome_ptr[:-1])
        assert np.abs(total - 1.0).max() < 1e-14


@pytest.mark.usefixtures("compiled_everywhere")
@pytest.mark.parametrize(
    ("column", "value", "said"),
    [(2, 30, "successor"), (2, -1, "successor"), (4, np.inf, "finite"), (4, np.nan, "finite"), (3, -0.5, "negative")],
)
def test_compiled_checks_name_the_fault(column, value, said):
    columns = _coo(0)
    columns[column][7] = value
    where = f"state {columns[0][7]}, action {columns[1][7]}: .*{said}"
    with pytest.raises(InvalidMDPError, match=where):
        FiniteMDP.from_coo(*columns, n_states=30)


@pytest.mark.usefixtures("compiled_everywhere")
def test_compiled_checks_name_a_sum():
    columns = _coo(0)
    columns[3][7] += 1e-6
    with pytest.raises(InvalidMDPError, match=f"state {columns[0][7]}, action {columns[1][7]}: .*sum to 1.000001"):
        FiniteMDP.from_coo(*columns, n_states=30)


def test_what_solves_models_is_loaded_by_the_first_of_them():
    """Not by `import rlnet.mdp`, which training without a model does too, and not in the seconds of a solve."""
    code = """if True:
        import sys
        from rlnet.mdp import FiniteMDP, solve
        assert "scipy.sparse" not in sys.modules
        mdp = FiniteMDP.from_outcomes({0: {0: [(0.5, 0, 1.0, False), (0.5, 1, 0.0, True)]}}, n_states=2)
        before = set(sys.modules)
        assert solve(mdp, 0.9).v[0] > 0.5
        print(sorted(name for name in set(sys.modules) - before if name.startswith("scipy")))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
