"""The section of a page on situations: drawn states in which an event is likely, or where the policies differ."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlnet.compare.judge import reachable, uniform_over
from rlnet.mdp import FiniteMDP, ImproperPolicyError, event_probability, occupancy
from rlnet.report.finished import Finished
from rlnet.report.html import embedded_image
from rlnet.report.page_road import road_board
from rlnet.report.page_states import member_note
from rlnet.report.panels import action_names

MOST = 6  # situations of each kind


def situations_section(run: Finished) -> dict[str, Any] | None:
    """Drawings of the most dangerous situations and of those in which the policies differ; None without any to draw.

    Only what the learned policy meets is shown, weighted by how often it does. Of a road any situation can be chosen.
    """
    draws, mdp = run.drawing, run.mdp
    if draws is None or not mdp.events:
        return None
    drawing, (event, outcomes) = draws("rgb_array"), next(iter(mdp.events.items()))
    m, values, horizon = run.shown["member"], run.values, run.config.env.max_episode_steps
    policies = {name: values[key][m].astype(np.float64) for name, key in (("learned", "pi"), ("optimal", "pi_exact"))}
    after = {name: event_probability(mdp, own, event, horizon=horizon) for name, own in policies.items()}
    learned, optimal = policies.values()
    note = f"{member_note(run)} Drawn are situations that the learned policy meets; P({event}): "
    note += "in the episode" if horizon is None else f"within {horizon} steps"
    note += f", from there on. {getattr(drawing, 'LEGEND', '')}"
    try:
        met, ends = occupancy(mdp, learned, float(values["gamma"][m])), True
    except ImproperPolicyError:
        met, ends = uniform_over(reachable(mdp, learned) & ~mdp.terminal), False
        note += " The learned policy may go on for ever, so all that it can meet weigh alike."
    soon = next_step(mdp, outcomes)
    now = (learned * soon).sum(1)
    other = optimal[np.arange(mdp.n_states), learned.argmax(1)] < 1e-6
    apart = np.abs(after["learned"] - after["optimal"]) * other
    kinds = (
        (f"Where {event} is most often the next step", met * now),
        ("Where the learned policy acts otherwise than the optimal one, and it matters most", met * apart),
    )

    def card(state: int) -> dict[str, Any]:
        said = [
            f"{name}: {_action(mdp, own[state])}, P({event}) = {after[name][state]:.3g}"
            for name, own in policies.items()
        ]
        said.append(f"state {state}" + (f", {100 * met[state]:.2g} % of the discounted steps" if ends else ""))
        return embedded_image(drawing.draw(state), f"the situation of state {state}", "; ".join(said))

    parts = [(title, [card(int(s)) for s in _largest(weight)]) for title, weight in kinds]
    first = int((met * now).argmax())
    return {
        "note": note.strip(),
        "parts": [(title, cards) for title, cards in parts if cards],
        "road": road_board(run, drawing, first, soon, after, event),
    }


def next_step(mdp: FiniteMDP, event: np.ndarray) -> np.ndarray:
    """The probability of an event, bool [K], in the next step: float [S, A], 0 where an action is not available."""
    found = np.zeros((mdp.n_states, mdp.n_actions))
    found[mdp.pair_state, mdp.pair_action] = np.add.reduceat(mdp.probability * event, mdp.outcome_ptr[:-1])
    return found


def _largest(weight: np.ndarray) -> np.ndarray:
    order = np.argsort(-weight, kind="stable")[:MOST]
    return order[weight[order] > 0]


def _action(mdp: FiniteMDP, policy: np.ndarray) -> str:
    """The most probable actions of π(·|s), and their probability where that is neither 1 nor shared by equals."""
    names, best = action_names(mdp), np.flatnonzero(policy >= policy.max() - 1e-6)
    if len(best) > 1:
        return "any action" if len(best) == mdp.n_actions else " or ".join(names[a] for a in best)
    chance = float(policy[best[0]])
    return names[best[0]] if chance > 0.995 else f"{names[best[0]]} ({chance:.2f})"
