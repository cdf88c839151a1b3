"""Wrappers from settings: what they change, that models and stepping know of them, trust, and bad input."""

import gymnasium
import numpy as np
import pytest
from support import composed, make_run, update

from rlnet.config import ConfigError
from rlnet.config.trust import check_trusted
from rlnet.envs import GymnasiumConfig, make
from rlnet.envs.wrapping import wrapped
from rlnet.learning.policy import Policy
from rlnet.learning.watching import watched


class Doubled(gymnasium.Wrapper):
    """Pays `factor` times the reward."""

    def __init__(self, env, factor=2.0):
        super().__init__(env)
        self.factor = factor

    def step(self, action):
        obs, reward, *rest = self.env.step(action)
        return obs, self.factor * reward, *rest


def minus(reward):
    return -reward


def own(name, **arguments):
    return {f"{__name__}.{name}": arguments}


def config(id_, *wrappers, **options):
    return GymnasiumConfig(name="x", gamma=0.9, id=id_, wrappers=list(wrappers), **options)


@pytest.mark.parametrize("stepping", ["sync", "async", "auto"])
def test_wrappers_stand_around_every_environment_from_the_inside_out(stepping):
    wrappers = [{"TimeLimit": {"max_episode_steps": 3}}, {"FrameStackObservation": {"stack_size": 2}}, own("Doubled")]
    environment = make(config("Pendulum-v1", *wrappers, stepping=stepping))
    assert (environment.observation_shape, environment.max_steps) == ((6,), 3)
    simulation = environment.simulate([4], 2)
    simulation.reset()
    env = wrapped(gymnasium.make("Pendulum-v1"), wrappers)
    steps = [simulation.step(np.zeros((1, 2, 1), np.float32)) for _ in range(6)]
    assert [step.truncated.tolist() for step in steps] == [[[k % 3 == 2] * 2] for k in range(6)]
    seen, _ = env.reset(seed=0)
    state = env.unwrapped.state
    assert seen.shape == (2, 3)
    first = steps[0].next_obs[0, 0].reshape(2, 3)
    env.unwrapped.state = np.array([np.arctan2(first[0, 1], first[0, 0]), first[0, 2]])
    assert env.step(np.zeros(1, np.float32))[1] == pytest.approx(float(steps[0].reward[0, 0]), rel=1e-4)
    assert state is not None
    simulation.close()


def test_a_model_is_that_of_what_is_stepped_wrappers_included():
    """Rewards that are doubled are no longer those of `P`: there is no model, and the reason is told."""
    assert make(config("FrozenLake-v1", {"TimeLimit": {"max_episode_steps": 7}})).mdp is not None
    changed = make(config("FrozenLake-v1", own("Doubled")))
    assert changed.mdp is None
    assert "FrozenLake" in changed.no_model
    negated = make(config("CliffWalking-v1", {"TransformReward": {"func": f"{__name__}.minus"}}))
    assert negated.mdp is None
    simulation = negated.simulate([0], 1)
    simulation.reset()
    assert simulation.step(np.zeros((1, 1), np.int64)).reward == 1


def test_wrappers_that_add_to_observations_train():
    run = make_run("env=cartpole", "env.wrappers=[{TimeAwareObservation:{flatten:false}}]", "algo=ppo", "algo.envs=2")
    rollout = update(run)
    assert rollout.obs.shape[-1] == 5
    assert run.problem.environment.encoder is not None


def test_code_of_others_is_named_and_needs_trust():
    foreign = composed("env=cartpole", f"env.wrappers=[{{{__name__}.Doubled:{{factor:3}}}}]")
    for given, fails in ((frozenset(), True), (frozenset({"env.wrappers"}), False)):
        if fails:
            with pytest.raises(
                ConfigError, match=r"^run: env.wrappers=.*Doubled\(factor=3\) is an environment that others"
            ):
                check_trusted(foreign, "run", given)
        else:
            check_trusted(foreign, "run", given)
    check_trusted(composed("env=cartpole", "env.wrappers=[FlattenObservation]"), "run")
    hidden = config("CartPole-v1", {"TransformReward": {"func": "os.remove"}})
    assert hidden.foreign_settings() == ["env.wrappers=TransformReward(func=os.remove)"]
    assert config("CartPole-v1", "FlattenObservation").foreign_settings() == []
    plain = config("CartPole-v1")
    assert plain.stepped() != config("CartPole-v1", "FlattenObservation").stepped()


@pytest.mark.parametrize(
    ("wrapper", "said"),
    [
        ("Framestack", "env.wrappers=Framestack: is no wrapper of Gymnasium, nor module.Name of one; there are Add"),
        ("NormalizeObservation", "env.wrappers=NormalizeObservation: .*use network.normalize_observations=true"),
        ({"TimeLimit": 3}, r"env.wrappers=\{'TimeLimit': 3\}: must be names of wrappers"),
        ({"TimeLimit": {}, "Other": {}}, "must be names of wrappers, each by itself or as"),
        (7, "env.wrappers=7: must be names of wrappers"),
        ({"TimeLimit": {"max_episode_steps": -1}}, r"env.wrappers: TimeLimit\(max_episode_steps=-1\) cannot be put"),
        ({"FrameStackObservation": {"size": 4}}, r"env.wrappers: FrameStackObservation\(size=4\) cannot be put around"),
        ("no_such_module.Thing", r"env.wrappers=no_such_module.Thing: cannot be imported \(ModuleNotFoundError"),
        ("math.pi", "env.wrappers=math.pi: must be a class or a function"),
        ({"TransformReward": {"func": "abs"}}, "its func must be module.name of a function"),
        ("GrayscaleObservation", "env.wrappers: GrayscaleObservation.* cannot be put around"),
        ("ArrayConversion", "env.wrappers=ArrayConversion: .* arrays of numpy"),
        ("gymnasium.wrappers.NumpyToTorch", "env.wrappers=NumpyToTorch: .* arrays of numpy"),
        ({"RecordVideo": {"video_folder": "v"}}, "env.wrappers=RecordVideo: .*rlnet watch RUN_DIR"),
        ("HumanRendering", "env.wrappers=HumanRendering: .*rlnet watch RUN_DIR"),
        ("vector.ClipReward", "env.wrappers=vector.ClipReward: is for vector environments, .*: use ClipReward$"),
        ("gymnasium.wrappers.vector.DictInfoToList", "env.wrappers=vector.DictInfoToList: is for vector environments"),
        ({"TransformObservation": {"func": "math.floor", "observation_space": 3}}, "its observation_space must be mod"),
        (
            {"TransformAction": {"func": "math.floor", "action_space": f"{__name__}.minus"}},
            r"env.wrappers=.*\.minus: must be a Space",
        ),
    ],
)
def test_wrappers_that_cannot_be_used_are_named(wrapper, said):
    with pytest.raises(ConfigError, match=f"{said}"):
        make(config("CartPole-v1", wrapper))


NARROW = gymnasium.spaces.Box(-5, 5, (4,), np.float32)


def clipped(obs):
    return np.clip(obs, -5, 5).astype(np.float32)


@pytest.mark.parametrize(
    ("wrapper", "shape"),
    [
        ({"gymnasium.wrappers.ReshapeObservation": {"shape": [2, 2]}}, (2, 2)),
        ({"DtypeObservation": {"dtype": "float64"}}, (4,)),
        ({"TransformObservation": {"func": f"{__name__}.clipped", "observation_space": f"{__name__}.NARROW"}}, (4,)),
        ({"TransformObservation": {"func": f"{__name__}.clipped"}}, (4,)),
        ({"StickyAction": {"repeat_action_probability": 0.3, "repeat_action_duration": [1, 3]}}, (4,)),
    ],
)
def test_arguments_have_the_form_that_wrappers_take(wrapper, shape):
    environment = make(config("CartPole-v1", wrapper))
    assert environment.space.shape == shape
    simulation = environment.simulate([0], 2)
    assert simulation.reset().shape == (1, 2, 4)
    for _ in range(30):
        simulation.step(np.ones((1, 2), np.int64))
    simulation.close()
    if "NARROW" in str(wrapper):
        assert environment.space == NARROW


def test_limits_in_a_list_are_those_of_each_number():
    limits = {"min_obs": [-1.0, -1.0, -2.0], "max_obs": [1.0, 1.0, 2.0]}
    environment = make(config("Pendulum-v1", {"RescaleObservation": limits}))
    assert environment.space.high.tolist() == [1, 1, 2]


def test_pictures_as_observations_are_watched_too(tmp_path):
    pytest.importorskip("pygame")
    own = ("env=cartpole", "env.wrappers=[AddRenderObservation,{ResizeObservation:{shape:[20,30]}}]")
    kwargs = "+env.kwargs.render_mode=rgb_array"
    policy = Policy(make_run(*own, kwargs, "network=cnn", "algo=ppo", "algo.envs=2").trained())
    assert policy.trained.problem.environment.space.shape == (20, 30, 3)
    for mode in (None, "rgb_array"):
        told = list(watched(policy, render_mode=mode, episodes=1, seed=0, sample=False, most=2))
        assert told[0].frame.shape[2] == 3


@pytest.mark.parametrize("stepping", ["batched", "vector"])
def test_wrapped_environments_are_stepped_one_by_one(stepping):
    with pytest.raises(
        ConfigError, match=f"^env.stepping={stepping}: env.id=CartPole-v1 can be stepped by: auto, sync, a"
    ):
        make(config("CartPole-v1", "FlattenObservation", stepping=stepping))
