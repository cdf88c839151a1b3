"""Rendering of grids as text and as images."""

import numpy as np

from rlnet.mdp import FiniteMDP
from rlnet.mdp.cells import Kind, cells_of, few_starts
from rlnet.mdp.marks import MARKS

_FRAME = 512  # pixels of the longer side, about
WALL, START, FLOOR = (60, 64, 72), (200, 215, 240), (246, 246, 242)
AGENT = (205, 65, 60)


def letters_of(mdp: FiniteMDP) -> list[list[str]]:
    """A drawing of any model, one row without a shape: '#' wall, 'S' start, '.' floor, else as in `rlnet.mdp.marks`."""
    cells = cells_of(mdp)
    letters = {Kind.WALL: "#", Kind.FLOOR: ".", **{kind: mark.letter for kind, mark in MARKS.items()}}
    drawn = np.array([letters[kind] for kind in Kind])[cells.kind]
    floor = (cells.kind == Kind.FLOOR).ravel()
    starts = cell_of(mdp)[few_starts(mdp)]
    drawn.ravel()[starts[floor[starts]]] = "S"
    return drawn.tolist()


def cell_of(mdp: FiniteMDP) -> np.ndarray:
    """The flat cell of each state, int [S]."""
    return np.arange(mdp.n_states) if mdp.cell is None else mdp.cell


class Drawing:
    """Renders the states of a model on its map.

    Args:
        mdp: the model.
        mode: "ansi", text, or "rgb_array", an image uint8 [height, width, 3].
        letters: of the text, rows of one-character strings; None: from the model.
    """

    def __init__(self, mdp: FiniteMDP, mode: str, letters: list[list[str]] | None = None) -> None:
        self._cell, self._mode = cell_of(mdp), mode
        self._letters = (letters_of(mdp) if letters is None else letters) if mode == "ansi" else []
        self._colours = np.zeros((0, 0, 3), np.uint8) if mode == "ansi" else colours_of(mdp)

    def draw(self, state: int) -> str | np.ndarray:
        """The map with the agent in `state`."""
        cell = int(self._cell[state])
        return draw_text(self._letters, cell) if self._mode == "ansi" else draw_image(self._colours, cell)


def draw_text(letters: list[list[str]], cell: int) -> str:
    """The map as text, with the agent at flat index `cell` as '@'."""
    columns = len(letters[0])
    drawn = [list(row) for row in letters]
    drawn[cell // columns][cell % columns] = "@"
    return "\n".join("".join(row) for row in drawn) + "\n"


def colours_of(mdp: FiniteMDP) -> np.ndarray:
    """The colour of each cell, uint8 [rows, columns, 3]; marks have those of `rlnet.mdp.marks`, as in every picture."""
    cells = cells_of(mdp)
    palette = {Kind.WALL: WALL, Kind.FLOOR: FLOOR, **{kind: mark.colour for kind, mark in MARKS.items()}}
    colours = np.array([palette[kind] for kind in Kind], dtype=np.uint8)[cells.kind]
    floor = (cells.kind == Kind.FLOOR).ravel()
    starts = cell_of(mdp)[few_starts(mdp)]
    colours.reshape(-1, 3)[starts[floor[starts]]] = START
    return colours


def draw_image(colours: np.ndarray, cell: int) -> np.ndarray:
    """Cells of some colours, uint8 [rows, columns, 3], as an image uint8 [height, width, 3]: a square for each, the
    agent at flat index `cell` a disc."""
    rows, columns = colours.shape[:2]
    size = max(2, min(48, _FRAME // max(rows, columns)))
    image = colours.repeat(size, axis=0).repeat(size, axis=1)
    if size >= 8:  # below that, lines would hide the cells
        image[::size], image[:, ::size] = 190, 190
    offset = np.arange(size) - (size - 1) / 2
    disc = offset[:, None] ** 2 + offset**2 <= (0.36 * size) ** 2
    top, left = cell // columns * size, cell % columns * size
    image[top : top + size, left : left + size][disc] = AGENT
    return image
