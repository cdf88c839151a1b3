"""One step of a watched policy, and how it is told in the terminal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlnet.report.html import number

WIDTH = 12  # characters of a bar


@dataclass(frozen=True, eq=False)
class Moment:
    """Observation, values, policy and action of one step. After the last step of an episode `action` is None."""

    episode: int
    step: int
    frame: Any  # text, an image uint8 [height, width, 3], or None
    state: int | None  # index of the observation, where there are such
    action: Any  # as the environment takes it
    reward: float  # of the step before; 0 at the beginning
    ret: float  # undiscounted, so far
    value: float | None  # V(s), or what Q says of the policy
    q: np.ndarray | None  # Q(s, ·) [A]
    policy: np.ndarray | None  # π(·|s) [A]
    names: tuple[str, ...]  # of the A actions
    end: str = ""  # how the episode ended
    number: int | None = None  # of the action among the A, where there are such

    @property
    def chosen(self) -> str:
        """The action in words."""
        if self.action is None:
            return self.end
        return self.names[self.number] if self.number is not None and self.names else in_words(self.action)


def in_words(action: Any) -> str:
    """An action of any space as text, real numbers with two digits behind the point."""
    if isinstance(action, Mapping):
        return "{" + ", ".join(f"{key}: {in_words(own)}" for key, own in action.items()) + "}"
    if isinstance(action, tuple):
        return "(" + ", ".join(map(in_words, action)) + ")"
    return np.array2string(np.asarray(action), precision=2, separator=", ")


def told(moment: Moment) -> str:
    """Lines of plain text: the frame where it is text, numbers, and a row for each action."""
    lines = [moment.frame.rstrip("\n")] if isinstance(moment.frame, str) else []
    value = "" if moment.value is None else f", V(s) = {number(moment.value)}"
    lines.append(
        f"episode {moment.episode}, step {moment.step}: reward {number(moment.reward)}, return {number(moment.ret)}"
        f"{value}: {moment.chosen}"
    )
    width = max((len(name) for name in moment.names), default=0)
    for a, name in enumerate(moment.names):
        if moment.q is None and moment.policy is None:
            break
        q = "" if moment.q is None else f"  Q = {number(moment.q[a]):>10}"
        share = None if moment.policy is None else float(moment.policy[a])
        bar = "" if share is None else f"  π = {share:.2f} {'█' * round(WIDTH * share)}"
        taken = moment.number == a
        lines.append(f"  {'>' if taken else ' '} {name:<{width}}{q}{bar}".rstrip())
    return "\n".join(lines)
