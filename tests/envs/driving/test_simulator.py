"""Settings of highway-env: images have a shape, and what it would ignore is refused."""

import numpy as np
import pytest
from support import composed, skip_without_extras

from rlnet.config import ConfigError
from rlnet.envs import make
from rlnet.envs.driving.simulator import with_tuples


def road(config, env_id="highway-fast-v0"):
    skip_without_extras("highway_env")
    options = f"env.id=highway_env:{env_id}", "env.stepping=sync", f"env.kwargs={{config:{config}}}"
    return make(composed("env=highway_env", *options).env)


def test_images_are_observed_by_a_shape_that_is_written_as_a_list():
    image = "{type:GrayscaleObservation,observation_shape:[16,8],stack_size:3,weights:[0.3,0.6,0.1],scaling:1.75}"
    environment = road(f"{{observation:{image}}}")
    simulation = environment.simulate([0], 2)
    assert simulation.reset().shape == (1, 2, 3 * 16 * 8)
    simulation.close()


def test_only_shapes_become_tuples_wherever_they_stand():
    given = {"config": {"a": [1, 2], "parts": [{"observation_shape": [3, 4], "features": ["x"]}]}, "k": 1}
    told = with_tuples(given)
    assert told == {"config": {"a": [1, 2], "parts": [{"observation_shape": (3, 4), "features": ["x"]}]}, "k": 1}
    assert given["config"]["parts"][0]["observation_shape"] == [3, 4]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("{obervation:{type:Kinematics}}", r"obervation: highway-fast-v0 has no such setting; use observation$"),
        ("{qqq:1}", r"qqq: highway-fast-v0 has no such setting; use action, .*vehicles_count"),
        ("{observation:{type:Kinematics,vehicle_count:3}}", r"vehicle_count: Kinematics has .*; use vehicles_count$"),
        ("{observation:{vehicle_count:3,type:TimeToCollision}}", r"TimeToCollision has no such setting; use horizon"),
        ("{action:{type:DiscreteMetaAction,lateal:false}}", r"lateal: DiscreteMetaAction has .*; use lateral$"),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(config, sentence):
    with pytest.raises(ConfigError, match=r"^env\.kwargs\.config\." + ("(observation|action)?.*" + sentence)):
        road(config)


def test_rewards_that_no_default_holds_are_settings():
    assert road("{on_road_reward:0.1,lanes_count:2,offscreen_rendering:true}").actions.n == 5
    assert np.isfinite(road("{merging_speed_reward:-1}", "merge-v1").simulate([0], 1).reset()).all()
