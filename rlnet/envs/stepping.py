"""Ways of stepping the Gymnasium environments of a member: batched, a vector form, one by one, or in processes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, VectorEnv

from rlnet.config import require
from rlnet.envs.checks import Checked
from rlnet.envs.control.cartpole import IDS
from rlnet.envs.ended_processes import worker
from rlnet.envs.faults import REFUSALS, first_line
from rlnet.envs.wrapping import wrapped

STEPPING = ("auto", "batched", "vector", "sync", "async")


@dataclass(frozen=True)
class Recipe:
    """Arguments of `gymnasium.make`, and the wrappers around what it makes."""

    id: str
    options: dict[str, Any]  # with `max_episode_steps` where a limit is set
    wrappers: Sequence[Any]  # from the inside out, see `rlnet.envs.wrapping`
    event: str | None = None  # the key of infos that is read

    @property
    def plain(self) -> bool:
        """Whether nothing but the time limit differs from the registration."""
        return not self.wrappers and set(self.options) <= {"max_episode_steps"}


def stepping_of(value: str, recipe: Recipe, env: gymnasium.Env, infos: bool) -> str:
    """How the environments of a population are stepped: as `value` says, or (auto) in the fastest way that there is.

    Args:
        value: the setting `env.stepping`.
        recipe: of each environment.
        env: one of them.
        infos: whether the infos of steps are read, which the batched form does not give.

    Raises:
        ConfigError: no such way, or one that this environment does not have.
    """
    key = "env.stepping"
    require(value in STEPPING, key, value, f"allowed are {', '.join(STEPPING)}")
    batched = ["batched"] if recipe.id in IDS and recipe.plain and not infos else []
    if value in ("auto", "batched") and batched:
        return "batched"
    if value in ("sync", "async"):
        return value
    problem = _vector_problem(recipe, env)
    if value == "auto":
        return "sync" if problem else "vector"
    can = ", ".join(["auto", *batched, *([] if problem else ["vector"]), "sync", "async"])
    why = f" ({problem})" if problem and value == "vector" else ""
    require(value == "vector" and not problem, key, value, f"env.id={recipe.id} can be stepped by: {can}{why}")
    return value


def _vector_problem(recipe: Recipe, env: gymnasium.Env) -> str:
    """Why an environment cannot be stepped in a vector form of its own; empty where it can."""
    if env.spec is None or env.spec.vector_entry_point is None:
        return "it has no vector form of its own"
    if env.spec.additional_wrappers:
        return "its registration has wrappers"
    if recipe.wrappers:
        return "env.wrappers are put around single environments"
    try:
        vector = vector_of(recipe, 1, "vector")
    except REFUSALS as error:
        return f"its vector form cannot be made: {first_line(error)}"
    try:
        for name in ("observation_space", "action_space"):
            single, many = getattr(env, name), getattr(vector, f"single_{name}")
            if single != many:
                return f"its vector form has the {name} {many}, it itself {single}"
        if not isinstance(vector.metadata.get("autoreset_mode"), AutoresetMode):
            return "its vector form does not say how it resets"
    finally:
        vector.close()
    return ""


def vector_of(recipe: Recipe, envs: int, stepping: str) -> VectorEnv:
    """N = `envs` sub-environments as one vector environment, by the stepping vector, sync or async."""
    if stepping == "vector":
        return gymnasium.make_vec(recipe.id, envs, vectorization_mode="vector_entry_point", **recipe.options)
    # Without reset steps in between, every step is a transition.
    vector_kwargs: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}
    vector_kwargs |= {"worker": worker} if stepping == "async" else {}
    wrappers: list[Any] = [partial(_in_a_group_of_its_own, os.getpid())]
    wrappers += [partial(wrapped, wrappers=recipe.wrappers), partial(Checked, event=recipe.event)]
    return gymnasium.make_vec(
        recipe.id, envs, vectorization_mode=stepping, vector_kwargs=vector_kwargs, wrappers=wrappers, **recipe.options
    )


def _in_a_group_of_its_own(parent: int, env: gymnasium.Env) -> gymnasium.Env:
    """The same environment; where it has a process of its own, that leaves the process group of its parent.

    Ctrl-C and what batch systems send reach all processes of a group: the parent needs its environments until its
    checkpoint is written, and ends them then.
    """
    if os.getpid() != parent and hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    return env
