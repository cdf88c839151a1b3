"""Drawing a grid of cells as text and as an image."""

import numpy as np

from rlnet.mdp import FiniteMDP

_FRAME = 512  # pixels of the longer side, about
_COLOURS = {"#": (60, 64, 72), "G": (120, 190, 120), "S": (200, 215, 240), ".": (246, 246, 242)}
_OTHER = (240, 205, 140)  # cells with a meaning of their own
_AGENT = (205, 65, 60)


def letters_of(mdp: FiniteMDP) -> list[list[str]]:
    """A drawing of any model: '#' where there is no state, 'G' terminal, '.' all others; one row without a shape."""
    rows, columns = mdp.shape or (1, mdp.n_states)
    cells = np.full(rows * columns, "#")
    cells[cell_of(mdp)] = np.where(mdp.terminal, "G", ".")
    return cells.reshape(rows, columns).tolist()


def cell_of(mdp: FiniteMDP) -> np.ndarray:
    """The flat cell of each state, int [S]."""
    return np.arange(mdp.n_states) if mdp.cell is None else mdp.cell


def draw_text(letters: list[list[str]], cell: int) -> str:
    """The letters with the agent at flat index `cell` as '@'."""
    columns = len(letters[0])
    drawn = [list(row) for row in letters]
    drawn[cell // columns][cell % columns] = "@"
    return "\n".join("".join(row) for row in drawn) + "\n"


def draw_image(letters: list[list[str]], cell: int) -> np.ndarray:
    """The same as uint8 [height, width, 3]: one square per cell, the agent a disc."""
    rows, columns = len(letters), len(letters[0])
    size = max(2, min(48, _FRAME // max(rows, columns)))
    colours = np.array([[_COLOURS.get(letter, _OTHER) for letter in row] for row in letters], dtype=np.uint8)
    image = colours.repeat(size, axis=0).repeat(size, axis=1)
    if size >= 8:  # below that, lines would hide the cells
        image[::size], image[:, ::size] = 190, 190
    offset = np.arange(size) - (size - 1) / 2
    disc = offset[:, None] ** 2 + offset**2 <= (0.36 * size) ** 2
    top, left = cell // columns * size, cell % columns * size
    image[top : top + size, left : left + size][disc] = _AGENT
    return image
