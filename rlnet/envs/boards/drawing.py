"""Drawings of positions, as text and as images: the first player is X, or red, the second one O, or yellow."""

import numpy as np

from rlnet.envs.boards.rules import Rules

SIZE = 48  # pixels of a cell
_BOARD, _HOLE = (52, 84, 150), (246, 246, 242)
_STONES = {1: (205, 65, 60), -1: (240, 200, 70)}


def drawn(rules: Rules, cells: np.ndarray, second: bool, mode: str | None) -> str | np.ndarray | None:
    """A position in a render mode: "ansi", `drawn_text`; "rgb_array", `drawn_image`; None, None."""
    if mode is None:
        return None
    return drawn_text(rules, cells, second) if mode == "ansi" else drawn_image(rules, cells, second)


def drawn_text(rules: Rules, cells: np.ndarray, second: bool) -> str:
    """A position as text, with the names of columns and rows where moves are cells.

    Args:
        rules: of the game.
        cells: int8 [C], in the view of the player who moves.
        second: whether that is the second player.
    """
    rows, columns = rules.shape
    letters = {0: ".", 1: "O" if second else "X", -1: "X" if second else "O"}
    board = [[letters[int(x)] for x in row] for row in cells.reshape(rows, columns)]
    names = rules.move_names
    if len(names) == columns:  # moves are columns
        width = max(map(len, names))
        lines = [" ".join(x.rjust(width) for x in row) for row in [*board, names]]
    else:
        bottom = [name.rstrip("0123456789") for name in names[-columns:]]
        width, side = max(map(len, bottom)), len(str(rows))
        lines = [
            " ".join([str(rows - row).rjust(side), *(x.rjust(width) for x in cells_)])
            for row, cells_ in enumerate(board)
        ]
        lines.append(" ".join([" " * side, *(x.rjust(width) for x in bottom)]))
    return "\n".join(lines) + "\n"


def drawn_image(rules: Rules, cells: np.ndarray, second: bool) -> np.ndarray:
    """A position as an image uint8 [height, width, 3]; arguments as of `drawn_text`."""
    rows, columns = rules.shape
    image = np.empty((rows * SIZE, columns * SIZE, 3), np.uint8)
    image[:] = _BOARD
    offset = np.arange(SIZE) - (SIZE - 1) / 2
    disc = offset[:, None] ** 2 + offset**2 <= (0.4 * SIZE) ** 2
    for cell, stone in enumerate(cells.tolist()):
        top, left = cell // columns * SIZE, cell % columns * SIZE
        owner = -stone if second else stone  # 1 the first player
        image[top : top + SIZE, left : left + SIZE][disc] = _STONES.get(owner, _HOLE)
    return image
