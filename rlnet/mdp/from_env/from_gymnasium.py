"""The finite model of a Gymnasium environment (`mdp`, `P`, or explored), tested against what is stepped.

A model is believed only if it is the model of what is stepped. One that an environment hands out as `mdp` is its own
statement and is trusted, unless a wrapper stands between. Everything else is tried first on copies of the environment
as it is stepped, wrappers included (`rlnet.mdp.from_env.trial`, `rlnet.mdp.from_env.hidden_variables`).
"""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rlnet.mdp.errors import NoModelError
from rlnet.mdp.from_env.blackjack import blackjack, is_blackjack
from rlnet.mdp.from_env.grid import GridModel
from rlnet.mdp.from_env.hidden_variables import Hidden
from rlnet.mdp.from_env.observed_states import Numbering, Progress, explored
from rlnet.mdp.from_env.own_state import OwnState, explored_by_state
from rlnet.mdp.from_env.tested_env import NOT_MARKOV, Result, Subject, is_harmless, layers
from rlnet.mdp.from_env.transition_table import is_table, readings, sampled_start, stated_start
from rlnet.mdp.from_env.trial import Effort, Trial, thorough, told, usual
from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.model.validation import require_kind

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Believed:
    """A model that passed its test, and what else the test showed."""

    mdp: FiniteMDP
    grid: GridModel | None = None  # of an approximate model
    truncates: bool = False  # the environment's own code truncates episodes, of which a model knows nothing
    tried: str = ""  # how closely it was tried, where code that is not Gymnasium's own is stepped


def from_env(env: Any, max_states: int = 100_000) -> FiniteMDP:
    """The model of `env`: `env.unwrapped.mdp`, else its `P` (toy-text), else by exploring it.

    State s is the observation s of a Discrete space, counted from 0; the states of other spaces are numbered as they
    are discovered, and `observations` holds what the environment shows in each. States that are never reached have no
    action. Gymnasium's Blackjack has the model of its rules, tried by play. Exploring needs Discrete actions, an
    environment that can be copied, reset and stepped without chance, and observations that tell states apart. A time
    limit (TimeLimit, or `truncated`) is no part of the model.

    A table `P`, and what was explored, are tried on copies of `env` before they are believed.

    Raises:
        NoModelError: there is no model, or not one of what is stepped, or it has more than `max_states` states; the
            message says why, in one sentence.
    """
    return believe(env, max_states).mdp


def believe(env: Any, max_states: int = 100_000) -> Believed:
    """`from_env`, together with what else the test of the model showed."""
    require_kind(env, hasattr(env, "unwrapped"), "env must be a Gymnasium environment, such as gymnasium.make(ID)")
    inner = env.unwrapped
    handed, table = getattr(inner, "mdp", None), getattr(inner, "P", None)
    if isinstance(handed, FiniteMDP):
        if all(is_harmless(layer) for layer in layers(env)[:-1]):
            return Believed(handed)
        _refuse_changes(env)
        _require_discrete(env)
        return _tried(env, Subject(env, handed), handed, "the model of the environment inside")
    if table is not None and is_table(table):
        _refuse_changes(env)
        return _from_table(env, table)
    if is_blackjack(env) and all(is_harmless(layer) for layer in layers(env)[:-1]):
        return Believed(blackjack(env))
    return _from_exploring(env, max_states, "" if table is None else ", its `P` is no table of outcomes,")


def explore(env: Any, max_states: int = 100_000, progress: Progress | None = None) -> Believed:
    """The model of a deterministic environment by exploring all states that can be reached, whatever it shows.

    A state is an observation, where observations turn out to be Markov states; else all variables of the object, with
    `observations` [S] what it shows in each. Then an episode that the environment's own code truncates (not a
    TimeLimit) ends in the model.

    Args:
        env: with Discrete actions, as it is stepped, wrappers included.
        max_states: more are refused.
        progress: called with the numbers of states that are explored and known.

    Raises:
        NoModelError: chance, too many states, or a trial in which what is stepped does something else.
    """
    _refuse_real_actions(env)
    try:
        return _from_exploring(env, max_states, "", progress)
    except NoModelError as error:
        if NOT_MARKOV not in str(error):
            raise
    subject = OwnState(env)
    numbering = Numbering(None, subject.name, max_states)
    mdp = explored_by_state(subject, numbering, int(env.action_space.n), progress)
    return _tried(env, subject, mdp, "its variables are not its state", state_of=numbering, by_chance=False)


def claimed(env: Any) -> FiniteMDP | None:
    """The model that an environment with Discrete spaces claims to have, untested; None without one."""
    inner = env.unwrapped
    if isinstance(getattr(inner, "mdp", None), FiniteMDP):
        return inner.mdp
    try:
        _require_discrete(env)
        if not is_table(getattr(inner, "P", None)):
            return None
        start = stated_start(env)
        if start is None:
            subject = Subject(env, inner.P)
            n_states = int(env.observation_space.n)
            start = sampled_start(subject, Numbering(env.observation_space, subject.name, n_states), n_states)
        return next(readings(env, start), None)
    except NoModelError:
        return None


def confirm(env: Any, mdp: FiniteMDP) -> None:
    """Test a model briefly on a second environment made in the same way, with Discrete observations.

    Raises:
        NoModelError: it is another problem, as where every copy is made with a map of its own.
    """
    subject = Subject(env, getattr(env.unwrapped, "P", None))
    state_of = Numbering(env.observation_space, subject.name, mdp.n_states)
    claim = "two that are made alike are not the same problem"
    Trial(mdp, subject, state_of, Effort(500, 50, 0.2, 0), claim).run()


def _from_table(env: Any, table: Any) -> Believed:
    _require_discrete(env)
    subject = Subject(env, table)
    state_of = Numbering(env.observation_space, subject.name, int(env.observation_space.n))
    start, refused = stated_start(env), None
    exact = start is not None
    if start is None:
        start = sampled_start(subject, state_of, state_of.n_states)
    for mdp in readings(env, start):
        try:
            found = _tried(env, subject, mdp, "its `P` is not the model of what is stepped", exact)
            if not _equal(table, subject.table):
                raise NoModelError(f"{subject.name}: its steps change its `P`")
            return found
        except NoModelError as error:
            refused = refused or error
    raise refused or NoModelError(f"{subject.name}: its `P` is no model")


def _equal(table: Any, other: Any) -> bool:
    try:
        return bool(table == other)
    except ValueError:  # of arrays
        return pickle.dumps(table) == pickle.dumps(other)


def _from_exploring(env: Any, max_states: int, why: str, progress: Progress | None = None) -> Believed:
    name = type(env.unwrapped).__name__
    _refuse_real_actions(env)
    try:
        subject = Subject(env)
        numbering = Numbering(env.observation_space, name, max_states)
        mdp = explored(subject, numbering, int(env.action_space.n), progress)
        return _tried(env, subject, mdp, NOT_MARKOV, state_of=numbering, by_chance=False)
    except NoModelError as error:
        raise NoModelError(f"{name}{why} and {error}") if why else error from error.__cause__


def _refuse_real_actions(env: Any) -> None:
    import gymnasium as gym

    if not isinstance(env.action_space, gym.spaces.Discrete):
        name = type(env.unwrapped).__name__
        raise NoModelError(f"{name} has no model (mdp or P), and its actions are {env.action_space}, not Discrete(n)")


def _tried(
    env: Any,
    subject: Subject,
    mdp: FiniteMDP,
    claim: str,
    exact_start: bool = True,
    state_of: Callable[[Any], int] | None = None,
    by_chance: bool = True,
) -> Believed:
    """The model, once it has stood the trial."""
    began = time.perf_counter()
    if (mdp.start[mdp.terminal] > 0).any():
        raise NoModelError(f"{subject.name}: {claim}: episodes begin in a state that is terminal in it")
    if state_of is None:
        state_of = Numbering(env.observation_space, subject.name, mdp.n_states)
    reference, ordinary = _reference(env, subject) if by_chance else (None, False)  # what was explored was stepped
    effort: Effort = usual(mdp) if ordinary else thorough(mdp)
    trial = Trial(mdp, subject, state_of, effort, claim, exact_start, Hidden(subject, by_chance, reference))
    record = trial.run()
    said = "" if ordinary or not by_chance else told(mdp, record)
    _log.info(
        "%s: its model was tried on a copy: %d steps and %d resets, in %.2f s; no difference%s",
        *(subject.name, record.steps, int(record.starts.sum()), time.perf_counter() - began),
        f" ({said.partition('; ')[2]})" if said else "",
    )
    return Believed(mdp, truncates=record.truncates, tried=said)


def _reference(env: Any, subject: Subject) -> tuple[Callable[[Any, int], Result] | None, bool]:
    """(the step that the table belongs to, where what is stepped is more than that; whether it is just that).

    Gymnasium's classes step from their `P`. A wrapper or an overriding class changes that, perhaps so seldom that no
    walk shows it, but then it must differ in what it does or draws.
    """
    inner = env.unwrapped
    wrapped = any(not is_harmless(layer) for layer in layers(env)[:-1])
    base = next((c for c in type(inner).__mro__ if c.__module__.startswith("gymnasium.envs.")), None)
    held = vars(inner).keys() & {"step", "reset"}
    changed = base is None or held or any(getattr(type(inner), m) is not getattr(base, m) for m in ("step", "reset"))
    if not wrapped and not changed:
        return None, True
    if not wrapped and base is None:
        return None, False
    code = getattr(base if changed and base is not None else type(inner), "step")  # noqa: B009  # of any class

    def step(twin: Any, action: int) -> Result:
        class _Inner:
            step = staticmethod(lambda a: code(twin.unwrapped, a))

        return subject.step(_Inner, action)

    return step, False


def _refuse_changes(env: Any) -> None:
    import gymnasium as gym

    for layer in layers(env)[:-1]:
        if isinstance(layer, gym.RewardWrapper | gym.ActionWrapper):
            raise NoModelError(
                f"{type(layer).__name__} changes rewards or actions, so the model below it does not apply"
            )


def _require_discrete(env: Any) -> None:
    import gymnasium as gym

    for space, what in ((env.observation_space, "observations"), (env.action_space, "actions")):
        if not isinstance(space, gym.spaces.Discrete):
            raise NoModelError(
                f"{type(env.unwrapped).__name__}: its {what} are {space}, not the Discrete space of its model"
            )
