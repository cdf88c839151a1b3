"""Marks of the kinds of cells in pictures: letter, colour, name in the legend, reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlnet.mdp.cells import Cells, Kind

RGB = tuple[int, int, int]
MOST_REWARDS = 3  # different rewards of a kind that a legend names


@dataclass(frozen=True)
class Mark:
    """The mark of a kind of cell. The letters alone tell the kinds apart, for readers in greyscale."""

    letter: str
    colour: RGB
    colour_name: str
    name: str


MARKS: dict[Kind, Mark] = {
    Kind.END: Mark("T", (255, 255, 255), "white", "end, paid like an ordinary step"),
    Kind.GAIN: Mark("G", (143, 217, 168), "green", "end that pays"),
    Kind.LOSS: Mark("P", (240, 150, 150), "red", "end that costs"),
    Kind.HAZARD: Mark("!", (245, 178, 90), "orange", "entering costs"),
    Kind.BONUS: Mark("$", (200, 232, 140), "lime", "entering pays"),
    Kind.JUMP: Mark("J", (158, 202, 240), "blue", "moves on to another cell"),
}
ENDS = (Kind.END, Kind.GAIN, Kind.LOSS)


def signed(reward: float) -> str:
    """A reward as short text: +1, -100, 0; "" for NaN."""
    text = f"{reward:+.3g}".replace("e+0", "e").replace("e-0", "e-")
    return "" if reward != reward else "0" if reward == 0 else text


def short(cells: Cells, row: int, col: int) -> str:
    """Letter and reward of a marked cell, "G+1"; a reward of 0 is left out."""
    reward = signed(cells.reward[row, col])
    return MARKS[Kind(cells.kind[row, col])].letter + (reward if reward != "0" else "")


def meanings(cells: Cells, letters: bool = True) -> list[tuple[Kind, str]]:
    """The marks that occur, each with what a legend says of it: "G: end that pays (+1)". Walls are not among them.

    Without `letters`, for a drawing whose cells are too small for them, the colour stands for the mark.
    """
    return [
        (kind, f"{mark.letter if letters else mark.colour_name}: {mark.name}{_amounts(rewards)}")
        for kind, rewards in cells.found()
        if (mark := MARKS.get(kind))
    ]


def _amounts(rewards: Sequence[float]) -> str:
    if not rewards:
        return ""
    if len(rewards) <= MOST_REWARDS:
        return f" ({', '.join(map(signed, rewards))})"
    return f" ({signed(rewards[0])} to {signed(rewards[-1])})"
