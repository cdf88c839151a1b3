"""The road on the page of a run: any situation, chosen by clicks, with what is learned and exact there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlnet.envs.driving.drawing import RoadDrawing
from rlnet.mdp import FiniteMDP
from rlnet.report.drawing_data import drawing_script, packed
from rlnet.report.finished import Finished
from rlnet.report.html import as_script
from rlnet.report.panels import action_names

MOST_SITUATIONS = 150_000  # that a page holds


def road_board(
    run: Finished, drawing: Any, first: int, soon: np.ndarray, after: Mapping[str, np.ndarray], event: str
) -> dict[str, str] | None:
    """What the road on the page needs: `data` (JSON) and `script`; None of other drawings, and of too many states.

    Args:
        drawing: of the states, by `Environment.drawing`.
        first: the state that is shown first.
        soon: float [S, A], the probability of the event in the next step.
        after: {"learned", "optimal"}: float [S], its probability in an episode from there on.
        event: its name.
    """
    mdp, m, values = run.mdp, run.shown["member"], run.values
    if not isinstance(drawing, RoadDrawing) or mdp.n_states > MOST_SITUATIONS:
        return None
    arrays = {name: np.ravel(x).astype(np.float32) for name, x in {"soon": soon, **after}.items()}  # may be tiny
    keys = {"pi": "pi", "piExact": "pi_exact", "q": "q", "qExact": "q_exact"}
    numbers = {name: np.ravel(values[key][m]) for name, key in keys.items() if key in values}
    reference = run.judged["compared_with"]
    data = {
        **packed(arrays, numbers),
        "names": list(action_names(mdp)),
        "exact": "Q*" if "Q*" in reference or "V*" in reference else "Q^π",
        "event": event,
        "first": first,
        "most": _most(drawing, mdp),
    }
    return {"data": as_script(data), "script": drawing_script("road")}


def _most(drawing: RoadDrawing, mdp: FiniteMDP) -> dict[str, int]:
    """Lanes, and the largest speed, gap and speed of the others; states are numbered in the order of their product."""
    road = drawing.road
    lanes, speed, other = len(road.gap), int(road.speed.max()), int(road.other.max())
    assert lanes * (speed + 1) * ((drawing.sight + 1) * (other + 1)) ** lanes == mdp.n_states
    return {"lanes": lanes, "speed": speed, "gap": drawing.sight, "other": other}
