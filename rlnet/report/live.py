"""Progress display: a live line in a terminal, an occasional plain line where the output is a file."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rich.console import Console

REFRESH = 0.1  # seconds between two pictures of the live line
PLAIN = 5.0  # seconds between two plain lines
LEAST_BAR = 4  # columns
RECENT = 50  # refreshes over which the speed is measured
NAMES = {"ret": "training return", "value_error": "V error"}


class Progress:
    """Context manager that shows steps, speed, the latest numbers and the time left.

    `update` may be called at every step: it draws only when that is due.
    """

    def __init__(self, total_steps: int, console: Console | None = None, done: int = 0, clock: Any = None) -> None:
        """`done` of `total_steps` were made before a resumed run began; `clock` () → seconds is for tests.

        Raises:
            ValueError: total_steps is not positive.
        """
        from rich.console import Console

        if total_steps <= 0:
            raise ValueError(f"total_steps={total_steps} must be positive")
        self.total, self.step = total_steps, done
        self.console = console or Console()
        self.live = self.console.is_terminal and not self.console.is_dumb_terminal
        self.drawn: int | None = None  # the step that was last drawn
        self.numbers: dict[str, float] = {}
        self.clock = clock or time.monotonic
        self.first = (self.clock(), done)
        self.recent: deque[tuple[float, int]] = deque([self.first], maxlen=RECENT)
        self.due = self.first[0] + (REFRESH if self.live else PLAIN)
        self.bar = _bar(self.console, total_steps, done) if self.live else None

    def __enter__(self) -> Progress:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.bar is not None or self.drawn != self.step:
            self.draw(final=True)
        if self.bar is not None:
            self.bar.stop()

    def update(self, step: int, **numbers: float) -> None:
        """Report `step` steps done in all, and the latest numbers.

        `ret`, `regret` and `value_error` have short headings, other names are shown as they are. A number stays until
        it is replaced.
        """
        self.step = step
        if numbers:
            self.numbers |= numbers
        if self.clock() >= self.due:
            self.draw()

    def draw(self, final: bool = False) -> None:
        """Draw at once."""
        now, self.drawn = self.clock(), self.step
        self.recent.append((now, self.step))
        start = self.first if final or not self.live else self.recent[0]
        speed = (self.step - start[1]) / max(now - start[0], 1e-9)
        left = (self.total - self.step) / speed if speed > 0 else np.inf
        self.due = now + (REFRESH if self.live else PLAIN)
        rate = f"{_short(speed)} steps/s"
        remaining = "" if self.step >= self.total or final else f"{_duration(left)} left"
        if self.bar is not None:
            task = self.bar.tasks[0].id
            steps = f"{_short(self.step)}/{_short(self.total)}"
            numbers = self._pieces()
            room = self.console.width - sum(len(part) + 1 for part in (steps, rate, remaining)) - LEAST_BAR - 1
            while numbers and len(" ".join(numbers)) > room:
                numbers.pop()
            self.bar.update(
                task, completed=self.step, steps=steps, speed=rate, numbers=" ".join(numbers), left=remaining
            )
            self.bar.refresh()
            return
        parts = [f"{self.step}/{self.total} steps", rate, *self._pieces(), remaining]
        self.console.print(", ".join(filter(None, parts)), soft_wrap=True, markup=False, highlight=False)

    def _pieces(self) -> list[str]:
        # What is below 1e-9 is the rounding of an exact 0.
        shown = {NAMES.get(name, name): 0.0 if abs(value) < 1e-9 else value for name, value in self.numbers.items()}
        return [f"{name} {value:.3g}" for name, value in shown.items()]


def progress(total_steps: int, console: Console | None = None, done: int = 0) -> Progress:
    """A progress display for a run of `total_steps`, of which `done` are behind it; use it in a `with`.

    Raises:
        ValueError: total_steps is not positive.
    """
    return Progress(total_steps, console, done)


def _bar(console: Console, total: int, done: int) -> Any:
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress
    from rich.table import Column

    def column(field: str) -> TextColumn:
        return TextColumn(f"{{task.fields[{field}]}}", markup=False, table_column=Column(no_wrap=True))

    bar = RichProgress(
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=LEAST_BAR)),
        column("steps"),
        column("speed"),
        column("numbers"),
        column("left"),
        console=console,
        auto_refresh=False,
        expand=True,
    )
    bar.add_task("", total=total, completed=done, steps="", speed="", numbers="", left="")
    return bar


def _short(number: float) -> str:
    """A number in three digits and a letter: 950, 12.3k, 1.25M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def _duration(seconds: float) -> str:
    if not np.isfinite(seconds):
        return "?"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
