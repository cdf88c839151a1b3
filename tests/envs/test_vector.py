"""The vector face of the simulation."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import rlnet.envs  # noqa: F401 (registers the environments)
from rlnet.envs import TabularVectorEnv, build_gridworld, build_random_walk, preset
from rlnet.mdp import FiniteMDP

LEFT, RIGHT = 0, 1


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_make_vec_gives_what_sync_gives(mode):
    """On a deterministic model the vector entry point and SyncVectorEnv return the same arrays, infos included."""
    options = {"map": "S..G", "step_reward": -1.0}
    whole = gymnasium.make_vec(
        "rlnet/Gridworld-v0", 3, vectorization_mode="vector_entry_point", autoreset_mode=mode, **options
    )
    single = gymnasium.make_vec(
        "rlnet/Gridworld-v0", 3, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **options
    )
    assert isinstance(whole.unwrapped, TabularVectorEnv)
    assert whole.metadata["autoreset_mode"] is mode
    assert whole.observation_space == single.observation_space
    assert whole.action_space == single.action_space
    assert_same(whole.reset(seed=1), single.reset(seed=1))
    rng = np.random.default_rng(0)
    for _ in range(30):
        actions = rng.integers(0, 4, 3)
        one, two = whole.step(actions), single.step(actions)
        assert_same(one, two)
        ended = one[2] | one[3]
        if mode is AutoresetMode.DISABLED and ended.any():
            both = (v.reset(options={"reset_mask": ended.copy()}) for v in (whole, single))
            obs_whole, obs_single = (obs for obs, _ in both)  # Sync gives infos only of those that it reset
            assert obs_whole.tolist() == obs_single.tolist()


def assert_same(one, two):
    """Equal values, dtypes and keys, in whatever order the keys stand."""
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_same(one[key], two[key])
    elif isinstance(one, tuple):
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)
    else:
        assert one.dtype == two.dtype
        assert one.tolist() == two.tolist()


def test_the_seed_decides_everything():
    def run(seed):
        vector = TabularVectorEnv(build_gridworld(preset("gridworld", slip=0.5)), 5)
        obs, _ = vector.reset(seed=seed)
        return [obs.tolist()] + [vector.step(np.full(5, 1))[0].tolist() for _ in range(60)]

    assert run(3) == run(3)
    assert run(3) != run(4)
    assert run(None) != run(None)


def test_limits_of_the_vector_form():
    def steps(**options):
        vector = gymnasium.make_vec("rlnet/Gridworld-v0", 2, preset="sutton5x5", **options)
        vector.reset(seed=0)
        return next(t for t in range(1, 1000) if vector.step(np.zeros(2, dtype=int))[3].all())

    assert steps() == 100
    assert steps(max_episode_steps=7) == 7


def test_drawings():
    vector = gymnasium.make_vec("rlnet/RandomWalk-v0", 2, length=3, render_mode="ansi")
    vector.reset(seed=0)
    vector.step(np.array([LEFT, RIGHT]))
    assert vector.render() == ("@SG\n", "PS@\n")
    assert TabularVectorEnv(build_random_walk(preset("random_walk")), 2).render() is None


def test_actions_and_calls_that_are_refused():
    mdp = FiniteMDP.from_outcomes(
        {0: {0: [(1.0, 1, 0.0, False)]}, 1: {1: [(1.0, 0, 1.0, True)]}}, n_actions=2, start=np.array([1.0, 0.0])
    )
    vector = TabularVectorEnv(mdp, 2, autoreset_mode=AutoresetMode.DISABLED)
    with pytest.raises(RuntimeError, match="step before the first reset"):
        vector.step(np.array([0, 0]))
    vector.reset(seed=0)
    with pytest.raises(ValueError, match=r"environment 1: action 1 is not available in state 0, allowed are \[0\]"):
        vector.step(np.array([0, 1]))
    with pytest.raises(ValueError, match=r"actions of shape \(3,\): must be \(2,\)"):
        vector.step(np.array([0, 0, 0]))
    with pytest.raises(ValueError, match="must be integers"):
        vector.step(np.array([0.0, 0.0]))
    with pytest.raises(ValueError, match="reset_mask"):
        vector.reset(options={"reset_mask": np.array([True])})
    with pytest.raises(ValueError, match="allowed is reset_mask"):
        vector.reset(options={"mask": 1})
    with pytest.raises(TypeError, match="must be one integer"):
        vector.reset(seed=[1, 2])
    vector.step(np.array([0, 0]))
    vector.step(np.array([1, 1]))
    with pytest.raises(RuntimeError, match=r"environments \[0, 1\] have ended"):
        vector.step(np.array([0, 0]))
    with pytest.raises(ValueError, match="render_mode"):
        TabularVectorEnv(mdp, 2, render_mode="human")
    with pytest.raises(ValueError, match="Sometimes"):
        TabularVectorEnv(mdp, 2, autoreset_mode="Sometimes")
