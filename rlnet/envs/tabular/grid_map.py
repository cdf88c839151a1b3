"""Maps of gridworlds: rows of letters, and the meaning of each letter."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlnet.config import ConfigError, Settings, require


@dataclass
class CellConfig(Settings):
    """What a letter of a gridworld map means."""

    reward: float | None = None  # on entering the cell, in place of env.step_reward
    wall: bool = False
    start: bool = False  # episodes begin in one of the start cells, each equally likely
    terminal: bool = False  # entering ends the episode
    send_to: str | None = None  # entering moves the agent on, in the same step, to the one cell with this letter
    jump_to: str | None = None  # every action taken here leads to the one cell with this letter
    jump_reward: float = 0.0  # the reward of that jump


# What a letter means before `env.cells` adds to it. A built-in letter keeps its nature: a goal stays terminal.
BUILT_IN = {
    "#": CellConfig(wall=True),
    ".": CellConfig(),
    "S": CellConfig(start=True),
    "G": CellConfig(terminal=True, reward=1.0),
}


@dataclass(frozen=True)
class Letters:
    """A parsed map: the letter of every cell, and the meaning of each letter."""

    shape: tuple[int, int]  # (rows, columns)
    letters: tuple[str, ...]  # [L], the different letters of the map
    meanings: tuple[CellConfig, ...]  # [L]
    kind: np.ndarray  # int [rows · columns], index into `letters`

    def table(self, values: list, dtype: type = bool) -> np.ndarray:
        """One value per letter [L] as one value per cell [rows · columns]."""
        return np.array(values, dtype=dtype)[self.kind]

    def only_cell(self, letter: str, key: str) -> int:
        """The flat index of the one cell with this letter; ConfigError naming `key` if there is none, or several."""
        if letter not in self.letters:
            raise ConfigError(f"{key}={letter}: no cell of the map has this letter")
        cells = np.flatnonzero(self.kind == self.letters.index(letter))
        if len(cells) > 1:
            raise ConfigError(f"{key}={letter}: {len(cells)} cells of the map have this letter, it must be one")
        return int(cells[0])

    def text(self) -> list[list[str]]:
        """The letters as rows of one-character strings."""
        return np.array(self.letters)[self.kind].reshape(self.shape).tolist()


def read_map(text: str, cells: Mapping[str, CellConfig]) -> Letters:
    """Parse the map and the meaning of its letters.

    Blank lines around the map and spaces around its rows do not count. `cells` adds to the built-in meaning of
    '#', '.', 'S' and 'G' (a goal pays +1 unless it is given another reward) and defines all other letters.

    Raises:
        ConfigError: no cells, rows of different lengths, a letter without a meaning, a meaning without a cell, or a
            meaning that contradicts itself.
    """
    rows = [row.strip() for row in text.strip().splitlines()]
    if not rows:
        raise ConfigError("env.map: has no cells; write rows of letters such as S..G")
    columns = len(rows[0])
    for number, row in enumerate(rows):
        if len(row) != columns:
            raise ConfigError(f"env.map: row {number} has {len(row)} cells, row 0 has {columns}; all must be as long")
    codes = np.frombuffer("".join(rows).encode("utf-32-le"), dtype=np.uint32)
    present = np.flatnonzero(np.bincount(codes))
    index = np.zeros(present[-1] + 1, dtype=np.int16)
    index[present] = np.arange(len(present))
    kind, letters = index[codes], tuple(chr(code) for code in present)
    for letter in cells:
        if letter not in letters:
            raise ConfigError(
                f"env.cells.{letter}: no cell of the map has this letter, the map has {' '.join(letters)}; remove its "
                f"meaning with ~env.cells.{letter}, or draw the letter"
            )
    for number, letter in enumerate(letters):
        if letter not in BUILT_IN and letter not in cells:
            where = "row {}, column {}".format(*divmod(int((kind == number).argmax()), columns))
            raise ConfigError(f"env.map: the letter {letter!r} ({where}) has no meaning; give it one in env.cells")
    return Letters((len(rows), columns), letters, tuple(_meaning(letter, cells) for letter in letters), kind)


def _meaning(letter: str, cells: Mapping[str, CellConfig]) -> CellConfig:
    base, own = BUILT_IN.get(letter, CellConfig()), cells.get(letter, CellConfig())
    cell = CellConfig(
        reward=base.reward if own.reward is None else own.reward,
        wall=base.wall or own.wall,
        start=base.start or own.start,
        terminal=base.terminal or own.terminal,
        send_to=own.send_to,
        jump_to=own.jump_to,
        jump_reward=own.jump_reward,
    )
    key = f"env.cells.{letter}"
    said = [name for name in ("start", "terminal", "send_to", "jump_to") if getattr(cell, name) not in (None, False)]
    if cell.wall and (said or cell.reward is not None):
        raise ConfigError(f"{key}.wall=True: a wall cannot be entered, so it has no {(said or ['reward'])[0]}")
    if len(said) > 1 and said != ["start", "jump_to"]:
        raise ConfigError(f"{key}: a cell can have only one of {' and '.join(said)}")
    if cell.jump_to is None:
        require(cell.jump_reward == 0, f"{key}.jump_reward", cell.jump_reward, f"needs {key}.jump_to")
    for name in ("reward", "jump_reward"):
        require_finite(f"{key}.{name}", getattr(cell, name))
    return cell


def require_finite(key: str, value: float | None) -> None:
    """Raise ConfigError where a number is NaN or infinite."""
    require(value is None or np.isfinite(value), key, value, "must be a finite number")
