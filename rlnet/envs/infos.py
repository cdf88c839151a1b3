"""Events (a crash, a success) and final observations in the infos of vector environments."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlnet.envs.faults import EnvironmentFault, array_of, shown


def happened(infos: Mapping[str, Any], key: str, ended: np.ndarray, same_step: bool) -> np.ndarray:
    """Whether an event happened in a step of N environments, by a key of their infos: bool [N].

    Args:
        infos: of a vector step: an array for each key, and under `_key` where it was told.
        key: of the event.
        ended: bool [N], where an episode ended.
        same_step: whether environments were reset in the step that ended an episode: what it told is in `final_info`.

    Raises:
        EnvironmentFault: a value is none of True, False, 1, 0 and None, nor an array of them, of which any counts.
    """
    now = _told(infos, key, len(ended))
    if not same_step or not ended.any():
        return now
    return np.where(ended, _told(infos.get("final_info") or {}, key, len(ended)), now)


def _told(infos: Mapping[str, Any], key: str, envs: int) -> np.ndarray:
    if key not in infos:
        return np.zeros(envs, bool)
    told = np.asarray(infos.get(f"_{key}", np.ones(envs, bool)))
    return np.array([bool(t) and truth(key, value) for t, value in zip(told, infos[key], strict=True)])


def truth(key: str, value: Any) -> bool:
    """Whether an event happened, by its value in an info; EnvironmentFault where that tells neither."""
    array = np.asarray([] if value is None else array_of(value))
    if array.dtype != bool and not (array.dtype.kind in "iuf" and ((array == 0) | (array == 1)).all()):
        raise EnvironmentFault(
            f"its infos[{key!r}] is {shown(value)}, allowed are True, False, 1, 0 and arrays of them"
        )
    return bool(array.any())


class Silent:
    """One warning where the infos of the first steps never hold the key of an event.

    Args:
        key: of an event.
        title: how messages name the environment.
    """

    STEPS = 1_000

    def __init__(self, key: str, title: str) -> None:
        self._key, self._title, self._steps = key, title, 0

    def warning(self, infos: Mapping[str, Any]) -> str | None:
        """The warning, in the step in which it is due; else None."""
        if self._steps < 0:
            return None
        if self._key in infos or self._key in (infos.get("final_info") or {}):
            self._steps = -1
            return None
        self._steps += 1
        if self._steps < self.STEPS:
            return None
        self._steps = -1
        known = ", ".join(name for name in infos if not name.startswith("_")) or "nothing"
        return f"env.event={self._key}: no info of {self._title} has held it in {self.STEPS} steps; they hold {known}"


def final_observation(infos: dict[str, Any], n: int) -> Any:
    """The last observation of the episode that ended in sub-environment n (SAME_STEP autoreset)."""
    final = infos.get("final_obs")
    if final is None or final[n] is None:
        raise RuntimeError(f"sub-environment {n} ended under SAME_STEP autoreset without infos['final_obs']")
    return final[n]
