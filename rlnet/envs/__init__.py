"""Environments: gridworlds and other finite models, control problems, any of Gymnasium, and their vector simulation.

Importing this registers `rlnet/Gridworld-v0`, `rlnet/RandomWalk-v0`, `rlnet/LQR-v0`, `rlnet/TicTacToe-v0` and
`rlnet/Connect-v0` with Gymnasium.
"""

import gymnasium

from rlnet.envs.adapter import GymnasiumSimulation
from rlnet.envs.base import Environment, Simulation, from_model
from rlnet.envs.boards.board import Board
from rlnet.envs.boards.custom import GameConfig
from rlnet.envs.boards.environment import BoardConfig
from rlnet.envs.boards.rules import KInARow, Rules
from rlnet.envs.control.lqr import LQR, LqrEnv, LqrVectorEnv
from rlnet.envs.driving.highway import HighwayConfig, build_highway
from rlnet.envs.driving.racetrack import RacetrackConfig, build_racetrack
from rlnet.envs.make import GymnasiumConfig, make
from rlnet.envs.presets import preset, preset_names
from rlnet.envs.sampler import Sampler
from rlnet.envs.simulate import OnDevice, Step, TabularSimulation
from rlnet.envs.single import GridworldEnv, RandomWalkEnv, TabularEnv
from rlnet.envs.tabular.grid_map import CellConfig
from rlnet.envs.tabular.gridworld import GridworldConfig, build_gridworld, grid_features
from rlnet.envs.tabular.maximisation_bias import MaximisationBiasConfig, build_maximisation_bias
from rlnet.envs.tabular.random_walk import RandomWalkConfig, build_random_walk, group_features
from rlnet.envs.vector import TabularVectorEnv

__all__ = [
    "LQR",
    "Board",
    "BoardConfig",
    "CellConfig",
    "Environment",
    "GameConfig",
    "GridworldConfig",
    "GridworldEnv",
    "GymnasiumConfig",
    "GymnasiumSimulation",
    "HighwayConfig",
    "KInARow",
    "LqrEnv",
    "LqrVectorEnv",
    "MaximisationBiasConfig",
    "OnDevice",
    "RacetrackConfig",
    "RandomWalkConfig",
    "RandomWalkEnv",
    "Rules",
    "Sampler",
    "Simulation",
    "Step",
    "TabularEnv",
    "TabularSimulation",
    "TabularVectorEnv",
    "build_gridworld",
    "build_highway",
    "build_maximisation_bias",
    "build_racetrack",
    "build_random_walk",
    "from_model",
    "grid_features",
    "group_features",
    "make",
    "preset",
    "preset_names",
]

for _id, _single, _vector, _limit in (
    ("rlnet/Gridworld-v0", "single:GridworldEnv", "vector:gridworld_vector", None),
    ("rlnet/RandomWalk-v0", "single:RandomWalkEnv", "vector:random_walk_vector", None),
    ("rlnet/TicTacToe-v0", "boards.single:TicTacToeEnv", None, None),
    ("rlnet/Connect-v0", "boards.single:ConnectEnv", None, None),
    ("rlnet/LQR-v0", "control.lqr:LqrEnv", "control.lqr:LqrVectorEnv", 30),
):
    if _id not in gymnasium.registry:  # already there when the package is reloaded
        gymnasium.register(
            _id,
            entry_point=f"rlnet.envs.{_single}",
            vector_entry_point=None if _vector is None else f"rlnet.envs.{_vector}",
            max_episode_steps=_limit,
        )
