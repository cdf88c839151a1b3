"""Clips of a watched policy: what the environment shows, and beside it V(s), Q(s, ·), π and the map of values."""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlnet.config import ConfigError
from rlnet.report.colours import colour_at
from rlnet.report.html import number
from rlnet.report.moment import Moment
from rlnet.report.panels import VALUE

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

    from rlnet.mdp import FiniteMDP

HEIGHT, PANEL = 320, 260  # pixels of a frame, and of the panel beside it
WIDEST = 640  # of what the environment shows
LINE = 17
INK, SOFT, BLUE, ORANGE, PAPER = "#202020", "#808080", "#0072b2", "#d55e00", "#ffffff"
MOST_FRAMES, MOST_BYTES = 150, 2_000_000  # of a clip on a page


def draw(moments: Sequence[Moment], mdp: "FiniteMDP | None" = None, values: np.ndarray | None = None) -> list[Any]:
    """A picture for every moment, all of one size.

    Args:
        moments: with images of the environment as frames; without one there is the panel alone.
        mdp, values: a model with a map, and V [S], for the map of values.
    """
    from PIL import Image

    trace = [moment.value for moment in moments]
    limits = _limits(moments)
    images = []
    for k, moment in enumerate(moments):
        parts = []
        if isinstance(moment.frame, np.ndarray):
            shown = Image.fromarray(moment.frame.astype(np.uint8)[..., :3])
            scale = min(HEIGHT / shown.height, WIDEST / shown.width)
            parts.append(shown.resize([max(1, round(side * scale)) for side in shown.size]))
        if mdp is not None and values is not None:
            parts.append(_map(mdp, values, moment.state))
        parts.append(_panel(moment, trace[: k + 1], limits))
        whole = Image.new("RGB", (sum(part.width for part in parts), HEIGHT), PAPER)
        left = 0
        for part in parts:
            whole.paste(part, (left, (HEIGHT - part.height) // 2))
            left += part.width
        images.append(whole.crop((0, 0, whole.width // 2 * 2, HEIGHT)))  # films need even numbers of pixels
    return images


def write_gif(images: Sequence[Any], path: Path, fps: float) -> None:
    """Write an animated GIF that repeats."""
    path.write_bytes(_gif(images, fps))


def few(moments: Sequence[Moment]) -> list[Moment]:
    """At most about `MOST_FRAMES` moments, spread evenly; the last one is kept."""
    every = -(-len(moments) // MOST_FRAMES)
    return list(moments[::every]) + ([moments[-1]] if (len(moments) - 1) % every else [])


def small_gif(images: Sequence[Any], fps: float) -> bytes:
    """A GIF of at most `MOST_BYTES` bytes: frames are left out, then pixels."""
    chosen = list(images)
    content = _gif(chosen, fps)
    while len(content) > MOST_BYTES and len(chosen) > 2:
        if len(chosen) > 30:
            chosen = chosen[::2]
        else:
            chosen = [one.resize((one.width * 2 // 3, one.height * 2 // 3)) for one in chosen]
        content = _gif(chosen, fps)
    return content


def write_mp4(images: Sequence[Any], path: Path, fps: float) -> None:
    """Write an MP4 (H.264) by imageio and ffmpeg.

    Raises:
        ConfigError: they are not installed.
    """
    try:
        imageio: Any = import_module("imageio.v2")
        import_module("imageio_ffmpeg")  # which imageio writes films by
    except ImportError as error:
        missing = f"{error.name} is not installed; pip install 'rlnet[video]', or use render=gif"
        raise ConfigError(f"render=mp4: {missing}") from error
    with imageio.get_writer(path, format="FFMPEG", mode="I", fps=fps, macro_block_size=2) as film:
        for image in images:
            film.append_data(np.asarray(image))


def _gif(images: Sequence[Any], fps: float) -> bytes:
    buffer = BytesIO()
    last = 1_500  # milliseconds in which an end can be seen
    duration = [round(1000 / fps)] * (len(images) - 1) + [last]
    indexed = [image.convert("P", palette=1, colors=64) for image in images]
    indexed[0].save(buffer, "GIF", save_all=True, append_images=indexed[1:], duration=duration, loop=0, optimize=True)
    return buffer.getvalue()


@cache
def _font() -> Any:
    """The font of matplotlib's pictures, which has arrows and the minus sign."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 12)


def _limits(moments: Sequence[Moment]) -> tuple[float, float]:
    """The least and the largest finite V or Q of a clip."""
    numbers = [np.atleast_1d(x) for m in moments for x in (m.value, m.q) if x is not None]
    every = np.concatenate([np.zeros(0), *numbers]).astype(np.float64)
    every = every[np.isfinite(every)]
    return (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)


def _share(x: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return float(np.clip((x - low) / (high - low), 0, 1)) if high > low else 1.0


def _panel(moment: Moment, trace: Sequence[float | None], limits: tuple[float, float]) -> "Image.Image":
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (PANEL, HEIGHT), PAPER)
    canvas, font = ImageDraw.Draw(image), _font()
    lines = [
        f"episode {moment.episode}, step {moment.step}",
        f"reward {number(moment.reward)}   return {number(moment.ret)}",
        moment.chosen[:34],
    ]
    if moment.value is not None:
        lines.append(f"V(s) = {number(moment.value)}")
    for k, line in enumerate(lines):
        canvas.text((10, 8 + k * LINE), line, fill=INK, font=font)
    top = 8 + 4 * LINE + 8
    room = (HEIGHT - 70 - top) // LINE
    for a, name in enumerate(moment.names[:room]):
        _bars(canvas, moment, a, name, (10, top + a * LINE), limits, font)
    _trace(canvas, trace, limits)
    return image


def _bars(
    canvas: "ImageDraw.ImageDraw",
    moment: Moment,
    a: int,
    name: str,
    at: tuple[int, int],
    limits: tuple[float, float],
    font: Any,
) -> None:
    """A row of an action: its name, a bar and a number for Q(s, a), a bar for π(a|s)."""
    x, y = at
    canvas.text((x, y), name[:10], fill=ORANGE if moment.number == a else INK, font=font)
    if moment.q is not None and np.isfinite(moment.q[a]):
        width = round(40 * _share(float(moment.q[a]), limits))
        canvas.rectangle((x + 68, y + 4, x + 68 + width, y + 13), fill=BLUE)
        canvas.text((x + 114, y), number(moment.q[a]), fill=INK, font=font)
    if moment.policy is not None:
        width = round(60 * float(np.nan_to_num(moment.policy[a])))
        canvas.rectangle((x + 178, y + 4, x + 178 + width, y + 13), fill=ORANGE)


def _trace(canvas: "ImageDraw.ImageDraw", trace: Sequence[float | None], limits: tuple[float, float]) -> None:
    """V(s) over the steps so far, at the lower end."""
    known = [(k, x) for k, x in enumerate(trace) if x is not None and np.isfinite(x)]
    left, right, top, bottom = 10, PANEL - 10, HEIGHT - 56, HEIGHT - 12
    canvas.line((left, bottom, right, bottom), fill=SOFT)
    if len(known) > 1:
        last = max(len(trace) - 1, 1)
        points = [
            (left + (right - left) * k / last, bottom - (bottom - top) * _share(float(x), limits)) for k, x in known
        ]
        canvas.line(points, fill=BLUE, width=2)


def _map(mdp: "FiniteMDP", values: np.ndarray, state: int | None) -> "Image.Image":
    """V of every cell in the colours of the page, the state as a ring."""
    from PIL import Image, ImageDraw

    assert mdp.shape is not None
    rows, columns = mdp.shape
    where = np.arange(mdp.n_states) if mdp.cell is None else np.asarray(mdp.cell)
    drawn = np.full((rows * columns, 3), 60, np.uint8)
    finite = values[np.isfinite(values) & ~mdp.terminal]
    limits = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    for s in np.flatnonzero(np.isfinite(values)):
        drawn[where[s]] = (235, 235, 235) if mdp.terminal[s] else colour_at(VALUE, _share(float(values[s]), limits))
    size = max(1, min(HEIGHT // rows, 2 * HEIGHT // columns))
    picture = Image.fromarray(drawn.reshape(rows, columns, 3)).resize(
        (columns * size, rows * size), Image.Resampling.NEAREST
    )
    whole = Image.new("RGB", (picture.width + 8, HEIGHT), PAPER)
    whole.paste(picture, (4, (HEIGHT - picture.height) // 2))
    if state is not None:
        row, column = divmod(int(where[state]), columns)
        left, top = 4 + column * size, (HEIGHT - picture.height) // 2 + row * size
        inset = max(1, size // 6)
        box = (left + inset, top + inset, left + size - inset - 1, top + size - inset - 1)
        if size >= 4:
            ImageDraw.Draw(whole).ellipse(box, outline=(205, 65, 60), width=max(1, size // 10))
    return whole
