"""HTML rendering: templates, embedded pictures, numbers as text."""

from __future__ import annotations

import base64
import json
import math
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rlnet.compare.names import SHARES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parent / "templates"
PIXELS = 1.6  # of an embedded picture for each one on the page, for sharp screens


class Shown(NamedTuple):
    """A number as text, rounded and in full."""

    text: str
    value: str


def number(value: Any) -> str:
    """A number with four significant digits; infinities by name, rounding errors of 0 as 0."""
    if isinstance(value, bool | str) and not _is_number(value):
        return str(value)
    value = float(value)
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "–")
    if abs(value) < 1e-9:
        return "0"
    text = f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"
    return text.replace("-", "−")


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return not isinstance(text, bool)


def shown(name: str, value: Any) -> Shown:
    """A score as text; shares as percentages. Non-finite values may come as "inf", "-inf" or "nan"."""
    x = float(value)
    text = f"{100 * x:.1f} %" if name in SHARES and math.isfinite(x) and abs(x) < 100 else number(x)
    return Shown(text, repr(x))


def embedded(figure: Figure, alt: str, note: str = "") -> dict[str, Any]:
    """A matplotlib figure as a PNG inside of the page."""
    from rlnet.report.figures import image_array

    width, height = (round(x * figure.dpi) for x in figure.get_size_inches())
    return {**embedded_image(image_array(figure, PIXELS * figure.dpi), alt, note), "width": width, "height": height}


def embedded_image(image: Any, alt: str, note: str = "") -> dict[str, Any]:
    """An image uint8 [height, width, 3] as a PNG inside of the page."""
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return {"data": data, "width": image.shape[1], "height": image.shape[0], "alt": alt, "note": note}


def as_script(content: Any) -> str:
    """JSON that is safe inside of a script element."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def versions() -> str:
    """Versions of Python and of the numerical libraries."""
    found = [f"Python {platform.python_version()}"]
    for name in ("rlnet", "torch", "numpy", "gymnasium"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # run from a checkout that was not installed
            continue
    return ", ".join(found)


def render(template: str, context: dict[str, Any]) -> str:
    """Render a page from a template. All data is escaped; only our own drawings are markup."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    from rlnet.report.svg_map import ramp

    files = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    common = {
        "style": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "ramps": {kind: Markup(ramp(kind)) for kind in ("value", "error", "visits")},
    }
    return files.get_template(template).render(**common, **context)
