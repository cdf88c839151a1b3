"""`Board`: the rules and positions of a board game, kept beside its model."""

from dataclasses import dataclass

import numpy as np

from rlnet.envs.boards.rules import Rules


@dataclass(frozen=True, eq=False)
class Board:
    """The rules of a game, and its positions where they are enumerated. S states, C cells."""

    rules: Rules
    cells: np.ndarray | None  # int8 [S, C], in the view of the player who moves; None where there are too many
