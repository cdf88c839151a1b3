"""Events that the infos of an environment tell: in steps, in evaluations, under a constraint."""

import csv
import re
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from support import composed, make_run, skip_without_extras, update

from rlnet.config import ConfigError
from rlnet.config.files import read_json
from rlnet.envs import GymnasiumConfig, make
from rlnet.envs.checks import Checked
from rlnet.envs.faults import EnvironmentFault
from rlnet.envs.infos import Silent, happened
from rlnet.learning.evaluation import evaluate
from rlnet.learning.training_loop import train
from rlnet.numerics.statistics import wilson
from rlnet.report.page import write_page

pytestmark = pytest.mark.usefixtures("without_pictures")

NAME = "Ditch-v0"


class Ditch(gymnasium.Env):
    """A drive of three steps; action 1 ends in the ditch, at once, with probability ½, and earns 2 before."""

    observation_space, action_space = spaces.Box(0.0, 3.0, (1,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return np.zeros(1, np.float32), {"crashed": False}

    def step(self, action):
        self.place += 1
        crashed = bool(action == 1 and self.np_random.random() < 0.5)
        over = crashed or self.place == 3
        info = {"crashed": crashed, "speed": 1.0}
        return np.full(1, self.place, np.float32), 2.0 if action else 0.0, over, False, info


gymnasium.register(NAME, entry_point=Ditch)
RUN = ("env=gymnasium", f"env.id={NAME}", "env.event=crashed", "algo.envs=4", "network.hidden=[8]", "logger=none")


@pytest.mark.parametrize("stepping", ["sync", "async"])
def test_a_crash_is_that_of_the_step_that_ended_the_episode(stepping):
    run = make_run(*RUN, f"env.stepping={stepping}", "algo=a2c", "algo.rollout=50", "constraint.limit=0.1")
    rows = run.collect()
    event, ended = rows.event, rows.terminated
    run.collector.close()
    assert event.any()
    assert not (event & ~ended).any()  # a crash ends the drive
    assert (rows.action[event] == 1).all()
    # A drive that ended in its third step by a crash, or without one, looks alike but for the event.
    assert (ended & ~event).any()
    charged = run.charged(rows).reward - rows.reward
    assert (charged[~event] == 0).all()


@pytest.mark.parametrize("wrong", [2.0, float("nan"), -1, 0.5, "False", {"hit": True}, [True, "no"], [[1], [1, 0]]])
def test_an_info_that_is_no_truth_value_is_refused(wrong):
    values = np.empty(2, object)
    values[:] = [True, wrong]
    with pytest.raises(EnvironmentFault, match=r"^its infos\['hit'\] is .*, allowed are True, False, 1, 0 and arrays"):
        happened({"hit": values}, "hit", np.zeros(2, bool), False)
    # What another environment did not tell is no value.
    told = {"hit": values, "_hit": np.array([True, False])}
    assert happened(told, "hit", np.zeros(2, bool), False).tolist() == [True, False]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([1.0, 0.0]), [True, False]),
        (np.array([[0, 1], [0, 0]]), [True, False]),
        (np.array([None, True], object), [False, True]),
        (np.array([np.True_, np.array([False, False])], object), [True, False]),
    ],
)
def test_truth_values_of_infos(values, expected):
    assert happened({"hit": values}, "hit", np.zeros(2, bool), False).tolist() == expected


def test_infos_of_a_step_that_resets_are_the_final_ones():
    ended = np.array([True, True, False, False])
    said = {"hit": np.array([False, False, True, True]), "_hit": np.array([True, True, True, False])}
    said["final_info"] = {"hit": np.array([True, False, False, False]), "_hit": np.array([True, True, False, False])}
    assert happened(said, "hit", ended, same_step=True).tolist() == [True, False, True, False]
    assert happened(said, "hit", ended, same_step=False).tolist() == [False, False, True, False]
    assert happened({}, "hit", ended, same_step=True).tolist() == [False] * 4


def test_a_key_that_no_info_holds_is_said_once():
    silent = Silent("crash", "env.id=Ditch-v0")
    said = [silent.warning({"crashed": np.zeros(4), "_crashed": np.ones(4)}, 4) for _ in range(2 * Silent.STEPS)]
    (sentence,) = filter(None, said)
    held = "no info of env.id=Ditch-v0 has held it in 1000 steps; they hold crashed"
    assert sentence == f"env.event=crash: {held}. Where it is told only when it happens, it has not happened"
    assert silent.last() is None
    heard = Silent("crash", "")
    assert heard.warning({"crash": np.zeros(1)}, 1) is None
    assert not any(heard.warning({}, 1) for _ in range(2 * Silent.STEPS))
    assert heard.last() is None


@pytest.mark.parametrize("stepping", ["sync", "async"])
def test_evaluations_say_at_the_first_and_the_last_that_no_info_holds_the_key(stepping, tmp_path, caplog):
    config = composed(*RUN, "env.event=crash", "algo=a2c", "steps=400", f"env.stepping={stepping}")
    train(replace(config, evaluation=replace(config.evaluation, every=100, episodes=3, final_episodes=5)), tmp_path)
    said = [record.message for record in caplog.records if "env.event" in record.message]
    assert [sentence.count("while evaluating: env.event=crash: no info of") for sentence in said] == [1, 1]
    assert all("they hold crashed, speed. Where" in sentence for sentence in said)


@pytest.mark.parametrize(("more", "told"), [((), True), (("constraint.limit=0.1",), False)])
def test_that_nothing_counts_an_event_is_said(more, told, tmp_path, caplog):
    train(composed(*RUN, "algo=a2c", "steps=20", "algo.rollout=5", "evaluation.every=0", *more), tmp_path)
    sentence = "evaluation.every=0: env.event=crashed is counted in evaluations alone, so nothing counts it"
    assert [record.message for record in caplog.records if "every=0" in record.message] == [sentence] * told


def test_an_evaluation_counts_the_episodes_with_a_crash(tmp_path):
    config = composed(*RUN, "algo=a2c", "steps=400", "evaluation.final_episodes=200", "evaluation.every=200")
    result = train(config, tmp_path / "run")
    rates = [float(row["evaluation/event_rate"]) for row in rows(tmp_path / "run") if row["evaluation/event_rate"]]
    assert all(0 <= rate <= 1 for rate in rates)
    assert rates
    found = evaluate(result.run.trained(), 0, 400)["behaviour"]
    assert found["event"].any()
    assert found["event"][found["length"] < 3].all()  # nothing but a crash ends a drive early
    assert not found["event"][found["return"] == 0].any()  # and none happens without the bold action
    written = read_json(tmp_path / "run/evaluation.json")["members"][0]
    for policy in ("behaviour", "greedy"):
        own = written[policy]["event"]
        low, high = wilson(own["episodes"], 200)
        assert own["interval"] == pytest.approx([float(low), float(high)])
    text = write_page(tmp_path / "run", trust=True).read_text(encoding="utf-8")
    assert "with crashed (95 %)" in text
    share, ends = own["episodes"] / 2, f"95 %: {100 * low:.3g} % to {100 * high:.3g} %"
    assert f"The event crashed: in {share:.3g} % of them ({ends})." in text
    assert "learning curve: episodes with the event" in text
    assert '<td class="meaning">share of them with the event</td>' in text


@pytest.mark.slow
def test_the_page_of_a_constrained_run_says_the_limit_beside_what_was_counted(tmp_path):
    train(composed(*RUN, "algo=a2c", "steps=40", "algo.rollout=5", "vary.limit=[0.1,0.25]"), tmp_path / "run")
    text = write_page(tmp_path / "run", trust=True).read_text(encoding="utf-8")
    best = max(read_json(tmp_path / "run/evaluation.json")["settings"], key=lambda one: one["greedy"]["return"]["mean"])
    limit = 100 * best["settings"]["constraint.limit"]
    assert re.search(rf"The event crashed: in [^.]*.*, where constraint\.limit is {limit:g} %\.", text)
    assert "the prediction counts λ" in text
    assert "the obtained returns" not in text.partition("<h2>")[0]  # which do not count it


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_constraint_keeps_the_rate_of_an_environment_without_a_model():
    run = make_run(
        *RUN, "env.stepping=sync", "algo=ppo", "algo.envs=16", "algo.rollout=32", "steps=16_000", "gamma=1",
        "constraint.limit=0.2", "constraint.rate=0.01", "optimizer.learning_rate=0.003",
    )  # fmt: skip
    seen = []
    while int(run.steps.min()) < run.config.steps:
        update(run)
        seen.append(float(run.constraint.logged()["constraint/event_rate"]))
    run.collector.close()
    assert seen[0] > 0.5  # at random
    assert np.mean(seen[-5:]) < 0.3, seen
    assert run.constraint.multiplier.item() > 2.0  # below that the bold action earns more than it loses


def test_events_that_cannot_be_told():
    with pytest.raises(ConfigError, match=r"env\.event=' ': must be the key of the infos"):
        composed(f"env.id={NAME}", "env=gymnasium", "env.event=' '")
    with pytest.raises(ConfigError, match=r"env\.event=prob: .* simulated from its finite model.*; use null"):
        make_run("env=frozen_lake", "env.event=prob")


@pytest.mark.slow
def test_highway_env_by_its_plain_id_tells_crashes():
    skip_without_extras("highway_env")
    run = make_run("env=highway_env", "env.id=highway-fast-v0", "env.stepping=sync", "algo=dqn", "algo.envs=2",
                   "constraint.limit=0.1", "algo.learning_starts=100")  # fmt: skip
    # Read at once: the next rollout is written into the same arrays.
    crashed = [bool((rows.event & rows.terminated).any()) for rows in (run.collect() for _ in range(20))]
    run.collector.close()
    assert run.problem.environment.events == ("crashed",)
    assert any(crashed)


ODD = {  # what an info may hold, where n changes from step to step
    "shape": lambda n: {"v": np.zeros(n)},
    "type": lambda n: {"k": 1 if n % 2 else "x"},
    "nested": lambda n: {"k": {"a": 1} if n % 2 else 3},
    "large": lambda n: {"k": 10**30},
    "taken": lambda n: {"final_obs": 3, "final_info": {"a": 1}, "_final_obs": n},
    "no mask": lambda n: {"action_mask": None},
    "event": lambda n: {"crashed": np.ones(n, bool) if n % 2 else 0.0, "v": np.zeros(n)},
}


class Talking(gymnasium.Env):
    """Observes its age over 10, and says something odd."""

    observation_space, action_space = gymnasium.spaces.Box(0, 1, (2,)), gymnasium.spaces.Discrete(2)

    def __init__(self, says="shape"):
        self.says = says

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age = 0
        return np.zeros(2, np.float32), ODD[self.says](1)

    def step(self, action):
        self.age += 1
        said = ODD[self.says](int(self.np_random.integers(1, 5)))
        self.said = said
        return np.full(2, self.age / 10, np.float32), 1.0, self.age > 3, False, said


@pytest.mark.parametrize("event", [None, "crashed"])
@pytest.mark.parametrize("says", ODD)
def test_infos_of_any_content_are_no_fault_and_change_nothing(says, event, monkeypatch):
    monkeypatch.setitem(
        gymnasium.registry, "Talking-v0", gymnasium.envs.registration.EnvSpec("Talking-v0", Talking, kwargs={})
    )
    simulation = make(
        GymnasiumConfig(name="x", gamma=0.9, id="Talking-v0", kwargs={"says": says}, event=event)
    ).simulate([0], 4)
    if event is not None:
        simulation.watch(event)
    simulation.reset()
    for k in range(12):
        step = simulation.step(np.zeros((1, 4), np.int64))
        np.testing.assert_allclose(step.next_obs, (k % 4 + 1) / 10, rtol=1e-6)
        if event is not None and k % 4 != 3:
            said = [env.unwrapped.said for env in simulation._vectors[0].envs]
            assert step.event[0].tolist() == [bool(np.any(one.get("crashed", False))) for one in said]


def test_an_info_that_is_no_dict_is_named():
    class Mute(Talking):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed)[0], None

    with pytest.raises(EnvironmentFault, match="its reset gave the info None, which must be a dict"):
        Checked(Mute()).reset()
