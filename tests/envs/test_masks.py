"""Masks of available actions: from `info["action_mask"]` or from a Dict observation, in every way of stepping."""

from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from support import composed, quick, trained, update

from rlnet.config import ConfigError, RunFailed
from rlnet.envs import GymnasiumConfig, GymnasiumSimulation, make
from rlnet.experiment.problem import build
from rlnet.learning.policy import Policy
from rlnet.learning.training_state import TrainingState

ACTIONS = 3
SPACES = {
    "info": None,
    "int8": spaces.Box(0, 1, (ACTIONS,), np.int8),
    "binary": spaces.MultiBinary(ACTIONS),
}
FAULTS = {
    "nothing": (np.zeros(ACTIONS, np.int8), "its action_mask allows no action, in an observation that is not terminal"),
    "short": (np.ones(2, np.int8), r"its action_mask has the shape \(2,\), there are 3 actions"),
    "flat": (1, r"its action_mask has the shape \(\), there are 3 actions"),
    "real": (np.array([1.0, 0.5, 0.0]), r"its action_mask \[1.0, 0.5, 0.0\] is float64, it must be bool, or int8"),
    "counted": (np.array([1, 0, 2], np.int8), r"its action_mask \[1, 0, 2\] holds other numbers than 0 and 1"),
}


class Doors(gymnasium.Env):
    """Three doors, of which a drawn set is open: the observation is (time, which are open), so that tests know it too.

    Episodes end by chance, with all doors closed, or are cut after six steps.

    Args:
        gives: how it tells which doors are open, see `SPACES`.
        name: of the observation's part of a Dict.
        fault: one of `FAULTS`, in step 4.
    """

    action_space = spaces.Discrete(ACTIONS, start=5)

    def __init__(self, gives: str = "info", name: str = "observation", fault: str | None = None) -> None:
        self.gives, self.name, self.fault, self.life = gives, name, fault, 0
        seen = spaces.Box(0, 6, (1 + ACTIONS,), np.float32)
        whole = spaces.Dict({name: seen, "action_mask": SPACES[gives] or spaces.Discrete(2)})
        self.observation_space = seen if gives == "info" else whole

    def _seen(self, ends: bool = False):
        self.open = np.zeros(ACTIONS, np.int8)
        if not ends:
            self.open[self.np_random.integers(ACTIONS)] = 1
            self.open |= (self.np_random.random(ACTIONS) < 0.4).astype(np.int8)
        seen, mask = np.array([self.t, *self.open], np.float32), self.open.copy()
        if self.fault is not None and self.life == 4:
            mask = FAULTS[self.fault][0]
        return (seen, {"action_mask": mask}) if self.gives == "info" else ({self.name: seen, "action_mask": mask}, {})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._seen()

    def step(self, action):
        assert self.open[action - 5], "a closed door"
        self.t, self.life = self.t + 1, self.life + 1
        ends = bool(self.np_random.random() < 0.2) and self.fault is None
        obs, info = self._seen(ends)
        return obs, float(action - 5), ends, self.t == 6 and not ends, info


def vector(num_envs: int = 1, kind: type = SyncVectorEnv, mode=AutoresetMode.SAME_STEP, **options) -> SyncVectorEnv:
    """Doors as a vector environment, with no checks of its own."""
    return kind([partial(Doors, **options)] * num_envs, autoreset_mode=mode)


gymnasium.register("Doors-v0", Doors)
gymnasium.register("DoorsVector-v0", Doors, vector_entry_point=vector)


@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
@pytest.mark.parametrize("mode", quick(AutoresetMode, [AutoresetMode.NEXT_STEP]))
@pytest.mark.parametrize("gives", SPACES)
def test_masks_are_those_of_the_observations_in_every_mode(kind, mode, gives):
    """Closed doors refuse; terminal observations, after which nobody acts, have masks that allow everything."""
    vectors = [vector(3, kind, mode, gives=gives) for _ in range(2)]
    simulation, rng = GymnasiumSimulation(vectors, [3, 8], masks=True), np.random.default_rng(0)
    obs, ends = simulation.reset(), 0
    assert obs.shape == (2, 3, 1 + ACTIONS)
    pending = np.zeros((2, 3), bool)  # NEXT_STEP: terminal observations, after which the action is ignored
    for _ in range(60):
        mask = simulation.mask
        np.testing.assert_array_equal(mask[~pending], obs[~pending][:, 1:] == 1)
        assert mask[pending].all()
        step = simulation.step(np.argmax(rng.random(mask.shape) * mask, -1))
        on = ~step.terminated
        np.testing.assert_array_equal(step.next_mask[on], step.next_obs[on][:, 1:] == 1)
        assert step.next_mask[step.terminated].all()
        pending = step.terminated if mode is AutoresetMode.NEXT_STEP else pending
        obs, ends = step.obs, ends + step.terminated.sum()
        assert step.mask is simulation.mask
    assert ends > 20
    simulation.close()


@pytest.mark.slow
@pytest.mark.parametrize("stepping", quick(["vector", "sync", "async"], 1))
def test_a_mask_in_an_observation_is_worth_the_same_in_an_info(stepping):
    """The same environment told in both ways: rollouts and learned parameters are the same, bit for bit."""
    torch.set_num_threads(1)
    runs = []
    for gives in ("info", "binary"):
        own = ("env=gymnasium", "env.id=DoorsVector-v0", f"+env.kwargs.gives={gives}", f"env.stepping={stepping}")
        config = composed(*own, "seeds=2", "algo=dqn", "algo.envs=2", "algo.n_step=2", "algo.learning_starts=64")
        runs.append(TrainingState(config, build(config)))
    for _ in range(30):
        one, other = (update(run) for run in runs)
        for name in one.names:
            assert torch.equal(one.tensor(name), other.tensor(name)), name
    assert torch.equal(*(run.learner.theta for run in runs))
    assert runs[1].problem.environment.observation_shape == (1 + ACTIONS,)
    for run in runs:
        run.collector._simulation.close()


@pytest.mark.parametrize("gives", quick(["info", "int8"], 1))
@pytest.mark.parametrize("algo", quick(["dqn", "ppo", "sac_discrete", "sarsa"], 2))
def test_masks_are_kept_in_acting_and_in_learning(algo, gives):
    """Whoever tries a closed door fails; values and policies of closed doors are −inf."""
    torch.set_num_threads(1)
    own = ("env=gymnasium", "env.id=Doors-v0", f"+env.kwargs.gives={gives}", "seeds=2", f"algo={algo}")
    size = ("algo.envs=4", "algo.rollout=8", "network.hidden=[8]")
    config = composed(*own, *size, *(["algo.learning_starts=64"] if algo in ("dqn", "sac_discrete") else []))
    run = TrainingState(config, build(config))
    assert run.problem.context.masked
    for _ in range(12):
        rollout = update(run)
        state, taken = rollout.state, rollout.action.unsqueeze(-1)
        assert state.mask.gather(-1, taken)[rollout.valid].all()
        assert torch.equal(state.mask[rollout.valid], state.obs[rollout.valid][:, 1:] == 1)
        context, params = run.problem.context, run.learner.params
        for role, values in (("q", context.q), ("pi", context.policy)):
            if role in run.problem.algorithm.roles:
                assert torch.equal(values(params, state) == -torch.inf, ~state.mask)
    assert not state.mask.all()


class Corridor(gymnasium.Env):
    """Two rooms: in the first, doors 0 and 1 are open and pay 0 and 1; in the last, 1 and 2, which pay 0 and ½."""

    observation_space = spaces.Dict({"room": spaces.Discrete(2), "action_mask": spaces.MultiBinary(ACTIONS)})
    action_space = spaces.Discrete(ACTIONS)
    PAYS = ((0.0, 1.0, None), (None, 0.0, 0.5))

    def _seen(self):
        mask = np.array([pay is not None for pay in self.PAYS[self.room % 2]], np.int8)
        return {"room": self.room % 2, "action_mask": mask if self.room < 2 else mask * 0}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.room = 0
        return self._seen(), {}

    def step(self, action):
        pay = self.PAYS[self.room][action]
        assert pay is not None, "a closed door"
        self.room += 1
        return self._seen(), pay, self.room == 2, False, {}


gymnasium.register("MaskedCorridor-v0", Corridor)
FAR = 5.0  # the first value of every action: closed doors keep it, and would lead targets that looked at them astray


MAXIMISING = ["dqn", "double_dqn", "q_learning", "qr_dqn", "soft_q", "sac_discrete"]


@pytest.mark.slow
@pytest.mark.parametrize("algo", quick(MAXIMISING, ["q_learning"]))
def test_closed_doors_never_enter_the_maximum_of_a_target(algo):
    """Q(0, ·) = (γ/2, 1 + γ/2, −) and Q(1, ·) = (−, 0, 1/2) by hand; a temperature of .1 adds less than .001."""
    torch.set_num_threads(1)
    own = ("env=gymnasium", "env.id=MaskedCorridor-v0", "gamma=0.8", "network=tabular", f"network.initial_value={FAR}")
    rate = ("optimizer=adam", "optimizer.learning_rate=0.05", "schedule@optimizer.schedule=decay")
    acting = () if algo == "sac_discrete" else ("schedule=constant", "schedule.value=1")
    soft = ("algo.hyper.temperature=0.1",) if algo in ("sac_discrete", "soft_q") else ()
    replayed = () if algo == "q_learning" else ("algo.learning_starts=256", "algo.batch=64", "algo.capacity=2000")
    run = trained(*own, f"algo={algo}", *rate, *acting, *soft, *replayed, "steps=20000")
    assert run.problem.environment.n_states == 2
    policy = Policy(run.trained())
    room = {"room": np.array([0, 1]), "action_mask": np.array([[1, 1, 0], [0, 1, 1]], np.int8)}
    np.testing.assert_allclose(policy.q(room), [[0.4, 1.4, -np.inf], [-np.inf, 0.0, 0.5]], atol=0.1)
    assert policy(room).tolist() == [1, 2]


@pytest.mark.parametrize("kind", ["sync", "async", "vector"])
@pytest.mark.parametrize("gives", ["info", "int8"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_mask_that_cannot_be_used_is_named_with_environment_step_and_seed(kind, gives, fault):
    if kind == "async" and fault != "short":
        pytest.skip("the same checks, in another process")
    said = FAULTS[fault][1]
    if kind == "vector" and fault in ("short", "flat", "real", "counted"):
        said = ".*"  # Gymnasium's vectors refuse what does not fit into their arrays, or put it there
        if gives == "int8" and fault in ("flat", "real"):
            pytest.skip("made to fit by Gymnasium's own arrays")
    kwargs = {"gives": gives, "fault": fault}
    config = GymnasiumConfig(name="x", gamma=0.9, id="DoorsVector-v0", kwargs=kwargs, stepping=kind)
    simulation = make(config).simulate([7], 2)
    simulation.reset()
    for _ in range(3):
        simulation.step(simulation.mask.argmax(-1))
    with pytest.raises(RunFailed, match=rf"^env.id=DoorsVector-v0: {said}.* \(in step 4 of seed 7\)$"):
        simulation.step(simulation.mask.argmax(-1))
    simulation.close()


class Misfit(Doors):
    """Spaces that say too little or something else."""

    def __init__(self, mask=None, actions=None, more=None) -> None:
        super().__init__("int8")
        extra = {"more": more} if more else {}
        seen = self.observation_space["observation"]
        self.observation_space = spaces.Dict({"observation": seen, "action_mask": mask or SPACES["int8"], **extra})
        self.action_space = actions or self.action_space


gymnasium.register("Misfit-v0", Misfit)


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"mask": spaces.MultiBinary(4)}, r"its action_mask is MultiBinary\(4\): must be MultiBinary\(3\) or a Box"),
        ({"mask": spaces.MultiBinary((3, 1))}, r"its action_mask is MultiBinary\(\(3, 1\)\): must be MultiBinary\(3\)"),
        ({"mask": spaces.Box(0, 1, (3,), np.float32)}, r"its action_mask is Box.*float32\): must be"),
        ({"mask": spaces.Discrete(3)}, r"its action_mask is Discrete\(3\): must be"),
        ({"actions": spaces.Box(-1, 1, (3,))}, "observations with an action_mask need Discrete actions"),
        ({"more": spaces.Text(5)}, r"observations of Text.* are not supported, found in part \['more'\]"),
    ],
)
def test_spaces_that_do_not_fit_are_refused(kwargs, said):
    with pytest.raises(ConfigError, match=rf"^env.id=Misfit-v0: .*{said}"):
        make(GymnasiumConfig(name="x", gamma=0.9, id="Misfit-v0", kwargs=kwargs))


def test_a_policy_takes_the_observation_with_its_mask():
    torch.set_num_threads(1)
    config = composed(
        "env=gymnasium", "env.id=Doors-v0", "+env.kwargs.gives=int8", "+env.kwargs.name=board", "algo=ppo"
    )
    run = TrainingState(config, build(config))
    policy, seen = Policy(run.trained()), np.array([0, 0, 0, 1], np.float32)
    assert policy({"board": seen, "action_mask": np.array([0, 0, 1], np.int8)}) == 7
    assert policy({"board": seen, "action_mask": np.array([0, 1, 0], np.int8)}, sample=True) == 6
    with pytest.raises(ValueError, match=r"the caller gave the observation .*, not a dict of board and action_mask"):
        policy({"board": seen})


@pytest.mark.parametrize("truth", ["explore", "grid"])
def test_a_model_that_would_not_know_the_masks_is_refused(truth):
    config = GymnasiumConfig(name="x", gamma=0.9, id="Doors-v0", kwargs={"gives": "int8", "name": "board"}, truth=truth)
    with pytest.raises(ConfigError, match=f"^env.truth={truth}: its observations come with an action_mask"):
        make(config)
