"""A model is believed only if it is the model of what is stepped: environments whose code says something else."""

import itertools
import random
import re
import time
from collections import deque

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.toy_text import FrozenLakeEnv, TaxiEnv

from rlnet.mdp import FiniteMDP, NoModelError, solve
from rlnet.mdp.from_env.from_gymnasium import believe

GAMMA = 0.9


def lake(**options):
    return gymnasium.make("FrozenLake-v1", **{"is_slippery": False} | options)


def refused(env, message=None):
    with pytest.raises(NoModelError, match=message) as caught:
        FiniteMDP.from_env(env)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


def value(env, gamma=GAMMA):
    mdp = FiniteMDP.from_env(env)
    return float(mdp.start @ solve(mdp, gamma).v)


# Gymnasium's own, with all their arguments.


@pytest.mark.parametrize(
    ("name", "options", "gamma", "right"),
    [
        ("FrozenLake-v1", {}, 0.99, 0.5420259),
        ("FrozenLake-v1", {}, 0.9, 0.0688909),
        ("FrozenLake8x8-v1", {}, 0.99, 0.4146404),
        ("FrozenLake-v1", {"is_slippery": False}, 0.9, 0.9**5),
        ("FrozenLake-v1", {"is_slippery": False, "reward_schedule": (5, -1, -0.1)}, 0.9, 5 * 0.9**5 - 0.409510),
        ("FrozenLake-v1", {"desc": ["SG"], "success_rate": 0.5}, 1.0, 1.0),
        ("CliffWalking-v1", {}, 1.0, -13.0),
        ("CliffWalkingSlippery-v1", {}, 0.99, -46.3526730),
        ("CliffWalking-v1", {"is_slippery": True}, 0.99, -46.3526730),
        ("Taxi-v4", {}, 0.99, 6.3274643),
        ("Taxi-v4", {"is_rainy": True}, 0.99, None),
    ],
)
def test_gymnasiums_tables_are_believed(name, options, gamma, right):
    found = value(gymnasium.make(name, **options), gamma)
    assert right is None or found == pytest.approx(right, abs=1e-6)


@pytest.mark.parametrize("options", [{}, {"fickle_probability": 0.05}, {"is_rainy": True}])
def test_a_fickle_passenger_is_not_in_the_table(options):
    refused(gymnasium.make("Taxi-v4", fickle_passenger=True, **options), "TaxiEnv")


def looks(clock):
    """What a clock shows at every look from now on; looks are 64 steps apart, which take some 7 ms."""
    yield from itertools.count(clock(), 0.06)


def test_a_slow_machine_finds_what_a_fast_one_does(monkeypatch):
    env = gymnasium.make("Taxi-v4", fickle_passenger=True, is_rainy=True)
    clock = looks(time.process_time)
    monkeypatch.setattr("time.process_time", lambda: next(clock))
    refused(env, "TaxiEnv")


# What wrappers and subclasses do to a lake.


class Costly(gymnasium.Wrapper):
    def step(self, action):
        obs, reward, *rest = self.env.step(action)
        return obs, reward - 0.1, *rest


class CostlyLake(FrozenLakeEnv):
    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, reward - 0.1, *rest


class Elsewhere(FrozenLakeEnv):
    def reset(self, **options):
        super().reset(**options)
        self.s = 4
        return 4, {}


class Late(gymnasium.Wrapper):
    """Other starts from the 51st episode on."""

    episodes = 0

    def reset(self, **options):
        obs, info = self.env.reset(**options)
        self.episodes += 1
        if self.episodes > 50:
            self.unwrapped.s = obs = 8
        return obs, info


class Swapped(gymnasium.Wrapper):
    def step(self, action):
        return self.env.step((action + 1) % 4)


class Sticky(gymnasium.Wrapper):
    def __init__(self, env, chance):
        super().__init__(env)
        self.chance, self.last = chance, None

    def reset(self, **options):
        self.last = None
        return self.env.reset(**options)

    def step(self, action):
        if self.last is not None and self.np_random.random() < self.chance:
            action = self.last
        self.last = action
        return self.env.step(action)


class Noisy(gymnasium.Wrapper):
    def step(self, action):
        obs, reward, *rest = self.env.step(action)
        return obs, reward + 1e-7 * random.gauss(0, 1), *rest


class Offset(gymnasium.ObservationWrapper):
    def observation(self, obs):
        return (obs + 1) % 16


class Lying(FrozenLakeEnv):
    """Steps by other code than the table that it inherits: the goal pays 2."""

    def step(self, action):
        obs, reward, *rest = FrozenLakeEnv.step(self, action)
        return obs, 2.0 * reward, *rest


class Extra(FrozenLakeEnv):
    """Slips once more in 1,000 steps."""

    def step(self, action):
        if self.np_random.random() < 0.001:
            action = (action + 1) % 4
        return super().step(action)


class Bonus(gymnasium.Wrapper):
    """A reward for long episodes."""

    age = 0

    def reset(self, **options):
        self.age = 0
        return self.env.reset(**options)

    def step(self, action):
        obs, reward, *rest = self.env.step(action)
        self.age += 1
        return obs, reward + (self.age > 5_000), *rest


def normalised(env):
    return gymnasium.wrappers.NormalizeReward(env)


def repeated(env):
    return gymnasium.wrappers.RepeatAction(env, num_repeats=2)


WRAPPERS = {
    "cost": Costly,
    "start": Late,
    "actions": Swapped,
    "sticky": lambda env: Sticky(env, 0.02),
    "noise": Noisy,
    "observations": Offset,
    "bonus": Bonus,
    "normalised": normalised,
    "repeated": repeated,
    "delayed": lambda env: gymnasium.wrappers.DelayObservation(env, 1),
    "gymnasium's sticky": lambda env: gymnasium.wrappers.StickyAction(env, 0.02),
    "reward": lambda env: gymnasium.wrappers.TransformReward(env, lambda r: 2 * r),
    "vector": lambda env: gymnasium.wrappers.TransformObservation(
        env, lambda s: np.eye(16)[s], spaces.Box(0, 1, (16,), np.float64)
    ),
}


@pytest.mark.parametrize("slippery", [False, True])
@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapper_that_changes_something_is_noticed(name, slippery):
    refused(WRAPPERS[name](lake(is_slippery=slippery)))


@pytest.mark.parametrize("slippery", [False, True])
@pytest.mark.parametrize("kind", [CostlyLake, Elsewhere, Lying, Extra])
def test_a_subclass_that_steps_otherwise_is_noticed(kind, slippery):
    refused(kind(is_slippery=slippery))


def test_the_costly_lake_is_worth_what_is_earned_when_its_table_says_so():
    """Six steps at −.1 each: Σ −.1·.9^t + .9^5 = .121931 (γ = .9)."""
    env = FrozenLakeEnv(is_slippery=False)
    for actions in env.P.values():
        for listed in actions.values():
            listed[:] = [(p, s, r - 0.1, end) for p, s, r, end in listed]
    assert value(env) == pytest.approx(0.121931, abs=1e-6)


def test_harmless_wrappers_and_subclasses_are_believed():
    class Silent(FrozenLakeEnv):
        def step(self, action):
            self.log = action
            return super().step(action)

    class Passing(gymnasium.Wrapper):
        def step(self, action):
            self.count = getattr(self, "count", 0) + 1
            return self.env.step(action)

    for env in (Silent(is_slippery=True), Passing(lake(is_slippery=True))):
        assert value(env) == pytest.approx(0.0688909, abs=1e-6)
    counted = gymnasium.wrappers.RecordEpisodeStatistics(lake(is_slippery=True))
    assert value(gymnasium.wrappers.TimeLimit(counted, 7)) == pytest.approx(0.0688909, abs=1e-6)


class Slippery(gymnasium.Env):
    """A corridor of six states in which what is stepped slips more often than the table says."""

    observation_space, action_space = spaces.Discrete(6), spaces.Discrete(2)

    def __init__(self, more=0.0):
        self.more, self.P = more, {5: {a: [(1.0, 5, 0.0, True)] for a in range(2)}}
        for s in range(5):
            ways = max(s - 1, 0), s + 1
            self.P[s] = {
                a: [(p, ways[k], float(ways[k] == 5), ways[k] == 5) for p, k in ((0.8, a), (0.2, 1 - a))]
                for a in range(2)
            }

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = 0
        return 0, {}

    def step(self, action):
        _, self.s, reward, end = self.P[self.s][int(action)][int(self.np_random.random() < 0.2 + self.more)]
        return self.s, reward, end, False, {}


def test_how_closely_a_table_was_tried_is_said():
    found = believe(Slippery())
    said = re.fullmatch(
        r"4000 steps of the environment's own code agree with the model; 0 of its 10 state-action pairs were not "
        r"tried, in half of the others a probability that is off by (0\.\d+) would have been found",
        found.tried,
    )
    least = float(said[1])
    assert 0.05 < least < 0.2
    refused(Slippery(least * 1.2), "has outcomes with shares")  # found in one of ten pairs at least
    assert believe(Slippery(least / 10)).tried == found.tried  # which no such trial can tell
    assert believe(lake(is_slippery=True)).tried == ""  # Gymnasium's own code steps its table


def test_a_trial_leaves_the_environment_and_all_generators_as_they_were():
    env = lake(is_slippery=True)
    env.reset(seed=3)
    before = env.unwrapped.np_random.bit_generator.state, env.unwrapped.s
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    with pytest.raises(NoModelError):
        FiniteMDP.from_env(Noisy(env))
    FiniteMDP.from_env(env)
    assert (env.unwrapped.np_random.bit_generator.state, env.unwrapped.s) == before
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    assert after == states


# Environments without a table.

HERE = np.random.default_rng(5)  # a generator of a module


class Nested:
    def __init__(self):
        self.tools = {"dice": [np.random.default_rng(1)]}


class Corridor(gymnasium.Env):
    """0..5, right and left, the end at 5 pays 1; starts in 3. `slips` says by which generator it slips (.02)."""

    observation_space = spaces.Discrete(6)
    action_space = spaces.Discrete(2)

    def __init__(self, slips=None, chance=0.02):
        self.slips, self.chance = slips, chance
        self.rng, self.nested = np.random.default_rng(0), Nested()
        self.old, self.torch = np.random.RandomState(0), torch.Generator().manual_seed(0)
        self.drawn, self.next = np.random.default_rng(2).random(10_000).tolist(), 0
        dice = random.Random(3)
        self.closure = lambda: dice.random()

    def uniform(self):
        self.next += self.slips == "table"
        draws = {
            "own": self.rng.random,
            "numpy": np.random.random,
            "random": random.random,
            "RandomState": self.old.random,
            "nested": self.nested.tools["dice"][0].random,
            "closure": self.closure,
            "module": HERE.random,
            "torch": lambda: float(torch.rand(1, generator=self.torch)),
            "global torch": lambda: float(torch.rand(1)),
            "np_random": self.np_random.random,
            "system": random.SystemRandom().random,
            "table": lambda: self.drawn[self.next % 10_000],
        }
        return draws[self.slips]()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = 3
        return 3, {}

    def step(self, action):
        if self.slips is not None and self.uniform() < self.chance:
            action = 1 - action
        self.s += 1 if action == 0 else -1
        self.s = max(self.s, 0)
        return self.s, float(self.s == 5), self.s == 5, False, {}


SLIPS = (
    *("own", "numpy", "random", "RandomState", "nested", "closure", "module", "torch", "global torch"),
    *("np_random", "system", "table"),
)


@pytest.mark.parametrize("slips", SLIPS)
def test_a_rare_slip_is_found_whichever_generator_it_comes_from(slips):
    refused(Corridor(slips))


@pytest.mark.parametrize("slips", [s for s in SLIPS if s not in ("system", "table")])
def test_a_generator_is_found_however_seldom_it_matters(slips):
    refused(Corridor(slips, 1e-9), "acts by chance: a step draws random numbers")


def test_an_explored_corridor_is_numbered_by_its_observations():
    mdp = FiniteMDP.from_env(Corridor())
    best = solve(mdp, GAMMA)
    assert mdp.n_states == 6
    np.testing.assert_array_equal(np.flatnonzero(mdp.start), [3])
    np.testing.assert_allclose(best.v, [GAMMA**4, GAMMA**3, GAMMA**2, GAMMA, 1.0, 0.0], atol=1e-12)
    assert mdp.observations is None


class Shifted(Corridor):
    """Observations 7..16 of which six are used, actions 3 and 4."""

    observation_space = spaces.Discrete(10, start=7)
    action_space = spaces.Discrete(2, start=3)

    def reset(self, **options):
        return super().reset(**options)[0] + 7, {}

    def step(self, action):
        obs, *rest = super().step(action - 3)
        return obs + 7, *rest


def test_states_count_from_the_first_observation_and_those_never_reached_have_no_action():
    mdp = FiniteMDP.from_env(Shifted())
    best = solve(mdp, GAMMA)
    assert mdp.n_states == 10
    np.testing.assert_allclose(best.v, [GAMMA**4, GAMMA**3, GAMMA**2, GAMMA, 1, 0, 0, 0, 0, 0], atol=1e-12)
    np.testing.assert_array_equal(mdp.observations, np.arange(7, 17))
    np.testing.assert_array_equal(np.flatnonzero(mdp.terminal), [5, 6, 7, 8, 9])


def test_an_observation_outside_of_its_space_is_named():
    class Outside(Corridor):
        observation_space = spaces.Discrete(5)

    refused(Outside(), "observation 5 lies outside of its space, 0..4")


class Paying(gymnasium.Env):
    """One state, 1 a step; what it does after `length` steps is not to be seen."""

    observation_space = spaces.Discrete(1)
    action_space = spaces.Discrete(1)

    def __init__(self, length, kind="end"):
        self.length, self.kind, self.history = length, kind, deque(maxlen=3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.counts = {"steps": 0}
        return 0, {}

    def step(self, action):
        self.counts["steps"] += 1
        over = self.counts["steps"] >= self.length
        reward = 2.0 if over and self.kind == "reward" else 1.0
        return 0, reward, over and self.kind == "end", over and self.kind == "truncate", {}


@pytest.mark.parametrize("length", [5, 77, 1_000, 20_000, 5_000_000])
@pytest.mark.parametrize("kind", ["end", "reward"])
def test_a_clock_that_no_observation_shows_is_found(length, kind):
    refused(Paying(length, kind), "is not a Markov state")
    refused(gymnasium.wrappers.TimeLimit(Paying(length, kind), 10), "is not a Markov state")


@pytest.mark.parametrize("length", [5, 1_000, 5_000_000])
def test_what_an_environment_truncates_itself_is_seen(length):
    found = believe(Paying(length, "truncate"))
    assert found.truncates
    assert solve(found.mdp, GAMMA).v[0] == pytest.approx(10)


def test_a_time_limit_is_no_truncation_of_its_own():
    assert not believe(gymnasium.wrappers.TimeLimit(Paying(10**12), 3)).truncates
    assert not believe(gymnasium.make("FrozenLake-v1", max_episode_steps=3)).truncates


@pytest.mark.slow
def test_remembering_does_no_harm_where_nothing_depends_on_it():
    class Remembering(Corridor):
        def step(self, action):
            self.before = getattr(self, "before", ()) + (self.s,)
            self.total, self.seen = getattr(self, "total", 0.0) + 0.5, self.s
            return super().step(action)

    assert value(Remembering()) == pytest.approx(GAMMA)


# Tables of other forms.


class Tabled(gymnasium.Env):
    """Steps a table with (probability, successor, reward, end); `P` is what it shows of it."""

    def __init__(self, table, n_states, start=(1.0,), shown=None, first=0):
        self.table, self.begin, self.first = table, start, first
        self.observation_space = spaces.Discrete(n_states, start=first)
        self.action_space = spaces.Discrete(len(table[0]))
        self.P = table if shown is None else shown

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = int(self.np_random.choice(len(self.begin), p=self.begin))
        return self.s + self.first, {}

    def step(self, action):
        listed = self.table[self.s][action]
        _, self.s, reward, end = listed[int(self.np_random.choice(len(listed), p=[o[0] for o in listed]))]
        return self.s + self.first, reward, end, False, {}


TABLE = {
    0: {0: [(0.5, 1, 0.0, False), (0.5, 2, 1.0, True)], 1: [(1.0, 1, -1.0, False)]},
    1: {0: [(1.0, 2, 3.0, True)], 1: [(1.0, 0, 0.0, False)]},
    2: {0: [(1.0, 2, 0.0, True)], 1: [(1.0, 2, 0.0, True)]},
}
V0 = 0.5 * (GAMMA * 3.0) + 0.5


def keys(table, shift):
    return {
        s + shift: {a: [(p, t + shift, r, end) for p, t, r, end in o] for a, o in actions.items()}
        for s, actions in table.items()
    }


def test_tables_that_mean_the_same_are_understood():
    assert value(Tabled(TABLE, 3)) == pytest.approx(V0)
    as_lists = [[TABLE[s][a] for a in (0, 1)] for s in (0, 1, 2)]
    assert value(Tabled(TABLE, 3, shown=as_lists)) == pytest.approx(V0)
    assert value(Tabled(TABLE, 3, shown=keys(TABLE, 1))) == pytest.approx(V0)
    assert value(Tabled(TABLE, 3, shown=keys(TABLE, 1), first=1)) == pytest.approx(V0)
    assert value(Tabled(TABLE, 3, shown=TABLE, first=5)) == pytest.approx(V0)
    missing = {s: TABLE[s] for s in (0, 1)}
    assert value(Tabled(TABLE, 3, shown=missing)) == pytest.approx(V0)
    going = {
        s: {a: [(p, t, r, False) for p, t, r, _ in o] for a, o in actions.items()} for s, actions in missing.items()
    }
    assert value(Tabled(TABLE, 3, shown=going)) == pytest.approx(V0)


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        (0.3, "its `P` is no table of outcomes"),
        (np.zeros((2, 3, 3)), "its `P` is no table of outcomes"),
        ("P", "its `P` is no table of outcomes"),
        ({}, "its `P` is no table of outcomes"),
        ({(0, 0): TABLE[0]}, r"\(0, 0\) is no whole number"),
        ({0: {0: [(1.0, 0, 0.0)]}}, "is not of the form"),
        ({0: {0: [(0.7, 0, 0.0, False)]}}, "sum to 0.7"),
        ({9: TABLE[0]}, "has states 1..9, its space 3 of them"),
        (keys(TABLE, 0) | {0: TABLE[1]}, "is not the model of what is stepped"),
    ],
)
def test_what_is_no_table_or_another_one_is_refused_in_a_sentence(shown, message):
    refused(Tabled(TABLE, 3, shown=shown), message)


def test_a_start_that_no_table_says_is_taken_from_resets(caplog):
    caplog.set_level("INFO")
    mdp = FiniteMDP.from_env(Tabled(TABLE, 3, start=(0.0, 1.0)))
    np.testing.assert_array_equal(mdp.start, [0, 1, 0])
    assert "says nothing about the start; 2000 resets began in state 1" in caplog.text
    even = FiniteMDP.from_env(Tabled(TABLE, 3, start=(0.5, 0.5)))
    np.testing.assert_allclose(even.start, [0.5, 0.5, 0])
    uneven = FiniteMDP.from_env(Tabled(TABLE, 3, start=(0.2, 0.8)))
    np.testing.assert_allclose(uneven.start, [0.2, 0.8, 0], atol=0.03)


def test_a_table_edited_later_is_the_model_only_if_it_is_stepped():
    env = Tabled(TABLE, 3, shown=keys(TABLE, 0))
    env.P[1][0] = [(1.0, 2, 30.0, True)]
    refused(env, "paid 3 on the way to 2, not 30")
    both = keys(TABLE, 0)
    stepped = Tabled(both, 3)
    both[1][0] = [(1.0, 2, 30.0, True)]
    assert value(stepped) == pytest.approx(GAMMA * 30 - 1)


def test_a_frequency_that_is_off_is_found():
    stepped = keys(TABLE, 0)
    stepped[0][0] = [(0.6, 1, 0.0, False), (0.4, 2, 1.0, True)]
    refused(Tabled(stepped, 3, shown=TABLE), "has outcomes with shares")


def test_taxi_from_a_function():
    assert value(TaxiEnv(), 0.99) == pytest.approx(6.3274643, abs=1e-6)


class Drifting(Tabled):
    """Its table changes as it is stepped."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 3_000:
            self.P[1][0] = [(1.0, 2, 4.0, True)]
        return super().step(action)


def test_a_table_that_steps_change_is_refused_and_stays_as_it_is():
    env = Drifting(keys(TABLE, 0), 3)
    refused(env)
    assert env.P == TABLE


class Drawn(Corridor):
    """Where it ends is drawn by every reset, and no observation shows it."""

    observation_space = spaces.Discrete(10)

    def __init__(self, own):
        super().__init__()
        self.own = own

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        generator = np.random.default_rng(seed) if self.own else self.np_random
        self.end = int(generator.integers(4, 6))
        return 3, {}

    def step(self, action):
        self.s = max(self.s + (1, -1)[action], 0)
        return self.s, 1.0, self.s >= self.end, False, {}


@pytest.mark.parametrize("own", [False, True])
def test_a_layout_drawn_by_reset_is_no_model(own):
    refused(Drawn(own))


class Handing(Tabled):
    """Hands out a model."""

    def __init__(self):
        super().__init__(keys(TABLE, 0), 3)
        self.mdp = FiniteMDP.from_outcomes(TABLE, start=np.eye(3)[0])
        del self.P


def test_a_model_that_is_handed_out_is_believed_unless_a_wrapper_changes_it():
    class Passing(gymnasium.Wrapper):
        def step(self, action):
            return self.env.step(action)

    env = Handing()
    assert FiniteMDP.from_env(env) is env.mdp
    assert FiniteMDP.from_env(gymnasium.wrappers.TimeLimit(env, 5)) is env.mdp
    assert value(Passing(env)) == pytest.approx(V0)
    refused(Costly(env), "Handing")
    refused(Sticky(env, 0.001), "Handing")
    refused(gymnasium.wrappers.TransformReward(env, lambda r: r + 1), "TransformReward changes rewards")


def test_what_cannot_be_copied_says_so():
    env = lake()
    env.unwrapped.lock = (x for x in range(3))  # generators cannot be copied
    refused(env, "FrozenLakeEnv cannot be copied, so its model cannot be tested")


def test_other_observations_are_numbered_as_they_are_discovered():
    class Plane(Corridor):
        observation_space = spaces.MultiDiscrete([6, 2])

        def reset(self, **options):
            return np.array([super().reset(**options)[0], 1]), {}

        def step(self, action):
            place, *rest = super().step(action)
            return np.array([place, 1]), *rest

    mdp = FiniteMDP.from_env(Plane())
    v = dict(zip(mdp.observations[:, 0].tolist(), solve(mdp, GAMMA).v, strict=True))
    assert v == pytest.approx({0: GAMMA**4, 1: GAMMA**3, 2: GAMMA**2, 3: GAMMA, 4: 1.0, 5: 0.0})
    assert mdp.labels[0] == "[3 1]"
