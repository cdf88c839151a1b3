"""The command `rlnet`: rlnet train env=gridworld, and rlnet solve, compare, report, table, merge, audit,
watch, export, play, frontier."""

import difflib
import signal
import sys
from collections.abc import Callable
from importlib import import_module

COMMANDS = {
    "train": "train, and score what was learned against the exact solution",
    "solve": "solve a finite model exactly, without learning",
    "compare": "score a finished run again from its files",
    "report": "write the page of a run or of a sweep again",
    "table": "write the final numbers of several runs into one table",
    "merge": "merge runs that differ in their seeds alone into one run of all members",
    "audit": "test the simulators of an environment against its model",
    "watch": "watch a learned policy, in the terminal or as a film",
    "export": "write a learned policy as torch.export and ONNX",
    "play": "play a game against a run, in the terminal",
    "frontier": "how far measured pass rates are from the best at their divergence",
}


def usage() -> str:
    """The usage text."""
    lines = [f"  rlnet {name:<8} {text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: rlnet COMMAND [KEY=VALUE ...]", "", *lines, "", "rlnet train --help lists the settings."])


def main() -> int:
    """Entry point: call the command of the first argument; returns its exit code, or 2 for an unknown name."""
    name, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"rlnet {import_module('rlnet').__version__}")
        return 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"allowed are {', '.join(COMMANDS)}"
        print(f"error: {name or 'no command'}: {hint}" if name else usage(), file=sys.stderr)
        return 2
    sys.argv = [f"rlnet {name}", *rest]
    return command(name)()


def command(name: str) -> Callable[[], int]:
    """Import a command, which takes a second or more and returns its exit code. Ctrl-C meanwhile ends the process."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what its encoding does not have becomes a question mark
            stream.reconfigure(errors="replace")
    quiet = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if quiet:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    found: Callable[[], int] = import_module(f"rlnet.commands.{name}").main
    if quiet:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return found
