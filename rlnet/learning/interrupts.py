"""Handling of signals that ask a run to stop: SIGINT, SIGTERM, SIGHUP, SIGUSR1.

A run answers them between two updates, with a checkpoint. The exit code is 128 + the number of the signal: 130 for
SIGINT, 143 for SIGTERM, 129 for SIGHUP, 138 for SIGUSR1 (Slurm's `--signal=B:USR1@60`).
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))  # not every system has them all

STDERR = 2
SOON = b"\ninterrupted: the running update ends and is saved; Ctrl-C again stops at once, without it\n"


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop by a signal."""

    def __init__(self, number: int, sentence: str = "") -> None:
        super().__init__(sentence)
        self.number = number  # of the signal


def exit_code(stop: KeyboardInterrupt) -> int:
    """Exit code of a signal: 128 + its number; that of Ctrl-C where none is known."""
    return 128 + (stop.number if isinstance(stop, Interrupted) else signal.SIGINT)


def described(number: int) -> str:
    """A signal in words, for a message."""
    return "interrupted" if number == signal.SIGINT else f"interrupted by {signal.Signals(number).name}"


def raise_at_once() -> None:
    """Install handlers that raise `Interrupted` at once, for signals that are neither ignored (nohup) nor handled."""
    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _raise)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


class Asked:
    """Record of a received signal; `number` is None until one arrives."""

    number: int | None = None


@contextmanager
def put_off() -> Iterator[Asked]:
    """Context manager: defer signals to the end of an update; a second Ctrl-C raises `Interrupted` at once.

    In a terminal the first one is answered with a line: a slow update, or the first, which fills a replay, takes long.

    Outside of the main thread, where Python delivers no signals, nothing is changed. Signals that are ignored stay so.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: FrameType | None) -> None:
        if asked.number is not None and number == signal.SIGINT:
            raise Interrupted(number, "within an update, which is not saved")
        if asked.number is None and number == signal.SIGINT and os.isatty(STDERR):
            os.write(STDERR, SOON)  # not print(): what a signal interrupts may be printing
        asked.number = asked.number or number

    known = {number: signal.getsignal(number) for number in SIGNALS}
    taken = {n: handler for n, handler in known.items() if handler not in (signal.SIG_IGN, None)}
    for number in taken:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)


@contextmanager
def ignored_by_children() -> Iterator[None]:
    """Context manager: processes forked inside ignore the signals.

    A terminal or a job sends signals to all its processes; the parent decides when its children end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # those that come meanwhile are obeyed at the end
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
