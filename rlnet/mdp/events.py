"""Events, sets of outcomes that a model names (a crash, a win): how probable they are under a policy.

The probability of an event is a value like any other: with a reward of 1 for its outcomes, at which the episode ends,
and 0 for all others, it is V^π at γ = 1.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rlnet.mdp.errors import InvalidMDPError
from rlnet.mdp.evaluation import evaluate, policy_matrix
from rlnet.mdp.limited import limited_values
from rlnet.mdp.model.finite_mdp import FiniteMDP
from rlnet.mdp.model.validation import check_count, checked_event


def event_model(mdp: FiniteMDP, event: str | np.ndarray) -> FiniteMDP:
    """The model in which the event pays 1 and ends the episode, and nothing else pays.

    `evaluate(event_model(mdp, event), policy, 1.0)` gives its probability under a policy, `solve` the largest that any
    policy attains. Of a game it is the probability under self-play, whoever moves.

    Args:
        event: the name of one of `mdp.events`, or a set of outcomes, bool [K].

    Raises:
        InvalidMDPError: the model has no such event, or the set is none.
    """
    if isinstance(event, str):
        known = mdp.events or {}
        if event not in known:
            raise InvalidMDPError(f"event {event!r}: this model names {', '.join(known) or 'none'}")
        event = known[event]
    else:
        event = checked_event(event, "an event", mdp.n_outcomes)
    reward = event.astype(np.float64)
    return replace(mdp, reward=reward, terminated=mdp.terminated | event, sign=None, entry=None)


def event_probability(
    mdp: FiniteMDP, policy: np.ndarray, event: str | np.ndarray, *, horizon: int | None = None
) -> np.ndarray:
    """The probability of an event under a policy from each state, float [S]: within `horizon` steps, or (None) ever.

    Args:
        policy: [S, A] or int [S]; with a horizon also [H, S, A] or int [H, S], one for each step.
        event: as for `event_model`.
        horizon: H.

    Raises:
        InvalidMDPError: the model has no such event.
        ValueError: the policy is none, or the horizon no whole number ≥ 0.
    """
    return paid_probability(event_model(mdp, event), policy, horizon)


def paid_probability(model: FiniteMDP, policy: np.ndarray, horizon: int | None) -> np.ndarray:
    """`event_probability` in what `event_model` gave, for many policies."""
    if horizon is None:
        found = evaluate(model, policy, 1.0).v
    elif np.shape(policy) in ((model.n_states,), (model.n_states, model.n_actions)):
        found = limited_values(model, 1.0, check_count("horizon", horizon, 0), policy_matrix(model, policy))
    else:
        found = evaluate(model, policy, 1.0, horizon=horizon).v[0]
    return found.clip(0.0, 1.0)  # of rounding, and of rows that sum to 1 but for rounding
