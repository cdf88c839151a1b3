"""Audits: right simulators raise no alarm, planted errors are found at a stated sample size."""

import json
import os
import sys
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from commands.test_command_line import script
from gymnasium.vector import AutoresetMode
from passages import Passage, explored, passage
from scipy.stats import binom
from support import quick_rows, random_mdp

from rlnet.audit import PopulationSource, SingleSource, VectorSource, audit
from rlnet.audit.job import audit_and_write
from rlnet.audit.rows import RowSource
from rlnet.config import AuditConfig, ConfigError
from rlnet.envs import GridworldEnv, GymnasiumConfig, TabularEnv, TabularSimulation, TabularVectorEnv, make, preset
from rlnet.mdp import FiniteMDP
from rlnet.report.audited import show_audit


def population(mdp: FiniteMDP, envs: int = 64, limit: int | None = None, seed: int = 0) -> PopulationSource:
    return PopulationSource("population", TabularSimulation(mdp, [seed, seed + 1], envs, max_steps=limit))


def sources(mdp: FiniteMDP, limit: int | None) -> list:
    """Every simulator of rlnet."""
    vectors = [
        VectorSource(mode.value, TabularVectorEnv(mdp, 16, max_episode_steps=limit, autoreset_mode=mode), 3, 1e-6)
        for mode in AutoresetMode
    ]
    return [
        population(mdp, limit=limit),
        SingleSource("single", TabularEnv(mdp, max_episode_steps=limit), 3),
        *vectors,
    ]


@pytest.mark.parametrize("limit", [None, 7])
def test_rlnets_own_simulators_agree_with_their_models(limit):
    mdp = random_mdp(4, states=5, actions=2)
    for source in sources(mdp, limit):
        found = audit(mdp, source, limit, 6_000)
        assert found.findings == []
        assert found.tried == found.pairs
        assert found.episodes > 50
        assert (found.cut > 0) == (limit is not None)


@pytest.mark.slow
def test_two_hundred_right_simulators_raise_alarms_no_more_often_than_the_stated_level():
    """Of 24 pairs with two outcomes each, whose single tests use their level up: without Holm 70 % would be alarms."""
    level, rng = 0.05, np.random.default_rng(0)
    likely = rng.uniform(0.3, 0.7, size=(12, 2))
    transition = np.zeros((12, 2, 12))
    for s in range(12):
        transition[s, :, (s + 1) % 12], transition[s, :, (s + 5) % 12] = likely[s], 1 - likely[s]
    mdp = FiniteMDP.from_arrays(transition, np.zeros((12, 2)))
    alarms = sum(
        bool(audit(mdp, population(mdp, seed=1000 * k), None, 4_000, level=level, seed=k).findings) for k in range(200)
    )
    assert alarms <= binom.ppf(0.999, 200, level)


@pytest.mark.slow
def test_one_percent_in_one_transition_is_found_at_the_stated_sample_size():
    mdp = random_mdp(6, states=4, actions=2)
    pair = int(mdp.pair_index[2].max())
    first = int(mdp.outcome_ptr[pair])
    probability = mdp.probability.copy()
    probability[first : first + 2] += [0.01, -0.01] if probability[first + 1] > 0.01 else [-0.01, 0.01]
    found = audit(mdp, population(replace(mdp, probability=probability), envs=2048), None, 1_000_000)
    assert found.smallest_error_worst <= 0.01  # it says so itself
    assert {(f.kind, f.state, f.action) for f in found.findings} == {("frequency", 2, int(mdp.pair_action[pair]))}
    honest = audit(mdp, population(mdp, envs=2048), None, 1_000_000)
    assert honest.findings == []


def changed(**arrays: np.ndarray) -> FiniteMDP:
    return replace(make(preset("four_rooms")).mdp, **arrays)


def one_changed(name: str, value: float | bool) -> FiniteMDP:
    array = np.array(getattr(changed(), name))
    array[300] = value
    return changed(**{name: array})


def test_a_wrong_wall_is_found():
    config = preset("four_rooms")
    lines = config.map.splitlines()
    row, column = next((r, line.index("..")) for r, line in enumerate(lines) if ".." in line and r > 1)
    walled = replace_map(config, lines, row, column)
    right, wrong = make(config).mdp, GridworldEnv(preset="four_rooms", map=walled).mdp
    assert wrong.n_states == right.n_states - 1
    # The same numbering of states as in the right model: the wall's cell stays, nothing leads into it.
    cell = np.setdiff1d(cells(right), cells(wrong))
    assert len(cell) == 1
    state = int(np.flatnonzero(cells(right) == cell[0])[0])
    pair = np.repeat(np.arange(right.n_pairs), np.diff(right.outcome_ptr))
    blocked = np.where(right.next_state == state, right.pair_state[pair], right.next_state)
    found = audit(right, population(replace(right, next_state=blocked)), None, 60_000)
    assert found.findings
    assert {f.kind for f in found.findings} <= {"outcome", "frequency"}
    assert all(right.transition[right.pair_index[f.state, f.action], state] > 0 for f in found.findings)


def replace_map(config, lines: list[str], row: int, column: int) -> str:
    lines = list(lines)
    lines[row] = lines[row][:column] + "#" + lines[row][column + 1 :]
    return "\n".join(lines)


def cells(mdp: FiniteMDP) -> np.ndarray:
    return np.arange(mdp.n_states) if mdp.cell is None else np.asarray(mdp.cell)


@pytest.mark.parametrize(("name", "value", "kind"), [("terminated", True, "terminated"), ("reward", 1e-4, "reward")])
def test_a_flipped_end_and_a_reward_off_by_a_little_are_found(name, value, kind):
    mdp, wrong = changed(), one_changed(name, value)
    assert mdp.reward[300] == 0
    assert not mdp.terminated[300]
    found = audit(mdp, population(wrong), None, 60_000).findings
    pair = int(np.searchsorted(mdp.outcome_ptr, 300, side="right")) - 1
    wanted = (kind, int(mdp.pair_state[pair]), int(mdp.pair_action[pair]))
    assert [(f.kind, f.state, f.action) for f in found] == [wanted]


@pytest.mark.parametrize(
    ("actual", "sentence"), [(8, "goes on after"), (6, "before its time limit"), (None, "goes on")]
)
def test_a_time_limit_that_is_off_by_one_is_found_in_every_simulator(actual, sentence):
    mdp = random_mdp(4, states=5, actions=2, ends=False)
    for source in sources(mdp, actual):
        found = audit(mdp, source, 7, 500).findings
        assert any(f.kind == "protocol" and sentence in f.seen for f in found), source.name
    limited = audit(mdp, population(mdp, limit=7), None, 500).findings
    assert any("although there is no time limit" in f.seen for f in limited)


class WrongReset(TabularVectorEnv):
    """Autoreset hands out a state that no episode begins in; in NEXT_STEP mode it also pays for it."""

    def step(self, actions):
        held = self._ended.copy()
        obs, reward, terminated, truncated, infos = super().step(actions)
        first = held if self.autoreset_mode is AutoresetMode.NEXT_STEP else terminated | truncated
        if self.autoreset_mode is not AutoresetMode.DISABLED:
            obs = np.where(first, 1, obs)
            reward = reward + held
            infos.pop("final_obs", None)
        return obs, reward, terminated, truncated, infos

    def reset(self, *, seed=None, options=None):
        obs, infos = super().reset(seed=seed, options=options)
        if options is not None:
            mask = options["reset_mask"]
            obs = np.where(mask, 1, (obs + ~mask * (obs == 2)))  # and it moves others
        return obs, infos


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_wrong_first_observation_after_an_end_is_found(mode):
    mdp = random_mdp(4, states=5, actions=2).with_start(np.eye(5)[0])
    found = audit(mdp, VectorSource("wrong", WrongReset(mdp, 16, autoreset_mode=mode), 0, 1e-6), None, 600).findings
    assert any(f.kind == "autoreset" and f.state == 1 for f in found)
    protocol = " ".join(f.seen for f in found if f.kind == "protocol")
    wanted = {"NextStep": "a reward on a reset", "SameStep": "without infos['final_obs']", "Disabled": "moves"}
    assert wanted[mode.value] in protocol


def test_a_wrong_start_distribution_is_found():
    mdp = random_mdp(4, states=5, actions=2, ends=False)
    other = mdp.with_start(np.roll(mdp.start, 1))
    found = audit(mdp, population(other, limit=5), 5, 4_000).findings
    assert {"autoreset"} <= {f.kind for f in found} <= {"start", "autoreset"}


@pytest.mark.parametrize(
    ("env", "limit"), quick_rows([("FrozenLake-v1", 100), ("CliffWalking-v1", 60), ("Taxi-v4", 200)], 1)
)
def test_toy_text_environments_agree_with_their_tables_by_their_own_code(env, limit):
    one = gymnasium.make(env, max_episode_steps=limit)
    mdp = FiniteMDP.from_env(one)
    for source in (
        SingleSource("single", one, 0),
        VectorSource("v", gymnasium.make_vec(env, 8, max_episode_steps=limit), 0),
    ):
        found = audit(mdp, source, limit, 12_000)
        assert found.findings == []
        assert found.cut > 0
        assert found.tried > 0.85 * found.pairs


WRONG_LAKE = '''
import gymnasium
from gymnasium.envs.toy_text import FrozenLakeEnv

class WrongLake(FrozenLakeEnv):
    """Its table says that the hole at 5 is terminal; its code swims."""

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated and obs != 5, truncated, info

gymnasium.register("WrongLake-v0", entry_point=WrongLake, max_episode_steps=50)
'''


@pytest.mark.slow
def test_the_script_names_what_differs_and_ends_with_exit_code_1(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "wrong_lake.py").write_text(WRONG_LAKE)
    command = ("env=frozen_lake", "env.id=wrong_lake:WrongLake-v0", "samples=1500", "hydra.run.dir=audit")
    done = script("audit", *command, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "simulator and model differ in" in done.stderr
    assert "terminated" in done.stdout
    written = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert not written["agree"]
    for simulator in written["simulators"]:
        ends = [f["expected"] for f in simulator["findings"] if f["kind"] == "terminated"]
        assert set(ends) == (set() if simulator["simulator"] == "population" else {"terminated=True on entering 5"})


SLIPPING = """
import gymnasium, numpy as np
from gymnasium import spaces
from gymnasium.envs.toy_text import FrozenLakeEnv

class Corridor(gymnasium.Env):
    observation_space, action_space = spaces.Discrete(6, start=2), spaces.Discrete(2, start=1)

    def __init__(self, slip=0.0, patience=10**12, table=False):
        self.rng, self.slip, self.patience = np.random.default_rng(0), slip, patience
        if table:
            self.P = {s: {a: [(1.0, max(s + (1, -1)[a], 0), float(s == 4 and a == 0), s == 4 and a == 0)]
                          for a in (0, 1)} for s in range(5)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s, self.age = 3, 0
        return 5, {}

    def step(self, action):
        self.age += 1
        if self.slip and self.rng.random() < self.slip:
            action = 3 - action
        self.s = max(self.s + (1, -1)[action - 1], 0)
        return self.s + 2, float(self.s == 5), self.s == 5, self.age >= self.patience, {}

class Clock(FrozenLakeEnv):
    def reset(self, **options):
        self.age = 0
        return super().reset(**options)

    def step(self, action):
        self.age += 1
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated or self.age >= 100_000, truncated, info

gymnasium.register("Corridor-v0", entry_point=Corridor)
gymnasium.register("Clock-v0", entry_point=Clock)
"""


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    quick_rows(
        [
            ({"slip": 0.02, "table": True}, "outcome", "successor"),
            ({"patience": 30}, "protocol", "truncates an episode although there is no time limit"),
            ({"patience": 30, "table": True}, "protocol", "truncates an episode although there is no time limit"),
            ({"table": True}, None, None),
            ({}, None, None),
        ],
        3,
    ),
)
def test_what_a_model_does_not_know_is_found(tmp_path, monkeypatch, options, kind, text):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slipping.py").write_text(SLIPPING)
    env = GymnasiumConfig(name="corridor", gamma=0.9, id="slipping:Corridor-v0", kwargs=options)
    result = audit_and_write(AuditConfig(env=env, samples=2_000, envs=4), tmp_path)
    own = [one for one in result.audits if one.simulator != "population"]
    assert len(own) == 4
    for one in own:
        assert bool(one.findings) == (kind is not None)
        assert kind is None or any(f.kind == kind and text in f.seen for f in one.findings)
    monkeypatch.delitem(sys.modules, "slipping")


def test_what_hides_from_a_walk_is_told_as_the_trial_of_the_model_told_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slipping.py").write_text(SLIPPING)
    env = GymnasiumConfig(name="clock", gamma=0.9, id="slipping:Clock-v0")
    result = audit_and_write(AuditConfig(env=env, samples=1_000, envs=4), tmp_path)
    told = [f.seen for one in result.audits for f in one.findings if f.kind == "model"]
    assert len(told) == 1
    assert "Clock" in told[0]
    slipping = GymnasiumConfig(name="corridor", gamma=0.9, id="slipping:Corridor-v0", kwargs={"slip": 0.02})
    with pytest.raises(ConfigError, match=r"env.id=slipping:Corridor-v0: has no finite model .* acts by chance"):
        audit_and_write(AuditConfig(env=slipping, samples=1_000), tmp_path)
    monkeypatch.delitem(sys.modules, "slipping")


def test_the_table_of_an_audit(tmp_path, capsys):
    result = audit_and_write(AuditConfig(env=preset("sutton4x4"), samples=3_000, envs=16), tmp_path)
    assert result.differences == 0
    show_audit(result)
    out = capsys.readouterr().out
    assert "No difference between the simulators and the model was found." in out
    assert "vector Disabled" in out


@pytest.mark.slow
def test_states_that_are_shown_as_pictures_are_audited_even_where_they_look_alike(tmp_path):
    found = audit_and_write(AuditConfig(env=passage(), samples=600, envs=4, seed=0), tmp_path)
    assert [one.simulator.partition(" ")[0] for one in found.audits] == ["population", "single", *["vector"] * 3]
    for one in found.audits:
        assert (one.findings, one.pairs) == ([], 54)  # 18 states that go on, three actions
        assert one.episodes > 50
    assert found.differences == 0


class Bent(Passage):
    """A passage in which something is other than in its model."""

    wrong = ""

    def step(self, action):
        seen, reward, terminated, truncated, info = super().step(action)
        at = self.age == 5 and self.place == 1
        if self.wrong == "reward" and terminated:
            reward += 0.01
        if self.wrong == "end" and at:
            terminated = True
        if self.wrong == "place" and at:
            self.place = 2
            seen = self._seen()
        if self.wrong == "picture" and at:
            seen["picture"] = np.full_like(seen["picture"], 7)
        return seen, reward, terminated, truncated, info


@pytest.mark.parametrize(
    ("wrong", "kind"),
    quick_rows([("picture", "protocol"), ("place", "outcome"), ("reward", "reward"), ("end", "terminated")], 2),
)
def test_errors_of_an_environment_of_pictures_are_found(wrong, kind):
    right = explored()
    bent = Bent()
    bent.wrong = wrong
    source = RowSource(SingleSource("single", bent, 0), right.states, right.mdp, "env.id=Bent")
    found = audit(right.mdp, source, None, 2_000).findings
    assert kind in {one.kind for one in found}
    if wrong == "picture":
        assert "belongs to no state of the finite model" in found[0].seen


def test_states_that_look_alike_and_may_follow_the_same_one_cannot_be_audited():
    right = explored()
    start = right.mdp.start.copy()
    other = int(np.flatnonzero(right.states.of_state == right.states.of_state[start.argmax()])[1])
    start[[start.argmax(), other]] = 0.5
    source = SingleSource("single", Passage(), 0)
    with pytest.raises(ConfigError, match=r"^env\.id=Two: states \d+ and \d+ look alike where either may come, so an"):
        RowSource(source, right.states, replace(right.mdp, start=start), "env.id=Two")
