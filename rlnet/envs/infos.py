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
    """One warning where infos never hold the key of an event.

    Args:
        key: of an event.
        title: how messages name the environment.
    """

    STEPS = 1_000  # of all environments, after which it is due

    def __init__(self, key: str, title: str) -> None:
        self._key, self._title, self._steps, self._known = key, title, 0, "nothing"

    def warning(self, infos: Mapping[str, Any], envs: int) -> str | None:
        """The warning, in the step of `envs` environments in which it is due; else None."""
        if self._steps < 0:
            return None
        if self._key in infos or self._key in (infos.get("final_info") or {}):
            self._steps = -1
            return None
        self._steps += envs
        names = {**infos, **(infos.get("final_info") or {})}
        self._known = ", ".join(n for n in names if not n.startswith(("_", "final_"))) or self._known
        return self.last() if self._steps >= self.STEPS else None

    def last(self) -> str | None:
        """The warning after the last step; None where it was given, or the key was told."""
        steps, self._steps = self._steps, -1
        if steps <= 0:
            return None
        held = f"no info of {self._title} has held it in {steps} steps; they hold {self._known}"
        return f"env.event={self._key}: {held}. Where it is told only when it happens, it has not happened"


def final_observation(infos: dict[str, Any], n: int) -> Any:
    """The last observation of the episode that ended in sub-environment n (SAME_STEP autoreset)."""
    final = infos.get("final_obs")
    if final is None or final[n] is None:
        raise RuntimeError(f"sub-environment {n} ended under SAME_STEP autoreset without infos['final_obs']")
    return final[n]
