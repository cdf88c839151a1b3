"""Figures of the values of all states (matplotlib).

Figures are made without pyplot, so that each is freed with its last reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rlnet.mdp.cells import few_starts
from rlnet.report.curves import curves_figure
from rlnet.report.grid_figure import grid_figure
from rlnet.report.panels import Panel, as_chain, check_panels
from rlnet.report.state_figure import state_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rlnet.mdp import FiniteMDP

__all__ = ["Panel", "curves_figure", "image_array", "save_png", "values_figure"]


def values_figure(mdp: FiniteMDP, panels: Sequence[Panel], start: np.ndarray | None = None) -> Figure:
    """Draw values of all states, S.

    On a grid: one heatmap per panel, the first row on top, with an arrow for each most probable action, walls hatched,
    starts (S), ends, hazards and jumps marked (`rlnet.mdp.marks`) with what they pay. Value panels share one colour
    scale, error panels another centred on 0. Without a shape: the values over the states, sorted by the last value
    panel, and the errors below. A long chain, a grid of one row, is drawn like that too, in its own order.

    Args:
        mdp: the model.
        panels: e.g. learned V, exact V* and their difference; v [S], perhaps a policy [S, A].
        start: float [S], the states to mark as start where positive (default: the model's, unless they are most).

    Raises:
        ValueError: no panels, or one does not fit the model.
    """
    check_panels(mdp, panels)
    if mdp.shape is None or as_chain(mdp):
        return state_figure(mdp, panels)
    return grid_figure(mdp, panels, few_starts(mdp, start))


def image_array(figure: Figure, dpi: float = 120) -> np.ndarray:
    """The figure as pixels: uint8 [height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_png(image: np.ndarray, path: Path | str) -> Path:
    """Write an image, uint8 [height, width, 3], as PNG and return its path. Raises OSError where it cannot."""
    from matplotlib.image import imsave

    imsave(path, image, format="png")
    return Path(path)
