"""Drawings of the states of a road and of a race track, as text and as images."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rlnet.envs.driving.traffic import Road
from rlnet.envs.render import AGENT, FLOOR, START, WALL, draw_image, draw_text

CELL = 48  # pixels of a cell of the road
ASPHALT, LINE, OTHER, FAR, INK = (120, 124, 130), (235, 235, 225), (45, 100, 170), (150, 168, 190), (255, 255, 255)
GOAL = (150, 200, 140)


@dataclass(frozen=True, eq=False)
class RoadDrawing:
    """Draws states of a highway: a row for each lane, the own car at the left, the next cars ahead with their speeds.

    A car at the edge of sight may be further away: in an image it is pale.
    """

    LEGEND: ClassVar = (
        "The own car (red; in text >, its speed before it) is at the left and drives to the right; in each lane stands "
        "the next car. Numbers are speeds in cells per step. A car at the right edge may be further away."
    )
    road: Road  # the meaning of all states
    sight: int
    mode: str  # "ansi", text, or "rgb_array", an image uint8 [height, width, 3]

    def draw(self, state: int) -> str | np.ndarray:
        """The road in a state."""
        return self._text(state) if self.mode == "ansi" else self._image(state)

    def _text(self, state: int) -> str:
        """A line for each lane: the own car `>` with its speed before it, the others by their speeds."""
        road, lines = self.road, []
        for gap, other, own in zip(road.gap[:, state], road.other[:, state], self._own(state), strict=True):
            cells = ["."] * self.sight + [" "]
            cells[gap] = str(other)
            lines.append((own or "  ") + "".join(cells))
        return "\n".join(lines) + "\n"

    def _own(self, state: int) -> list[str]:
        lanes = range(len(self.road.gap))
        return [f"{self.road.speed[state]}>" if i == self.road.lane[state] else "" for i in lanes]

    def _image(self, state: int) -> np.ndarray:
        from PIL import Image, ImageDraw

        road, lanes = self.road, len(self.road.gap)
        image = Image.new("RGB", ((self.sight + 2) * CELL, lanes * CELL + 1), ASPHALT)
        canvas = ImageDraw.Draw(image)
        for i in range(lanes + 1):
            dashed = 0 < i < lanes
            for left in range(0, image.width, CELL):
                canvas.line((left, i * CELL, left + (CELL // 2 if dashed else CELL), i * CELL), fill=LINE)
        for i in range(lanes):
            gap = int(road.gap[i, state])
            _car(canvas, gap + 1, i, FAR if gap == self.sight else OTHER, str(road.other[i, state]))
        _car(canvas, 0, int(road.lane[state]), AGENT, str(road.speed[state]))
        return np.asarray(image)


def _car(canvas: Any, column: int, row: int, colour: tuple[int, int, int], speed: str) -> None:
    left, top = column * CELL, row * CELL
    box = left + CELL // 10, top + CELL // 4, left + CELL - CELL // 10 - 1, top + CELL - CELL // 4
    canvas.rounded_rectangle(box, radius=CELL // 7, fill=colour)
    canvas.text((left + CELL / 2 - 0.5, top + CELL / 2), speed, fill=INK, anchor="mm", font=_font())


@cache
def _font() -> Any:
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), CELL // 3)


@dataclass(frozen=True, eq=False)
class TrackDrawing:
    """Draws states of a race track: the map, the car, and where its speed leads."""

    LEGEND: ClassVar = (
        "The car (red, its line as long as its speed; in text @) drives from the line at the bottom (S) to that at the "
        "right (G), beside which it is off the track (#). An action such as +1 -1 changes the speed upwards and that "
        "to the right."
    )
    letters: np.ndarray  # of one character, [rows, columns]
    place: np.ndarray  # int [S, 4]: row, column, speed upwards, speed to the right
    mode: str

    def draw(self, state: int) -> str | np.ndarray:
        """The track with the car in a state."""
        row, column, up, right = (int(x) for x in self.place[state])
        cell = row * self.letters.shape[1] + column
        if self.mode == "ansi":
            return draw_text(self.letters.tolist(), cell) + f"speed: {up} up, {right} right\n"
        return self._image(cell, up, right)

    def _image(self, cell: int, up: int, right: int) -> np.ndarray:
        from PIL import Image, ImageDraw

        colours = np.full((*self.letters.shape, 3), FLOOR, np.uint8)
        for letter, colour in (("#", WALL), ("S", START), ("G", GOAL)):
            colours[self.letters == letter] = colour
        image = Image.fromarray(draw_image(colours, cell))
        size, columns = image.height // len(colours), colours.shape[1]
        x, y = (cell % columns + 0.5) * size, (cell // columns + 0.5) * size
        ImageDraw.Draw(image).line((x, y, x + right * size, y - up * size), fill=AGENT, width=max(2, size // 5))
        return np.asarray(image)
