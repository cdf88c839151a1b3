"""Progress: quiet where nobody looks, whole where somebody does."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rlnet.report.live import Progress
from rlnet.report.terminal import progress


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def plain(total: int, done: int = 0, width: int = 80) -> tuple[Progress, Clock, io.StringIO]:
    clock, file = Clock(), io.StringIO()
    return Progress(total, Console(file=file, width=width, _environ={}), done, clock), clock, file


def test_a_file_gets_a_line_now_and_then_and_one_at_the_end():
    display, clock, file = plain(1000)
    with display:
        for step in range(0, 1001, 10):
            display.update(step, ret=-13.0, regret=0.5)
            clock.now += 0.12  # 12 s in all
    lines = file.getvalue().splitlines()
    assert len(lines) == 3  # after 5 s, after 10 s, at the end
    assert lines[-1] == "1000/1000 steps, 82.5 steps/s, training return -13, regret 0.5"
    assert lines[0] == "420/1000 steps, 83.3 steps/s, training return -13, regret 0.5, 0:07 left"
    assert "\x1b" not in file.getvalue()


def test_speed_counts_only_the_steps_since_a_resume():
    display, clock, file = plain(1000, done=900)
    with display:
        clock.now += 10.0
        display.update(1000)
    assert "1000/1000 steps, 10 steps/s" in file.getvalue()


def test_no_time_left_is_known_before_the_first_step():
    display, clock, file = plain(10)
    clock.now += 6.0
    display.update(0)
    assert file.getvalue().strip() == "0/10 steps, 0 steps/s, ? left"


def test_a_line_that_was_just_drawn_is_not_drawn_again_at_the_end():
    display, clock, file = plain(10)
    with display:
        clock.now += 6.0
        display.update(10, regret=-5e-17)
    assert file.getvalue().splitlines() == ["10/10 steps, 1.67 steps/s, regret 0"]


def test_numbers_stay_until_they_are_replaced_and_strange_ones_are_shown():
    display, clock, file = plain(10)
    display.update(1, value_error=0.25, loss=float("nan"))
    clock.now += 6.0
    display.update(2, regret=float("inf"))
    assert "V error 0.25, loss nan, regret inf" in file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_terminal_gets_one_line_that_fits(width):
    clock, file = Clock(), io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None, _environ={"TERM": "xterm"})
    with Progress(20_000, console, clock=clock) as display:
        for step in range(0, 20_001, 500):
            display.update(step, ret=-13.123, regret=0.25, value_error=0.0312)
            clock.now += 0.2
    frames = [part.split("\x1b")[0] for part in file.getvalue().replace("\r", "\n").replace("2K", "\n").split("\n")]
    last = next(frame for frame in reversed(frames) if "steps/s" in frame)
    assert len(last) <= width
    assert "20k/20k 2.44k steps/s training return -13.1" in last
    assert ("V error 0.0312" in last) == (width >= 80)
    assert any("left" in frame for frame in frames)


def test_an_error_in_the_run_comes_through_and_the_display_ends():
    display, _, file = plain(10)

    def run():
        with display:
            display.update(3)
            raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        run()
    assert "3/10 steps" in file.getvalue()


def test_a_run_of_no_steps_is_refused():
    with pytest.raises(ValueError, match="total_steps=0"):
        progress(0)
