"""The finite model of a Gymnasium environment: which one is looked for, and whether it is believed."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium import spaces

from rlnet.config import ConfigError
from rlnet.envs.actions import Actions
from rlnet.envs.spaces import MASK, observed
from rlnet.mdp import NoModelError

if TYPE_CHECKING:
    from rlnet.mdp.from_env.from_gymnasium import Believed

# auto: what the environment hands out, what a small one with Discrete observations turns out to be, or known rules.
TRUTHS = ("auto", "explore", "grid", "none")
_log = logging.getLogger(__name__)


def model_of(
    env: gymnasium.Env, config: Any, actions: Actions, again: Callable[[], gymnasium.Env]
) -> "tuple[Believed | None, str]":
    """The tested model of an environment and ""; without one, None and the reason, which is logged.

    Args:
        env: as it is stepped, wrappers included.
        config: its `GymnasiumConfig`.
        actions: of its action space.
        again: makes another one in the same way.

    Raises:
        ConfigError: `env.truth` asks for a model, and there is none that agrees with what is stepped.
    """
    if config.truth == "none":
        return None, "env.truth=none"
    if config.truth == "auto" and actions.n is None:
        return None, ""
    try:
        found = _found(env, config, again)
    except NoModelError as error:
        if config.truth != "auto":
            raise ConfigError(f"env.truth={config.truth}: {error}") from error
        _log.info("%s is simulated by its own code, without exact scores: %s", config.id, error)
        return None, str(error)
    if found is not None and found.truncates:
        _log.info("%s truncates episodes itself: it is simulated by its own code, and scored by its model", config.id)
    return found, ""


@contextmanager
def _shown(title: str, what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed} of {task.total} " + what)
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, known: bar.update(task, completed=done, total=known)


def _found(env: gymnasium.Env, config: Any, again: Callable[[], gymnasium.Env]) -> "Believed | None":
    from rlnet.mdp.from_env.blackjack import is_blackjack
    from rlnet.mdp.from_env.from_gymnasium import Believed, believe, confirm, explore
    from rlnet.mdp.from_env.grid import grid_model

    space, parts = observed(env.observation_space)
    if parts and (config.truth != "auto" or isinstance(space, spaces.Discrete)):
        raise NoModelError(
            f"its observations come with an {MASK}, which a model from P, from exploring or of a grid does not contain"
        )
    if config.truth == "grid":
        with _shown(f"stepping {config.title()}", "states") as progress:
            model = grid_model(env, config.grid, progress)
        return Believed(model.mdp, model)
    if not isinstance(space, spaces.Discrete):
        if config.truth == "explore":
            with _shown(f"exploring {config.title()}", "known states") as progress:
                return explore(env, config.max_states, progress)
        return believe(env) if is_blackjack(env) and not parts and not config.wrappers else None
    found = believe(env, config.max_states)
    if found.mdp is not getattr(env.unwrapped, "mdp", None):
        other = again()
        try:
            confirm(other, found.mdp)
        finally:
            other.close()
    return found
