"""Play against a run in the terminal: rlnet play DIR [seat=first|second] [member=0] [sample=true] [trust=true]

The run moves by its greedy or most likely action; with sample=true by what it draws. Moves are typed by name; q ends.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlnet.commands.key_values import on_folder, one_of, truth, whole
from rlnet.config import ConfigError

if TYPE_CHECKING:
    from rlnet.envs.boards.match import Match
    from rlnet.learning.policy import Policy
    from rlnet.mdp import Solution

SEATS = {"first": 0, "second": 1}
READERS = {"seat": one_of(*SEATS), "member": whole(0), "sample": truth, "trust": truth}
DEFAULTS = {"seat": None, "member": 0, "sample": False, "trust": False}
LEAVE = ("q", "quit", "exit")


def main() -> int:
    """Run `rlnet play`: exit code 0 at the end, 2 for a folder that is no run of a game."""
    return on_folder("play", __doc__, READERS, DEFAULTS, _play)


def _play(folder: Path, chosen: dict[str, Any]) -> int:
    from rlnet.commands.api import load
    from rlnet.envs.boards.match import Match
    from rlnet.mdp import solve

    policy = load(folder, chosen["member"], trust=chosen["trust"])
    problem = policy.trained.problem
    if not problem.environment.game:
        raise ConfigError(f"{folder}: {policy.trained.config.env.title()} is no game of two players")
    mdp, gamma = problem.environment.mdp, policy.trained.config.gamma
    best = None if mdp is None else solve(mdp, gamma)
    try:
        seat = _asked_seat() if chosen["seat"] is None else SEATS[chosen["seat"]]
        match = Match(problem.environment, seed=policy.trained.config.seed)
        _played(match, policy, seat, best, chosen["sample"])
    except (EOFError, _Left):
        print("\nThe game was left.")
    return 0


class _Left(Exception):
    """The person has had enough."""


def _read(question: str) -> str:
    text = input(question).strip()
    if text.lower() in LEAVE:
        raise _Left
    return text


def _asked_seat() -> int:
    while True:
        text = _read("Do you move first? [y/n] ").lower()
        if text in ("y", "yes", "n", "no"):
            return 0 if text.startswith("y") else 1


def _played(match: "Match", policy: "Policy", seat: int, best: "Solution | None", sample: bool) -> None:
    """One game, to its end."""
    print(f"You are {'XO'[seat]}, who moves {'first' if seat == 0 else 'second'}. q leaves the game.")
    while not match.over:
        print(f"\n{match}".rstrip())
        mine = match.player == seat
        _say_values(match, policy, best, mine)
        if mine:
            match.move(_asked_move(match.parse))
        else:
            action = int(policy(match.observation, match.mask, sample=sample))
            print(f"The run plays {match.names[action]}.")
            match.move(action)
    print(f"\n{match}".rstrip())
    won = match.score[seat]
    result = "You win." if won > 0 else "You lose." if won < 0 else "A draw."
    print(f"{result} Moves: {' '.join(match.moves)}")


def _asked_move(parse: Callable[[str], int]) -> int:
    while True:
        text = _read("Your move: ")
        try:
            return parse(text)
        except ValueError as error:
            print(error)


def _say_values(match: "Match", policy: "Policy", best: "Solution | None", mine: bool) -> None:
    """V of the run, and what each move is worth exactly, to the player who moves."""
    who = "you" if mine else "the run"
    said = f"To {who}, to move: V = {_number(float(policy.value(match.observation, match.mask)))} as learned"
    if best is not None and match.state is not None:
        legal = np.flatnonzero(match.mask)
        moves = ", ".join(f"{match.names[action]}: {_number(best.q[match.state, action])}" for action in legal)
        said += f", {_number(best.v[match.state])} exactly; the moves {moves}"
    print(f"{said}.")


def _number(x: float) -> str:
    return f"{x:+.2f}".replace("-", "−").replace(".00", "") if abs(x) > 5e-3 else "0"
