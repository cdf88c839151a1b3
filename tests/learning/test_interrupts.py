"""Signals within an update: the first is put off, and answered in a terminal; a second Ctrl-C is obeyed at once."""

import signal

import pytest

from rlnet.learning import interrupts
from rlnet.learning.interrupts import Interrupted, put_off


@pytest.mark.parametrize(("number", "terminal"), [("SIGINT", True), ("SIGINT", False), ("SIGTERM", True)])
def test_the_first_ctrl_c_in_a_terminal_is_answered(number, terminal, monkeypatch, capfd):
    monkeypatch.setattr(interrupts.os, "isatty", lambda descriptor: terminal)
    with put_off() as asked:
        signal.raise_signal(getattr(signal, number))
        assert asked.number == getattr(signal, number)
        said = capfd.readouterr().err
        if number == "SIGINT":
            with pytest.raises(Interrupted, match="within an update, which is not saved"):
                signal.raise_signal(signal.SIGINT)
    answer = "interrupted: the running update ends and is saved; Ctrl-C again stops at once, without it"
    assert said.strip() == (answer if number == "SIGINT" and terminal else "")
    assert capfd.readouterr().err == ""  # nothing more is said of the second
